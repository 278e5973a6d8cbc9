//! Whatever clients do, in whatever order: no address is two machines', and a restart forgets nothing.

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::packets::*;
use crate::engine::*;

/// What one of a few clients does next.
#[derive(Debug, Clone)]
enum Step {
    Discover { wanted: Option<u8> },
    Select { host: u8, ours: bool },
    Reboot { host: u8 },
    Renew { host: u8 },
    Decline { host: u8 },
    Release { host: u8 },
    Wait { seconds: u64 },
    Restart,
}

/// Around the range of 100 to 103 and the reservation of 50.
fn hosts() -> impl Strategy<Value = u8> {
    prop_oneof![99_u8..=104, Just(50), Just(1)]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::option::of(hosts()).prop_map(|wanted| Step::Discover { wanted }),
        (hosts(), prop::bool::weighted(0.9)).prop_map(|(host, ours)| Step::Select { host, ours }),
        hosts().prop_map(|host| Step::Reboot { host }),
        hosts().prop_map(|host| Step::Renew { host }),
        hosts().prop_map(|host| Step::Decline { host }),
        hosts().prop_map(|host| Step::Release { host }),
        prop_oneof![1_u64..120, 600_u64..8000].prop_map(|seconds| Step::Wait { seconds }),
        Just(Step::Restart),
    ]
}

const fn lan(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

fn packet(step: &Step) -> Option<Packet> {
    let with_address = |packet: Packet, host: u8| packet.with(50, lan(host).octets());
    Some(match *step {
        Step::Discover { wanted: None } => Packet::discover(),
        Step::Discover { wanted: Some(host) } => with_address(Packet::discover(), host),
        Step::Select { host, ours } => {
            let server = if ours { SERVER } else { lan(2) };
            with_address(Packet::request().with(54, server.octets()), host)
        }
        Step::Reboot { host } => with_address(Packet::request(), host),
        Step::Renew { host } => Packet::request().holding(lan(host)),
        Step::Decline { host } => with_address(Packet::new(4), host),
        Step::Release { host } => Packet::new(7).holding(lan(host)),
        Step::Wait { .. } | Step::Restart => return None,
    })
}

fn rules() -> Rules {
    Rules { mode: Mode::Full, files: BootFiles::default(), subnets: subnets() }
}

proptest! {
    #[test]
    fn no_address_is_two_machines_and_a_restart_forgets_nothing(
        script in prop::collection::vec((0_u8..6, steps()), 1..80),
    ) {
        let mut server = Server::new(Mode::Full);
        let mut journal = Vec::new();
        // What clients were told, and until when.
        let mut promised = BTreeMap::<Ipv4Addr, (u8, SystemTime)>::new();
        for (client, step) in script {
            let client = if client == 5 { 0x50 } else { client };
            match step {
                Step::Wait { seconds } => { server.after(seconds); }
                Step::Restart => server.engine = Engine::new(server.now, rules(), journal.clone()),
                _ => {}
            }
            let Some(packet) = packet(&step) else { continue };
            let outcome = server.send(&packet.of(mac(client)));
            journal.extend(outcome.changes);
            if let Verdict::Silent(Silence::Declined(address) | Silence::Released(address)) =
                &outcome.record.verdict
            {
                promised.remove(address);
            }
            let Some(reply) = outcome.reply else { continue };
            let read = Read::new(&reply.bytes);
            if read.message() == 6 {
                continue;
            }
            let now = server.now;
            let in_range = (lan(100)..=lan(103)).contains(&read.yiaddr);
            prop_assert!(in_range || (client == 0x50 && read.yiaddr == lan(50)));
            if let Some((holder, until)) = promised.get(&read.yiaddr) {
                prop_assert!(*holder == client || *until <= now, "{} is {holder}'s", read.yiaddr);
            }
            if read.message() == 5 {
                promised.retain(|_, (holder, _)| *holder != client);
                promised.insert(read.yiaddr, (client, now + Duration::from_hours(1)));
            }
            let leases = server.engine.leases(now);
            let machines: HashSet<_> = leases.iter().map(|(lease, _)| lease.mac).collect();
            prop_assert_eq!(machines.len(), leases.len(), "a machine has one address");
            prop_assert_eq!(&Engine::new(now, rules(), journal.clone()).leases(now), &leases);
            let compacted = server.engine.lease_changes(now);
            prop_assert_eq!(&Engine::new(now, rules(), compacted).leases(now), &leases);
        }
    }
}

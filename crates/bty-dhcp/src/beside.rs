//! Looks for other DHCP servers: hears what they say to their clients, and asks now and then who is there.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bty_service::{
    Context,
    datagram::{Departure, ThreadSocket},
};
use tokio::time::{interval, timeout};

use crate::{server::Shared, settings::Settings, tap::Tap};

/// The largest packet that is looked at.
const BUFFER_BYTES: usize = 2048;
/// Packets in a window of time; the rest of a flood is lost in the kernel.
const PACKETS: u32 = 200;
const WINDOW: Duration = Duration::from_secs(1);

/// Starts to listen and to ask. Neither is needed to serve: what fails is said, and the rest goes on.
pub(crate) fn start(context: &Context<Settings>, shared: &Arc<Shared>, socket: Arc<ThreadSocket>) {
    match Tap::open() {
        Ok(tap) => {
            shared.listening.store(true, Ordering::Relaxed);
            context.spawn_session("other servers", listen(Arc::clone(shared), tap));
        }
        Err(problem) => {
            tracing::warn!(
                err = %problem,
                "other DHCP servers are known only by what clients say of them: hearing them takes a packet socket and so CAP_NET_RAW"
            );
            // Then nobody would hear the answers to a question.
            return;
        }
    }
    let every = Duration::from_secs(context.settings.probe_seconds);
    if !every.is_zero() {
        context.spawn_session("probe", ask(Arc::clone(shared), socket, every));
    }
}

async fn listen(shared: Arc<Shared>, tap: Tap) {
    let mut buffer = [0; BUFFER_BYTES];
    let (mut began, mut taken) = (Instant::now(), 0);
    loop {
        let received = tokio::select! {
            received = tap.receive(&mut buffer) => received,
            () = shared.shutdown.cancelled() => return,
        };
        match received {
            Ok(tapped) => {
                let packet = buffer.get(..tapped.length).unwrap_or(&buffer);
                shared.overhear(tapped.interface, tapped.mac, packet);
            }
            Err(problem) => tracing::debug!(err = %problem, "hearing other servers failed"),
        }
        taken += 1;
        if taken < PACKETS {
            continue;
        }
        // The rest of the window is slept through, unless the daemon ends.
        let left = WINDOW.saturating_sub(began.elapsed());
        let _ = timeout(left, shared.shutdown.cancelled()).await;
        (began, taken) = (Instant::now(), 0);
    }
}

async fn ask(shared: Arc<Shared>, socket: Arc<ThreadSocket>, every: Duration) {
    let mut turns = interval(every);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = shared.shutdown.cancelled() => return,
        }
        for (interface, local, probe) in shared.probes(random()) {
            let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
            let departure = Departure { to, local, interface: Some(interface) };
            if let Err(problem) = socket.try_send(&departure, &probe.bytes()) {
                tracing::debug!(err = %problem, "asking which servers there are failed");
            }
        }
    }
}

/// A number that nobody on the LAN knows before.
fn random() -> u32 {
    let [.., a, b, c, d] = RandomState::new().build_hasher().finish().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

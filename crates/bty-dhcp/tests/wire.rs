//! The real daemon on a virtual LAN, asked by packets: proxy and full mode, two interfaces, and a power cut.

mod support;

use std::{collections::BTreeSet, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bty_api::{
    connect,
    dhcp::v1::{
        Exchange, Lease, ListExchangesRequest, ListLeasesRequest, WatchExchangesRequest,
        dhcp_service_client::DhcpServiceClient,
    },
};
use bty_testkit::{Daemon, DaemonSpec, Lan, Namespace, daemon::write_config};
use support::Client;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const EVERYBODY: (Ipv4Addr, u16) = (Ipv4Addr::BROADCAST, 67);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x77, 0, 1];
const UEFI: &[u8] = b"PXEClient:Arch:00007:UNDI:003000";
const UUID: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn daemon(folder: &Path, namespace: &Namespace, config: &str) -> Result<Daemon> {
    write_config(folder, config)?;
    let program = Path::new(env!("CARGO_BIN_EXE_bty-dhcp"));
    let binaries = program.parent().context("the program is nowhere")?;
    DaemonSpec::of_bty(binaries, "bty-dhcp", folder).within(namespace).start()
}

/// What the daemon says over its API.
fn asked(folder: &Path) -> Result<(Vec<Exchange>, Vec<Lease>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = connect::unix(connect::socket_path(&folder.join("run"), "dhcp"));
        let mut client = DhcpServiceClient::new(channel);
        let request = ListExchangesRequest { mac: "52-54-00-77-00-01".into(), page_size: 0 };
        let exchanges = client.list_exchanges(request).await?.into_inner().exchanges;
        let leases = client.list_leases(ListLeasesRequest {}).await?.into_inner().leases;
        Ok((exchanges, leases))
    })
}

#[test]
fn a_proxy_answers_on_both_ports_and_by_each_interface_with_its_own_address() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut lan, mut other_lan) = (Lan::new()?, Lan::new()?);
    let server = lan.add_server()?;
    other_lan.plug(&server.namespace, "eth1", "10.78.0.1/24")?;
    let here = lan.add_host("client", "10.77.0.140/24")?;
    let there = other_lan.add_host("client", "10.78.0.140/24")?;
    let daemon = daemon(folder.path(), &server.namespace, "[dhcp]\nhttp_port = 8080\n")?;

    let mut client = Client::on(&here, MAC)?;
    let firmware: [(u8, &[u8]); 4] = [(53, &[1]), (60, UEFI), (93, &[0, 7]), (97, UUID)];
    let offer = client.ask(EVERYBODY, NOBODY, &firmware)?;
    assert_eq!((offer.message, offer.yiaddr, offer.siaddr), (2, NOBODY, SERVER));
    assert_eq!(offer.from, (SERVER, 67).into());
    assert_eq!(offer.options[&60], b"PXEClient");
    assert!(!offer.options.contains_key(&43) && !offer.options.contains_key(&51));

    let held = Ipv4Addr::new(10, 77, 0, 140);
    let request: [(u8, &[u8]); 4] = [(53, &[3]), (60, UEFI), (93, &[0, 7]), (97, UUID)];
    let acked = client.ask((SERVER, 4011), held, &request)?;
    assert_eq!((acked.message, acked.boot_file().as_str()), (5, "x64/snponly.efi"));
    assert_eq!(acked.from, (SERVER, 4011).into());

    let ipxe: [(u8, &[u8]); 5] =
        [(53, &[1]), (60, UEFI), (93, &[0, 7]), (77, b"iPXE"), (175, b"\x13\x01\x01")];
    let mut client = Client::on(&there, MAC)?;
    let offer = client.ask(EVERYBODY, NOBODY, &ipxe)?;
    let other = Ipv4Addr::new(10, 78, 0, 1);
    assert_eq!((offer.siaddr, offer.from), (other, (other, 67).into()));
    assert_eq!(offer.boot_file(), "http://10.78.0.1:8080/boot.ipxe?via=pxe");

    let (exchanges, leases) = asked(folder.path())?;
    let shown: Vec<_> = exchanges
        .iter()
        .map(|exchange| {
            let Exchange { interface, port, client, answer, .. } = exchange;
            (interface.as_str(), *port, client.as_str(), answer.as_str())
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("eth1", 67, "ipxe", "OFFER"),
            ("eth0", 4011, "firmware-pxe", "ACK"),
            ("eth0", 67, "firmware-pxe", "OFFER")
        ]
    );
    assert_eq!(leases, []);
    daemon.stop()
}

#[test]
fn a_full_server_leases_and_remembers_across_a_power_cut() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let server = lan.add_server()?;
    let host = lan.add_host("client", "10.77.0.140/24")?;
    let config = r#"
        [dhcp]
        mode = "full"
        interfaces = ["eth0"]
        [[dhcp.subnet]]
        interface = "eth0"
        network = "10.77.0.0/24"
        range_start = "10.77.0.100"
        range_end = "10.77.0.139"
        router = "10.77.0.254"
        reservations = [{ mac = "52:54:00:77:00:50", address = "10.77.0.50", hostname = "fifty" }]
    "#;
    let mut running = daemon(folder.path(), &server.namespace, config)?;
    let mut client = Client::on(&host, MAC)?;
    let discover: [(u8, &[u8]); 4] = [(53, &[1]), (60, UEFI), (93, &[0, 7]), (97, UUID)];
    let offer = client.ask(EVERYBODY, NOBODY, &discover)?;
    assert_eq!((offer.message, offer.boot_file().as_str()), (2, "x64/snponly.efi"));
    assert!(!offer.options.contains_key(&60), "UEFI would go to port 4011 and wait");
    let address = offer.yiaddr.octets();
    let server_id = SERVER.octets();
    let request: [(u8, &[u8]); 4] = [(53, &[3]), (50, &address), (54, &server_id), (12, b"node-1")];
    let acked = client.ask(EVERYBODY, NOBODY, &request)?;
    assert_eq!((acked.message, acked.yiaddr), (5, offer.yiaddr));
    assert_eq!(acked.options[&51], 3600_u32.to_be_bytes());

    for _ in 0..2 {
        // The client keeps its address and nobody else gets it, although the server died without a word.
        running = running.kill_and_restart()?;
        let (_, leases) = asked(folder.path())?;
        let shown: Vec<_> = leases
            .iter()
            .map(|lease| (lease.address.as_str(), lease.mac.as_str(), lease.hostname.as_str()))
            .collect();
        let want = offer.yiaddr.to_string();
        assert_eq!(shown, [(want.as_str(), "52:54:00:77:00:01", "node-1")]);
    }
    client.mac = [0x52, 0x54, 0, 0x77, 0, 2];
    let thief: [(u8, &[u8]); 3] = [(53, &[3]), (50, &address), (54, &server_id)];
    assert_eq!(client.ask(EVERYBODY, NOBODY, &thief)?.message, 6);
    client.mac = [0x52, 0x54, 0, 0x77, 0, 0x50];
    let reserved = client.ask(EVERYBODY, NOBODY, &[(53, &[1])])?;
    assert_eq!(reserved.yiaddr, Ipv4Addr::new(10, 77, 0, 50));
    assert_eq!(reserved.options[&12], b"fifty");
    running.stop()
}

#[test]
fn a_configuration_that_cannot_be_served_is_refused_before_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (config, complaint) in [
        ("[dhcp]\nmode = \"full\"\n", "there is no [[dhcp.subnet]]"),
        ("[dhcp]\nmode = \"ful\"\n", "bty.toml:2:8: unknown variant `ful`"),
        ("[dhcp]\nmod = \"full\"\n", "bty.toml:2:1: unknown field `mod`"),
        (
            "[[dhcp.subnet]]\nnetwork = \"10.0.0.0/31\"\n",
            "firmware refuses addresses of smaller networks",
        ),
        ("[dhcp]\nignore = [\"x\"]\n", "MAC address"),
    ] {
        write_config(folder.path(), config)?;
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bty-dhcp"))
            .arg("--check-config")
            .arg("--config")
            .arg(bty_testkit::daemon::config_path(folder.path()))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{config}: {said}");
        ensure!(said.contains(complaint), "{config}: {said}");
    }
    Ok(())
}

#[test]
fn a_proxy_keeps_silent_for_machines_that_do_not_netboot() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let server = lan.add_server()?;
    let host = lan.add_host("client", "10.77.0.140/24")?;
    let config = "[dhcp]\nignore = [\"52:54:00:77:00:01\"]\n";
    let running = daemon(folder.path(), &server.namespace, config)?;
    let mut client = Client::on(&host, MAC)?;
    // As clients do, again and again: a link that has just come up may lose a packet.
    let silences = bty_testkit::wait::until("both silences", Duration::from_secs(10), || {
        client.send(EVERYBODY, NOBODY, &[(53, &[1]), (60, b"udhcp 1.35.0")])?;
        client.send(EVERYBODY, NOBODY, &[(53, &[1]), (60, UEFI), (93, &[0, 7])])?;
        let (exchanges, _) = asked(folder.path())?;
        let told = exchanges.into_iter().map(|exchange| (exchange.answer, exchange.reason));
        let told: BTreeSet<_> = told.collect();
        Ok((told.len() >= 2).then_some(told))
    })?;
    let wanted = [
        "it doesn't netboot; the LAN's own DHCP server answers it",
        "the configuration says not to netboot this machine",
    ];
    assert_eq!(silences, wanted.map(|why| (String::new(), why.to_owned())).into());
    running.stop()
}

#[test]
fn a_watcher_sees_what_comes_and_does_not_hold_up_the_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let server = lan.add_server()?;
    let host = lan.add_host("client", "10.77.0.140/24")?;
    let running = daemon(folder.path(), &server.namespace, "")?;
    let mut client = Client::on(&host, MAC)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let channel = {
        let _inside = runtime.enter();
        connect::unix(connect::socket_path(&folder.path().join("run"), "dhcp"))
    };
    let mut api = DhcpServiceClient::new(channel);
    let watching = runtime.block_on(api.watch_exchanges(WatchExchangesRequest::default()))?;
    let mut watching = watching.into_inner();
    client.ask(EVERYBODY, NOBODY, &[(53, &[1]), (60, UEFI), (93, &[0, 7])])?;
    let seen = runtime.block_on(watching.message())?.and_then(|seen| seen.exchange);
    let seen = seen.context("the watch ended")?;
    assert_eq!((seen.mac.as_str(), seen.architecture), ("52:54:00:77:00:01", Some(7)));
    assert_eq!(seen.boot_file, "x64/snponly.efi");
    running.stop()?;
    // It ends, in order or with the connection.
    ensure!(!matches!(runtime.block_on(watching.message()), Ok(Some(_))));
    Ok(())
}

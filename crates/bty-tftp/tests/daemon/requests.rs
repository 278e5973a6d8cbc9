//! What is answered to whom, and what is not.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::unix::fs::symlink,
    thread,
    time::{Duration, Instant},
};

use bty_api::{
    connect,
    tftp::v1::{ListTransfersRequest, Outcome, Transfer, tftp_service_client::TftpServiceClient},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    client::{Client, Packet, rrq},
    server::{DEADLINE, Server, command},
};

const BLOCKS: &[(&str, &str)] = &[("blksize", "1468"), ("windowsize", "16")];

fn listed(server: &Server) -> Vec<Transfer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = TftpServiceClient::new(connect::unix(server.api_socket()));
        client.list_transfers(ListTransfersRequest::default()).await.unwrap().into_inner().transfers
    })
}

/// Waits until the newest transfer has ended, and gives it.
fn newest_ended(server: &Server) -> Transfer {
    let begin = Instant::now();
    loop {
        let newest = listed(server).into_iter().next().unwrap();
        if newest.outcome() != Outcome::Unspecified {
            return newest;
        }
        assert!(begin.elapsed() < DEADLINE, "a transfer never ends: {newest:?}");
        thread::yield_now();
    }
}

#[test]
fn edk2_asks_for_the_size_and_then_for_the_file() {
    let server = Server::start();
    let want = server.write_bytes("x64/snponly.efi", 170_000);
    // One socket for both: some firmware asks from the same port each time.
    let client = Client::new(server.address);
    let options = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
    client.request("x64/snponly.efi", &options);
    let (packet, from) = client.receive();
    let oack = "tsize\x00170000\0blksize\x001468\0windowsize\x004\0";
    assert_eq!(packet, Packet::Oack(oack.into()));
    assert_ne!(from.port(), server.address.port(), "a transfer has a port of its own");
    client.send(from, b"\0\x05\0\x08User aborted the transfer\0");
    assert_eq!(newest_ended(&server).outcome(), Outcome::Probe);

    assert_eq!(client.fetch("x64/snponly.efi", &options[1..], || false), Ok(want));
    let transfer = newest_ended(&server);
    let wanted = Transfer {
        at: transfer.at,
        peer: client.socket.local_addr().unwrap().to_string(),
        file: "x64/snponly.efi".into(),
        size_bytes: 170_000,
        acknowledged_bytes: 170_000,
        block_bytes: 1468,
        window_blocks: 4,
        resent: 0,
        outcome: Outcome::Complete.into(),
        reason: String::new(),
    };
    assert_eq!(transfer, wanted);
}

#[test]
fn a_probe_whose_error_was_lost_does_not_hold_up_the_next_request() {
    let server = Server::start();
    let want = server.write_bytes("a.efi", 5000);
    let client = Client::new(server.address);
    assert!(matches!(client.ask("a.efi", &[("tsize", "0")]), Packet::Oack(_)));
    let begin = Instant::now();
    assert_eq!(client.fetch("a.efi", &[("blksize", "1024")], || false), Ok(want));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[test]
fn a_repeated_request_begins_no_second_transfer() {
    let server = Server::start();
    let want = server.write_bytes("a.efi", 50_000);
    let client = Client::new(server.address);
    for _ in 0..5 {
        client.request("a.efi", BLOCKS);
    }
    assert_eq!(client.fetch("a.efi", BLOCKS, || false), Ok(want));
    newest_ended(&server);
    assert_eq!(listed(&server).len(), 1);
}

#[test]
fn what_is_not_served_is_refused_with_the_right_error() {
    let server = Server::with(&["tftp.max_file_bytes=1000"]);
    server.write("x64/snponly.efi", b"MZ");
    server.write_bytes("large", 1001);
    fs::write(server.root().join("../secret"), "secret").unwrap();
    symlink("../secret", server.root().join("link")).unwrap();
    let client = Client::new(server.address);
    for (file, code) in [
        ("absent", 1),
        ("link", 1),
        ("x64", 1),
        ("x64/snponly.efi/x", 1),
        ("../secret", 2),
        ("/../secret", 2),
        ("..\\secret", 2),
        ("x64/../../secret", 2),
        ("/", 2),
        ("a\nb", 2),
        ("large", 0),
        ("", 4),
    ] {
        match client.ask(file, &[]) {
            Packet::Error(got, _) => assert_eq!(got, code, "{file}"),
            other => panic!("{file}: {other:?}"),
        }
    }
    client.send(server.address.into(), b"\0\x02x64/snponly.efi\0octet\0");
    assert_eq!(client.receive().0, Packet::Error(2, "this server is read-only".into()));
    client.send(server.address.into(), b"\0\x01x64/snponly.efi\0mail\0");
    assert!(matches!(client.receive().0, Packet::Error(4, _)));
    assert_eq!(client.ask("X64\\SNPONLY.EFI", &[]), Packet::Data(1, b"MZ".to_vec()));
}

#[test]
fn a_client_is_answered_from_the_address_that_it_asked() {
    let server = Server::with(&["tftp.listen=\"0.0.0.0:0\""]);
    server.write_bytes("a.efi", 700);
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 8, 7)] {
        let client = Client::new(SocketAddrV4::new(address, server.address.port()));
        for file in ["a.efi", "absent"] {
            client.request(file, &[]);
            assert_eq!(client.receive().1.ip(), address, "{file}");
        }
    }
}

#[test]
fn a_stranger_on_a_transfers_port_gets_error_5_and_disturbs_nothing() {
    let server = Server::start();
    server.write_bytes("a.efi", 700);
    let (client, stranger) = (Client::new(server.address), Client::new(server.address));
    client.request("a.efi", &[]);
    let (first, transfer) = client.receive();
    assert!(matches!(first, Packet::Data(1, _)));
    stranger.ack(transfer, 1);
    assert_eq!(stranger.receive().0, Packet::Error(5, "this transfer is not yours".into()));
    client.ack(transfer, 1);
    assert!(matches!(client.receive().0, Packet::Data(2, payload) if payload.len() == 188));
}

#[test]
fn a_client_that_ends_a_transfer_right_behind_an_answer_is_heard() {
    let server = Server::start();
    server.write_bytes("f", 2000);
    let client = Client::new(server.address);
    client.request("f", &[]);
    let (_, port) = client.receive();
    client.ack(port, 1);
    client.send(port, b"\0\x05\0\0full\0");
    let ended = newest_ended(&server);
    assert_eq!(ended.outcome(), Outcome::Broken);
    assert!(ended.reason.contains("full"), "{}", ended.reason);
}

#[test]
fn lost_blocks_come_again_soon() {
    let server = Server::start();
    let want = server.write_bytes("a.efi", 1 << 20);
    for (window, most) in [("1", Duration::from_secs(10)), ("4", DEADLINE), ("16", DEADLINE)] {
        let client = Client::new(server.address);
        let mut blocks = 0_u32;
        let begin = Instant::now();
        // Every 50th block is lost, so that each place in a window is.
        let loses = || {
            blocks += 1;
            blocks.is_multiple_of(50)
        };
        let got = client.fetch("a.efi", &[("blksize", "1468"), ("windowsize", window)], loses);
        assert!(got.is_ok_and(|got| got == want), "window {window}");
        assert!(begin.elapsed() < most, "window {window}: {:?}", begin.elapsed());
        assert!(newest_ended(&server).resent > 0);
    }
}

#[test]
fn block_numbers_go_on_after_65535() {
    let server = Server::start();
    let want = server.write_bytes("large", 8 * 70_000 + 3);
    let client = Client::new(server.address);
    let options = [("blksize", "8"), ("windowsize", "16")];
    assert!(client.fetch("large", &options, || false).is_ok_and(|got| got == want));
}

#[test]
fn two_hundred_clients_are_served_at_once() {
    let server =
        Server::with(&["tftp.max_transfers_per_client=500", "tftp.max_requests_per_second=500"]);
    let want = server.write_bytes("a.efi", 300_000);
    thread::scope(|scope| {
        for number in 0..200 {
            let (server, want) = (&server, &want);
            scope.spawn(move || {
                let options = if number % 2 == 0 { BLOCKS } else { &[("blksize", "1468")] };
                let got = Client::new(server.address).fetch("a.efi", options, || false);
                assert!(got.is_ok_and(|got| got == *want), "client {number}");
            });
        }
    });
}

/// How many of these clients are answered within a moment.
fn answered(clients: &[Client]) -> usize {
    let wait = Duration::from_millis(300);
    clients.iter().filter(|client| client.receive_within(wait).is_some()).count()
}

#[test]
fn too_many_transfers_of_one_address_get_no_answer() {
    let server = Server::with(&["tftp.max_transfers_per_client=3"]);
    server.write("a.efi", &[7; 5000]);
    let clients: Vec<_> = (0..10).map(|_| Client::new(server.address)).collect();
    for client in &clients {
        client.request("a.efi", &[]);
    }
    assert_eq!(answered(&clients), 3);
}

#[test]
fn too_many_requests_of_one_address_get_no_answer() {
    let server = Server::with(&["tftp.max_requests_per_second=1"]);
    let clients: Vec<_> = (0..20).map(|_| Client::new(server.address)).collect();
    for client in &clients {
        client.send(server.address.into(), b"\0\x02x\0octet\0");
    }
    // Four at once, and one more for each second that sending may have taken.
    let answered = answered(&clients);
    assert!((4..10).contains(&answered), "{answered}");
}

#[test]
fn datagrams_of_any_bytes_do_no_harm() {
    let mut server =
        Server::with(&["tftp.max_requests_per_second=1000000", "tftp.max_transfers=50"]);
    let want = server.write_bytes("a.efi", 5000);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let word = prop_oneof!["blksize|timeout|tsize|windowsize|octet|a.efi|[0-9]{1,20}", ".{0,40}"];
    let datagram = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1500),
        (0_u8..8, prop::collection::vec(word, 0..12)).prop_map(|(code, words)| [
            vec![0, code],
            words.join("\0").into_bytes()
        ]
        .concat()),
    ];
    let mut runner = TestRunner::new(Config { cases: 5000, ..Config::default() });
    runner
        .run(&datagram, |datagram| {
            // What is too long for a datagram is no case.
            let _ = socket.send_to(&datagram, server.address);
            Ok(())
        })
        .unwrap();
    server.assert_alive();
    assert_eq!(Client::new(server.address).fetch("a.efi", BLOCKS, || false), Ok(want));
    assert!(server.memory_kib() < 48 << 10, "{} KiB", server.memory_kib());
}

#[test]
fn a_forged_flood_does_not_keep_a_client_out() {
    let server = Server::with(&["tftp.max_transfers=20", "tftp.max_requests_per_second=1000"]);
    let want = server.write_bytes("a.efi", 5000);
    let request = rrq("a.efi", &[]);
    for last in 1..=60 {
        // Addresses that ask and never answer.
        let forged = UdpSocket::bind((Ipv4Addr::new(127, 0, 7, last), 0)).unwrap();
        forged.send_to(&request, server.address).unwrap();
    }
    assert_eq!(Client::new(server.address).fetch("a.efi", &[], || false), Ok(want));
}

#[test]
fn a_replaced_file_is_served_new() {
    let server = Server::start();
    let client = Client::new(server.address);
    for content in [b"old", b"new"] {
        server.write("a.new", content);
        fs::rename(server.root().join("a.new"), server.root().join("a.efi")).unwrap();
        assert_eq!(client.fetch("a.efi", &[("tsize", "0")], || false), Ok(content.to_vec()));
    }
}

#[test]
fn ipxe_finds_beside_itself_where_to_go_on_unless_the_folder_has_it() {
    let server = Server::with(&["tftp.http_port=8080"]);
    let client = Client::new(server.address);
    let fetch = |name: &str| {
        client
            .fetch(name, &[("tsize", "0")], || false)
            .map(|script| String::from_utf8(script).unwrap())
    };
    let want = format!("chain --replace http://{}:8080/boot.ipxe?via=pxe ||", server.address.ip());
    for name in ["x64/autoexec.ipxe", "/autoexec.ipxe"] {
        let script = fetch(name).unwrap();
        assert!(script.starts_with("#!ipxe\n") && script.contains(&want), "{script}");
    }
    server.write("autoexec.ipxe", b"own");
    assert_eq!(fetch("autoexec.ipxe").as_deref(), Ok("own"));
    assert!(fetch("other.ipxe").is_err());
}

#[test]
fn it_ends_with_0_when_told_and_with_2_for_a_wrong_setting() {
    let mut server = Server::start();
    assert!(server.memory_kib() < 16 << 10, "{} KiB when idle", server.memory_kib());
    assert_eq!(server.stop().code(), Some(0));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bty.toml"), "[tftp]\nmax_blksize = 7\n").unwrap();
    assert_eq!(command(dir.path()).arg("--check-config").status().unwrap().code(), Some(2));
    fs::write(dir.path().join("bty.toml"), "[tftp]\nmax_blocksize = 512\n").unwrap();
    assert_eq!(command(dir.path()).status().unwrap().code(), Some(2));
}

//! Packets that real clients sent (`fixtures/README.md`), and what they are told.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::packets::*;
use crate::engine::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn told(mode: Mode, port: ServerPort, hex: &str) -> Outcome {
    let source = match port {
        ServerPort::Dhcp => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        // OVMF asks from 4011 too.
        ServerPort::Pxe => SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 180), 4011),
    };
    Server::new(mode).send_bytes(&ingress(port, source), &bytes(hex))
}

const OVMF_PXE: &str = include_str!("../../../fixtures/ovmf-pxe-discover.hex");
const OVMF_4011: &str = include_str!("../../../fixtures/ovmf-pxe-4011-request.hex");
const OVMF_HTTP: &str = include_str!("../../../fixtures/ovmf-http-discover.hex");
const IPXE_EFI: &str = include_str!("../../../fixtures/ipxe-efi-discover.hex");
const IPXE_BIOS: &str = include_str!("../../../fixtures/ipxe-bios-discover.hex");
const UDHCPC: &str = include_str!("../../../fixtures/udhcpc-discover.hex");
const UDHCPC_RELEASE: &str = include_str!("../../../fixtures/udhcpc-release.hex");

#[test]
fn real_clients_are_known_for_what_they_are() {
    let clients = [
        (OVMF_PXE, Client::FirmwarePxe, Some(7)),
        (OVMF_4011, Client::FirmwarePxe, Some(7)),
        (OVMF_HTTP, Client::FirmwareHttp, Some(16)),
        (IPXE_EFI, Client::Ipxe, Some(7)),
        (IPXE_BIOS, Client::Ipxe, Some(0)),
        (UDHCPC, Client::Plain, None),
        (UDHCPC_RELEASE, Client::Plain, None),
    ];
    let uuid = [
        0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55,
        0x55,
    ];
    for (hex, client, architecture) in clients {
        let sender = told(Mode::Proxy, ServerPort::Dhcp, hex).record.sender.unwrap();
        assert_eq!(sender.client, client);
        assert_eq!(sender.architecture, architecture.map(Architecture), "{client:?}");
        // SMBIOS has the first three fields in little-endian order; these read the same both ways.
        assert_eq!(sender.uuid, (client != Client::Plain).then_some(uuid), "{client:?}");
    }
}

#[test]
fn real_firmware_is_told_its_boot_file() {
    let script = "http://10.77.0.1/boot.ipxe?via=pxe";
    for (hex, want) in [
        (OVMF_PXE, "x64/snponly.efi"),
        (OVMF_HTTP, "http://10.77.0.1/boot/x64/snponly.efi"),
        (IPXE_EFI, script),
        (IPXE_BIOS, script),
    ] {
        for mode in [Mode::Proxy, Mode::Full] {
            let reply = told(mode, ServerPort::Dhcp, hex).reply.expect(want);
            let name = reply.bytes.windows(want.len()).filter(|part| *part == want.as_bytes());
            assert_eq!(name.count(), 2, "{want} is in `file` and in option 67");
            assert_eq!(reply.destination.to_string(), "255.255.255.255:68");
        }
    }
    let reply = told(Mode::Proxy, ServerPort::Pxe, OVMF_4011).reply.unwrap();
    assert_eq!(reply.destination.to_string(), "10.77.0.180:4011");
}

#[test]
fn udhcpc_gets_a_lease_from_a_full_server_and_nothing_from_a_proxy() {
    assert_eq!(silence(told(Mode::Proxy, ServerPort::Dhcp, UDHCPC)), Silence::PlainClient);
    let reply = told(Mode::Full, ServerPort::Dhcp, UDHCPC).reply.unwrap();
    assert_eq!(reply.bytes.len(), 300);
    let release = told(Mode::Full, ServerPort::Dhcp, UDHCPC_RELEASE);
    assert!(matches!(silence(release), Silence::NotItsAddress(_)));
}

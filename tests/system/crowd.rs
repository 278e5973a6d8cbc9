//! A hall that is switched on at once: 64 machines of each kind ask for their addresses and boot files at the same time.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Daemon, DaemonSpec, Host, Lan,
    daemon::{self, write_config},
};
use nix::sched::{CloneFlags, setns};

const OF_EACH: u8 = 64;
/// When a machine says again what it has said.
const PATIENCE: Duration = Duration::from_secs(2);
/// Firmware gives up after a minute; these must be done long before.
const DONE: Duration = Duration::from_secs(20);
/// What bty-dhcp may have had resident at its worst.
const PEAK_KIB: u64 = 32 << 10;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FULL: &str = "[dhcp]\nmode = \"full\"\n[[dhcp.subnet]]\ninterface = \"eth0\"\n\
    network = \"10.77.0.0/16\"\nrange_start = \"10.77.4.0\"\nrange_end = \"10.77.7.255\"\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bios,
    Uefi,
    Http,
    Ipxe,
    Plain,
}

const KINDS: [Kind; 5] = [Kind::Bios, Kind::Uefi, Kind::Http, Kind::Ipxe, Kind::Plain];

impl Kind {
    /// What it says of itself, as options.
    fn options(self) -> Vec<u8> {
        let class = |class: &str| {
            let length = u8::try_from(class.len()).unwrap_or_default();
            [&[60, length], class.as_bytes()].concat()
        };
        match self {
            Self::Bios => [&class("PXEClient:Arch:00000:UNDI:002001")[..], &[93, 2, 0, 0]].concat(),
            Self::Uefi => [&class("PXEClient:Arch:00007:UNDI:003000")[..], &[93, 2, 0, 7]].concat(),
            Self::Http => {
                [&class("HTTPClient:Arch:00016:UNDI:003000")[..], &[93, 2, 0, 16]].concat()
            }
            Self::Ipxe => {
                let class = class("PXEClient:Arch:00007:UNDI:003010");
                [&class[..], &[93, 2, 0, 7], b"\x4d\x04iPXE", b"\xaf\x03\x13\x01\x01"].concat()
            }
            Self::Plain => class("udhcp 1.35.0"),
        }
    }

    fn boot_file(self) -> &'static str {
        match self {
            Self::Bios => "undionly.kpxe",
            Self::Uefi => "x64/snponly.efi",
            Self::Http => "http://10.77.0.1/boot/x64/snponly.efi",
            Self::Ipxe => "http://10.77.0.1/boot.ipxe?via=pxe",
            Self::Plain => "",
        }
    }
}

/// A machine, and how far it is.
#[derive(Debug)]
struct Machine {
    kind: Kind,
    number: u8,
    /// What it says, and to which port of the server or of everybody; none any more once it has what it wants.
    says: Option<(Vec<u8>, SocketAddrV4)>,
    said_at: Option<Instant>,
    address: Option<Ipv4Addr>,
    file: String,
}

impl Machine {
    fn new(kind: Kind, number: u8) -> Self {
        let mut machine =
            Self { kind, number, says: None, said_at: None, address: None, file: String::new() };
        machine.say(1, Ipv4Addr::UNSPECIFIED, &[], SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
        machine
    }

    fn xid(&self) -> u32 {
        u32::from_be_bytes([0x77, 0, self.kind as u8, self.number])
    }

    fn say(&mut self, message: u8, ciaddr: Ipv4Addr, more: &[u8], to: SocketAddrV4) {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(self.xid().to_be_bytes());
        bytes.extend([0, 0, 0x80, 0]);
        bytes.extend(ciaddr.octets());
        bytes.extend([0; 12]);
        bytes.extend([0x52, 0x54, 0, 0x77, self.kind as u8, self.number]);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99, 53, 1, message]);
        bytes.extend(self.kind.options());
        bytes.extend(more);
        bytes.push(255);
        self.says = Some((bytes, to));
        self.said_at = None;
    }

    /// Takes an answer up, and goes on.
    fn hear(&mut self, answer: &[u8], is_full: bool) -> Result<()> {
        let message = option(answer, 53).and_then(|value| value.first().copied());
        let yiaddr: [u8; 4] = answer.get(16..20).context("a short answer")?.try_into()?;
        let file = option(answer, 67).unwrap_or_default();
        let expected = if self.address.is_none() { 2 } else { 5 };
        if self.says.is_none() || message != Some(expected) {
            return Ok(()); // Said twice, answered twice.
        }
        String::from_utf8_lossy(file).trim_end_matches('\0').clone_into(&mut self.file);
        if expected == 5 {
            self.says = None;
        } else if is_full {
            self.address = Some(yiaddr.into());
            let wanted = [&[54, 4], &SERVER.octets()[..], &[50, 4], &yiaddr].concat();
            let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
            self.say(3, Ipv4Addr::UNSPECIFIED, &wanted, to);
        } else if self.kind == Kind::Uefi {
            // It has an address of the LAN's own server, and asks for its file where the offer says.
            let held = Ipv4Addr::new(10, 77, 9, self.number);
            self.address = Some(held);
            self.say(3, held, &[], SocketAddrV4::new(SERVER, 4011));
        } else {
            self.says = None;
        }
        Ok(())
    }
}

fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut at = 240;
    loop {
        let (&code, &length) = (message.get(at)?, message.get(at + 1)?);
        let value = message.get(at + 2..at + 2 + usize::from(length))?;
        if code == wanted {
            return Some(value);
        }
        at += 2 + value.len();
    }
}

/// Port 68 of a host.
fn port_68(host: &Host) -> Result<UdpSocket> {
    let path = format!("/run/netns/{}", host.namespace.name());
    // A namespace is entered by one thread alone; the socket stays in it wherever it goes.
    let opened = thread::spawn(move || -> Result<UdpSocket> {
        let namespace = File::open(&path).with_context(|| format!("opening {path}"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
        let socket = UdpSocket::bind("0.0.0.0:68").context("binding port 68")?;
        socket.set_broadcast(true)?;
        Ok(socket)
    });
    opened.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

/// Lets all machines speak until each has what it wants.
fn until_done(socket: &UdpSocket, machines: &mut [Machine], is_full: bool) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let deadline = Instant::now() + DONE;
    let mut buffer = [0; 2048];
    while machines.iter().any(|machine| machine.says.is_some()) {
        ensure!(Instant::now() < deadline, "after {DONE:?} some wait still: {machines:?}");
        for machine in &mut *machines {
            let is_due = machine.said_at.is_none_or(|at| at.elapsed() >= PATIENCE);
            if let Some((bytes, to)) = machine.says.as_ref().filter(|_| is_due) {
                socket.send_to(bytes, to).with_context(|| format!("asking {to}"))?;
                machine.said_at = Some(Instant::now());
            }
        }
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let answer = buffer.get(..length).unwrap_or_default();
            let xid = answer.get(4..8).unwrap_or_default();
            let of = |machine: &&mut Machine| machine.xid().to_be_bytes() == xid;
            if let Some(machine) = machines.iter_mut().find(of) {
                machine.hear(answer, is_full)?;
            }
        }
    }
    Ok(())
}

/// bty-dhcp alone, and all machines of these kinds at it; with the figures.
fn switch_on(
    folder: &Path,
    configuration: &str,
    kinds: &[Kind],
) -> Result<(Daemon, Vec<Machine>, String)> {
    let mut lan = Lan::new()?;
    let server = lan.add_host("server", "10.77.0.1/16")?;
    let hall = lan.add_host("hall", "10.77.9.254/16")?;
    hall.namespace.ip(&["route", "add", "255.255.255.255/32", "dev", "eth0"])?;
    write_config(folder, configuration)?;
    let spec = DaemonSpec::of_bty(&daemon::binaries()?, "bty-dhcp", folder);
    let running = spec.within(&server.namespace).start()?;
    let mut machines: Vec<Machine> = kinds
        .iter()
        .flat_map(|&kind| (1..=OF_EACH).map(move |number| Machine::new(kind, number)))
        .collect();
    let started = Instant::now();
    until_done(&port_68(&hall)?, &mut machines, configuration == FULL)
        .with_context(|| running.log().unwrap_or_default())?;
    let took = started.elapsed();
    for machine in &machines {
        let want = machine.kind.boot_file();
        ensure!(machine.file == want, "{machine:?} is told {:?}, not {want:?}", machine.file);
    }
    let peak = running.peak_bytes()? / 1024;
    ensure!(peak <= PEAK_KIB, "{peak} KiB are over {PEAK_KIB}");
    let figures = format!("{} machines are done after {took:?}, with {peak} KiB", machines.len());
    Ok((running, machines, figures))
}

#[test]
fn a_full_server_serves_64_of_each_kind_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (running, machines, figures) = switch_on(folder.path(), FULL, &KINDS)?;
    println!("{figures}");
    let addresses: BTreeSet<_> = machines.iter().filter_map(|machine| machine.address).collect();
    ensure!(addresses.len() == machines.len(), "{} have {addresses:?}", machines.len());
    running.stop()
}

#[test]
fn a_proxy_serves_64_of_each_kind_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let proxied: Vec<Kind> = KINDS.into_iter().filter(|&kind| kind != Kind::Plain).collect();
    let (running, _, figures) = switch_on(folder.path(), "[dhcp]\n", &proxied)?;
    println!("{figures}");
    running.stop()
}

//! Which boot program a client is told, and with which options: the decision table's right side.

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use bty_types::{BootChain, MacAddr};

use super::{
    client::{Architecture, Client, Platform, ipxe_has_http},
    exchange::Silence,
    ingress::ServerPort,
    options::{code, sub_options},
    recent::Recent,
    request::Request,
    rules::{MachineFacts, Mode},
};

/// How long a firmware's way to the network tells of the iPXE that follows it.
const WAY_LASTS: Duration = Duration::from_mins(2);
/// Machines whose way is kept.
const WAYS_KEPT: usize = 4096;

/// PXE sub-option 6, discovery control, with bit 3 alone: use the named file, ask nobody (PXE 2.1 §2.2.3; 0x0c would promise a
/// list of servers).
const JUST_BOOT: [u8; 4] = [6, 1, 8, 255];
/// What Raspberry Pi firmware looks for: discovery control 3, the prompt "PXE", the menu "Raspberry Pi Boot".
const RASPBERRY_PI_VENDOR: &[u8] =
    b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";
/// iPXE's no-pxedhcp: do not wait for proxies.
const IPXE_NO_PROXY: [u8; 3] = [176, 1, 1];
/// PXE sub-option 71, the boot item; the top bit of its layer asks for credentials (PXE 2.1 §2.2.3).
const BOOT_ITEM: u8 = 71;

/// The names of the first-stage boot programs that TFTP and HTTP serve, and the port of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// For x86 BIOS.
    pub bios: Pair,
    /// For 64-bit x86 UEFI.
    pub x64: Pair,
    /// For 64-bit ARM UEFI.
    pub arm64: Pair,
    /// For 64-bit x86 UEFI by the signed chain.
    pub x64_shim: String,
    /// The port of the HTTP server; 80 is left out of URLs.
    pub http_port: u16,
}

/// The two builds of iPXE for a platform, since each hangs on some hardware that the other runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// With the firmware's network driver, and on its card alone: for all that is not known to need the other.
    pub firmware: String,
    /// With drivers of its own.
    pub own: String,
}

impl Pair {
    fn new(firmware: &str, own: &str) -> Self {
        Self { firmware: firmware.to_owned(), own: own.to_owned() }
    }
}

impl Default for BootFiles {
    fn default() -> Self {
        Self {
            bios: Pair::new("undionly.kpxe", "ipxe.pxe"),
            x64: Pair::new("x64/snponly.efi", "x64/ipxe.efi"),
            // Debian builds one only, which uses the firmware's driver where it has none for the card.
            arm64: Pair::new("arm64/snponly.efi", "arm64/snponly.efi"),
            x64_shim: "x64/shimx64.efi".to_owned(),
            http_port: 80,
        }
    }
}

impl BootFiles {
    fn program(&self, platform: Platform, facts: MachineFacts) -> Option<&str> {
        let pair = match platform {
            Platform::X64 if facts.chain == BootChain::Shim => return Some(&self.x64_shim),
            Platform::Bios => &self.bios,
            Platform::X64 => &self.x64,
            Platform::Arm64 => &self.arm64,
            Platform::RaspberryPi | Platform::Unserved => return None,
        };
        Some(if facts.own_drivers { &pair.own } else { &pair.firmware })
    }

    /// By number: firmware and iPXE resolve no names this early (ipxe#1316).
    fn url(&self, server: Ipv4Addr, path: &str) -> String {
        match self.http_port {
            80 => format!("http://{server}/{path}"),
            port => format!("http://{server}:{port}/{path}"),
        }
    }
}

/// What an answer says about booting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Boot {
    /// `file` and option 67; empty where the client knows its files itself.
    pub(super) file: String,
    /// Option 60.
    pub(super) class: Option<&'static [u8]>,
    /// Option 43.
    pub(super) vendor: Option<Vec<u8>>,
    /// Option 175.
    pub(super) ipxe: Option<Vec<u8>>,
    /// Whether `sname` and option 66 name us as the TFTP server, as siaddr does.
    pub(super) by_tftp: bool,
    /// Whether option 66 ends in a NUL: PXE wants it, a Raspberry Pi chokes on it (raspberrypi/firmware#871).
    pub(super) nul_in_server_name: bool,
    /// What is said of it: one sentence without the end.
    pub(super) reason: String,
}

/// Decides about booting, and remembers by which way each machine's firmware came.
#[derive(Debug)]
pub(super) struct Booter {
    files: BootFiles,
    ways: Recent<MacAddr, Way>,
}

/// The firmware's way to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Pxe,
    Http,
}

impl Booter {
    pub(super) fn new(files: BootFiles) -> Self {
        Self { files, ways: Recent::new(WAYS_KEPT, WAY_LASTS) }
    }

    /// By which way the machine's firmware came: this packet's own, or the latest for a stage that follows.
    pub(super) fn way(&mut self, now: SystemTime, mac: MacAddr, client: Client) -> Way {
        let way = match client {
            Client::FirmwareHttp => Way::Http,
            Client::FirmwarePxe | Client::RaspberryPi => Way::Pxe,
            Client::Ipxe | Client::OwnClass | Client::Plain => {
                return self.ways.get(now, &mac).copied().unwrap_or(Way::Pxe);
            }
        };
        self.ways.put(now, mac, way);
        way
    }

    /// What a client that netboots is told in this mode, on this port.
    pub(super) fn decide(
        &self,
        asked: &Asked<'_>,
        mode: Mode,
        port: ServerPort,
    ) -> Result<Boot, Silence> {
        let mut boot = match asked.client {
            Client::OwnClass => self.script(asked),
            Client::Ipxe if ipxe_has_http(asked.request) => self.script(asked),
            Client::Ipxe => self.full_ipxe(asked)?,
            Client::FirmwareHttp => self.http(asked)?,
            Client::RaspberryPi => raspberry_pi(),
            Client::FirmwarePxe => self.pxe(asked, mode, port)?,
            Client::Plain => return Err(Silence::PlainClient),
        };
        if matches!(asked.client, Client::OwnClass | Client::Ipxe) && mode == Mode::Full {
            boot.ipxe = Some(IPXE_NO_PROXY.to_vec());
        }
        if port == ServerPort::Pxe {
            boot.vendor = boot_item(asked.request)?.or(boot.vendor);
        }
        Ok(boot)
    }

    fn script(&self, asked: &Asked<'_>) -> Boot {
        let via = match asked.way {
            Way::Pxe => "pxe",
            Way::Http => "http",
        };
        Boot {
            file: self.files.url(asked.server, &format!("boot.ipxe?via={via}")),
            class: Some(b"PXEClient"),
            reason: format!("{} gets the boot script", asked.client.noun()),
            ..Boot::default()
        }
    }

    /// For an iPXE that can't fetch the script: ours, by a URL, so that it is fetched from us whatever the lease says.
    fn full_ipxe(&self, asked: &Asked<'_>) -> Result<Boot, Silence> {
        let program = self.program(asked)?;
        Ok(Boot {
            file: format!("tftp://{}/{program}", asked.server),
            class: Some(b"PXEClient"),
            reason: "this iPXE lacks HTTP and gets one that has it".to_owned(),
            ..Boot::default()
        })
    }

    fn http(&self, asked: &Asked<'_>) -> Result<Boot, Silence> {
        let program = self.program(asked)?;
        Ok(Boot {
            file: self.files.url(asked.server, &format!("boot/{program}")),
            class: Some(b"HTTPClient"),
            reason: format!("UEFI HTTP Boot of architecture {} gets {program}", asked.number()),
            ..Boot::default()
        })
    }

    fn pxe(&self, asked: &Asked<'_>, mode: Mode, port: ServerPort) -> Result<Boot, Silence> {
        let program = self.program(asked)?.to_owned();
        let is_bios = asked.platform() == Platform::Bios;
        // Old EDK2 drops a proxy's offer that has option 43, and takes one without to port 4011. A full server's offer must not
        // look like that: without option 60 it is a plain lease with a boot file, which every EDK2 boots (netboot traps of
        // tianocore/edk2#6944 and #8149).
        let hides_class = mode == Mode::Full && port == ServerPort::Dhcp && !is_bios;
        let next = match (mode, port, is_bios) {
            (Mode::Proxy, ServerPort::Dhcp, false) => "; it will ask for it on port 4011",
            _ => "",
        };
        let firmware = if is_bios { "BIOS" } else { "UEFI" };
        Ok(Boot {
            class: (!hides_class).then_some(b"PXEClient"),
            vendor: (is_bios && port == ServerPort::Dhcp).then(|| JUST_BOOT.to_vec()),
            by_tftp: true,
            nul_in_server_name: true,
            reason: format!(
                "{firmware} PXE of architecture {} gets {program}{next}",
                asked.number()
            ),
            file: program,
            ..Boot::default()
        })
    }

    fn program(&self, asked: &Asked<'_>) -> Result<&str, Silence> {
        self.files.program(asked.platform(), asked.facts).ok_or_else(|| Silence::Architecture {
            client: asked.client,
            architecture: asked.architecture(),
        })
    }
}

/// A question about booting.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request,
    pub(super) client: Client,
    pub(super) architecture: Option<Architecture>,
    pub(super) way: Way,
    pub(super) server: Ipv4Addr,
    pub(super) facts: MachineFacts,
}

impl Asked<'_> {
    /// A PXE ROM that doesn't say what it runs on is of the time when there was only one thing.
    fn architecture(&self) -> Architecture {
        self.architecture.unwrap_or(Architecture::BIOS)
    }

    fn number(&self) -> u16 {
        self.architecture().0
    }

    fn platform(&self) -> Platform {
        self.architecture().platform()
    }
}

fn raspberry_pi() -> Boot {
    Boot {
        class: Some(b"PXEClient"),
        vendor: Some(RASPBERRY_PI_VENDOR.to_vec()),
        by_tftp: true,
        reason: "a Raspberry Pi asks TFTP for its own files".to_owned(),
        ..Boot::default()
    }
}

/// The boot item of a request, to be repeated in the answer.
fn boot_item(request: &Request) -> Result<Option<Vec<u8>>, Silence> {
    let vendor = sub_options(request.options.get(code::VENDOR).unwrap_or_default());
    let item: Option<[u8; 4]> = vendor.get(&BOOT_ITEM).and_then(|item| (*item).try_into().ok());
    let Some([kind_high, kind_low, layer_high, layer_low]) = item else {
        return Ok(None);
    };
    if layer_high & 0x80 != 0 {
        return Err(Silence::SignedBoot);
    }
    Ok(Some(vec![BOOT_ITEM, 4, kind_high, kind_low, layer_high, layer_low, 255]))
}

//! What kind of client a message comes from, and of what architecture: the tests of the decision table, in its order.
//!
//! The order matters: iPXE always says `PXEClient`, even when it was itself started over HTTP, so the user class and option
//! 175 come before the vendor class. Getting this wrong is a boot loop.

use super::{
    options::{code, sub_options},
    request::{Message, Request},
};

/// The user class of boot programs that were built with our script.
pub(super) const OWN_CLASS: &[u8] = b"bty";
const IPXE_CLASS: &[u8] = b"iPXE";
const PXE_CLASS: &[u8] = b"PXEClient";
const HTTP_CLASS: &[u8] = b"HTTPClient";
/// iPXE's feature code for HTTP inside option 175 (its `ipxe/features.h`).
const IPXE_FEATURE_HTTP: u8 = 0x13;
/// Feature codes in option 175 are in this range.
const IPXE_FEATURES: std::ops::RangeInclusive<u8> = 0x10..=0x4f;
/// Cards of Raspberry Pis: their firmware says it is an x86 PC (rpi-eeprom#103).
const RASPBERRY_PI_VENDORS: [[u8; 3]; 6] = [
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0x28, 0xcd, 0xc1],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
];

/// What kind of client it is, which is also how far a machine is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// iPXE that was built with our script and says so in its user class.
    OwnClass,
    /// iPXE, from the firmware's ROM or from us.
    Ipxe,
    /// UEFI HTTP Boot.
    FirmwareHttp,
    /// A Raspberry Pi's firmware.
    RaspberryPi,
    /// A PXE ROM or UEFI PXE.
    FirmwarePxe,
    /// Not netbooting: an operating system, a printer.
    Plain,
}

impl Client {
    /// Its name in the log and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OwnClass | Self::Ipxe => "ipxe",
            Self::FirmwareHttp => "firmware-http",
            Self::RaspberryPi => "raspberry-pi",
            Self::FirmwarePxe => "firmware-pxe",
            Self::Plain => "plain",
        }
    }

    /// What it is called in a sentence.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::OwnClass => "our own iPXE",
            Self::Ipxe => "iPXE",
            Self::FirmwareHttp => "UEFI HTTP Boot",
            Self::RaspberryPi => "a Raspberry Pi",
            Self::FirmwarePxe => "PXE firmware",
            Self::Plain => "a client that doesn't netboot",
        }
    }

    /// Judges a message.
    pub(super) fn of(request: &Request) -> Self {
        let user_class = request.options.get(code::USER_CLASS).unwrap_or_default();
        let vendor_class = request.vendor_class();
        let architecture = Architecture::of(request);
        if has_class(user_class, OWN_CLASS) {
            Self::OwnClass
        } else if has_class(user_class, IPXE_CLASS) || request.options.get(code::IPXE).is_some() {
            Self::Ipxe
        } else if vendor_class.starts_with(HTTP_CLASS)
            || (vendor_class.is_empty() && architecture.is_some_and(Architecture::is_http))
        {
            Self::FirmwareHttp
        } else if architecture == Some(Architecture::RASPBERRY_PI) || is_raspberry_pi(request) {
            Self::RaspberryPi
        } else if vendor_class.starts_with(PXE_CLASS)
            || (vendor_class.is_empty() && architecture.is_some())
        {
            Self::FirmwarePxe
        } else {
            Self::Plain
        }
    }
}

/// A client architecture (option 93), by its number in IANA's registry: RFC 4578's own text swaps 7 and 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Architecture(pub u16);

impl Architecture {
    /// x86 BIOS.
    pub const BIOS: Self = Self(0);
    /// A Raspberry Pi that says so.
    pub const RASPBERRY_PI: Self = Self(41);

    /// The first that we know of the list that the client gives (RFC 4578 §2.1), else its first; where it gives none, what its
    /// vendor class says (`PXEClient:Arch:00007:UNDI:003000`).
    pub(super) fn of(request: &Request) -> Option<Self> {
        let listed: Vec<Self> = request
            .options
            .get(code::ARCHITECTURE)
            .unwrap_or_default()
            .chunks_exact(2)
            .filter_map(|pair| Some(Self(u16::from_be_bytes(pair.try_into().ok()?))))
            .collect();
        let known =
            listed.iter().find(|architecture| architecture.platform() != Platform::Unserved);
        known.or_else(|| listed.first()).copied().or_else(|| {
            let class = std::str::from_utf8(request.vendor_class()).ok()?;
            let (_, rest) = class.split_once(":Arch:")?;
            rest.split(':').next()?.parse().ok().map(Self)
        })
    }

    /// What can run there.
    pub(super) const fn platform(self) -> Platform {
        match self.0 {
            0 => Platform::Bios,
            // 9 and 17 are EBC by name, and 64-bit x86 firmware in the field.
            7 | 9 | 16 | 17 => Platform::X64,
            11 | 19 => Platform::Arm64,
            41 => Platform::RaspberryPi,
            _ => Platform::Unserved,
        }
    }

    /// Whether it is a UEFI (or U-Boot) that boots over HTTP.
    pub(super) const fn is_http(self) -> bool {
        matches!(self.0, 15..=20 | 23 | 24 | 26 | 28 | 30 | 38 | 40)
    }
}

/// What boot programs a machine can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    Bios,
    X64,
    Arm64,
    RaspberryPi,
    /// None that we have.
    Unserved,
}

/// Whether a user class (option 77) holds this token: raw, as iPXE sends it, or as a list of length-prefixed items (RFC 3004 §4).
fn has_class(user_class: &[u8], token: &[u8]) -> bool {
    if user_class.strip_suffix(&[0]).unwrap_or(user_class) == token {
        return true;
    }
    let mut rest = user_class;
    let mut found = false;
    while let Some((&length, items)) = rest.split_first() {
        let Some((item, after)) = items.split_at_checked(usize::from(length)) else {
            return false; // Not a list after all.
        };
        found |= item == token;
        rest = after;
    }
    found
}

/// Whether an iPXE can fetch over HTTP. One that tells nothing of its features is taken for a full one.
pub(super) fn ipxe_has_http(request: &Request) -> bool {
    let encapsulated = sub_options(request.options.get(code::IPXE).unwrap_or_default());
    let mut features = encapsulated.keys().filter(|code| IPXE_FEATURES.contains(code)).peekable();
    features.peek().is_none() || features.any(|&feature| feature == IPXE_FEATURE_HTTP)
}

fn is_raspberry_pi(request: &Request) -> bool {
    let [first, second, third, ..] = request.mac.bytes();
    if !RASPBERRY_PI_VENDORS.contains(&[first, second, third]) {
        return false;
    }
    let vendor_class = request.vendor_class();
    if !vendor_class.is_empty() {
        return vendor_class.starts_with(PXE_CLASS);
    }
    // Its boot code leaves the vendor class out of its REQUEST (rpi-eeprom#82), but not what it is.
    let has = |option: u8| request.options.get(option).is_some();
    match request.message {
        Some(Message::Discover) => has(code::ARCHITECTURE),
        _ => has(code::ARCHITECTURE) || has(code::MACHINE_ID),
    }
}

//! The options of a DHCP message as raw bytes (RFC 2132), joined where a client splits them (RFC 3396) and gathered from `file`
//! and `sname` where they overflow into these (option 52).
//!
//! dhcproto's own option parser ends silently at an option that it can't decode and so may hide the ones behind it; a client
//! must not be judged by half a packet. Here a broken option makes the whole message malformed.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::request::Malformed;

/// Codes of options that the engine reads or writes, as RFC 2132, RFC 4578 and iPXE's dhcp.h name them.
pub(super) mod code {
    pub(in crate::engine) const SUBNET_MASK: u8 = 1;
    pub(in crate::engine) const ROUTER: u8 = 3;
    pub(in crate::engine) const DNS: u8 = 6;
    pub(in crate::engine) const HOSTNAME: u8 = 12;
    pub(in crate::engine) const VENDOR: u8 = 43;
    pub(in crate::engine) const REQUESTED_ADDRESS: u8 = 50;
    pub(in crate::engine) const LEASE_TIME: u8 = 51;
    pub(in crate::engine) const OVERLOAD: u8 = 52;
    pub(in crate::engine) const MESSAGE_TYPE: u8 = 53;
    pub(in crate::engine) const SERVER_ID: u8 = 54;
    pub(in crate::engine) const MESSAGE: u8 = 56;
    pub(in crate::engine) const MAX_SIZE: u8 = 57;
    pub(in crate::engine) const RENEWAL: u8 = 58;
    pub(in crate::engine) const REBINDING: u8 = 59;
    pub(in crate::engine) const VENDOR_CLASS: u8 = 60;
    pub(in crate::engine) const CLIENT_ID: u8 = 61;
    pub(in crate::engine) const TFTP_SERVER: u8 = 66;
    pub(in crate::engine) const BOOT_FILE: u8 = 67;
    pub(in crate::engine) const USER_CLASS: u8 = 77;
    pub(in crate::engine) const RELAY_AGENT: u8 = 82;
    pub(in crate::engine) const ARCHITECTURE: u8 = 93;
    pub(in crate::engine) const MACHINE_ID: u8 = 97;
    pub(in crate::engine) const IPXE: u8 = 175;
}

const PAD: u8 = 0;
const END: u8 = 255;
/// Where `sname`, `file`, the magic cookie and the options are in a message (RFC 2131 §2).
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;
/// Option 52: which fields hold options too.
const IN_FILE: u8 = 1;
const IN_SNAME: u8 = 2;

/// Every option of a message, by code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Reads the options of a message whose fixed part is known to be there.
    pub(super) fn of_message(datagram: &[u8]) -> Result<Self, Malformed> {
        let mut options = Self::default();
        options.gather(datagram.get(OPTIONS..).unwrap_or_default())?;
        // RFC 3396 §5: the options field, then `file`, then `sname`.
        let overload = options.overload();
        for (bit, field) in [(IN_FILE, FILE), (IN_SNAME, SNAME)] {
            if overload & bit != 0 {
                options.gather(datagram.get(field).unwrap_or_default())?;
            }
        }
        Ok(options)
    }

    /// Whether the header's `file` holds options, and no name of a file (RFC 2132 §9.3).
    pub(super) fn are_in_file(&self) -> bool {
        self.overload() & IN_FILE != 0
    }

    fn overload(&self) -> u8 {
        self.byte(code::OVERLOAD).unwrap_or(0)
    }

    fn gather(&mut self, mut field: &[u8]) -> Result<(), Malformed> {
        loop {
            field = match *field {
                [] | [END, ..] => return Ok(()),
                [PAD, ref rest @ ..] => rest,
                [code, length, ref rest @ ..] => {
                    let (value, rest) = rest
                        .split_at_checked(usize::from(length))
                        .ok_or(Malformed::OptionBeyondEnd { code })?;
                    self.0.entry(code).or_default().extend_from_slice(value);
                    rest
                }
                [code] => return Err(Malformed::OptionBeyondEnd { code }),
            };
        }
    }

    pub(super) fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    pub(super) fn byte(&self, code: u8) -> Option<u8> {
        match *self.get(code)? {
            [byte] => Some(byte),
            _ => None,
        }
    }

    pub(super) fn u16(&self, code: u8) -> Option<u16> {
        self.get(code)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// An address; one of another length makes the message malformed, since a decision would hang on it.
    pub(super) fn address(&self, code: u8) -> Result<Option<Ipv4Addr>, Malformed> {
        let read = |value: &[u8]| {
            let octets: Result<[u8; 4], _> = value.try_into();
            octets.map(Ipv4Addr::from).map_err(|_| Malformed::OptionLength { code })
        };
        self.get(code).map(read).transpose()
    }
}

/// The sub-options of an encapsulating option (43, 175), read as far as they make sense: firmware leaves out the end, and
/// some puts nothing in at all.
pub(super) fn sub_options(mut field: &[u8]) -> BTreeMap<u8, &[u8]> {
    let mut found = BTreeMap::new();
    loop {
        field = match *field {
            [] | [END, ..] | [_] => return found,
            [PAD, ref rest @ ..] => rest,
            [code, length, ref rest @ ..] => match rest.split_at_checked(usize::from(length)) {
                Some((value, rest)) => {
                    found.entry(code).or_insert(value);
                    rest
                }
                None => return found,
            },
        };
    }
}

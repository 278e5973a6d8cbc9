//! Tokens for one boot of one machine.
//!
//! A token is its own record: machine, boot, address, end, and a keyed BLAKE3 over them, so that it can be made and checked
//! while the registry is away. A boot token stands in a boot script, which anybody on the LAN can read: it is good for minutes
//! and for a check-in. A session token comes back from the check-in, over TLS, and is good for the rest of the boot.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bty_types::MacAddr;
use uuid::Uuid;

/// The secret that tokens are made with, 32 random bytes.
pub type Key = [u8; 32];

/// How long a token from a boot script is good for: until the slowest machine has loaded the live system over a slow link.
pub const BOOT_LIFETIME: Duration = Duration::from_mins(10);
/// How long a session lasts: longer than any flash.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(24);

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A check-in.
    Boot,
    /// Everything else of the agents' API, and more check-ins.
    Session,
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// What it is for.
    pub purpose: Purpose,
    /// Whose it is.
    pub mac: MacAddr,
    /// Which boot it is for.
    pub boot_id: Uuid,
    /// The address that the machine had.
    pub address: IpAddr,
    /// Until when it is good, in seconds since 1970.
    pub expires: u64,
}

/// Why a token isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It isn't one of this server's.
    #[error("the token was not made by this server; boot the machine again")]
    Forged,
    /// It was good once.
    #[error("the token has expired; boot the machine again")]
    Expired,
}

/// Purpose, MAC, boot id, address, end.
const CLAIM_BYTES: usize = 1 + 6 + 16 + 16 + 8;
const TAG_BYTES: usize = 32;

impl Claims {
    /// Claims that are good for as long as their purpose allows.
    pub fn new(
        purpose: Purpose,
        mac: MacAddr,
        boot_id: Uuid,
        address: IpAddr,
        now: SystemTime,
    ) -> Self {
        let lifetime = match purpose {
            Purpose::Boot => BOOT_LIFETIME,
            Purpose::Session => SESSION_LIFETIME,
        };
        let address = address.to_canonical();
        Self {
            purpose,
            mac,
            boot_id,
            address,
            expires: seconds(now).saturating_add(lifetime.as_secs()),
        }
    }

    /// The token, in hexadecimal.
    pub fn seal(&self, key: &Key) -> String {
        let claims = self.encode();
        let tag = blake3::keyed_hash(key, &claims);
        claims.iter().chain(tag.as_bytes()).fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Reads a token and checks that this server made it and that it is still good.
    pub fn open(key: &Key, token: &str, now: SystemTime) -> Result<Self, TokenError> {
        let bytes = unhex(token).ok_or(TokenError::Forged)?;
        let (claims, tag) = bytes.split_first_chunk::<CLAIM_BYTES>().ok_or(TokenError::Forged)?;
        let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| TokenError::Forged)?;
        // blake3::Hash compares in constant time.
        if blake3::keyed_hash(key, claims) != blake3::Hash::from_bytes(tag) {
            return Err(TokenError::Forged);
        }
        let claims = Self::decode(claims).ok_or(TokenError::Forged)?;
        if seconds(now) >= claims.expires { Err(TokenError::Expired) } else { Ok(claims) }
    }

    fn encode(&self) -> [u8; CLAIM_BYTES] {
        let address = match self.address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut bytes = [0; CLAIM_BYTES];
        let purpose = match self.purpose {
            Purpose::Boot => 1,
            Purpose::Session => 2,
        };
        let parts = std::iter::once(purpose)
            .chain(self.mac.bytes())
            .chain(*self.boot_id.as_bytes())
            .chain(address.octets())
            .chain(self.expires.to_be_bytes());
        for (slot, byte) in bytes.iter_mut().zip(parts) {
            *slot = byte;
        }
        bytes
    }

    fn decode(bytes: &[u8; CLAIM_BYTES]) -> Option<Self> {
        let (&purpose, rest) = bytes.split_first()?;
        let (mac, rest) = rest.split_first_chunk::<6>()?;
        let (boot_id, rest) = rest.split_first_chunk::<16>()?;
        let (address, rest) = rest.split_first_chunk::<16>()?;
        let (expires, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            purpose: match purpose {
                1 => Purpose::Boot,
                2 => Purpose::Session,
                _ => return None,
            },
            mac: MacAddr::new(*mac).ok()?,
            boot_id: Uuid::from_bytes(*boot_id),
            address: IpAddr::V6(Ipv6Addr::from(*address)).to_canonical(),
            expires: u64::from_be_bytes(*expires),
        })
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn unhex(text: &str) -> Option<[u8; CLAIM_BYTES + TAG_BYTES]> {
    let digits = text.as_bytes();
    let mut bytes = [0; CLAIM_BYTES + TAG_BYTES];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| {
            char::from(*pair.get(at)?).to_digit(16).and_then(|value| u8::try_from(value).ok())
        };
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = [7; 32];

    fn claims() -> Claims {
        let mac = "52:54:00:77:00:01".parse().unwrap();
        let boot = Uuid::from_u128(0x0192);
        Claims::new(Purpose::Boot, mac, boot, "10.77.0.50".parse().unwrap(), UNIX_EPOCH)
    }

    #[test]
    fn a_token_says_what_was_put_into_it() {
        let token = claims().seal(&KEY);
        assert_eq!(Claims::open(&KEY, &token, UNIX_EPOCH), Ok(claims()));
    }

    #[test]
    fn a_token_ends() {
        let token = claims().seal(&KEY);
        let last = UNIX_EPOCH + BOOT_LIFETIME;
        assert_eq!(Claims::open(&KEY, &token, last - Duration::from_secs(1)), Ok(claims()));
        assert_eq!(Claims::open(&KEY, &token, last), Err(TokenError::Expired));
    }

    #[test]
    fn another_servers_token_is_not_taken() {
        assert_eq!(
            Claims::open(&[8; 32], &claims().seal(&KEY), UNIX_EPOCH),
            Err(TokenError::Forged)
        );
    }

    proptest! {
        #[test]
        fn a_changed_digit_is_noticed(at in 0..2 * (CLAIM_BYTES + TAG_BYTES), digit in "[0-9a-f]") {
            let token = claims().seal(&KEY);
            let mut changed = token.clone();
            changed.replace_range(at..=at, &digit);
            let opened = Claims::open(&KEY, &changed, UNIX_EPOCH);
            prop_assert_eq!(opened.is_ok(), changed == token);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            prop_assert!(Claims::open(&KEY, &text, UNIX_EPOCH).is_err());
        }
    }
}

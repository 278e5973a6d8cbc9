//! Which options of a request apply, and the OACK that says so (RFC 2347, 2348, 2349, 7440).

use std::time::Duration;

use super::packet::{self, ReadRequest, RequestOption};

/// The block size of a client that asks for none (RFC 1350).
const DEFAULT_BLOCK_BYTES: u16 = 512;
/// The block sizes of RFC 2348.
const MIN_BLOCK_BYTES: u16 = 8;
const MAX_BLOCK_BYTES: u16 = 65464;
/// IPv4 header, UDP header, TFTP header: what a block must leave free of the MTU so that it travels whole. Boot ROMs can't
/// put fragments together.
const HEADER_BYTES: u32 = 20 + 8 + 4;

/// What the server allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest block, in bytes.
    pub max_block_bytes: u16,
    /// The longest window, in blocks.
    pub max_window_blocks: u16,
    /// What follows block 65535.
    pub rollover: Rollover,
}

/// The block number that follows 65535. No RFC says; most clients count on 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rollover {
    /// Block 65536 is number 0, as U-Boot, EDK2 and tftp-hpa have it.
    #[default]
    Zero,
    /// Block 65536 is number 1.
    One,
}

impl Rollover {
    /// The 16-bit number of a block; the first block is 1, the OACK is 0.
    pub const fn number(self, block: u64) -> u16 {
        let number = match self {
            Self::Zero => block % 65536,
            Self::One if block == 0 => 0,
            Self::One => (block - 1) % 65535 + 1,
        };
        // Lossless: both arms are below 65536.
        (number & 0xffff) as u16
    }
}

/// How a transfer is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The size of the file.
    pub size_bytes: u64,
    /// Bytes in every block but the last.
    pub block_bytes: u16,
    /// Blocks that may be under way.
    pub window_blocks: u16,
    /// How long to wait before a retransmission, where the client said so; measured else.
    pub timeout: Option<Duration>,
    /// What follows block 65535.
    pub rollover: Rollover,
    /// The OACK datagram; `None` where the client asked for nothing that is understood, and the first block answers.
    pub oack: Option<Vec<u8>>,
}

/// Settles a request for a file of this size over a path with this MTU.
///
/// A value that an RFC doesn't allow is treated as if it had not been asked for, which RFC 2347 lets the client live with.
pub fn negotiate(request: &ReadRequest, size_bytes: u64, mtu_bytes: u32, limits: Limits) -> Terms {
    let mut terms = Terms {
        size_bytes,
        block_bytes: DEFAULT_BLOCK_BYTES,
        window_blocks: 1,
        timeout: None,
        rollover: limits.rollover,
        oack: None,
    };
    let mut accepted = Vec::new();
    for &option in &request.options {
        accepted.extend(match option {
            RequestOption::BlockSize(asked) => accept_block(asked, mtu_bytes, limits, &mut terms),
            RequestOption::WindowSize(asked) => accept_window(asked, limits, &mut terms),
            RequestOption::Timeout(seconds @ 1..=255) => {
                terms.timeout = Some(Duration::from_secs(seconds));
                Some(option)
            }
            RequestOption::Timeout(_) => None,
            RequestOption::TransferSize(_) => Some(RequestOption::TransferSize(size_bytes)),
        });
    }
    if !accepted.is_empty() {
        terms.oack = Some(packet::oack(&accepted));
    }
    terms
}

fn accept_block(
    asked: u64,
    mtu_bytes: u32,
    limits: Limits,
    terms: &mut Terms,
) -> Option<RequestOption> {
    let fits = u16::try_from(mtu_bytes.saturating_sub(HEADER_BYTES)).unwrap_or(u16::MAX);
    let most = fits.min(limits.max_block_bytes).clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES);
    // RFC 2348: the server's value must not be above the client's.
    let block_bytes = u16::try_from(asked).unwrap_or(u16::MAX).min(most);
    if block_bytes < MIN_BLOCK_BYTES {
        return None;
    }
    terms.block_bytes = block_bytes;
    Some(RequestOption::BlockSize(block_bytes.into()))
}

fn accept_window(asked: u64, limits: Limits, terms: &mut Terms) -> Option<RequestOption> {
    // RFC 7440 §3: 1 to 65535 blocks, and the server's value must not be above the client's.
    let asked = u16::try_from(asked).ok().filter(|&asked| asked >= 1)?;
    terms.window_blocks = asked.min(limits.max_window_blocks.max(1));
    Some(RequestOption::WindowSize(terms.window_blocks.into()))
}

//! The Sanitize Status log page (NVMe Base 2.0, section 5.16.1.25).

use super::LOG_BYTES;

/// Whether a sanitize is under way, and how the last one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanitizeState {
    /// There never was one.
    Never,
    /// The last one did it.
    Done,
    /// One is under way.
    Running,
    /// The last one failed.
    Failed,
    /// A state that this program doesn't know.
    Other(u8),
}

/// How a sanitize stands, and how long one takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SanitizeStatus {
    /// Its state.
    pub state: SanitizeState,
    /// How much is done, in 65,536ths.
    pub progress: u16,
    /// How many seconds an erase of all blocks takes, where the controller says so.
    pub block_seconds: Option<u32>,
    /// How many seconds forgetting the key takes, where the controller says so.
    pub key_seconds: Option<u32>,
}

impl SanitizeStatus {
    /// Reads the page.
    pub fn parse(page: &[u8; LOG_BYTES]) -> Self {
        let byte = |at: usize| page.get(at).copied().unwrap_or_default();
        let seconds = |at: usize| {
            let seconds = u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
            // All ones: nothing is said. Zero: the controller is older than these fields.
            (seconds != u32::MAX && seconds != 0).then_some(seconds)
        };
        let state = match byte(2) & 7 {
            0 => SanitizeState::Never,
            // 4: and what was deallocated against its wish was so.
            1 | 4 => SanitizeState::Done,
            2 => SanitizeState::Running,
            3 => SanitizeState::Failed,
            other => SanitizeState::Other(other),
        };
        let progress = u16::from_le_bytes([byte(0), byte(1)]);
        Self { state, progress, block_seconds: seconds(12), key_seconds: seconds(16) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_progress_and_times_are_read() {
        let page = |bytes: &[u8]| {
            let mut page = [0; LOG_BYTES];
            page[..bytes.len()].copy_from_slice(bytes);
            SanitizeStatus::parse(&page)
        };
        let states = [
            (0, SanitizeState::Never),
            (1, SanitizeState::Done),
            (2, SanitizeState::Running),
            (3, SanitizeState::Failed),
            (4, SanitizeState::Done),
            (7, SanitizeState::Other(7)),
        ];
        for (code, state) in states {
            // The highest bits count passes of overwriting.
            assert_eq!(page(&[0xff, 0xff, code | 0xf8]).state, state);
        }
        assert_eq!(page(&[0, 0x80, 2]).progress, 0x8000);
        let mut bytes = [0xff; 20];
        assert_eq!((page(&bytes).block_seconds, page(&bytes).key_seconds), (None, None));
        bytes[12..20].copy_from_slice(&[44, 1, 0, 0, 2, 0, 0, 0]);
        assert_eq!((page(&bytes).block_seconds, page(&bytes).key_seconds), (Some(300), Some(2)));
        assert_eq!(page(&[]).key_seconds, None);
    }
}

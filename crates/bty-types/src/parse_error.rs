//! The one error of parsing text into this crate's types.

/// Text that is not what it should be: what was wanted, what was given (shortened), and why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {wanted}: {reason}")]
pub struct ParseError {
    wanted: &'static str,
    given: String,
    reason: &'static str,
}

/// Longest part of a refused text that an error repeats, in characters.
const SHOWN_CHARS: usize = 80;

impl ParseError {
    /// An error about `given`, of which at most 80 characters are kept: it may come from the LAN.
    pub fn new(wanted: &'static str, given: &str, reason: &'static str) -> Self {
        let mut shown: String = given.chars().take(SHOWN_CHARS).collect();
        if given.chars().nth(SHOWN_CHARS).is_some() {
            shown.push('…');
        }
        Self { wanted, given: shown, reason }
    }
}

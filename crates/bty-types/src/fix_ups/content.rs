//! Bytes that may be secret.

use std::fmt;

/// The bytes of a file that may hold passwords or keys: shown only as their number.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content(Vec<u8>);

impl Content {
    /// Takes these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_does_not_show_it() {
        let shown = format!("{:?}", Content::new(b"password: x".to_vec()));
        assert_eq!(shown, "Content(11 bytes)");
    }
}

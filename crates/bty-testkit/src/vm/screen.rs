//! A picture of a machine's screen, for what prints nothing on the serial port.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

/// A screen's pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct Screenshot {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    pixels: Vec<[u8; 3]>,
}

impl std::fmt::Debug for Screenshot {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "Screenshot({} x {})", self.width, self.height)
    }
}

impl Screenshot {
    /// Reads a file in the binary PPM format, as QEMU's `screendump` writes it.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("parsing {}", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        // "P6", width, height and the largest value, each followed by one white space.
        let mut fields = bytes.splitn(5, u8::is_ascii_whitespace);
        ensure!(fields.next() == Some(b"P6"), "it isn't a binary PPM");
        let mut number = || -> Option<usize> { str::from_utf8(fields.next()?).ok()?.parse().ok() };
        let (width, height) = number().zip(number()).context("it has no size")?;
        ensure!(number() == Some(255), "its colours aren't of 8 bits");
        let pixels: Vec<[u8; 3]> = fields.next().unwrap_or_default().as_chunks::<3>().0.to_vec();
        ensure!(width.checked_mul(height) == Some(pixels.len()), "it is cut off");
        Ok(Self { width, height, pixels })
    }

    /// How much of the screen, from 0 to 1, has a colour for which `is_wanted` (red, green, blue) holds.
    pub fn share_of(&self, is_wanted: impl Fn([u8; 3]) -> bool) -> f64 {
        let found = self.pixels.iter().filter(|pixel| is_wanted(**pixel)).count();
        let as_float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        as_float(found) / as_float(self.pixels.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_share_of_a_colour_is_counted() {
        let got = Screenshot::parse(b"P6\n2 2\n255\nrgbBBBrgb\n B").unwrap();
        assert_eq!((got.width, got.height), (2, 2));
        assert!((got.share_of(|colour| colour == *b"rgb") - 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        assert!(Screenshot::parse(b"P6\n2 2\n255\nrgb").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Screenshot::parse(&bytes);
        }
    }
}

//! What the readers of free space have in common: how they are asked, why they would rather not say, and maps of bits.

use std::{io, ops::Range};

use crate::{ReadAt, inspect::filesystem::Area};

/// The part of a disk that a file system is in.
pub(super) type Part<'a> = Area<'a, dyn ReadAt + 'a>;

/// Why nothing of a file system is taken for free.
#[derive(Debug, thiserror::Error)]
pub(super) enum Doubt {
    /// It says so, or contradicts itself.
    #[error("{0}")]
    Odd(&'static str),
    /// It can't be read.
    #[error("reading it: {0}")]
    Read(#[from] io::Error),
}

/// The free space of one file system, piece by piece from its beginning to its end.
pub(super) trait FreeMap {
    /// Appends the free ranges of the next piece, in bytes from the file system's beginning, in ascending order; false where there are no more
    /// pieces. A piece may have none, and takes a few MiB at most.
    fn next(&mut self, part: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt>;
}

/// Reads so many bytes, which are no more than a few MiB.
pub(super) fn read(part: &Part<'_>, at: u64, bytes: u64) -> Result<Vec<u8>, Doubt> {
    const MOST: u64 = 8 << 20;
    if bytes > MOST {
        return Err(Doubt::Odd("one of its structures is larger than any"));
    }
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or_default()];
    part.read_exact_at(&mut buffer, at)?;
    Ok(buffer)
}

/// A value that lies within what was read, or doesn't.
pub(super) fn have<T>(value: Option<T>) -> Result<T, Doubt> {
    value.ok_or(Doubt::Odd("its structures contradict each other"))
}

/// The runs of zeros among the first so many bits; the lowest bit of a byte is its first.
pub(super) fn zero_runs(bitmap: &[u8], bits: u64) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut begun: Option<u64> = None;
    let mut at: u64 = 0;
    for &byte in bitmap {
        if at >= bits {
            break;
        }
        match (byte, begun) {
            (0xff, None) | (0, Some(_)) => {}
            (0, None) => begun = Some(at),
            _ => {
                for bit in 0..8 {
                    let is_free = byte >> bit & 1 == 0;
                    match begun {
                        None if is_free => begun = Some(at + bit),
                        Some(start) if !is_free => {
                            runs.push(start..at + bit);
                            begun = None;
                        }
                        None | Some(_) => {}
                    }
                }
            }
        }
        at += 8;
    }
    runs.extend(begun.map(|start| start..at));
    // Bits behind the last one say nothing.
    while runs.last().is_some_and(|run| run.start >= bits) {
        runs.pop();
    }
    if let Some(last) = runs.last_mut() {
        last.end = last.end.min(bits);
    }
    runs
}

/// Sets bits of a map, as far as it has them.
pub(super) fn set(bitmap: &mut [u8], bits: Range<u64>) {
    for bit in bits {
        let byte = usize::try_from(bit / 8).ok().and_then(|at| bitmap.get_mut(at));
        let Some(byte) = byte else { return };
        *byte |= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_the_zeros_and_nothing_else(bitmap: Vec<u8>, surplus in 0_u64..9) {
            let bits = (bitmap.len() as u64 * 8).saturating_sub(surplus);
            let runs = zero_runs(&bitmap, bits);
            let free: Vec<u64> = runs.iter().cloned().flatten().collect();
            let wanted: Vec<u64> =
                (0..bits).filter(|&bit| bitmap[(bit / 8) as usize] >> (bit % 8) & 1 == 0).collect();
            prop_assert_eq!(free, wanted);
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn what_is_set_is_in_no_run(start in 0_u64..70, length in 0_u64..70) {
            let mut bitmap = [0; 8];
            set(&mut bitmap, start..start + length);
            let free: Vec<u64> = zero_runs(&bitmap, 64).into_iter().flatten().collect();
            let wanted: Vec<u64> =
                (0..64).filter(|bit| !(start..start + length).contains(bit)).collect();
            prop_assert_eq!(free, wanted);
        }
    }
}

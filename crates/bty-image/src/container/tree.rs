//! BLAKE3's tree over a disk's chunks: values of chunks, and the id that they merge to.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use bty_types::ImageId;

/// A BLAKE3 chaining value.
pub(crate) type ChainingValue = [u8; 32];

/// The chaining value of the chunk with these bytes at this offset of the disk. `is_whole_disk` where the disk is this one chunk:
/// then it is the disk's BLAKE3.
///
/// The offset is a multiple of the chunk size, which is a power of two of at least 64 KiB, and the chunk is no longer than that.
///
/// # Panics
/// Where it is not: bytes would belong to another subtree.
pub fn chunk_value(bytes: &[u8], offset: u64, is_whole_disk: bool) -> [u8; 32] {
    if is_whole_disk {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The id of a disk whose chunks, in order, have these values. There is at least one.
pub(super) fn merge<T>(chunks: &[T], value: &impl Fn(&T) -> ChainingValue) -> ImageId {
    match split(chunks) {
        None => ImageId::new(chunks.first().map(value).unwrap_or_default()),
        Some((left, right)) => {
            merge_subtrees_root(&subtree(left, value), &subtree(right, value), Mode::Hash).into()
        }
    }
}

/// The chaining value of the subtree over these chunks. There is at least one.
pub(super) fn subtree<T>(chunks: &[T], value: &impl Fn(&T) -> ChainingValue) -> ChainingValue {
    match split(chunks) {
        None => chunks.first().map(value).unwrap_or_default(),
        Some((left, right)) => {
            merge_subtrees_non_root(&subtree(left, value), &subtree(right, value), Mode::Hash)
        }
    }
}

/// The left subtree is the largest power of two that leaves something for the right one (BLAKE3 paper, section 2.1); the
/// depth is that of the tree, at most 32. `None` for a single value.
fn split<T>(chunks: &[T]) -> Option<(&[T], &[T])> {
    let last = chunks.len().checked_sub(1).filter(|&last| last > 0)?;
    chunks.split_at_checked(1 << last.ilog2())
}

/// Merges the values of a disk's chunks as they come, in their order, and holds a few of them only.
#[derive(Debug, Clone, Default)]
pub struct Merging {
    /// The values of whole subtrees, the largest first.
    subtrees: Vec<ChainingValue>,
    merged: u64,
    /// Held back: the last merge of all is another one.
    last: Option<ChainingValue>,
}

impl Merging {
    /// The next chunk has this value ([`chunk_value`]).
    pub fn add(&mut self, value: [u8; 32]) {
        let Some(mut value) = self.last.replace(value) else { return };
        self.merged += 1;
        for _ in 0..self.merged.trailing_zeros() {
            let left = self.subtrees.pop().unwrap_or_default();
            value = merge_subtrees_non_root(&left, &value, Mode::Hash);
        }
        self.subtrees.push(value);
    }

    /// The id of the disk; `None` where no chunk came.
    pub fn id(mut self) -> Option<ImageId> {
        let mut value = self.last?;
        while let Some(left) = self.subtrees.pop() {
            if self.subtrees.is_empty() {
                return Some(merge_subtrees_root(&left, &value, Mode::Hash).into());
            }
            value = merge_subtrees_non_root(&left, &value, Mode::Hash);
        }
        // A single chunk's value is the id.
        Some(ImageId::new(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: usize = 64 * 1024;

    fn id_by_chunks(bytes: &[u8]) -> Option<ImageId> {
        let chunks = bytes.len().div_ceil(CHUNK);
        let mut merging = Merging::default();
        for (number, chunk) in bytes.chunks(CHUNK).enumerate() {
            merging.add(chunk_value(chunk, (number * CHUNK) as u64, chunks == 1));
        }
        merging.id()
    }

    #[test]
    fn chunks_merge_to_what_b3sum_prints() {
        for chunks in 1..=17 {
            for odd in [0, 1, 511, CHUNK - 1] {
                let bytes: Vec<u8> =
                    (0..chunks * CHUNK - odd).map(|at| u8::try_from(at % 251).unwrap()).collect();
                assert_eq!(
                    id_by_chunks(&bytes),
                    Some(blake3::hash(&bytes).into()),
                    "{chunks} chunks less {odd}"
                );
            }
        }
    }

    #[test]
    fn values_that_come_in_order_merge_to_the_same() {
        for chunks in 1_u8..70 {
            let values: Vec<_> = (0..chunks).map(|number| [number; 32]).collect();
            let mut merging = Merging::default();
            for &value in &values {
                merging.add(value);
            }
            assert_eq!(merging.id(), Some(merge(&values, &|value| *value)), "{chunks} chunks");
        }
        assert_eq!(Merging::default().id(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_disk_has_the_id_that_b3sum_prints(bytes in proptest::collection::vec(any::<u8>(), 1..6 * CHUNK)) {
            prop_assert_eq!(id_by_chunks(&bytes), Some(blake3::hash(&bytes).into()));
        }
    }
}

//! Verifying a container, reading the disk in it, and comparing two.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

use std::{io::Cursor, sync::atomic::AtomicBool};

use bty_image::{
    ReadAt,
    container::{Index, RawDisk, diff},
    import::{Options, import},
    source::open_stream,
    verify::{ChunkProblem, MOST_NAMED, VerifyError, verify},
};
use proptest::prelude::*;

const CHUNK: usize = 64 * 1024;

fn container_of(raw: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let source = open_stream(Cursor::new(raw.to_vec()), None, None).unwrap();
    let mut out = Vec::new();
    let options =
        Options { chunk_bytes: Some(chunk_bytes as u32), workers: 2, ..Options::default() };
    import(source, &mut out, &options, &AtomicBool::new(false), |_| {}).unwrap();
    out
}

/// A disk of so many chunks, each filled with its own byte.
fn disk(chunks: &[u8]) -> Vec<u8> {
    chunks.iter().flat_map(|&byte| vec![byte; CHUNK]).collect()
}

#[test]
fn a_whole_container_is_proved_and_progress_comes_to_its_end() {
    let raw = disk(&[1, 2, 0, 0, 5, 6, 7, 8, 9, 10, 11]);
    let container = container_of(&raw, CHUNK);
    let index = Index::read(container.as_slice()).unwrap();
    for workers in [0, 1, 4] {
        let mut done = Vec::new();
        let never = AtomicBool::new(false);
        let report =
            verify(container.as_slice(), &index, workers, &never, |raw| done.push(raw)).unwrap();
        assert_eq!((report.chunks, report.wrong_chunks), (11, 0));
        assert_eq!(done.last(), Some(&(raw.len() as u64)));
        assert!(done.is_sorted(), "{done:?}");
    }
}

#[test]
fn every_wrong_chunk_is_named_with_its_place() {
    let raw = disk(&(1..=30).collect::<Vec<u8>>());
    let mut container = container_of(&raw, CHUNK);
    let index = Index::read(container.as_slice()).unwrap();
    let wrong = [3, 17, 29];
    for number in wrong {
        let chunk = index.chunk(number).unwrap();
        container[chunk.frame_offset as usize + chunk.frame_bytes as usize / 2] ^= 0x10;
    }
    let report = verify(container.as_slice(), &index, 3, &AtomicBool::new(false), |_| {}).unwrap();
    let found: Vec<_> = report.first_wrong.iter().map(|wrong| wrong.chunk.number).collect();
    assert_eq!((report.wrong_chunks, found), (3, wrong.to_vec()));
    let first = &report.first_wrong[0];
    assert_eq!(first.chunk.raw_offset, 3 * CHUNK as u64);
    assert!(matches!(first.problem, ChunkProblem::Frame(_)), "{:?}", first.problem);
}

#[test]
fn what_cannot_be_read_is_wrong_and_hides_nothing() {
    /// A file with a bad sector.
    struct Bad<'a>(&'a [u8], u64);
    impl ReadAt for Bad<'_> {
        fn length(&self) -> std::io::Result<u64> {
            self.0.length()
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
            if (offset..offset + buffer.len() as u64).contains(&self.1) {
                return Err(std::io::Error::other("bad sector"));
            }
            self.0.read_exact_at(buffer, offset)
        }
    }
    let mut container = container_of(&disk(&[1, 2, 3, 4]), CHUNK);
    let index = Index::read(container.as_slice()).unwrap();
    let at = |number| index.chunk(number).unwrap().frame_offset;
    container[at(3) as usize + 12] ^= 1;
    let bad = Bad(&container, at(1));
    let report = verify(&bad, &index, 2, &AtomicBool::new(false), |_| {}).unwrap();
    let found: Vec<_> = report.first_wrong.iter().map(|wrong| wrong.chunk.number).collect();
    assert_eq!(found, [1, 3]);
    assert!(matches!(report.first_wrong[0].problem, ChunkProblem::Read(_)));
}

#[test]
fn a_hole_that_is_none_is_wrong() {
    let raw = disk(&[1, 2, 3]);
    let container = container_of(&raw, CHUNK);
    let honest = Index::read(container.as_slice()).unwrap();
    // The flag is not covered by the id; set it where the index frame lies, which is behind the frames and eight bytes.
    let frames_end = honest.chunks().map(|chunk| u64::from(chunk.frame_bytes)).sum::<u64>();
    let mut lying = container.clone();
    lying[frames_end as usize + 8 + 68 + 40] = 1;
    let index = Index::read(lying.as_slice()).unwrap();
    assert_eq!(index.id(), honest.id());
    let report = verify(lying.as_slice(), &index, 1, &AtomicBool::new(false), |_| {}).unwrap();
    assert_eq!(report.wrong_chunks, 1);
    assert!(matches!(report.first_wrong[0].problem, ChunkProblem::NoHole));
}

#[test]
fn so_many_wrong_chunks_are_counted_and_the_first_are_named() {
    let raw: Vec<u8> = (1..=150_u8).flat_map(|byte| vec![byte; CHUNK]).collect();
    let container = container_of(&raw, CHUNK);
    let index = Index::read(container.as_slice()).unwrap();
    let rubbish = vec![0xff; container.len()];
    let report = verify(rubbish.as_slice(), &index, 4, &AtomicBool::new(false), |_| {}).unwrap();
    assert_eq!((report.wrong_chunks, report.first_wrong.len()), (150, MOST_NAMED));
    let numbers = report.first_wrong.iter().map(|wrong| wrong.chunk.number);
    assert_eq!(numbers.collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_verification_can_be_called_off() {
    let container = container_of(&disk(&[1, 2, 3]), CHUNK);
    let index = Index::read(container.as_slice()).unwrap();
    let outcome = verify(container.as_slice(), &index, 2, &AtomicBool::new(true), |_| {});
    assert!(matches!(outcome, Err(VerifyError::Cancelled)));
}

#[test]
fn only_what_differs_is_moved() {
    let from = container_of(&disk(&[1, 2, 0, 4, 5]), CHUNK);
    let to = container_of(&disk(&[1, 9, 0, 0, 5, 6]), CHUNK);
    let (from, to) = (Index::read(from.as_slice()).unwrap(), Index::read(to.as_slice()).unwrap());
    let moved = |from: &Index, to: &Index| -> Vec<(u64, bool)> {
        let all = diff(from, to).filter(|diff| !diff.is_same);
        all.map(|diff| (diff.chunk.number, diff.chunk.is_hole)).collect()
    };
    assert_eq!(moved(&from, &to), [(1, false), (3, true), (5, false)]);
    assert_eq!(moved(&to, &from), [(1, false), (3, false)]);
    assert_eq!(moved(&to, &to), []);
}

#[test]
fn a_disk_of_one_chunk_is_only_like_itself() {
    let one = container_of(&disk(&[1]), CHUNK);
    let two = container_of(&disk(&[1, 2]), CHUNK);
    let (one, two) = (Index::read(one.as_slice()).unwrap(), Index::read(two.as_slice()).unwrap());
    let differing = |from, to| diff(from, to).filter(|diff| !diff.is_same).count();
    assert_eq!((differing(&one, &one), differing(&one, &two), differing(&two, &one)), (0, 2, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_called_the_same_is_the_same_whatever_the_chunk_sizes(
        from in proptest::collection::vec(0..3_u8, 1..14),
        to in proptest::collection::vec(0..3_u8, 1..14),
        sizes in (0..3_u32, 0..3_u32),
        odd in prop_oneof![Just(0), Just(512_usize)],
    ) {
        let (raw_from, mut raw_to) = (disk(&from), disk(&to));
        raw_to.truncate(raw_to.len() - odd);
        let from = container_of(&raw_from, CHUNK << sizes.0);
        let to = container_of(&raw_to, CHUNK << sizes.1);
        let from = Index::read(from.as_slice()).unwrap();
        let to = Index::read(to.as_slice()).unwrap();
        for diff in diff(&from, &to) {
            let range = diff.chunk.raw_offset as usize
                ..diff.chunk.raw_offset as usize + diff.chunk.raw_bytes as usize;
            let equal = raw_from.get(range.clone()) == raw_to.get(range.clone());
            prop_assert!(!diff.is_same || equal, "{:?} is called the same", diff.chunk);
            // Where the other image's chunks are no larger, and not one alone, nothing is moved that is there; the last one of a longer disk
            // is another chunk.
            let exact = sizes.0 <= sizes.1 && from.len() > 1 && to.len() > 1;
            let is_inner = range.end < raw_from.len().min(raw_to.len());
            prop_assert!(diff.is_same || !(equal && exact && is_inner), "{:?} is moved", diff.chunk);
        }
    }

    #[test]
    fn any_part_of_the_disk_is_read(
        chunks in proptest::collection::vec(any::<u8>(), 1..6),
        at in 0..6 * CHUNK,
        length in 0..3 * CHUNK,
    ) {
        let raw = disk(&chunks);
        let container = container_of(&raw, CHUNK);
        let index = Index::read(container.as_slice()).unwrap();
        let disk = RawDisk::new(container.as_slice(), &index).unwrap();
        let mut buffer = vec![0; length];
        let read = disk.read_exact_at(&mut buffer, at as u64);
        match raw.get(at..at + length) {
            Some(want) => {
                prop_assert!(read.is_ok());
                prop_assert_eq!(buffer.as_slice(), want);
            }
            None => prop_assert!(read.is_err() || length == 0),
        }
    }
}

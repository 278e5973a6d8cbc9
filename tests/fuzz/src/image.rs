//! Images: our container's index and chunks, every format that is imported, and partition tables.

use std::{
    cell::RefCell,
    io::{Read, Seek, Write},
};

use bty_image::{
    container::{ChunkDecoder, Index},
    freespace::{Options, survey},
    inspect,
    source::{Limits, open_file_within, open_stream_within},
};
use tempfile::NamedTempFile;

/// What a source may unpack to before it is left: more costs time and shows nothing new.
const MOST_RAW_BYTES: u64 = 4 << 20;
const MEMORY: Limits = Limits { memory_bytes: 8 << 20 };
/// The chunks of a container that are unpacked.
const MOST_CHUNKS: usize = 4;

/// A container.
pub(crate) fn container(data: &[u8]) {
    let Ok(index) = Index::read(data) else { return };
    let length = data.len() as u64;
    assert!(index.len() * 40 <= length, "{} chunks in {length} bytes", index.len());
    let mut decoder = ChunkDecoder::new().expect("a decoder");
    let mut out = vec![0; usize::try_from(index.chunk_bytes()).unwrap_or_default()];
    let mut end = 0;
    for chunk in index.chunks() {
        assert_eq!(chunk.raw_offset, end, "chunk {} leaves a gap", chunk.number);
        end += u64::from(chunk.raw_bytes);
        assert!(chunk.raw_bytes <= index.chunk_bytes(), "a chunk of {} bytes", chunk.raw_bytes);
        let frame_end = chunk.frame_offset.checked_add(chunk.frame_bytes.into());
        assert!(frame_end.is_some_and(|end| end <= length), "a frame beyond the end");
    }
    assert_eq!(end, index.raw_bytes(), "the chunks make another disk");
    for chunk in index.chunks().take(MOST_CHUNKS) {
        let start = usize::try_from(chunk.frame_offset).unwrap_or(usize::MAX);
        let frame = data.get(start..).unwrap_or_default();
        let frame = frame.get(..chunk.frame_bytes as usize).unwrap_or_default();
        if let Ok(raw) = decoder.decode(&chunk, frame, &mut out) {
            assert_eq!(raw.len(), chunk.raw_bytes as usize);
            assert!(chunk.verify(raw).is_ok(), "a chunk that isn't its hash is given out");
        }
    }
}

/// A source of any format, as a file and as a stream: both give the same disk.
pub(crate) fn source(data: &[u8]) {
    thread_local!(static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) });
    let from_file = FILE.with_borrow_mut(|slot| {
        let named = slot.get_or_insert_with(|| NamedTempFile::new().expect("a file"));
        let file = named.as_file_mut();
        file.set_len(0).and_then(|()| file.rewind()).expect("an empty file");
        file.write_all(data).expect("a written file");
        open_file_within(named.path(), None, MEMORY).ok().map(|mut source| {
            let stated = source.raw_bytes();
            let raw = read(&mut source);
            let is_whole = raw.as_ref().is_some_and(|raw| (raw.len() as u64) < MOST_RAW_BYTES);
            let finished = is_whole && source.finish().is_ok();
            if let (Some(stated), true, Some(raw)) = (stated, finished, &raw) {
                assert_eq!(stated, raw.len() as u64, "the size that was stated is not the disk's");
            }
            raw.filter(|_| finished)
        })
    });
    let stream = std::io::Cursor::new(data.to_vec());
    let Ok(mut source) = open_stream_within(stream, Some(data.len() as u64), None, MEMORY) else {
        return;
    };
    let raw = read(&mut source);
    if let (Some(Some(file)), Some(stream), true) = (from_file, raw, source.finish().is_ok()) {
        assert!(file == stream, "a file and a stream of the same bytes give other disks");
    }
}

fn read(source: &mut impl Read) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    source.take(MOST_RAW_BYTES).read_to_end(&mut raw).ok().map(|_| raw)
}

/// A whole disk: its table, and what is in its partitions.
pub(crate) fn contents(data: &[u8]) {
    let table = inspect::inspect(data);
    let found = inspect::contents(data, &table);
    assert_eq!(found.partitions.len(), table.partitions.len(), "a partition without an answer");
    for found in found.whole.iter().chain(found.partitions.iter().flatten()) {
        let used = found.used_bytes.unwrap_or_default();
        assert!(used <= found.size_bytes, "more is used than there is: {found:?}");
        assert!(!found.label.chars().any(char::is_control), "{:?}", found.label);
    }
    assert!(found.hints.len() <= 32, "{} hints", found.hints.len());
}

/// The first bytes of a disk.
pub(crate) fn partitions(data: &[u8]) {
    let found = inspect::inspect(data);
    assert!(found.partitions.len() <= 1024, "{} partitions", found.partitions.len());
}

/// A whole disk, and what its file systems call free: both walks find the same, in order, within the disk.
pub(crate) fn freespace(data: &[u8]) {
    let survey = survey(data, &inspect::inspect(data), Options { swap: true });
    let (mut end, mut sum) = (0, 0);
    for range in survey.free() {
        let range = range.expect("what was read once is read again");
        assert!(range.start >= end && range.end > range.start, "{range:?} behind {end}");
        end = range.end;
        sum += range.end - range.start;
    }
    assert!(end <= data.len() as u64, "free space beyond the end");
    let said: u64 =
        survey.findings().iter().filter_map(|found| found.free_bytes.as_ref().ok()).sum();
    assert_eq!(sum, said, "one walk finds more than the other");
}

//! Damage anywhere in a container is noticed, and no bytes can harm a reader.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

use std::{io::Cursor, sync::atomic::AtomicBool};

use bty_image::{
    ReadAt,
    container::{ChunkDecoder, Index, MAX_CHUNK_BYTES, Proof, chunk_value, locate},
    import::{Options, import},
    source::open_stream,
};
use proptest::prelude::*;

const CHUNK: u32 = 64 * 1024;

fn container(raw: &[u8]) -> Vec<u8> {
    let source = open_stream(Cursor::new(raw.to_vec()), None, None).unwrap();
    let mut out = Vec::new();
    let options = Options { chunk_bytes: CHUNK, workers: 2, ..Options::default() };
    import(source, &mut out, &options, &AtomicBool::new(false), |_| {}).unwrap();
    out
}

/// Reads a container whole, as a flash does; `None` where anything is not as it should be.
fn read_whole(container: &[u8]) -> Option<Vec<u8>> {
    let index = Index::read(container).ok()?;
    let mut decoder = ChunkDecoder::new().unwrap();
    let mut raw = Vec::new();
    let mut out = vec![0; MAX_CHUNK_BYTES as usize];
    for chunk in index.chunks() {
        let mut frame = vec![0; chunk.frame_bytes as usize];
        container.read_exact_at(&mut frame, chunk.frame_offset).ok()?;
        raw.extend_from_slice(decoder.decode(&chunk, &frame, &mut out).ok()?);
    }
    Some(raw)
}

fn disks() -> impl Strategy<Value = Vec<u8>> {
    // Runs of one byte, so that disks have holes, text and edges in the middle of chunks.
    proptest::collection::vec((any::<u8>(), 1..200_usize), 1..12).prop_map(|runs| {
        let mut disk: Vec<u8> = runs
            .into_iter()
            .flat_map(|(byte, sectors)| vec![if byte < 100 { 0 } else { byte }; sectors * 512])
            .collect();
        disk[0] = 0xeb;
        disk
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_container_gives_back_the_disk_and_proves_it(raw in disks()) {
        let container = container(&raw);
        let index = Index::read(container.as_slice()).unwrap();
        prop_assert_eq!(index.id(), blake3::hash(&raw).into());
        prop_assert_eq!(read_whole(&container), Some(raw.clone()));
        let mut proof = Proof::new(index.len());
        for chunk in index.chunks() {
            let bytes = &raw[chunk.raw_offset as usize..][..chunk.raw_bytes as usize];
            prop_assert!(chunk.verify(bytes).is_ok());
            proof.add(chunk.number, chunk_value(bytes, chunk.raw_offset, chunk.is_whole_disk));
        }
        prop_assert_eq!(proof.id(), Some(index.id()));
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_harmless(raw in disks(), at: prop::sample::Index, bit in 0..8_u8) {
        let good = container(&raw);
        let id = Index::read(good.as_slice()).unwrap().id();
        let mut bad = good.clone();
        let at = at.index(bad.len());
        bad[at] ^= 1 << bit;
        // A reader knows the id that it wants; some bits of the seek table say what the index says again.
        let same_id = Index::read(bad.as_slice()).is_ok_and(|index| index.id() == id);
        if same_id {
            prop_assert!(read_whole(&bad).is_none_or(|read| read == raw), "byte {}", at);
        }
    }

    #[test]
    fn a_container_cut_off_anywhere_is_refused(raw in disks(), at: prop::sample::Index) {
        let whole = container(&raw);
        let cut = &whole[..at.index(whole.len())];
        prop_assert!(Index::read(cut).is_err());
    }

    #[test]
    fn any_bytes_are_an_index_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..4096), place: u64) {
        let _ = Index::parse(&bytes, place);
        let _ = Index::read(bytes.as_slice());
        let _ = locate(&bytes, place);
    }

    #[test]
    fn a_damaged_index_is_read_or_refused(at in 0..512_usize, byte: u8) {
        let good = container(&[7; 512 * 1000]);
        let place = locate(&good, good.len() as u64).unwrap();
        let mut content = good[place.start as usize..place.end as usize].to_vec();
        let at = at % content.len();
        content[at] = byte;
        let _ = Index::parse(&content, place.start);
    }

    #[test]
    fn any_source_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4096), magic in 0..5_usize) {
        let magics: [&[u8]; 5] = [b"", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh91AY&SY"];
        let bytes = [magics[magic], &bytes].concat();
        if let Ok(source) = open_stream(Cursor::new(bytes), None, None) {
            let options = Options { max_raw_bytes: 1 << 24, workers: 1, ..Options::default() };
            let _ = import(source, &mut Vec::new(), &options, &AtomicBool::new(false), |_| {});
        }
    }
}

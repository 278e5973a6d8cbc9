//! How an import ends, and what it says on the way.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod lab;

use std::{
    io::{self, Read, Write},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use bty_image::{
    import::{ImportError, Options, Progress, import},
    source,
};
use bty_types::{ErrorKind, ImageId};
use lab::{Lab, disk};

const CHUNK: u32 = 64 * 1024;

#[test]
fn a_bomb_a_wrong_id_a_cancel_and_a_full_disk_each_end_the_import() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lab = Lab::new();
    let open = || source::open_file(&lab.raw, None).unwrap();
    let go = AtomicBool::new(false);
    let options = Options::default();

    let small = Options { max_raw_bytes: 1 << 20, ..options.clone() };
    let bomb = import(open(), &mut Vec::new(), &small, &go, |_| {});
    assert!(matches!(bomb, Err(ImportError::TooLarge(_))), "{bomb:?}");

    let other = Options { expect_id: Some(ImageId::new([7; 32])), ..options.clone() };
    let wrong = import(open(), &mut Vec::new(), &other, &go, |_| {});
    assert!(matches!(wrong, Err(ImportError::WrongId { .. })), "{wrong:?}");

    let cancelled = import(open(), &mut Vec::new(), &options, &AtomicBool::new(true), |_| {});
    assert!(matches!(cancelled, Err(ImportError::Cancelled)), "{cancelled:?}");

    let full = import(open(), &mut Full, &options, &go, |_| {});
    assert!(matches!(full, Err(ImportError::Write(_))), "{full:?}");
}

#[test]
fn a_small_file_that_unpacks_to_a_large_disk_is_stopped_at_the_limit() {
    let lab = Lab::new();
    let zeros = lab.file("zeros", &vec![0; 256 << 20]);
    let packed = Command::new("gzip").arg("-9c").arg(&zeros).output().unwrap().stdout;
    let bomb = lab.file("bomb.gz", &packed);
    let options = Options { max_raw_bytes: 8 << 20, ..Options::default() };
    let (mut seen, go) = (0, AtomicBool::new(false));
    let source = source::open_file(&bomb, None).unwrap();
    let ended = import(source, &mut io::sink(), &options, &go, |progress| {
        seen = seen.max(progress.raw_bytes);
    });
    assert!(matches!(ended, Err(ImportError::TooLarge(_))), "{ended:?}");
    assert!(seen <= 8 << 20, "{seen} bytes were imported");
}

#[test]
fn what_unpacks_to_many_times_its_size_is_refused_unless_it_is_zeros() {
    let lab = Lab::new();
    let options = Options { ratio_from_bytes: 8 << 20, ..Options::default() };
    for (byte, is_bomb) in [(7, true), (0, false)] {
        let raw = lab.file("raw", &vec![byte; 64 << 20]);
        let packed = Command::new("zstd").arg("-qc").arg(&raw).output().unwrap().stdout;
        let source = source::open_file(&lab.file("packed.zst", &packed), None).unwrap();
        let (mut seen, go) = (0, AtomicBool::new(false));
        let ended = import(source, &mut io::sink(), &options, &go, |progress| {
            seen = seen.max(progress.raw_bytes);
        });
        match ended {
            Err(ImportError::Bomb { raw_bytes, source_bytes, .. }) if is_bomb => {
                assert!(raw_bytes > source_bytes * 1000 && seen < 16 << 20, "{seen}");
            }
            Ok(_) if !is_bomb => {}
            other => panic!("{byte}: {other:?}"),
        }
    }
}

/// A disk without an end; counts what is read of it.
struct Endless;

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(7);
        Ok(buffer.len())
    }
}

#[test]
fn a_cancelled_import_reads_no_further_than_its_buffers() {
    let source = source::open_stream(Endless, None, None).unwrap();
    let position = source.position();
    let options = Options { chunk_bytes: Some(CHUNK), workers: 2, ..Options::default() };
    let cancelled = AtomicBool::new(false);
    let (mut chunks, mut at_cancel) = (0, 0);
    let ended = import(source, &mut io::sink(), &options, &cancelled, |_| {
        chunks += 1;
        if chunks == 10 {
            cancelled.store(true, Ordering::Relaxed);
            at_cancel = position.bytes();
        }
    });
    assert!(matches!(ended, Err(ImportError::Cancelled)), "{ended:?}");
    // One chunk may be in the reader's hands, and its buffer reads ahead.
    let after = position.bytes() - at_cancel;
    assert!(after <= 2 * u64::from(CHUNK) + (256 << 10), "{after} bytes were read after it");
}

#[test]
fn a_source_that_breaks_is_unavailable_and_not_damaged() {
    struct Broken(u64);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = usize::try_from(self.0).unwrap().min(buffer.len());
            if size == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            buffer[..size].fill(1);
            self.0 -= size as u64;
            Ok(size)
        }
    }
    let at_once = source::open_stream(Broken(0), None, None).unwrap_err();
    assert_eq!(at_once.kind(), ErrorKind::Unavailable);
    let source = source::open_stream(Broken(3 << 20), None, None).unwrap();
    let go = AtomicBool::new(false);
    let ended = import(source, &mut io::sink(), &Options::default(), &go, |_| {}).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Unavailable, "{ended:?}");
}

#[test]
fn a_chunk_size_that_no_container_has_is_refused() {
    let lab = Lab::new();
    for chunk_bytes in [0, 1, 32 << 10, 100_000, (1 << 20) + 1, 2 << 20] {
        let source = source::open_file(&lab.raw, None).unwrap();
        let options = Options { chunk_bytes: Some(chunk_bytes), ..Options::default() };
        let ended = import(source, &mut io::sink(), &options, &AtomicBool::new(false), |_| {});
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::InvalidInput, "{chunk_bytes}");
    }
}

#[test]
fn progress_goes_up_to_everything() {
    let lab = Lab::new();
    let path = lab.packed("disk.gz", "gzip", &["-c"]);
    let size = path.metadata().unwrap().len();
    let source = source::open_file(&path, None).unwrap();
    let mut seen: Vec<Progress> = Vec::new();
    let mut out = Vec::new();
    let options = Options { chunk_bytes: Some(CHUNK), ..Options::default() };
    let go = AtomicBool::new(false);
    let summary = import(source, &mut out, &options, &go, |progress| seen.push(progress)).unwrap();
    assert_eq!(summary.container_bytes, out.len() as u64);
    assert_eq!(seen.len() as u64, summary.index.len());
    assert!(seen.is_sorted_by_key(|progress| {
        (progress.source_bytes, progress.raw_bytes, progress.container_bytes)
    }));
    let last = seen.last().unwrap();
    assert_eq!((last.source_bytes, last.source_total_bytes), (size, Some(size)));
    assert_eq!(last.raw_bytes, disk().len() as u64);
}

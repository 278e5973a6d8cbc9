//! The flash against devices that fail at any request: the disk ends as the image, or with an error and without a beginning.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bty_disk::device::Target;
use bty_image::{
    container::chunk_value,
    import::{self, import},
    source::open_stream,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::supply::{ContainerFile, Payload, Piece, RawStream, SupplyError};

/// A disk in memory that fails at one request, by an error or by lying.
struct Fake {
    bytes: Mutex<Vec<u8>>,
    sector_bytes: u32,
    requests: AtomicUsize,
    fault: Option<(usize, Fault)>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The request fails.
    Error,
    /// This request fails, and all that follow.
    Death,
    /// A write is acknowledged and half of it is lost.
    Lie,
}

impl Fake {
    fn new(size: usize, sector_bytes: u32, fault: Option<(usize, Fault)>) -> Self {
        // What was there before boots: a signature, and a backup table.
        Self {
            bytes: Mutex::new(vec![0xA5; size]),
            sector_bytes,
            requests: AtomicUsize::new(0),
            fault,
        }
    }

    fn fault(&self) -> Option<Fault> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let (at, fault) = self.fault?;
        (request == at || (request > at && matches!(fault, Fault::Death))).then_some(fault)
    }

    fn content(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Target for Fake {
    fn size_bytes(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert_eq!(bytes.len() % self.sector_bytes as usize, 0, "not whole sectors");
        assert_eq!(bytes.as_ptr().addr() % bty_sys::ALIGNMENT, 0, "not aligned");
        let keep = match self.fault() {
            Some(Fault::Error | Fault::Death) => return Err(io::Error::other("injected")),
            Some(Fault::Lie) => bytes.len() / 2,
            None => bytes.len(),
        };
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + keep].copy_from_slice(&bytes[..keep]);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if matches!(self.fault(), Some(Fault::Error | Fault::Death)) {
            return Err(io::Error::other("injected"));
        }
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.bytes.lock().unwrap()[start..start + buffer.len()]);
        Ok(())
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let bytes = match self.fault() {
            Some(Fault::Error | Fault::Death) => return Err(io::Error::other("injected")),
            Some(Fault::Lie) => bytes / 2,
            None => bytes,
        };
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + usize::try_from(bytes).unwrap()].fill(0);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if matches!(self.fault(), Some(Fault::Error | Fault::Death)) {
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }
}

/// An image with text, noise and holes, raw and as a container.
struct Image {
    _folder: TempDir,
    raw: Vec<u8>,
    raw_path: PathBuf,
    container: PathBuf,
}

impl Image {
    fn new(sectors: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut raw = vec![0; sectors * 512];
        for (at, byte) in raw.iter_mut().enumerate() {
            if (at / 100_000) % 3 != 1 {
                *byte = u8::try_from((at * 31 + at / 977) % 256).unwrap() | 1;
            }
        }
        let raw_path = folder.path().join("raw");
        std::fs::write(&raw_path, &raw).unwrap();
        let container = folder.path().join("container");
        let source = open_stream(io::Cursor::new(raw.clone()), None, None).unwrap();
        let options =
            import::Options { chunk_bytes: 64 * 1024, workers: 1, ..import::Options::default() };
        let mut file = std::fs::File::create(&container).unwrap();
        import(source, &mut file, &options, &AtomicBool::new(false), |_| {}).unwrap();
        Self { _folder: folder, raw, raw_path, container }
    }

    fn flash(&self, target: &Fake, from_container: bool) -> Result<Record, FlashError> {
        let options = Options { workers: 2, ..Options::default() };
        let mut supply: Box<dyn Supply> = if from_container {
            Box::new(ContainerFile::open(&self.container).unwrap().unwrap())
        } else {
            Box::new(RawStream::open(&self.raw_path).unwrap())
        };
        flash(supply.as_mut(), target, &options, &AtomicBool::new(false), &|_| {})
    }
}

#[test]
fn the_disk_becomes_the_image_from_either_supply() {
    let image = Image::new(6001);
    for sector in [512, 4096] {
        for from_container in [true, false] {
            let disk = Fake::new(8 << 20, sector, None);
            let record = image.flash(&disk, from_container).unwrap();
            assert_eq!(record.id, blake3::hash(&image.raw).into());
            assert!(record.proved);
            assert!(
                disk.content().starts_with(&image.raw),
                "sector {sector}, container {from_container}"
            );
            let end = &disk.content()[(7 << 20)..];
            assert!(end.iter().all(|&byte| byte == 0), "an old backup partition table survived");
        }
    }
}

#[test]
fn an_image_as_large_as_the_disk_fits() {
    let image = Image::new(4096);
    let disk = Fake::new(4096 * 512, 512, None);
    image.flash(&disk, true).unwrap();
    assert_eq!(disk.content(), image.raw);
}

#[test]
fn nothing_is_written_to_a_disk_that_is_too_small() {
    let image = Image::new(4096);
    let disk = Fake::new(4095 * 512, 512, None);
    let problem = image.flash(&disk, true).unwrap_err();
    assert_eq!(problem.reason(), "DISK_TOO_SMALL");
    assert!(disk.content().iter().all(|&byte| byte == 0xA5));
}

#[test]
fn another_image_than_was_asked_for_is_refused_before_anything_is_written() {
    let image = Image::new(4096);
    let disk = Fake::new(4 << 20, 512, None);
    let mut supply = ContainerFile::open(&image.container).unwrap().unwrap();
    let options = Options { expect_id: Some(ImageId::new([1; 32])), ..Options::default() };
    let problem =
        flash(&mut supply, &disk, &options, &AtomicBool::new(false), &|_| {}).unwrap_err();
    assert_eq!(problem.reason(), "IMAGE_CORRUPT");
    assert!(disk.content().iter().all(|&byte| byte == 0xA5));
}

#[test]
fn a_stream_that_turns_out_to_be_another_image_never_gets_its_beginning() {
    let image = Image::new(4096);
    let disk = Fake::new(4 << 20, 512, None);
    let mut supply = RawStream::open(&image.raw_path).unwrap();
    let options = Options { expect_id: Some(ImageId::new([1; 32])), ..Options::default() };
    let problem =
        flash(&mut supply, &disk, &options, &AtomicBool::new(false), &|_| {}).unwrap_err();
    assert_eq!(problem.reason(), "IMAGE_CORRUPT");
    assert!(disk.content()[..512].iter().all(|&byte| byte == 0));
}

#[test]
fn a_changed_byte_in_the_container_is_named_and_never_written() {
    let image = Image::new(4096);
    let mut bytes = std::fs::read(&image.container).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&image.container, bytes).unwrap();
    let disk = Fake::new(4 << 20, 512, None);
    let problem = image.flash(&disk, true).unwrap_err();
    assert_eq!(problem.reason(), "IMAGE_CORRUPT");
    let cause = std::error::Error::source(&problem).unwrap().to_string();
    assert!(cause.contains("chunk ") && cause.contains("offset"), "{cause}");
    assert!(disk.content()[..512].iter().all(|&byte| byte == 0));
}

#[test]
fn a_disk_that_dies_ends_the_flash() {
    let image = Image::new(4096);
    for from_container in [true, false] {
        let disk = Fake::new(image.raw.len(), 512, None);
        image.flash(&disk, from_container).unwrap();
        for at in 0..disk.requests.load(Ordering::Relaxed) {
            let disk = Fake::new(image.raw.len(), 512, Some((at, Fault::Death)));
            let problem = image.flash(&disk, from_container).unwrap_err();
            assert!(
                matches!(problem.reason(), "WRITE_FAILED" | "FLUSH_FAILED" | "READ_FAILED"),
                "{problem:?}"
            );
        }
    }
}

/// How many pieces a supply gave, for those who wait for it.
#[derive(Default)]
struct Given {
    pieces: Mutex<u64>,
    changed: Condvar,
}

/// Chunks without an end in sight.
struct Plenty(Arc<Given>);

impl Supply for Plenty {
    fn chunk_bytes(&self) -> u32 {
        64 * 1024
    }

    fn raw_bytes(&self) -> Option<u64> {
        None
    }

    fn id(&self) -> Option<ImageId> {
        None
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError> {
        let mut pieces = self.0.pieces.lock().unwrap();
        let number = *pieces;
        *pieces += 1;
        self.0.changed.notify_all();
        let (raw_offset, payload) = (number * 64 * 1024, Payload::Raw(vec![1; 64 * 1024]));
        Ok(Some(Piece { number, raw_offset, raw_bytes: 64 * 1024, is_whole_disk: false, payload }))
    }

    fn fetched_bytes(&self) -> u64 {
        0
    }
}

/// One piece that is said to be a hole.
struct Hole(Option<Piece>);

impl Supply for Hole {
    fn chunk_bytes(&self) -> u32 {
        64 * 1024
    }

    fn raw_bytes(&self) -> Option<u64> {
        None
    }

    fn id(&self) -> Option<ImageId> {
        None
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, SupplyError> {
        Ok(self.0.take())
    }

    fn fetched_bytes(&self) -> u64 {
        0
    }
}

#[test]
fn a_hole_that_is_none_is_found_with_and_without_reading_back() {
    let (zeros, ones) = (vec![0; 64 * 1024], vec![1; 64 * 1024]);
    let values = |lie: u64| -> Vec<[u8; 32]> {
        let value = |number| {
            let bytes = if number == lie { &ones } else { &zeros };
            chunk_value(bytes, number * 64 * 1024, false)
        };
        (0..4).map(value).collect()
    };
    for (lie, readback) in [(9, true), (9, false), (2, true), (2, false)] {
        let mut supply = Hole(Some(Piece {
            number: 0,
            raw_offset: 0,
            raw_bytes: 4 * 64 * 1024,
            is_whole_disk: false,
            payload: Payload::Hole(values(lie)),
        }));
        let disk = Fake::new(4 << 20, 512, None);
        let options = Options { readback, ..Options::default() };
        let outcome = flash(&mut supply, &disk, &options, &AtomicBool::new(false), &|_| {});
        assert_eq!(outcome.is_ok(), lie == 9, "readback {readback}: {outcome:?}");
    }
}

/// A disk whose writes after the blanking all fail, as soon as so many pieces are under way that the next one has to wait.
struct Stuck(Arc<Given>, AtomicUsize);

impl Target for Stuck {
    fn size_bytes(&self) -> u64 {
        1 << 40
    }

    fn sector_bytes(&self) -> u32 {
        512
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        if self.1.fetch_add(1, Ordering::Relaxed) < 2 {
            return Ok(());
        }
        // The first is held back; two are with the workers, two wait for them, and one has no place.
        let pieces = self.0.pieces.lock().unwrap();
        let pieces = self.0.changed.wait_while(pieces, |pieces| *pieces < 6).unwrap();
        drop(pieces);
        std::thread::yield_now();
        Err(io::Error::other("injected"))
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::Error::other("injected"))
    }

    fn zero(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::Error::other("injected"))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn all_workers_failing_at_once_do_not_leave_the_supply_waiting() {
    for _ in 0..50 {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let given = Arc::new(Given::default());
            let disk = Stuck(Arc::clone(&given), AtomicUsize::new(0));
            let options = Options { workers: 2, ..Options::default() };
            let outcome =
                flash(&mut Plenty(given), &disk, &options, &AtomicBool::new(false), &|_| {});
            let _ = tell.send(outcome.map_err(|problem| problem.reason()));
        });
        let outcome = told.recv_timeout(Duration::from_secs(30)).expect("the flash hangs");
        assert_eq!(outcome, Err("WRITE_FAILED"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn a_fault_anywhere_leaves_the_image_or_no_beginning(
        at in 0..160_usize,
        fault in prop_oneof![Just(Fault::Error), Just(Fault::Lie)],
        from_container: bool,
        whole_disk: bool,
        sector in prop_oneof![Just(512_u32), Just(4096)],
    ) {
        let image = Image::new(4096);
        let size = if whole_disk { image.raw.len() } else { image.raw.len() + (2 << 20) };
        let disk = Fake::new(size, sector, Some((at, fault)));
        let outcome = image.flash(&disk, from_container);
        let content = disk.content();
        match outcome {
            Ok(_) => prop_assert!(content.starts_with(&image.raw)),
            Err(problem) => {
                let blanked = content[..512].iter().all(|&byte| byte == 0);
                // The very first request is the blanking: where that fails, nothing has changed.
                let untouched = at == 0 && content.iter().all(|&byte| byte == 0xA5);
                prop_assert!(blanked || untouched, "{problem:?}");
            }
        }
    }
}

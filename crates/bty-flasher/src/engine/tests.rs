//! The flash against devices that fail at any request: the disk ends as the image, or with an error and without a beginning.

mod holes;

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
    import::{self, import},
    source::open_stream,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::supply::{
    Container, ContainerFile, Frames, Image, Payload, Piece, RawStream, Stream, SupplyError,
};

/// A disk in memory that fails at one request, by an error or by lying.
struct Fake {
    bytes: Mutex<Vec<u8>>,
    sector_bytes: u32,
    requests: AtomicUsize,
    changes: AtomicUsize,
    fault: Option<(usize, Fault)>,
    /// A byte that can't be read before it is written.
    unreadable: Option<usize>,
    /// A byte that making zeros forgets.
    forgotten: Option<usize>,
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
            changes: AtomicUsize::new(0),
            fault,
            unreadable: None,
            forgotten: None,
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
        self.changes.fetch_add(1, Ordering::Relaxed);
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + keep].copy_from_slice(&bytes[..keep]);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if matches!(self.fault(), Some(Fault::Error | Fault::Death)) {
            return Err(io::Error::other("injected"));
        }
        let start = usize::try_from(offset).unwrap();
        let is_read = |byte| {
            self.changes.load(Ordering::Relaxed) == 0
                && (start..start + buffer.len()).contains(&byte)
        };
        if self.unreadable.is_some_and(is_read) {
            return Err(io::Error::other("a bad sector"));
        }
        buffer.copy_from_slice(&self.bytes.lock().unwrap()[start..start + buffer.len()]);
        Ok(())
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let bytes = match self.fault() {
            Some(Fault::Error | Fault::Death) => return Err(io::Error::other("injected")),
            Some(Fault::Lie) => bytes / 2,
            None => bytes,
        };
        self.changes.fetch_add(1, Ordering::Relaxed);
        let start = usize::try_from(offset).unwrap();
        let range = start..start + usize::try_from(bytes).unwrap();
        let mut content = self.bytes.lock().unwrap();
        let kept = self.forgotten.filter(|byte| range.contains(byte)).map(|at| (at, content[at]));
        content[range].fill(0);
        if let Some((at, byte)) = kept {
            content[at] = byte;
        }
        Ok(())
    }

    fn discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        // A device that keeps what it was told to forget.
        let _ = (offset, bytes);
        Ok(())
    }

    fn zeroes_cheaply(&self) -> bool {
        true
    }

    fn flush(&self) -> io::Result<()> {
        if matches!(self.fault(), Some(Fault::Error | Fault::Death)) {
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }
}

/// An image with text, noise and holes, raw and as a container.
struct Files {
    _folder: TempDir,
    raw: Vec<u8>,
    raw_path: PathBuf,
    container: PathBuf,
}

impl Files {
    fn new(sectors: usize) -> Self {
        let mut raw = vec![0; sectors * 512];
        for (at, byte) in raw.iter_mut().enumerate() {
            if (at / 100_000) % 3 != 1 {
                *byte = u8::try_from((at * 31 + at / 977) % 256).unwrap() | 1;
            }
        }
        Self::of(raw)
    }

    fn of(raw: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raw_path = folder.path().join("raw");
        std::fs::write(&raw_path, &raw).unwrap();
        let container = folder.path().join("container");
        let source = open_stream(io::Cursor::new(raw.clone()), None, None).unwrap();
        let options = import::Options {
            chunk_bytes: Some(64 * 1024),
            workers: 1,
            ..import::Options::default()
        };
        let mut file = std::fs::File::create(&container).unwrap();
        import(source, &mut file, &options, &AtomicBool::new(false), |_| {}).unwrap();
        Self { _folder: folder, raw, raw_path, container }
    }

    fn open(&self, from_container: bool) -> Image {
        if from_container {
            Image::Container(Box::new(ContainerFile::open(&self.container).unwrap().unwrap()))
        } else {
            Image::Stream(Box::new(RawStream::open(&self.raw_path).unwrap()))
        }
    }

    fn flash(&self, target: &Fake, from_container: bool) -> Result<Record, FlashError> {
        let options = Options { processors: 2, ..Options::default() };
        self.flash_as(target, from_container, &options)
    }

    fn flash_as(
        &self,
        target: &Fake,
        from_container: bool,
        options: &Options,
    ) -> Result<Record, FlashError> {
        let mut image = self.open(from_container);
        flash(&mut image, target, options, &AtomicBool::new(false), &|_| {})
    }
}

#[test]
fn the_disk_becomes_the_image_from_either_supply() {
    let image = Files::new(6001);
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
            let end = &disk.content()[(8 << 20) - (128 << 10)..];
            assert!(end.iter().all(|&byte| byte == 0), "an old backup partition table survived");
        }
    }
}

#[test]
fn an_image_as_large_as_the_disk_fits() {
    let image = Files::new(4096);
    let disk = Fake::new(4096 * 512, 512, None);
    image.flash(&disk, true).unwrap();
    assert_eq!(disk.content(), image.raw);
}

#[test]
fn nothing_is_written_to_a_disk_that_is_too_small() {
    let image = Files::new(4096);
    let disk = Fake::new(4095 * 512, 512, None);
    let problem = image.flash(&disk, true).unwrap_err();
    assert_eq!(problem.reason(), "DISK_TOO_SMALL");
    assert!(disk.content().iter().all(|&byte| byte == 0xA5));
}

#[test]
fn another_image_than_was_asked_for_is_refused_before_anything_is_written() {
    let image = Files::new(4096);
    let disk = Fake::new(4 << 20, 512, None);
    let options = Options { expect_id: Some(ImageId::new([1; 32])), ..Options::default() };
    let problem = image.flash_as(&disk, true, &options).unwrap_err();
    assert_eq!(problem.reason(), "IMAGE_CORRUPT");
    assert!(disk.content().iter().all(|&byte| byte == 0xA5));
}

#[test]
fn a_stream_that_turns_out_to_be_another_image_never_gets_its_beginning() {
    let image = Files::new(4096);
    let disk = Fake::new(4 << 20, 512, None);
    let options = Options { expect_id: Some(ImageId::new([1; 32])), ..Options::default() };
    let problem = image.flash_as(&disk, false, &options).unwrap_err();
    assert_eq!(problem.reason(), "IMAGE_CORRUPT");
    assert!(disk.content()[..512].iter().all(|&byte| byte == 0));
}

#[test]
fn a_changed_byte_in_the_container_is_named_and_never_written() {
    let image = Files::new(4096);
    let good = std::fs::read(&image.container).unwrap();
    let last = ContainerFile::open(&image.container).unwrap().unwrap().index().chunk(30).unwrap();
    let in_last = usize::try_from(last.frame_offset).unwrap() + 9;
    for (changed, is_first) in [(9, true), (in_last, false)] {
        let mut bytes = good.clone();
        bytes[changed] ^= 1;
        std::fs::write(&image.container, bytes).unwrap();
        let disk = Fake::new(4 << 20, 512, None);
        let before = disk.content();
        let problem = image.flash(&disk, true).unwrap_err();
        assert_eq!(problem.reason(), "IMAGE_CORRUPT");
        let cause = std::error::Error::source(&problem).unwrap().to_string();
        assert!(cause.contains("chunk ") && cause.contains("offset"), "{cause}");
        let (beginning, was_changed) = (disk.content()[..512].to_vec(), disk.content() != before);
        assert!(!(is_first && was_changed), "byte {changed}");
        assert_eq!(beginning, if was_changed { [0; 512] } else { [0xA5; 512] }, "byte {changed}");
        let found = is_zero(&disk.content()[usize::try_from(last.raw_offset).unwrap()..][..512]);
        assert!(is_first || !found);
    }
}

#[test]
fn a_disk_that_dies_ends_the_flash() {
    let image = Files::new(4096);
    // As many requests each time.
    let options = Options { processors: 2, compare: Compare::On, ..Options::default() };
    for from_container in [true, false] {
        let disk = Fake::new(image.raw.len(), 512, None);
        image.flash_as(&disk, from_container, &options).unwrap();
        for at in 0..disk.requests.load(Ordering::Relaxed) {
            let disk = Fake::new(image.raw.len(), 512, Some((at, Fault::Death)));
            let problem = image.flash_as(&disk, from_container, &options).unwrap_err();
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

impl Stream for Plenty {
    fn chunk_bytes(&self) -> u32 {
        64 * 1024
    }

    fn raw_bytes(&self) -> Option<u64> {
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
        thread::yield_now();
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
        thread::spawn(move || {
            let given = Arc::new(Given::default());
            let disk = Stuck(Arc::clone(&given), AtomicUsize::new(0));
            let options = Options { processors: 1, ..Options::default() };
            let mut image = Image::Stream(Box::new(Plenty(given)));
            let outcome = flash(&mut image, &disk, &options, &AtomicBool::new(false), &|_| {});
            let _ = tell.send(outcome.map_err(|problem| problem.reason()));
        });
        let outcome = told.recv_timeout(Duration::from_secs(30)).expect("the flash hangs");
        assert_eq!(outcome, Err("WRITE_FAILED"));
    }
}

/// A disk that holds this, and as much more.
fn disk_with(content: &[u8], size: usize, sector: u32) -> Fake {
    let disk = Fake::new(size, sector, None);
    disk.bytes.lock().unwrap()[..content.len()].copy_from_slice(content);
    disk
}

#[test]
fn a_disk_that_is_the_image_is_not_touched_and_nothing_is_fetched() {
    let image = Files::new(6001);
    for from_container in [true, false] {
        let disk = disk_with(&image.raw, 8 << 20, 4096);
        disk.bytes.lock().unwrap()[image.raw.len()..].fill(0);
        let record = image.flash(&disk, from_container).unwrap();
        assert_eq!(record.id, blake3::hash(&image.raw).into());
        assert!(record.proved);
        assert_eq!((record.written_bytes, record.zeroed_bytes), (0, 0));
        assert_eq!(disk.changes.load(Ordering::Relaxed), 0);
        if from_container {
            assert_eq!(record.fetched_bytes, 0);
        }
    }
}

#[test]
fn only_what_differs_is_fetched_and_written() {
    const CHUNK: usize = 64 * 1024;
    let image = Files::new(64 << 11);
    let disk = disk_with(&image.raw, 64 << 20, 512);
    let changed = [20, 21, 400];
    for chunk in changed {
        disk.bytes.lock().unwrap()[chunk * CHUNK + 77] ^= 0x10;
    }
    let options = Options { processors: 2, compare: Compare::On, ..Options::default() };
    let record = image.flash_as(&disk, true, &options).unwrap();
    assert_eq!(disk.content(), image.raw);
    // Both ends are blanked, and the beginning is written; the end is a hole.
    let edges = 3 * (128 << 10);
    assert_eq!(record.written_bytes, (changed.len() * CHUNK + edges) as u64);
    assert!(record.fetched_bytes < (changed.len() * CHUNK) as u64, "{record:?}");
    assert!(record.proved);
}

#[test]
fn nothing_is_written_before_the_disk_is_blanked_however_often_that_fails() {
    for at in 0..3 {
        let disk = Fake::new(4 << 20, 512, Some((at, Fault::Error)));
        let (options, cancelled) = (Options::default(), AtomicBool::new(false));
        let report = |_: Event| {};
        let meter = Meter::new(Job::default(), &report);
        let work = Work::new(&disk, &options, &cancelled, &meter);
        let bytes = AlignedBuf::new(4096);
        // One worker finds out that it can't be blanked; another one waits to write.
        assert!(work.write(&bytes, 1 << 20).is_err(), "request {at} failed");
        assert_eq!(disk.content()[1 << 20], 0xA5);
        work.write(&bytes, 1 << 20).unwrap();
        let content = disk.content();
        assert_eq!((content[0], content[511], content[(4 << 20) - 1]), (0, 0, 0));
    }
}

#[test]
fn what_can_not_be_read_is_written() {
    let image = Files::new(4096);
    let disk = disk_with(&image.raw, 2 << 20, 512);
    let disk = Fake { unreadable: Some(70_000), ..disk };
    let record = image.flash(&disk, true).unwrap();
    assert!(record.proved && record.written_bytes > 0);
    assert_eq!(disk.content(), image.raw);
}

#[test]
fn holes_are_zeroed_discarded_or_kept() {
    let image = Files::new(6001);
    for (holes, is_image) in [(Holes::Zero, true), (Holes::Discard, true), (Holes::Keep, false)] {
        for from_container in [true, false] {
            let disk = Fake::new(8 << 20, 512, None);
            let options = Options { holes, ..Options::default() };
            let record = image.flash_as(&disk, from_container, &options).unwrap();
            assert_eq!(record.proved, is_image);
            // The stream's chunks are so large that none of them is a hole.
            let is_whole = is_image || !from_container;
            assert_eq!(disk.content().starts_with(&image.raw), is_whole, "{holes:?}");
            let data = |content: &[u8]| content[1..90_000].to_vec();
            assert_eq!(data(&disk.content()), data(&image.raw));
        }
    }
}

#[test]
fn one_byte_that_the_device_did_not_make_zero_is_found_where_all_is_read_back() {
    let image = Files::new(6001);
    let disk = Fake { forgotten: Some(150_000), ..Fake::new(8 << 20, 512, None) };
    let options = Options { read_back: ReadBack::All, ..Options::default() };
    let outcome = image.flash_as(&disk, true, &options);
    assert!(matches!(outcome, Err(FlashError::Mismatch { .. })), "{outcome:?}");
    assert_eq!(disk.content()[..512], [0; 512]);
}

/// A container that gives wrong bytes for a while.
struct Liar {
    truth: ContainerFile,
    /// So many reads are wrong; each changes one bit.
    lies: AtomicUsize,
    distrusted: AtomicUsize,
}

impl Container for Liar {
    fn index(&self) -> &bty_image::container::Index {
        self.truth.index()
    }

    fn is_pinned(&self) -> bool {
        false
    }

    fn frames(&self) -> Result<Box<dyn Frames + '_>, SupplyError> {
        Ok(Box::new(self))
    }

    fn lanes(&self, _: usize) -> usize {
        1
    }

    fn fetched_bytes(&self) -> u64 {
        self.truth.fetched_bytes()
    }

    fn retried_requests(&self) -> u64 {
        0
    }
}

impl Frames for &Liar {
    fn read(&mut self, offset: u64, room: &mut [u8]) -> Result<(), SupplyError> {
        (&self.truth).read(offset, room)?;
        let lies = self
            .lies
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if lies.is_ok() {
            let at = room.len() / 2;
            room[at] ^= 4;
        }
        Ok(())
    }

    fn distrust(&mut self) {
        self.distrusted.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_chunk_that_comes_wrong_is_fetched_again_and_given_up_in_the_end() {
    let files = Files::new(8192);
    for (lies, is_good) in [(1, true), (3, true), (4, false), (1000, false)] {
        let truth = ContainerFile::open(&files.container).unwrap().unwrap();
        let liar = Liar { truth, lies: AtomicUsize::new(lies), distrusted: AtomicUsize::new(0) };
        let mut image = Image::Container(Box::new(liar));
        let disk = Fake::new(8 << 20, 512, None);
        let outcome =
            flash(&mut image, &disk, &Options::default(), &AtomicBool::new(false), &|_| {});
        match outcome {
            Ok(record) => {
                assert!(is_good && record.refetched_chunks == lies as u64, "{lies} lies");
                assert!(disk.content().starts_with(&files.raw));
            }
            Err(problem) => {
                assert!(!is_good, "{lies} lies: {problem:?}");
                assert_eq!(problem.reason(), "IMAGE_CORRUPT");
                assert_eq!(
                    disk.changes.load(Ordering::Relaxed),
                    0,
                    "the first chunk is looked at first"
                );
            }
        }
    }
}

/// What a disk holds before: something else, the image, the image with changes, or its beginning.
#[derive(Debug, Clone)]
enum Before {
    Other,
    Same,
    Changed(Vec<usize>),
    Cut(usize),
}

fn before() -> impl Strategy<Value = Before> {
    prop_oneof![
        Just(Before::Other),
        Just(Before::Same),
        proptest::collection::vec(0..2_097_152_usize, 1..8).prop_map(Before::Changed),
        (0..2_097_152_usize).prop_map(Before::Cut),
    ]
}

fn disk_before(files: &Files, before: &Before, size: usize, sector: u32) -> Vec<u8> {
    let disk = disk_with(&files.raw, size, sector);
    let mut bytes = disk.content();
    match before {
        Before::Other => bytes.fill(0xA5),
        Before::Same => {}
        Before::Changed(places) => places.iter().for_each(|&place| bytes[place] ^= 0x40),
        Before::Cut(place) => {
            bytes[*place..].fill(0xA5);
            bytes[..128 << 10].fill(0);
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn a_fault_anywhere_leaves_the_image_or_what_was_or_no_beginning(
        at in 0..200_usize,
        fault in prop_oneof![Just(Fault::Error), Just(Fault::Lie), Just(Fault::Death)],
        before in before(),
        compare in prop_oneof![Just(Compare::Auto), Just(Compare::On), Just(Compare::Off)],
        read_back in prop_oneof![Just(ReadBack::Written), Just(ReadBack::All)],
        from_container: bool,
        whole_disk: bool,
        sector in prop_oneof![Just(512_u32), Just(4096)],
    ) {
        let files = Files::new(4096);
        let size = if whole_disk { files.raw.len() } else { files.raw.len() + (2 << 20) };
        let old = disk_before(&files, &before, size, sector);
        let disk = Fake { fault: Some((at, fault)), ..disk_with(&old, size, sector) };
        let options = Options { processors: 2, compare, read_back, ..Options::default() };
        let outcome = files.flash_as(&disk, from_container, &options);
        let content = disk.content();
        match outcome {
            Ok(_) => prop_assert!(content.starts_with(&files.raw)),
            Err(problem) => {
                let blanked = content[..512].iter().all(|&byte| byte == 0);
                // A disk that dies when its beginning was written has everything.
                let is_image = content.starts_with(&files.raw);
                prop_assert!(blanked || content == old || is_image, "{problem:?}");
            }
        }
        // And run again, without faults, it becomes the image.
        let disk = disk_with(&content, size, sector);
        let record = files.flash_as(&disk, from_container, &options).unwrap();
        prop_assert!(disk.content().starts_with(&files.raw));
        prop_assert!(record.proved);
    }
}

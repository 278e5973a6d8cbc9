//! Holes larger than any buffer.

use super::*;

/// Data at both ends, and 8 MiB of nothing between.
fn hollow() -> Files {
    let mut raw = vec![7; 10 << 20];
    raw[1 << 20..9 << 20].fill(0);
    Files::of(raw)
}

#[test]
fn a_large_hole_that_is_zeros_already_is_not_touched() {
    let image = hollow();
    for from_container in [true, false] {
        let disk = disk_with(&image.raw, image.raw.len(), 512);
        let options = Options { compare: Compare::On, ..Options::default() };
        let record = image.flash_as(&disk, from_container, &options).unwrap();
        assert_eq!((record.written_bytes, record.zeroed_bytes), (0, 0), "{from_container}");
        assert_eq!(disk.changes.load(Ordering::Relaxed), 0, "{from_container}");
    }
}

/// A disk during whose reading beyond this byte somebody calls the flash off.
struct CalledOff<'a> {
    disk: Fake,
    from: u64,
    cancelled: &'a AtomicBool,
}

impl Target for CalledOff<'_> {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn sector_bytes(&self) -> u32 {
        self.disk.sector_bytes()
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if (self.from..9 << 20).contains(&offset) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        self.disk.read_at(buffer, offset)
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.disk.zero(offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }
}

#[test]
fn a_flash_that_is_called_off_while_it_compares_a_hole_leaves_the_disk_as_it_was() {
    let image = hollow();
    for from_container in [true, false] {
        let cancelled = AtomicBool::new(false);
        let disk = disk_with(&image.raw, image.raw.len(), 512);
        let disk = CalledOff { disk, from: 2 << 20, cancelled: &cancelled };
        let options = Options { compare: Compare::On, ..Options::default() };
        let outcome = flash(&mut image.open(from_container), &disk, &options, &cancelled, &|_| {});
        assert!(
            matches!(outcome, Err(FlashError::Cancelled { blanked: false })),
            "{from_container}: {outcome:?}"
        );
        assert_eq!(disk.disk.changes.load(Ordering::Relaxed), 0, "{from_container}");
    }
}

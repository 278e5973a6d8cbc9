//! Reading and writing a disk's bytes, past the page cache.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use bty_types::ErrorKind;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, open};

/// A disk's bytes. Offsets and lengths are multiples of the sector, buffers are aligned ([`bty_sys::AlignedBuf`]); several threads
/// read and write at a time.
pub trait Target: Sync {
    /// Size in bytes.
    fn size_bytes(&self) -> u64;

    /// Logical sector size in bytes.
    fn sector_bytes(&self) -> u32;

    /// Writes all of the bytes.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills the buffer from the device itself.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Makes a range read as zeros.
    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Tells the device that a range is of no more use; what it reads as afterwards is up to the device.
    fn discard(&self, _offset: u64, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether making a range zero is much cheaper than writing zeros to it, or reading it.
    fn zeroes_cheaply(&self) -> bool {
        false
    }

    /// Returns when everything that was written would survive a power cut.
    fn flush(&self) -> io::Result<()>;
}

/// A block device, held so that nobody else mounts it.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    number: u64,
    size_bytes: u64,
    sector_bytes: u32,
    zeroes_cheaply: bool,
}

/// A device that can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is none.
    #[error("{} is no block device", path.display())]
    NotABlockDevice {
        /// What was named.
        path: PathBuf,
    },
    /// The kernel refuses.
    #[error("opening {}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl OpenError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotABlockDevice { .. } => ErrorKind::InvalidInput,
            Self::Open { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::ResourceBusy => ErrorKind::Precondition,
                _ => ErrorKind::Unavailable,
            },
        }
    }

    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotABlockDevice { .. } => "NOT_A_BLOCK_DEVICE",
            Self::Open { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                "DISK_IN_USE"
            }
            Self::Open { .. } => "DISK_OPEN",
        }
    }
}

impl BlockDevice {
    /// Opens a device past the page cache (`O_DIRECT`) and for us alone: with `O_EXCL` the kernel refuses a device that is mounted
    /// or held, and refuses to mount it while we have it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_as(path, OFlags::RDWR | OFlags::EXCL)
    }

    /// Opens a device past the page cache to read it only; it may be mounted.
    pub fn open_to_read(path: &Path) -> Result<Self, OpenError> {
        Self::open_as(path, OFlags::RDONLY)
    }

    /// The same for us alone: nobody mounts or writes it meanwhile.
    pub fn hold_to_read(path: &Path) -> Result<Self, OpenError> {
        Self::open_as(path, OFlags::RDONLY | OFlags::EXCL)
    }

    fn open_as(path: &Path, access: OFlags) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.file_type().is_block_device() {
            return Err(OpenError::NotABlockDevice { path: path.to_owned() });
        }
        let flags = access | OFlags::DIRECT | OFlags::CLOEXEC;
        let mut file: File =
            open(path, flags, Mode::empty()).map_err(|problem| failed(problem.into()))?.into();
        let size_bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let (sector_bytes, _) = bty_sys::sector_sizes(&file).map_err(failed)?;
        let number = metadata.rdev();
        let zeroes_cheaply = has_queue_limit(number, "write_zeroes_max_bytes");
        Ok(Self { file, number, size_bytes, sector_bytes, zeroes_cheaply })
    }

    /// Whether the device has a command that this limit of its queue is of.
    pub(crate) fn has_queue_limit(&self, limit: &str) -> bool {
        has_queue_limit(self.number, limit)
    }

    /// What commands are sent to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// A part of the device as a device of its own, also where the kernel shows no partitions; both whole sectors.
    pub fn part(&self, offset: u64, bytes: u64) -> io::Result<bty_sys::LoopDevice> {
        bty_sys::LoopDevice::over(&self.file, offset, bytes, self.sector_bytes)
    }

    /// Has the kernel look at the new partitions. A device that knows none (a loop device) keeps its old view, which harms nobody.
    pub fn show_new_partitions(&self) {
        let _ = bty_sys::reread_partitions(&self.file);
    }
}

impl Target for BlockDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        // Punching a hole into a block device has it write zeroes by its own command, and lets it forget what was there; where it
        // has none this fails (fallocate(2); block/fops.c). The other way it would keep room for the zeros, or write them out.
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if self.zeroes_cheaply && fallocate(&self.file, punch, offset, bytes).is_ok() {
            return Ok(());
        }
        bty_sys::zero_out(&self.file, offset, bytes)
    }

    fn discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        bty_sys::discard(&self.file, offset, bytes)
    }

    fn zeroes_cheaply(&self) -> bool {
        self.zeroes_cheaply
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Whether the device has a command for it: one that moves more than no bytes at once (`queue/*_max_bytes`, kernel doc
/// ABI/stable/sysfs-block). A partition's is its disk's.
fn has_queue_limit(number: u64, limit: &str) -> bool {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let folder = format!("/sys/dev/block/{major}:{minor}");
    ["queue", "../queue"].iter().any(|queue| {
        let most = std::fs::read_to_string(format!("{folder}/{queue}/{limit}"));
        most.is_ok_and(|bytes| bytes.trim().parse::<u64>().is_ok_and(|bytes| bytes > 0))
    })
}

//! A file system with a `NoCloud` seed in it: FAT, and called CIDATA, by which cloud-init knows it.

use std::io::{self, Cursor, Write};

use bty_types::fix_ups::Seed;
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};

/// What it is called; cloud-init takes upper or lower case.
pub(super) const LABEL: &str = "CIDATA";
/// Its size: all that a seed may have, and room to spare.
pub(super) const BYTES: u64 = 4 << 20;

/// The file system, ready to be written.
pub(super) fn image(seed: &Seed, sector_bytes: u32) -> io::Result<Vec<u8>> {
    let mut label = [b' '; 11];
    for (room, byte) in label.iter_mut().zip(LABEL.bytes()) {
        *room = byte;
    }
    let mut image = Cursor::new(vec![0; usize::try_from(BYTES).map_err(io::Error::other)?]);
    let options = FormatVolumeOptions::new()
        .bytes_per_sector(u16::try_from(sector_bytes).map_err(io::Error::other)?)
        .volume_label(label);
    format_volume(&mut image, options)?;
    {
        let file_system = FileSystem::new(&mut image, FsOptions::new())?;
        for (name, content) in seed.files() {
            let mut file = file_system.root_dir().create_file(name)?;
            file.write_all(content.bytes())?;
            file.flush()?;
        }
        file_system.unmount()?;
    }
    Ok(image.into_inner())
}

//! Which format a source is in, by its first bytes.

use super::SourceError;

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes themselves; a hybrid ISO is one.
    Raw,
    /// gzip (RFC 1952), one member or several.
    Gzip,
    /// xz, one stream or several.
    Xz,
    /// Zstandard (RFC 8878), one frame or several; bty's container too.
    Zstd,
    /// bzip2, one stream or several.
    Bzip2,
    /// lz4's frames, one or several.
    Lz4,
    /// A tar archive with one file, itself packed or not.
    Tar,
    /// A zip archive with one file.
    Zip,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
    /// Microsoft's first format for virtual disks: a dynamic one, or a raw disk with a footer.
    Vhd,
    /// Its successor.
    Vhdx,
    /// VMware's, sparse or stream-optimised, in one file.
    Vmdk,
    /// VirtualBox's.
    Vdi,
}

impl Format {
    /// What people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "lz4",
            Self::Tar => "tar",
            Self::Zip => "zip",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
        }
    }
}

const CONVERT: &str = "convert it first: qemu-img convert -O qcow2 IN OUT";
const EXTRACT: &str = "extract the disk image from it first";

const DOWNLOAD: &str = "take the address of the image itself";

/// Formats that are known and not read: magic, offset, name, advice.
const REFUSED: [(&[u8], usize, &str, &str); 10] = [
    (b"# Disk DescriptorFile", 0, "the text of a VMDK, whose disk is in other files", CONVERT),
    (b"COWD", 0, "an ESX VMDK", CONVERT),
    (b"\xbe\xba\xfe\xca\0\0\0\0", 0, "a space-efficient VMDK", CONVERT),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive", EXTRACT),
    (b"\x02\x21\x4c\x18", 0, "packed with lz4 -l", "unpack it first: lz4 -d IN OUT"),
    (b"\x3a\xff\x26\xed", 0, "an Android sparse image", "convert it first: simg2img IN OUT"),
    (b"<!DOCTYPE", 0, "a web page", DOWNLOAD),
    (b"<!doctype", 0, "a web page", DOWNLOAD),
    (b"<html", 0, "a web page", DOWNLOAD),
    (b"LZIP", 0, "packed with lzip", "unpack it first: lzip -d IN"),
];

/// Formats that say where each part of their disk is, and so have to be files: magic and its offset.
const MAPPED: [(&[u8], usize, Format); 5] = [
    (b"QFI\xfb", 0, Format::Qcow2),
    (b"conectix", 0, Format::Vhd),
    (b"vhdxfile", 0, Format::Vhdx),
    (b"KDMV", 0, Format::Vmdk),
    (b"\x7f\x10\xda\xbe", 64, Format::Vdi),
];

/// The mapped format of a source with these first bytes, where it is in one.
pub(super) fn mapped(head: &[u8]) -> Option<Format> {
    let found =
        |magic, offset| head.get(offset..).is_some_and(|rest: &[u8]| rest.starts_with(magic));
    MAPPED.into_iter().find_map(|(magic, offset, format)| found(magic, offset).then_some(format))
}

/// The format of a source with these first bytes.
pub(super) fn format(head: &[u8]) -> Result<Format, SourceError> {
    if head.is_empty() {
        return Err(SourceError::Empty);
    }
    for (magic, offset, what, advice) in REFUSED {
        if head.get(offset..).is_some_and(|rest| rest.starts_with(magic)) {
            return Err(SourceError::Unsupported { what, advice });
        }
    }
    Ok(if head.starts_with(b"\x1f\x8b\x08") {
        Format::Gzip
    } else if head.starts_with(b"\xfd7zXZ\0") {
        Format::Xz
    } else if head.starts_with(b"\x28\xb5\x2f\xfd") || is_skippable_zstd(head) {
        Format::Zstd
    } else if head.starts_with(b"BZh") && head.get(4..10) == Some(b"1AY&SY") {
        Format::Bzip2
    } else if head.starts_with(b"\x04\x22\x4d\x18") {
        Format::Lz4
    } else if is_zip(head) {
        Format::Zip
    } else if head.get(257..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        Format::Tar
    } else {
        mapped(head).unwrap_or(Format::Raw)
    })
}

/// Whether a source with these first bytes is a zip archive.
pub(super) fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
}

/// pzstd begins its files with a skippable frame (RFC 8878 section 3.1.2).
fn is_skippable_zstd(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        for (magic, offset, what, _) in REFUSED {
            let mut head = vec![0; 512];
            head.splice(offset..offset + magic.len(), magic.iter().copied());
            let shown = format(&head).unwrap_err().to_string();
            assert!(shown.contains(what), "{shown}");
        }
    }

    #[test]
    fn a_disk_is_whatever_is_nothing_else() {
        assert_eq!(format(&[0; 512]).unwrap(), Format::Raw);
        assert_eq!(format(b"BZh9 is the beginning of a text").unwrap(), Format::Raw);
        assert!(matches!(format(b""), Err(SourceError::Empty)));
    }
}

//! Archives with one disk image in them, read as a stream.
//!
//! The image must be the only file: which of several is meant is nobody's guess, and a stream shows only at its end what else there is.
//! Folders don't count. An error says what is in the archive. Of a zip archive that is a file, the directory is looked at first.

pub(super) mod tar;
pub(super) mod zip;

use std::io::{self, Read};

/// What is shown of a file's name.
const MOST_NAME_CHARS: usize = 100;
const SECTOR_BYTES: u64 = 512;

/// A kind of archive, in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tar,
    Zip,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }

    fn refused(self, what: &str) -> io::Error {
        let archive = self.as_str();
        io::Error::new(io::ErrorKind::InvalidData, format!("the {archive} archive {what}"))
    }

    fn damaged(self, what: &str) -> io::Error {
        self.refused(&format!("is damaged: {what}"))
    }

    fn several(self, first: &str, second: &str) -> io::Error {
        self.refused(&format!(
            "has several files, {first} and {second} among them; extract the disk image and import it alone"
        ))
    }

    fn empty(self) -> io::Error {
        self.refused("has no file in it")
    }

    /// Refuses what can't be a disk by its name or size, before anything is read of it.
    fn check_member(self, name: &str, bytes: u64) -> io::Result<()> {
        // An OVA is a tar whose first file is this one (DMTF's DSP0243, section 5.3). Its disk is a packed VMDK.
        if name.to_ascii_lowercase().ends_with(".ovf") {
            return Err(self.refused(&format!(
                "is a virtual machine (OVA: it begins with {name}); take its disk out and import that: tar -xf IN, then the .vmdk"
            )));
        }
        if bytes == 0 || !bytes.is_multiple_of(SECTOR_BYTES) {
            let what = format!("begins with {name}, which has {bytes} bytes and is no disk image");
            return Err(self.refused(&what));
        }
        Ok(())
    }

    /// An end where there should be more is a source that was cut off.
    fn named(self, problem: io::Error) -> io::Error {
        if problem.kind() == io::ErrorKind::UnexpectedEof {
            return self.refused("ends too early: the source was cut off");
        }
        problem
    }
}

/// A name as it may be shown to anybody.
fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.chars().filter(|c| !c.is_control()).take(MOST_NAME_CHARS).collect()
}

/// Reads over so many bytes.
fn skip(reader: &mut impl Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut reader.take(bytes), &mut io::sink())? {
        skipped if skipped == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

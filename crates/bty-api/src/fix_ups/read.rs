//! Fix-ups as a person asks for them: flags that `bty-flasher write` and `btyctl machine set` have alike, and files whose contents are
//! taken along.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "the comments of flags are the help text, which is not Markdown"
)]

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use bty_types::{
    ErrorKind, ParseError,
    fix_ups::{Content, DroppedFile, FilePlace, FixUps, Seed, SeedPlace},
};

/// Changes of the disk after the image, as flags of a command: each only
/// where it is asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Asked {
    /// Move the GPT's backup to the disk's real end. --grow and --seed do too.
    #[arg(long)]
    pub gpt_to_end: bool,
    /// Make the last partition end where the disk does, and its ext4, XFS,
    /// btrfs or NTFS with it.
    #[arg(long)]
    pub grow: bool,
    /// Give the disk and its partitions new GUIDs, or the disk a new signature.
    /// What names partitions by those doesn't find them any more.
    #[arg(long)]
    pub new_guids: bool,
    /// Add a partition CIDATA with this folder's user-data, meta-data,
    /// network-config and vendor-data for cloud-init.
    #[arg(long, value_name = "DIR", conflicts_with = "seed_files")]
    pub seed: Option<PathBuf>,
    /// Put them into the image's own /var/lib/cloud/seed/nocloud instead.
    #[arg(long, value_name = "DIR")]
    pub seed_files: Option<PathBuf>,
    /// A configuration for Ignition.
    #[arg(long, value_name = "FILE")]
    pub ignition: Option<PathBuf>,
    /// An answer file for Windows's setup.
    #[arg(long, value_name = "FILE")]
    pub unattend: Option<PathBuf>,
    /// A file to put on the disk: SRC=PART:/path, where PART is a partition's
    /// number, root or esp, with ,mode=0600 and ,owner=UID:GID behind it
    /// where wished. May be given several times.
    #[arg(long = "file", value_name = "SRC=PART:/PATH")]
    pub files: Vec<AskedFile>,
}

/// A file, written `SRC=PART:/path`, where wished with `,mode=0600` and `,owner=UID:GID` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedFile {
    source: PathBuf,
    at: FilePlace,
    mode: u32,
    owner: (u32, u32),
}

/// What can't be taken along.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too much.
    #[error("taking the fix-ups along")]
    Bounds(#[from] ParseError),
}

impl ReadError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Read { .. } | Self::Bounds(_) => ErrorKind::InvalidInput,
        }
    }
}

impl FromStr for AskedFile {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| ParseError::new("a file to put on a disk", text, reason);
        let (mut rest, mut mode, mut owner) = (text, DroppedFile::MODE, (0, 0));
        while let Some((before, option)) = rest.rsplit_once(',') {
            if let Some(value) = option.strip_prefix("mode=") {
                mode = u32::from_str_radix(value, 8)
                    .map_err(|_| refuse("a mode is octal digits, such as 0600"))?;
            } else if let Some(value) = option.strip_prefix("owner=") {
                owner = value
                    .split_once(':')
                    .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)))
                    .ok_or_else(|| refuse("an owner is UID:GID, in numbers"))?;
            } else {
                break;
            }
            rest = before;
        }
        let splits = rest.match_indices('=').map(|(at, _)| rest.split_at(at));
        for (source, place) in splits.filter(|(source, _)| !source.is_empty()) {
            if let Ok(at) = place.trim_start_matches('=').parse() {
                return Ok(Self { source: source.into(), at, mode, owner });
            }
        }
        Err(refuse("it is SRC=PART:/path, where PART is a partition's number, root or esp"))
    }
}

impl Asked {
    /// Reads the files.
    pub fn read(&self) -> Result<FixUps, ReadError> {
        let optional = |path: &Option<PathBuf>| path.as_deref().map(content).transpose();
        let partition = self.seed.as_deref().map(|folder| seed(folder, SeedPlace::Partition));
        let files = self.seed_files.as_deref().map(|folder| seed(folder, SeedPlace::Files));
        let wanted = FixUps {
            gpt_to_end: self.gpt_to_end,
            grow: self.grow,
            new_guids: self.new_guids,
            seed: partition.or(files).transpose()?,
            ignition: optional(&self.ignition)?,
            unattend: optional(&self.unattend)?,
            files: self.files.iter().map(file).collect::<Result<_, _>>()?,
        };
        wanted.check()?;
        Ok(wanted)
    }
}

fn file(asked: &AskedFile) -> Result<DroppedFile, ReadError> {
    let AskedFile { source, at, mode, owner } = asked.clone();
    Ok(DroppedFile { content: content(&source)?, at, mode, owner })
}

/// cloud-init wants `user-data` and `meta-data`; an instance whose metadata says nothing is called `nocloud`.
fn seed(folder: &Path, place: SeedPlace) -> Result<Seed, ReadError> {
    let optional = |name: &str| match content(&folder.join(name)) {
        Err(ReadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    };
    Ok(Seed {
        place,
        user_data: content(&folder.join("user-data"))?,
        meta_data: optional("meta-data")?.unwrap_or_default(),
        network_config: optional("network-config")?,
        vendor_data: optional("vendor-data")?,
    })
}

/// A file's bytes, as far as it takes to see that they are too many.
fn content(path: &Path) -> Result<Content, ReadError> {
    let failed = |source| ReadError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let most = FixUps::MOST_BYTES as u64 + 1;
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(Content::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_as_its_source_and_its_place() {
        let read = |text: &str| text.parse::<AskedFile>();
        let file = read("a=b,c.txt=root:/etc/x=y,mode=0600,owner=7:8").unwrap();
        assert_eq!(file.source, Path::new("a=b,c.txt"));
        assert_eq!(file.at.to_string(), "root:/etc/x=y");
        assert_eq!((file.mode, file.owner), (0o600, (7, 8)));
        assert_eq!(read("x=2:/a,b").unwrap().at.path.as_str(), "/a,b");
        for text in ["", "x", "x=y", "=1:/x", "x=1:x", "x=1:/x,mode=9", "x=1:/x,owner=root"] {
            assert!(read(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_seed_needs_user_data_only_and_nothing_is_too_large() {
        let folder = std::env::temp_dir().join(format!("bty-seed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let asked = Asked { seed_files: Some(folder.clone()), ..Asked::default() };
        let problem = asked.read().unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::NotFound);
        std::fs::write(folder.join("user-data"), "#cloud-config\n").unwrap();
        let seed = asked.read().unwrap().seed.unwrap();
        assert_eq!((seed.place, seed.files().len()), (SeedPlace::Files, 2));
        std::fs::write(folder.join("vendor-data"), vec![0; 2 << 20]).unwrap();
        let problem = asked.read().unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::InvalidInput);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

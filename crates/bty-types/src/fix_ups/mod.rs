//! What is changed on a disk after it has proved its image.

mod content;
mod file_place;

pub use content::Content;
pub use file_place::{FilePath, FilePlace, PartitionChoice};

use crate::ParseError;

/// Changes of a disk after the image, each only where it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FixUps {
    /// The GPT's backup goes to the disk's real end.
    pub gpt_to_end: bool,
    /// The last partition ends where the disk does, and its file system with it.
    pub grow: bool,
    /// Disk and partitions get new identities.
    pub new_guids: bool,
    /// A seed for cloud-init's data source `NoCloud`.
    pub seed: Option<Seed>,
    /// A configuration for Ignition.
    pub ignition: Option<Content>,
    /// An answer file for Windows's setup.
    pub unattend: Option<Content>,
    /// Files for the image's file systems.
    pub files: Vec<DroppedFile>,
}

/// Where a seed is put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SeedPlace {
    /// A FAT partition called CIDATA behind the last one.
    #[default]
    Partition,
    /// `/var/lib/cloud/seed/nocloud` in the image's own root file system.
    Files,
}

/// A seed for cloud-init's data source `NoCloud`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// Where it is put.
    pub place: SeedPlace,
    /// Who may log in, what to install, what to run.
    pub user_data: Content,
    /// The instance's id and name.
    pub meta_data: Content,
    /// The network; the image's own ways without.
    pub network_config: Option<Content>,
    /// What a vendor adds.
    pub vendor_data: Option<Content>,
}

/// A file for one of the image's file systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedFile {
    /// Where it is put.
    pub at: FilePlace,
    /// What is in it.
    pub content: Content,
    /// Its mode, where the file system has modes.
    pub mode: u32,
    /// Its owner and group, where the file system has them.
    pub owner: (u32, u32),
}

impl DroppedFile {
    /// The mode of one whose mode nobody said.
    pub const MODE: u32 = 0o644;
}

impl Seed {
    /// Its files, as cloud-init calls them.
    pub fn files(&self) -> Vec<(&'static str, &Content)> {
        let mut files = vec![("user-data", &self.user_data), ("meta-data", &self.meta_data)];
        files.extend(self.network_config.as_ref().map(|content| ("network-config", content)));
        files.extend(self.vendor_data.as_ref().map(|content| ("vendor-data", content)));
        files
    }
}

impl FixUps {
    /// All contents together have at most so many bytes.
    pub const MOST_BYTES: usize = 1 << 20;
    /// At most so many files.
    pub const MOST_FILES: usize = 64;

    /// Whether nothing is asked for.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Passes what keeps the bounds.
    pub fn check(&self) -> Result<(), ParseError> {
        let wrong =
            |given: String, reason| Err(ParseError::new("a set of fix-ups", &given, reason));
        if self.files.len() > Self::MOST_FILES {
            return wrong(format!("{} files", self.files.len()), "at most 64 are taken");
        }
        let bytes = self.contents().map(|content| content.bytes().len()).sum::<usize>();
        if bytes > Self::MOST_BYTES {
            return wrong(format!("{bytes} bytes"), "all contents together have at most 1048576");
        }
        match self.files.iter().find(|file| file.mode > 0o7777) {
            Some(file) => wrong(format!("{:o}", file.mode), "a mode is at most 7777"),
            None => Ok(()),
        }
    }

    fn contents(&self) -> impl Iterator<Item = &Content> {
        let seed = self.seed.iter().flat_map(|seed| seed.files().into_iter().map(|file| file.1));
        seed.chain(&self.ignition)
            .chain(&self.unattend)
            .chain(self.files.iter().map(|file| &file.content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept() {
        let file = DroppedFile {
            at: "2:/x".parse().unwrap(),
            content: Content::new(vec![0; 16 << 10]),
            mode: 0o644,
            owner: (0, 0),
        };
        let with = |files| FixUps { files, ..FixUps::default() };
        assert!(with(vec![file.clone(); 64]).check().is_ok());
        assert!(with(vec![file.clone(); 65]).check().is_err(), "too many");
        let seed = Seed { user_data: Content::new(vec![0]), ..Seed::default() };
        let over = FixUps { seed: Some(seed), ..with(vec![file.clone(); 64]) };
        assert!(over.check().unwrap_err().to_string().contains("1048577 bytes"));
        assert!(with(vec![DroppedFile { mode: 0o10000, ..file }]).check().is_err());
    }
}

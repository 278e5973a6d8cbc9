//! What a person asks to be changed on the disk after the image.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "the comments are the help text, which is not Markdown"
)]

use std::path::PathBuf;

use bty_api::fix_ups::read::{Asked, AskedFile};
use bty_types::{FixUps, fix_ups::SeedPlace};

use super::Failure;

/// Changes of the disk after the image, each opt-in.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Changes after the disk has proved its image")]
pub(super) struct FixUpArguments {
    /// Move the GPT's backup to the disk's real end. --grow and --seed do too.
    #[arg(long)]
    gpt_to_end: bool,
    /// Make the last partition end where the disk does, and its ext4, XFS,
    /// btrfs or NTFS with it.
    #[arg(long)]
    grow: bool,
    /// Give the disk and its partitions new GUIDs, or the disk a new signature.
    /// What names partitions by those doesn't find them any more.
    #[arg(long)]
    new_guids: bool,
    /// Add a partition CIDATA with this folder's user-data, meta-data,
    /// network-config and vendor-data for cloud-init.
    #[arg(long, value_name = "DIR", conflicts_with = "seed_files")]
    seed: Option<PathBuf>,
    /// Put them into the image's own /var/lib/cloud/seed/nocloud instead.
    #[arg(long, value_name = "DIR")]
    seed_files: Option<PathBuf>,
    /// A configuration for Ignition.
    #[arg(long, value_name = "FILE")]
    ignition: Option<PathBuf>,
    /// An answer file for Windows's setup.
    #[arg(long, value_name = "FILE")]
    unattend: Option<PathBuf>,
    /// A file to put on the disk: SRC=PART:/path, where PART is a partition's
    /// number, root or esp, with ,mode=0600 and ,owner=UID:GID behind it
    /// where wished. May be given several times.
    #[arg(long = "file", value_name = "SRC=PART:/PATH")]
    files: Vec<AskedFile>,
}

impl FixUpArguments {
    /// Reads the files that are to be taken along.
    pub(super) fn read(&self) -> Result<FixUps, Failure> {
        let partition = self.seed.clone().map(|folder| (folder, SeedPlace::Partition));
        let files = self.seed_files.clone().map(|folder| (folder, SeedPlace::Files));
        let asked = Asked {
            gpt_to_end: self.gpt_to_end,
            grow: self.grow,
            new_guids: self.new_guids,
            seed: partition.or(files),
            ignition: self.ignition.clone(),
            unattend: self.unattend.clone(),
            files: self.files.clone(),
        };
        asked.read().map_err(|problem| Failure::of(problem.kind(), &problem))
    }
}

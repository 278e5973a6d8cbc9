//! The command line: `disks`, `write`, and the two ways to run as a service.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "the comments are the help text, which is not Markdown"
)]

mod capture;
mod disks;
mod erase;
mod health;
mod receipt;
mod show;
mod verify;
mod write;

use std::{path::PathBuf, process::ExitCode};

use bty_api::fix_ups::read::Asked;
use bty_types::{BootEntry, ErrorKind, ImageId};
use clap::{Parser, Subcommand, ValueEnum};

/// Writes, verifies and proves disks.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 80,
    after_help = "Exit codes: 0 done, 1 internal, 2 wrong input, 3 not found, 5 precondition\n\
                  (the disk must not be written), 6 denied, 7 unavailable, 8 corrupt,\n\
                  130 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the disks of this machine.
    Disks {
        /// How to show them.
        #[arg(long, value_enum, default_value = "text")]
        output: Format,
    },
    /// Write an image to a disk, and prove that it is there.
    Write(WriteArguments),
    /// Say whether a disk is an image, and where not.
    ///
    /// Nothing is written. Ends with 0 where the disk is the image, and with 8
    /// where it is not.
    Verify(VerifyDiskArguments),
    /// Make an image of a disk: a container, which any of these commands and
    /// the registry take.
    ///
    /// The disk must not be in use. What its file systems call free becomes
    /// zeros, and zeros take no room. A file system that was not unmounted,
    /// or is hibernated, is taken whole. Hibernation and page files are files
    /// like any other, and stay.
    Capture(CaptureArguments),
    /// Make all that a disk holds go, by the strongest way that it has.
    ///
    /// The disk must not be in use. What is cut off half way doesn't boot.
    Erase(EraseArguments),
    /// Say whether disks are about to fail, as they say themselves.
    ///
    /// Ends with 5 where one is.
    Health {
        /// The disk: /dev/sdX, serial:S, wwn:W, or only; all without it, but
        /// for those on USB.
        disk: Option<String>,
        /// How to show it.
        #[arg(long, value_enum, default_value = "text")]
        output: Format,
    },
    /// Has file systems stand still until standard input ends.
    #[command(hide = true)]
    ThawGuard {
        /// Where they are mounted.
        mounts: Vec<PathBuf>,
    },
    /// Run as the agent of a netbooted machine; reads /proc/cmdline.
    Agent {
        /// Wait for this file, which says that drivers are loaded, before the
        /// hardware is reported.
        #[arg(long, value_name = "FILE")]
        drivers: Option<PathBuf>,
    },
    /// Load the drivers of what is there and of what comes, in the live system.
    Drivers {
        /// Made once the drivers of what is there are loaded.
        ready: PathBuf,
    },
    /// Turn off what a network card is known to do wrong, in the live system.
    Calm {
        /// The kernel's name of the card.
        card: String,
    },
    /// Run as the daemon for disks docked to this machine; see serve --help.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Serve {
        /// Flags that every daemon of bty has.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        rest: Vec<std::ffi::OsString>,
    },
}

/// What to erase, and how.
#[derive(Debug, clap::Args)]
struct EraseArguments {
    /// The disk: /dev/sdX, serial:S, wwn:W, or only.
    disk: String,
    /// The way to do it.
    #[arg(long, value_enum, default_value = "auto")]
    how: HowArgument,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    /// How to show progress and result; json is one object a line.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HowArgument {
    /// The strongest that the disk has and that doesn't take hours, else the
    /// next, down to zeroes.
    Auto,
    /// NVMe: forget the key, or erase all blocks.
    NvmeSanitize,
    /// NVMe: format, with an erase.
    NvmeFormat,
    /// ATA: SECURITY ERASE UNIT, enhanced where there is one.
    AtaSecureErase,
    /// Tell the disk that nothing on it is needed.
    Discard,
    /// Make it zero, and read it back.
    Zeroes,
}

/// What to make an image of.
#[derive(Debug, clap::Args)]
struct CaptureArguments {
    /// The disk: /dev/sdX, serial:S, wwn:W, or only; or a file that is a raw
    /// disk.
    disk: String,
    /// The file to make, such as disk.img.zst; with --into the image's name,
    /// NAME[:TAG].
    out: String,
    /// Send the image to a registry, and make no file: the path of its unix
    /// socket (/run/bty/registry/api.sock), or http://127.0.0.1:7600.
    #[arg(long, value_name = "SOCKET|URL")]
    into: Option<String>,
    /// The image in the registry that the disk is like, NAME[:TAG] or id: what
    /// it has is not sent.
    #[arg(long, value_name = "IMAGE", requires = "into")]
    base: Option<String>,
    /// The file with the token for a URL.
    #[arg(long, value_name = "FILE", requires = "into")]
    token_file: Option<PathBuf>,
    /// Take what file systems call free as it is, with what was deleted.
    #[arg(long, visible_alias = "all")]
    keep_free: bool,
    /// What to leave out beside free space.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "keep_free")]
    leave_out: Vec<LeaveOut>,
    /// Take a disk of which file systems are mounted: they stand still
    /// meanwhile, and who writes to them waits.
    #[arg(long)]
    frozen: bool,
    /// zstd's level: higher is smaller and slower.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
    /// How to show progress and result; json is one object a line.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// What is left out of an image on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LeaveOut {
    /// The content of swap space; its header stays, with its UUID.
    Swap,
}

/// What to compare.
#[derive(Debug, clap::Args)]
struct VerifyDiskArguments {
    /// A file in any format that bty imports, or the http or https URL of a
    /// bty container.
    image: String,
    /// The disk: /dev/sdX, serial:S, wwn:W, or only.
    disk: String,
    /// How to show progress and result; json is one object a line.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// What to write where.
#[derive(Debug, clap::Args)]
struct WriteArguments {
    /// A file in any format that bty imports, or the http or https URL of a
    /// bty container.
    image: String,
    /// The disk: /dev/sdX, serial:S, wwn:W, or only.
    disk: String,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    /// Look at what the disk holds first, and write only what differs.
    #[arg(long, value_enum, default_value = "auto")]
    compare: CompareArgument,
    /// How what was written is verified.
    #[arg(long, value_enum, default_value = "readback")]
    verify: VerifyArgument,
    /// What becomes of the disk where the image has nothing but zeros.
    #[arg(long, value_enum, default_value = "zero")]
    holes: HolesArgument,
    /// Write even a disk that says that it is about to fail.
    #[arg(long)]
    failing_disk_ok: bool,
    /// The id that the image must have, as b3sum prints it of the raw disk.
    #[arg(long, value_name = "ID")]
    expect: Option<ImageId>,
    /// Write what was done to this file, as the appliance's receipts have it,
    /// but not signed.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// What a UEFI firmware is told after the flash: next, to boot the disk
    /// once; order, also to boot it after the network from then on; off.
    #[arg(long, value_name = "WHAT", default_value = "off")]
    boot_entry: BootEntry,
    /// How to show progress and result; json is one object a line.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
    // The last: the heading is that of all flags behind it.
    #[command(flatten, next_help_heading = "Changes after the disk has proved its image")]
    fix_ups: Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompareArgument {
    /// Where it pays, as measured on the way.
    Auto,
    /// Everywhere.
    On,
    /// Nowhere.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VerifyArgument {
    /// Each chunk before it is written, and again as the disk gives it back.
    /// What the disk makes zero by a command of its own is looked at in
    /// places.
    Readback,
    /// The same, and all that was made zero is read back too.
    Full,
    /// Each chunk before it is written. Nothing proves that it arrived.
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HolesArgument {
    /// It reads as zeros.
    Zero,
    /// It is discarded, and made zero where it then reads as anything else.
    Discard,
    /// It stays as it is: the disk has the image's data, and is not the
    /// image.
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[value(alias = "table")]
    Text,
    /// For programs.
    Json,
}

/// Why a command failed.
#[derive(Debug)]
struct Failure {
    kind: ErrorKind,
    message: String,
}

impl Failure {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    fn of(kind: ErrorKind, error: &dyn std::error::Error) -> Self {
        Self::new(kind, bty_api::status::chain(error))
    }
}

/// Runs what was asked for.
pub(crate) fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Disks { output } => disks::run(output),
        Verb::Write(arguments) => write::run(&arguments),
        Verb::Verify(arguments) => verify::run(&arguments),
        Verb::Capture(arguments) => capture::run(&arguments),
        Verb::Erase(arguments) => erase::run(&arguments),
        Verb::Health { disk, output } => health::run(disk.as_deref(), output),
        Verb::ThawGuard { mounts } => crate::capture::frozen::guard(&mounts).map_err(|problem| {
            Failure::new(ErrorKind::Internal, format!("thawing what was frozen: {problem}"))
        }),
        Verb::Agent { drivers } => return crate::agent::main(drivers.as_deref()),
        Verb::Drivers { ready } => crate::drivers::run(&ready).map_err(|problem| {
            Failure::new(ErrorKind::Internal, format!("loading drivers: {problem}"))
        }),
        Verb::Calm { card } => {
            crate::calm::calm(&card);
            Ok(())
        }
        Verb::Serve { rest } => {
            let name = PathBuf::from("bty-flasher serve").into_os_string();
            return bty_service::main_with::<crate::daemon::Flasher>(
                std::iter::once(name).chain(rest),
            );
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

//! What can be typed: every verb and flag in one place.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "the comments are the help text, which is not Markdown"
)]

mod import;

use std::{path::PathBuf, time::Duration};

use bty_api::fix_ups::read::Asked;
use bty_types::{BootChain, BootEntry, DiskSelector, ImageName, ImageSelector, Policy};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use import::Import;

/// Over the options that every command has.
const EVERYWHERE: &str = "Of every command";

/// Controls a bty appliance.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 80,
    after_help = "Exit codes: 0 done, 1 internal, 2 wrong input, 3 not found, 4 conflict,\n\
                  5 precondition, 6 denied, 7 unavailable, 8 corrupt, 9 exhausted,\n\
                  10 deadline, 130 interrupted."
)]
pub(crate) struct Arguments {
    /// How to show results.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value = "table")]
    pub(crate) output: Format,

    #[command(flatten)]
    pub(crate) connect: Connect,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: the message of the gRPC contract as JSON; one object a
    /// line where results keep coming.
    Json,
}

/// How to reach the appliance.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Where the daemons' sockets are.
    #[arg(
        long,
        global = true, help_heading = EVERYWHERE,
        value_name = "DIR",
        env = "BTY_RUN_DIR",
        default_value = "/run/bty"
    )]
    pub(crate) run_dir: PathBuf,

    /// Reach the registry by TCP instead, such as http://127.0.0.1:7600.
    /// Needs a token.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL", env = "BTY_SERVER")]
    pub(crate) server: Option<String>,

    /// The token for --server; better given in BTY_TOKEN than on the command
    /// line, which other users can see.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "TOKEN", env = "BTY_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Images in the store.
    #[command(subcommand)]
    Image(Image),
    /// Machines, and what they are to do.
    #[command(subcommand)]
    Machine(Machine),
    /// What was done to machines.
    #[command(subcommand)]
    Run(Run),
    /// Receipts of flashes, signed by the appliance.
    #[command(subcommand)]
    Receipt(Receipt),
    /// What happened.
    #[command(subcommand)]
    Event(Event),
    /// What the DHCP daemon answered, and why.
    #[command(subcommand)]
    Dhcp(Dhcp),
    /// Tokens for programs.
    #[command(subcommand)]
    Token(Token),
    /// How the daemons do.
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Import an image: raw, .gz, .xz, .zst, .bz2, .lz4, qcow2, VHD, VHDX, VMDK or
    /// VDI, or a raw one alone in a .tar or .zip.
    Import(Box<Import>),
    /// List images.
    List,
    /// Show one image.
    Show {
        /// NAME[:TAG] or id.
        image: ImageSelector,
    },
    /// Point a name at an image, moving it if need be.
    Tag {
        /// NAME[:TAG] or id of the image.
        image: ImageSelector,
        /// The name to point at it.
        name: ImageName,
    },
    /// Take a name away; with an id or the last name, remove the image.
    Rm {
        /// NAME[:TAG] or id.
        image: ImageSelector,
    },
    /// Prove that the store still holds an image as it was imported; says
    /// which chunks are wrong (exit code 8).
    Verify {
        /// NAME[:TAG] or id.
        image: ImageSelector,
    },
    /// What a disk that holds one image has to be sent to hold another.
    Diff {
        /// What it holds: NAME[:TAG] or id.
        from: ImageSelector,
        /// What it is to hold: NAME[:TAG] or id.
        to: ImageSelector,
    },
    /// Write an image to a file, proved on the way.
    Export(Export),
    /// Take the names of old images away, and remove images without a name;
    /// what a machine is assigned or a run uses stays.
    Prune(Prune),
    /// How full the store is.
    Usage,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// NAME[:TAG] or id.
    pub(crate) image: ImageSelector,
    /// The file, replaced when the image is whole; - for standard output.
    pub(crate) file: PathBuf,
    /// What to write [default: zst for a file that ends so, else raw].
    #[arg(long, value_enum)]
    pub(crate) format: Option<ExportFormat>,
}

/// What an image is exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// The bytes of the disk; zeros take no room in a file.
    Raw,
    /// The file of the store: a zstd file that bty can also read in parts.
    Zst,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// How many images of each name stay: those that a tag was pointed at
    /// last.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: u32,
    /// What was tagged, or has no name and was imported, less than this ago
    /// stays too: 12h, 30d.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<Duration>,
    /// Only the tags of this name, and no image without a name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Say what would go, and remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A length of time as people type it; a day has 24 hours.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = |problem: jiff::Error| format!("{problem}; try 12h or 30d");
    let span: jiff::Span = text.parse().map_err(wrong)?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(wrong)?;
    Duration::try_from(signed).map_err(|_| "it is negative; try 12h or 30d".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Machine {
    /// List machines.
    List,
    /// Show one machine.
    Show {
        /// MAC address or name.
        machine: String,
    },
    /// Say what a machine is to do; a MAC that isn't known yet is made.
    Set(Box<Set>),
    /// Forget a machine; its runs and events stay.
    Rm {
        /// MAC address or name.
        machine: String,
    },
    /// Why a machine does what it does next.
    Explain {
        /// MAC address or name.
        machine: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// MAC address or name.
    pub(crate) machine: String,
    /// A name for people; "" takes it away.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// local, flash-once, flash-always or inventory.
    #[arg(long)]
    pub(crate) policy: Option<Policy>,
    /// The image: NAME[:TAG], followed when it moves, or an id; "" for none.
    #[arg(long, value_parser = optional::<ImageSelector>)]
    pub(crate) image: Option<Optional<ImageSelector>>,
    /// The disk: serial:S, wwn:W, path:/dev/P or only; "" for none.
    #[arg(long, value_parser = optional::<DiskSelector>)]
    pub(crate) disk: Option<Optional<DiskSelector>>,
    /// How it boots where it is UEFI x64: ipxe, or shim for Secure Boot;
    /// "" for the registry's default.
    #[arg(long, value_parser = optional::<BootChain>)]
    pub(crate) chain: Option<Optional<BootChain>>,
    /// What its UEFI is told after a flash: next, to boot the disk once;
    /// order, also to boot it after the network from then on; off; "" for
    /// the registry's default.
    #[arg(long, value_parser = optional::<BootEntry>)]
    pub(crate) boot_entry: Option<Optional<BootEntry>>,
    /// Whether its disk is written even where it says that it is about to
    /// fail.
    #[arg(long, value_name = "BOOL")]
    pub(crate) failing_disk_ok: Option<bool>,
    /// Flash again, or let a held machine go, with nothing else changed.
    #[arg(long)]
    pub(crate) rearm: bool,
    /// Boot it in the usual way again, whatever came of it before.
    #[arg(long)]
    pub(crate) reset_way: bool,
    // The last: the heading is that of all flags behind it.
    #[command(flatten)]
    pub(crate) fix_ups: FixUps,
}

/// What is changed on the disk after a flash. Any of these replaces all that
/// were set before.
#[derive(Debug, Args)]
#[command(next_help_heading = "Changes of the disk after each flash; any replaces all before")]
pub(crate) struct FixUps {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// None of these.
    #[arg(long = "no-fix-ups", conflicts_with_all = ["gpt_to_end", "grow", "new_guids", "seed", "seed_files", "ignition", "unattend", "files"])]
    pub(crate) none: bool,
}

/// A value that can be taken away.
#[derive(Debug, Clone)]
pub(crate) struct Optional<T>(pub(crate) Option<T>);

fn optional<T: std::str::FromStr>(text: &str) -> Result<Optional<T>, T::Err> {
    if text.is_empty() {
        Ok(Optional(None))
    } else {
        text.parse().map(|value| Optional(Some(value)))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// List runs, newest first.
    List {
        /// Only of this machine.
        #[arg(long, value_name = "MAC|NAME")]
        machine: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show one run, with its logs if it failed.
    Show {
        /// The run's id, or the beginning of it.
        run: String,
    },
    /// Follow a run to its end (exit code 5 if it failed), or all runs.
    Watch {
        /// The run's id; all runs without one.
        run: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Receipt {
    /// Show the receipt of a run.
    Show {
        /// The run's id, or the beginning of it.
        run: String,
    },
    /// Save the receipt of a run and its signature, as RUN.receipt.json and
    /// RUN.receipt.json.minisig.
    Save {
        /// The run's id, or the beginning of it.
        run: String,
        /// The folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Print the public key of the appliance's receipts, as a file of
    /// minisign's.
    Key,
    /// Check a receipt without an appliance, and show what it says (exit code
    /// 8 where it is not signed by this key as it is).
    Verify(VerifyReceipt),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyReceipt {
    /// The receipt.
    pub(crate) file: PathBuf,
    /// The appliance's public key: the file that receipt key prints, or the
    /// key itself, which is the second line of that.
    #[arg(long, value_name = "FILE|KEY")]
    pub(crate) key: String,
    /// The signature [default: the receipt's name and .minisig].
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// List events, newest last.
    List {
        /// Only about this machine.
        #[arg(long, value_name = "MAC|NAME")]
        machine: Option<String>,
        /// Only kinds that begin so, such as run.
        #[arg(long, default_value = "")]
        kind: String,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show events as they happen.
    Watch {
        /// Only about this machine.
        #[arg(long, value_name = "MAC|NAME")]
        machine: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dhcp {
    /// What was asked, what was answered, and why.
    Log {
        /// Only of this machine.
        #[arg(long, default_value = "")]
        mac: String,
        /// Go on as packets come.
        #[arg(long)]
        follow: bool,
        /// At most so many of the past.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// The leases, where bty is the DHCP server.
    Leases,
    /// The other DHCP servers that were heard: who gives addresses, and who
    /// says where to boot from.
    Servers,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and show it once.
    Create {
        /// A name for people.
        name: String,
        /// What its bearer may do.
        #[arg(long, value_enum, default_value = "operator")]
        role: Role,
        /// How many days it is good for; for ever without.
        #[arg(long)]
        days: Option<u16>,
    },
    /// List tokens.
    List,
    /// End a token at once.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Everything.
    Admin,
    /// Everything but tokens.
    Operator,
    /// Read only.
    Viewer,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_fits_eighty_columns() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{}: {line:?}", command.get_name());
            }
            command.get_subcommands_mut().for_each(check);
        }
        check(&mut Arguments::command().term_width(80));
    }

    #[test]
    fn an_age_has_a_unit() {
        let hours = |count| Ok(Duration::from_hours(count));
        assert_eq!((age("12h"), age("30d"), age("2w")), (hours(12), hours(720), hours(336)));
        for text in ["", "30", "-1d", "1 year", "soon"] {
            assert!(age(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn an_empty_image_takes_the_assignment_away() {
        let parse = |image: &str| {
            Arguments::try_parse_from(["btyctl", "machine", "set", "m", "--image", image])
        };
        let Verb::Machine(Machine::Set(set)) = parse("").unwrap().verb else {
            panic!("another verb")
        };
        assert!(set.image.is_some_and(|image| image.0.is_none()));
        assert!(parse("Not A Name").is_err());
    }
}

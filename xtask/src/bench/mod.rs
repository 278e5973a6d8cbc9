//! `cargo xtask bench`: how fast, beside a named peer that does the same in the same run.
//!
//! Nothing here is a test: a number belongs to the machine that it was measured on. What is a promise is the ratio.

mod boot_scripts;
mod dhcp;
mod first_byte;
mod nginx;
mod reference;
mod tftp;
pub(crate) mod tftp_load;

use anyhow::{Context, Result};
use bty_testkit::packages;
use clap::ValueEnum;
use serde::Serialize;
use xshell::Shell;

use crate::{build, live::Cpu, workspace};

/// What the peers are made of.
const PEERS: [&str; 7] =
    ["atftpd", "ethtool", "kea-admin", "kea-dhcp4-server", "nginx-light", "wrk", "zstd"];

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BenchArgs {
    #[arg(value_enum)]
    what: What,
    /// How often; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Boot scripts beside nginx, and the way to the first byte written
    /// beside a flasher of busybox, zstd and dd.
    Netboot,
    /// TFTP alone, beside atftpd and dnsmasq.
    Tftp,
    /// DHCP alone, beside Kea and dnsmasq.
    Dhcp,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// One measurement: ours and the peer's, taken by turns.
#[derive(Debug, Clone, Serialize)]
struct Figure {
    what: &'static str,
    unit: &'static str,
    ours: f64,
    peer: f64,
    peer_is: &'static str,
    /// How many times as good ours is.
    ratio: f64,
}

/// Measures, and prints what was measured.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    packages::ensure(&[packages::LAB, packages::LIVE, &PEERS].concat())?;
    let shell = Shell::new()?;
    shell.change_dir(workspace::root());
    let (binaries, live) = match args.what {
        What::Dhcp => (build::some_programs(&shell, &["bty-dhcp"])?, None),
        What::Netboot | What::Tftp => {
            (build::programs(&shell)?, Some(build::live(&shell, &[Cpu::X64])?))
        }
    };
    if bty_testkit::require_root().is_err() {
        return build::again_as_root();
    }
    let figures = match args.what {
        What::Netboot => {
            let live = live.context("the live system was not built")?;
            [
                vec![
                    boot_scripts::measure(&binaries, &live, args.runs)?,
                    first_byte::measure(&shell, &binaries, &live, args.runs)?,
                ],
                tftp::measure(&binaries, args.runs)?,
                dhcp::measure(&binaries, args.runs)?,
            ]
            .concat()
        }
        What::Tftp => tftp::measure(&binaries, args.runs)?,
        What::Dhcp => dhcp::measure(&binaries, args.runs)?,
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
        Output::Table => figures.iter().for_each(|figure| {
            println!(
                "{}: {:.2} {unit}; {}: {:.2} {unit}; ratio {:.2}",
                figure.what,
                figure.ours,
                figure.peer_is,
                figure.peer,
                figure.ratio,
                unit = figure.unit
            );
        }),
    }
    Ok(())
}

/// The middle one; the lower of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

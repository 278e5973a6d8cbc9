//! `cargo xtask bench`: how fast, beside a named peer that does the same in the same run.
//!
//! Nothing here is a test: a number belongs to the machine that it was measured on. What is a promise is the ratio.

mod boot_scripts;
mod dhcp;
mod first_byte;
mod flash;
mod http;
pub(crate) mod http_load;
mod nginx;
mod power_on;
mod process;
mod reference;
mod tftp;
pub(crate) mod tftp_load;

use std::path::PathBuf;

use anyhow::Result;
use bty_testkit::packages;
use clap::ValueEnum;
use serde::Serialize;
use xshell::Shell;

use crate::{
    build::{self, Profile},
    live::Cpu,
    workspace,
};

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
    /// Where the images and the disk of flash, formats, reflash and chunks
    /// are: some 20 GiB; target/ where nothing is said.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Boot scripts beside nginx, the way to the first byte written beside
    /// a flasher of busybox, zstd and dd, and HTTP, TFTP and DHCP as below.
    Netboot,
    /// The way from power-on to the first byte alone, for each firmware,
    /// beside dnsmasq, nginx and that flasher.
    PowerOn,
    /// TFTP alone, beside atftpd and dnsmasq.
    Tftp,
    /// Files over HTTP alone, beside nginx.
    Http,
    /// Boot scripts alone, beside nginx.
    Scripts,
    /// DHCP alone, beside Kea and dnsmasq.
    Dhcp,
    /// Writing an image to a blank disk, beside qemu-img, zstd and dd, and
    /// bmaptool.
    Flash,
    /// Writing it to a disk that holds nearly the same, beside bmaptool,
    /// zstd and dd, and rsync; from a file, over links, and where the disk
    /// is slow to read.
    Reflash,
    /// Writing it from other formats than the container, beside the usual
    /// tool for each.
    Formats,
    /// What each size of chunks and each level of zstd costs and moves.
    Chunks,
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
    let binaries = build::programs(&shell, Profile::Release)?;
    let boots = matches!(args.what, What::Netboot | What::PowerOn);
    let live = boots.then(|| build::live(&shell, Profile::Release, &[Cpu::X64])).transpose()?;
    if bty_testkit::require_root().is_err() {
        return build::again_as_root();
    }
    let mut figures = Vec::new();
    if matches!(args.what, What::Netboot | What::Scripts) {
        figures.extend(boot_scripts::measure(&binaries, args.runs)?);
    }
    if let Some(live) = &live {
        if args.what == What::Netboot {
            figures.push(first_byte::measure(&shell, &binaries, live, args.runs)?);
        }
        figures.extend(power_on::measure(&shell, &binaries, live, args.runs)?);
    }
    if matches!(args.what, What::Netboot | What::Http) {
        figures.extend(http::measure(&binaries, args.runs)?);
    }
    if matches!(args.what, What::Netboot | What::Tftp) {
        figures.extend(tftp::measure(&binaries, args.runs)?);
    }
    if matches!(args.what, What::Netboot | What::Dhcp) {
        figures.extend(dhcp::measure(&binaries, args.runs)?);
    }
    if matches!(args.what, What::Flash | What::Reflash | What::Formats | What::Chunks) {
        build::cargo(&shell)
            .args(["build", "--release", "--locked", "-p", "bty-image", "--examples"])
            .run()?;
        let flasher = binaries.join("bty-flasher");
        let target = workspace::root().join("target");
        let folder = args.folder.as_deref().unwrap_or(&target);
        figures.extend(match args.what {
            What::Flash => flash::blank(&flasher, folder, args.runs)?,
            What::Formats => flash::formats(&flasher, folder, args.runs)?,
            What::Chunks => flash::chunks(&flasher, folder, args.runs).map(|()| Vec::new())?,
            _ => flash::again(&flasher, folder, args.runs)?,
        });
    }
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

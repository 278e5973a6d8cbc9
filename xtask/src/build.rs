//! Building what the lab runs: the programs, and the live system.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{install::PROGRAMS, live::Cpu};

/// Builds every program, optimised but without the slow link of a release, and says where they are.
pub(crate) fn programs(shell: &Shell) -> Result<PathBuf> {
    some_programs(shell, &PROGRAMS)
}

/// As [`programs`], for some of them.
pub(crate) fn some_programs(shell: &Shell, names: &[&str]) -> Result<PathBuf> {
    let packages = names.iter().flat_map(|name| ["-p", name]);
    cmd!(shell, "cargo build --profile fast --locked {packages...}")
        .run()
        .context("building the programs")?;
    Ok(shell.current_dir().join("target/fast"))
}

/// Builds the live systems for these processors, and says where they are.
pub(crate) fn live(shell: &Shell, cpus: &[Cpu]) -> Result<PathBuf> {
    let out = shell.current_dir().join("target/live");
    crate::live::build(&out, cpus)?;
    Ok(out)
}

/// Runs this same command again as root, through sudo: the lab needs namespaces, cargo does not.
pub(crate) fn again_as_root() -> Result<()> {
    let program = std::env::current_exe().context("asking where this program is")?;
    let status = std::process::Command::new("sudo")
        .arg("--preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,TERM")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .status()
        .context("starting sudo; run this as root where there is none")?;
    anyhow::ensure!(status.success(), "the same command as root ended with {status}");
    Ok(())
}

//! Building what the lab runs: the programs, and the live system.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::{Cmd, Shell, cmd};

use crate::{install::PROGRAMS, live::Cpu};

/// cargo, without what the cargo that runs this program has told it of itself: build scripts would run anew for it, and all that rests on
/// them, by turns with those that a person starts.
pub(crate) fn cargo(shell: &Shell) -> Cmd<'_> {
    let told = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    told.fold(cmd!(shell, "cargo"), Cmd::env_remove)
}

/// Builds every program, optimised but without the slow link of a release, and says where they are.
pub(crate) fn programs(shell: &Shell) -> Result<PathBuf> {
    let packages = PROGRAMS.iter().flat_map(|name| ["-p", name]);
    cargo(shell)
        .args(["build", "--profile", "fast", "--locked"])
        .args(packages)
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

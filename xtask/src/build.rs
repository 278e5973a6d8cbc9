//! Building what the lab runs: the programs, and the live system.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::install::PROGRAMS;

/// Builds every program, optimised but without the slow link of a release, and says where they are.
pub(crate) fn programs(shell: &Shell) -> Result<PathBuf> {
    let packages = PROGRAMS.iter().flat_map(|program| ["-p", program]);
    cmd!(shell, "cargo build --profile fast --locked {packages...}")
        .run()
        .context("building the programs")?;
    Ok(shell.current_dir().join("target/fast"))
}

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

/// How programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For the lab and the tests, which share all libraries with it: quick to build, with overflows checked.
    Lab,
    /// As they are installed.
    Release,
}

impl Profile {
    /// What cargo is told.
    pub(crate) const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Lab => &[],
            Self::Release => &["--release"],
        }
    }

    /// Where cargo puts what it has built, below its target's folder.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Lab => "debug",
            Self::Release => "release",
        }
    }

    /// Where live systems with such an agent lie. A release's is what is installed where nothing else is said.
    const fn live(self) -> &'static str {
        match self {
            Self::Lab => "target/lab/live",
            Self::Release => "target/live",
        }
    }
}

/// Builds every program, and says where they are.
pub(crate) fn programs(shell: &Shell, profile: Profile) -> Result<PathBuf> {
    let packages: Vec<&str> = match profile {
        // With everything else: a choice of packages has other features, and would be a build of its own.
        Profile::Lab => vec!["--workspace", "--bins", "--tests"],
        Profile::Release => PROGRAMS.iter().flat_map(|name| ["-p", name]).collect(),
    };
    cargo(shell)
        .args(["build", "--locked"])
        .args(profile.options())
        .args(packages)
        .run()
        .context("building the programs")?;
    Ok(shell.current_dir().join("target").join(profile.folder()))
}

/// Builds the live systems for these processors, and says where they are.
pub(crate) fn live(shell: &Shell, profile: Profile, cpus: &[Cpu]) -> Result<PathBuf> {
    let out = shell.current_dir().join(profile.live());
    crate::live::build(&out, profile, cpus)?;
    Ok(out)
}

/// Runs this same command again as root, through sudo: the lab needs namespaces, cargo does not.
pub(crate) fn again_as_root() -> Result<()> {
    // Not this process's own file, which the build of all may have replaced.
    let program = crate::workspace::root().join("target").join(Profile::Lab.folder()).join("xtask");
    let status = std::process::Command::new("sudo")
        .arg("--preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,TERM")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .status()
        .context("starting sudo; run this as root where there is none")?;
    anyhow::ensure!(status.success(), "the same command as root ended with {status}");
    Ok(())
}

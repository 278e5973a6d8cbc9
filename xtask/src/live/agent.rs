//! The agent of a live system: bty-flasher, linked statically, since there are no libraries.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use super::Cpu;
use crate::build::{self, Profile};

/// Builds it for this processor, and says where it is.
pub(super) fn build(shell: &Shell, cpu: Cpu, profile: Profile) -> Result<PathBuf> {
    let target = cpu.target();
    ensure_library(shell, cpu)?;
    let mut cargo = build::cargo(shell)
        .args(["build", "--locked", "-p", "bty-flasher", "--bin", "bty-flasher"])
        .args(profile.options())
        .args(["--target", target, "--target-dir", "target/static"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=debuginfo");
    let tools = cpu.tools();
    if !tools.is_empty() {
        // The C that comes along is compiled by the same one: the crate cc finds it by its usual name.
        let variable = target.to_uppercase().replace('-', "_");
        cargo = cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), format!("{tools}gcc"));
    }
    cargo.run().context("building the static bty-flasher")?;
    Ok(shell
        .current_dir()
        .join("target/static")
        .join(target)
        .join(profile.folder())
        .join("bty-flasher"))
}

/// Rust's own library for this processor comes with rustup, as its compiler did.
fn ensure_library(shell: &Shell, cpu: Cpu) -> Result<()> {
    let target = cpu.target();
    let library = cmd!(shell, "rustc --print target-libdir --target {target}")
        .quiet()
        .read()
        .context("asking rustc for its folders")?;
    if Path::new(&library).is_dir() {
        return Ok(());
    }
    eprintln!("fetching Rust's library for {}", cpu.name());
    cmd!(shell, "rustup --quiet target add {target}").quiet().run().with_context(|| {
        format!(
            "Rust has no library for {target} here, and rustup doesn't get it; without it: cargo xtask live --cpu x64"
        )
    })
}

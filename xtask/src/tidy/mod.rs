//! `cargo xtask tidy`: the rules of the house that a compiler doesn't know.

mod layers;
mod sources;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use xshell::{Shell, cmd};

use crate::{codegen, workspace};

/// The part of `cargo metadata` that rules are about.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

/// A dependency as its manifest names it.
#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `null` for a normal one, `dev` or `build`.
    kind: Option<String>,
}

/// Checks every rule; the error lists what breaks them.
pub(crate) fn check() -> Result<()> {
    let shell = Shell::new()?;
    shell.change_dir(workspace::root());
    let text =
        cmd!(shell, "cargo metadata --format-version 1 --no-deps --locked").quiet().read()?;
    let metadata: Metadata = serde_json::from_str(&text).context("reading cargo metadata")?;

    let mut problems = layers::check(&metadata)?;
    problems.extend(sources::check(&shell)?);
    for stale in codegen::stale()? {
        problems.push(format!(
            "crates/bty-api/src/gen/{stale} does not fit proto/: run cargo xtask codegen"
        ));
    }
    if problems.is_empty() {
        println!("tidy: {} crates keep the rules", metadata.packages.len());
        return Ok(());
    }
    bail!("{} rules are broken:\n  {}", problems.len(), problems.join("\n  "))
}

/// The crates that each crate may use, below it in the layers.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let daemon = vec!["bty-types", "bty-api", "bty-service"];
    let with = |more: &[&'static str]| daemon.iter().chain(more).copied().collect::<Vec<_>>();
    BTreeMap::from([
        ("bty-types", vec![]),
        ("bty-fetch", vec![]),
        ("bty-image", vec!["bty-types"]),
        ("bty-sys", vec!["bty-types"]),
        ("bty-disk", vec!["bty-types", "bty-sys"]),
        ("bty-api", vec!["bty-types"]),
        ("bty-service", vec!["bty-types", "bty-api", "bty-sys"]),
        ("bty-dhcp", daemon.clone()),
        ("bty-tftp", daemon.clone()),
        ("bty-httpd", daemon.clone()),
        ("bty-registry", with(&["bty-fetch", "bty-image"])),
        ("bty-flasher", with(&["bty-fetch", "bty-image", "bty-disk", "bty-sys"])),
        ("btyctl", vec!["bty-types", "bty-api", "bty-image"]),
        ("bty-testkit", vec!["bty-types", "bty-api"]),
        ("bty-tests", with(&["bty-image", "bty-testkit"])),
        (
            "bty-fuzz",
            with(&["bty-dhcp", "bty-disk", "bty-flasher", "bty-httpd", "bty-image", "bty-tftp"]),
        ),
        ("xtask", vec!["bty-testkit"]),
    ])
}

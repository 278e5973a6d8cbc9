//! Who may use whom: the table of ARCHITECTURE.md, checked against every manifest.

use std::fs;

use anyhow::{Context, Result};

use super::{Metadata, Package, allowed};

/// Every arrow that points up, and every crate that escapes the workspace's lints.
pub(super) fn check(metadata: &Metadata) -> Result<Vec<String>> {
    let allowed = allowed();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let Some(below) = allowed.get(package.name.as_str()) else {
            problems.push(format!(
                "{} is in no layer: add it to xtask/src/tidy and ARCHITECTURE.md",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            // What a test imports is no arrow of the architecture, as long as it is not another daemon's insides.
            let test_only =
                dependency.kind.as_deref() == Some("dev") && dependency.name == "bty-testkit";
            let ours = dependency.name.starts_with("bty-");
            if ours && !test_only && !below.contains(&dependency.name.as_str()) {
                problems.push(format!("{} may not use {}", package.name, dependency.name));
            }
        }
        problems.extend(manifest(package)?);
    }
    Ok(problems)
}

fn manifest(package: &Package) -> Result<Vec<String>> {
    let text = fs::read_to_string(&package.manifest_path)
        .with_context(|| format!("reading {}", package.manifest_path))?;
    let mut problems = Vec::new();
    if !text.contains("[lints]\nworkspace = true") {
        problems.push(format!("{} does not take the workspace's lints", package.name));
    }
    let mut in_dependencies = false;
    for line in text.lines() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
            problems.push(format!("{}: versions belong in the workspace: {line}", package.name));
        }
    }
    Ok(problems)
}

//! `cargo xtask codegen`: the Rust code of the contract, from `proto/` into `crates/bty-api/src/gen/`.
//!
//! The result is checked in, so that no build needs protox; [`stale`] tells tidy whether it still fits its sources.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use prost::Message;
use xshell::{Shell, cmd};

use crate::workspace;

/// The descriptors of the whole contract, which server reflection serves.
const DESCRIPTORS: &str = "descriptors.binpb";

/// Writes the generated code into the tree.
pub(crate) fn write() -> Result<()> {
    let out = out_dir();
    let files = generate()?;
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    for (name, content) in &files {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("wrote {} files to {}", files.len(), out.display());
    Ok(())
}

/// The generated files that differ from what `proto/` gives, by name.
pub(crate) fn stale() -> Result<Vec<String>> {
    let out = out_dir();
    let mut differing: Vec<String> = generate()?
        .into_iter()
        .filter(|(name, content)| fs::read(out.join(name)).ok().as_ref() != Some(content))
        .map(|(name, _)| name)
        .collect();
    differing.sort();
    Ok(differing)
}

fn out_dir() -> PathBuf {
    workspace::root().join("crates/bty-api/src/gen")
}

fn generate() -> Result<BTreeMap<String, Vec<u8>>> {
    let proto = workspace::root().join("proto");
    let sources = proto_files(&proto)?;
    ensure!(!sources.is_empty(), "no .proto file below {}", proto.display());
    let descriptors = protox::compile(&sources, [&proto]).context("compiling proto/")?;

    let shell = Shell::new()?;
    let style = workspace::root();
    let scratch = shell.create_temp_dir()?;
    let mut config = prost_build::Config::new();
    // Names let btyctl write any message as JSON from its descriptor.
    config.enable_type_names();
    // It has one of its own.
    config.skip_debug([".bty.types.v1.Content"]);
    tonic_prost_build::configure()
        .out_dir(scratch.path())
        .include_file("mod.rs")
        .compile_fds_with_config(descriptors.clone(), config)
        .context("generating code")?;

    let mut files = BTreeMap::new();
    for entry in fs::read_dir(scratch.path())? {
        let path = entry?.path();
        let rustfmt = cmd!(shell, "rustfmt --edition 2024 --config-path {style} {path}");
        rustfmt.quiet().run().context("formatting the generated code; is rustfmt installed?")?;
        let name = path.file_name().expect("a directory entry has a name");
        files.insert(name.to_string_lossy().into_owned(), fs::read(&path)?);
    }
    files.insert(DESCRIPTORS.to_owned(), descriptors.encode_to_vec());
    Ok(files)
}

fn proto_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

//! `cargo xtask install`: lays everything out below a folder, as a package will.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use xshell::Shell;

use crate::{
    build::{self, Profile},
    live::Cpu,
    workspace,
};

/// The programs, all into `/usr/bin`.
pub(crate) const PROGRAMS: [&str; 6] =
    ["bty-registry", "bty-dhcp", "bty-tftp", "bty-httpd", "bty-flasher", "btyctl"];

/// What to lay out, and where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InstallArgs {
    /// The folder to lay it out below.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Take the programs from here, instead of building a release.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Take the live systems from here, where `cargo xtask live` puts them.
    #[arg(long, value_name = "DIR", default_value = "target/live")]
    live: PathBuf,
}

/// Lays out programs, units, configuration, documents, and the live system where it has been built.
pub(crate) fn run(args: &InstallArgs) -> Result<()> {
    let source = workspace::root();
    let root = &args.root;
    let programs = if let Some(folder) = &args.programs {
        folder.clone()
    } else {
        let shell = Shell::new()?;
        shell.change_dir(&source);
        build::programs(&shell, Profile::Release)?
    };
    for program in PROGRAMS {
        copy(&programs.join(program), &root.join("usr/bin").join(program), 0o755)?;
    }
    for entry in fs::read_dir(source.join("systemd"))? {
        let path = entry?.path();
        if path.is_file() {
            copy(&path, &root.join("usr/lib/systemd/system").join(name(&path)), 0o644)?;
        }
    }
    copy(
        &source.join("systemd/sysusers.d/bty.conf"),
        &root.join("usr/lib/sysusers.d/bty.conf"),
        0o644,
    )?;
    copy(
        &source.join("systemd/tmpfiles.d/bty.conf"),
        &root.join("usr/lib/tmpfiles.d/bty.conf"),
        0o644,
    )?;
    copy(&source.join("deploy/bty.toml"), &root.join("usr/lib/bty/bty.toml"), 0o644)?;
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        copy(&source.join(document), &root.join("usr/share/doc/bty").join(document), 0o644)?;
    }
    let docs = source.join("docs");
    for file in files_below(&docs)? {
        let relative = file.strip_prefix(&source).context("a file below its own folder")?;
        copy(&file, &root.join("usr/share/doc/bty").join(relative), 0o644)?;
    }
    install_live(&source.join(&args.live), &root.join("usr/lib/bty/live"))?;
    println!("installed below {}", root.display());
    Ok(())
}

fn install_live(built: &Path, into: &Path) -> Result<()> {
    if !built.join("initramfs.img").exists() {
        println!("the live system is not built and is left out; build it with: cargo xtask live");
        return Ok(());
    }
    for cpu in Cpu::ALL {
        let (built, into) = (cpu.below(built), cpu.below(into));
        if !built.join("initramfs.img").exists() {
            println!("the live system for {} is not built and is left out", cpu.name());
            continue;
        }
        for file in ["vmlinuz", "initramfs.img", "base.img", "live.json"] {
            copy(&built.join(file), &into.join(file), 0o644)?;
        }
        let modules = into.join("modules");
        copy_below(&built.join("modules"), &modules)?;
        remove_others(&modules, &built.join("modules"))?;
    }
    copy_below(&built.join("boot"), &into.join("boot"))
}

fn copy_below(from: &Path, into: &Path) -> Result<()> {
    for file in files_below(from)? {
        let relative = file.strip_prefix(from).context("a file below its own folder")?;
        copy(&file, &into.join(relative), 0o644)?;
    }
    Ok(())
}

/// Removes what `folder` has and `model` lacks: modules of an older live system would be put together with the new one's.
fn remove_others(folder: &Path, model: &Path) -> Result<()> {
    for file in files_below(folder)? {
        let relative = file.strip_prefix(folder).context("a file below its own folder")?;
        if !model.join(relative).exists() {
            fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    Ok(())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() { pending.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    ensure!(from.is_file(), "{} is missing", from.display());
    let folder = to.parent().context("a file in no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    // A program that runs can't be written over, but it can be replaced; and who fetches a file that is served meanwhile gets the old
    // one or the new one, whole.
    let fresh = folder.join(format!(".{}.new", name(to).display()));
    fs::copy(from, &fresh)
        .with_context(|| format!("copying {} to {}", from.display(), fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::rename(&fresh, to).with_context(|| format!("replacing {}", to.display()))
}

fn name(path: &Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

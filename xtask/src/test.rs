//! `cargo xtask test`: everything that must hold, in one command that sets itself up.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use bty_testkit::packages;
use xshell::{Shell, cmd};

use crate::{
    build::{self, Profile},
    live::Cpu,
    tidy, workspace,
};

/// Beside the lab's packages: Python, for the foreign gRPC client.
const PYTHON: [&str; 2] = ["python3", "python3-venv"];
/// Clients and servers that nobody here wrote, of `tests/interop`, and what shows how a card is set.
const FOREIGN: [&str; 6] =
    ["atftp", "dhcpcd-base", "ethtool", "isc-dhcp-client", "kea-dhcp4-server", "tftp-hpa"];
/// What packs, signs and serves the images that are imported, beside what the lab's images need.
const PACKERS: [&str; 8] =
    ["bzip2", "docker-registry", "gnupg", "gpgv", "lz4", "minisign", "tar", "zip"];
/// What the foreign gRPC client imports.
const PYTHON_MODULES: [&str; 2] = ["grpcio==1.*", "grpcio-reflection==1.*"];
/// The licence checker, where the machine has none.
const DENY_VERSION: &str = "0.20.2";

/// What to leave in or out.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct TestArgs {
    /// Also run the cells of each matrix that the everyday run leaves out.
    #[arg(long)]
    full: bool,
}

/// Runs the checks, then the tests.
pub(crate) fn run(args: TestArgs) -> Result<()> {
    let wanted: Vec<&str> = [
        packages::LAB,
        packages::LAB_ARM64,
        packages::IMAGES,
        packages::FILE_SYSTEMS,
        packages::LIVE,
        packages::LIVE_ARM64,
        &PYTHON,
        &FOREIGN,
        &PACKERS,
    ]
    .concat();
    packages::ensure(&wanted)?;
    let shell = Shell::new()?;
    shell.change_dir(workspace::root());

    timed("formatting", || Ok(cmd!(shell, "cargo fmt --all --check").run()?))?;
    timed("tidy", tidy::check)?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet"];
    timed("clippy", || {
        Ok(build::cargo(&shell).args(clippy).args(["--", "-D", "warnings"]).run()?)
    })?;
    timed("licences", || licences(&shell))?;
    let binaries =
        timed("the programs and the tests' build", || build::programs(&shell, Profile::Lab))?;
    let live = timed("the live system", || build::live(&shell, Profile::Lab, &[Cpu::X64]))?;
    // Rust's library for another processor is not everywhere to be had. Without it the ARM machines' tests fail, and the others
    // are still worth their run; what an older run has built is not tested instead.
    let arm64 = || build::live(&shell, Profile::Lab, &[Cpu::Arm64]);
    if let Err(problem) = timed("the live system for arm64", arm64) {
        eprintln!("{problem:#}");
        let _ = fs::remove_dir_all(Cpu::Arm64.below(&live));
    }
    let python = timed("Python's gRPC", || python(&shell))?;

    // Tests make namespaces and loop devices; cargo itself stays the user's.
    let runner = if nix_is_root() { "env" } else { "sudo --preserve-env" };
    let full: &[&str] = if args.full { &["--features", "bty-tests/full"] } else { &[] };
    timed("the tests", || {
        Ok(build::cargo(&shell)
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .args(full)
            .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner)
            .env("BTY_BINARIES", &binaries)
            .env("BTY_LIVE", &live)
            .env("BTY_PYTHON", &python)
            // Not this one's file, which the build of all has replaced.
            .env("BTY_XTASK", binaries.join("xtask"))
            .run()?)
    })
}

fn nix_is_root() -> bool {
    bty_testkit::require_root().is_ok()
}

fn timed<T>(what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {what}");
    let started = Instant::now();
    let outcome = step().with_context(|| format!("{what} failed"))?;
    println!("== {what}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(outcome)
}

fn licences(shell: &Shell) -> Result<()> {
    let own = shell.current_dir().join("target/tools/bin/cargo-deny");
    let deny = if own.exists() {
        own
    } else if cmd!(shell, "cargo-deny --version").quiet().ignore_stderr().read().is_ok() {
        PathBuf::from("cargo-deny")
    } else {
        let root = shell.current_dir().join("target/tools");
        cmd!(
            shell,
            "cargo install --quiet --debug --locked --root {root} cargo-deny --version {DENY_VERSION}"
        )
        .run()?;
        own
    };
    // Advisories need a database from elsewhere, which a lab without Internet can't have.
    cmd!(shell, "{deny} --log-level error check licenses bans sources").run()?;
    Ok(())
}

fn python(shell: &Shell) -> Result<PathBuf> {
    let venv = shell.current_dir().join("target/venv");
    let python = venv.join("bin/python3");
    if !has_grpc(shell, &python) {
        cmd!(shell, "python3 -m venv --clear {venv}").run()?;
        cmd!(shell, "{python} -m pip install --quiet {PYTHON_MODULES...}").run()?;
    }
    Ok(python)
}

fn has_grpc(shell: &Shell, python: &Path) -> bool {
    python.exists()
        && cmd!(shell, "{python} -c 'import grpc, grpc_reflection'")
            .quiet()
            .ignore_stderr()
            .run()
            .is_ok()
}

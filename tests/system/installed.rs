//! Installed as a package would be, and run by systemd: as its own users, behind its sockets, within its limits.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{child::Program, daemon, namespace::Lan, osimage, packages};

/// Runs in the container once everything has started, and ends it.
const CHECK: &str = include_str!("installed.sh");
const UNIT: &str = "[Unit]\nAfter=multi-user.target bty.target\n[Service]\nType=simple\n\
                    ExecStart=/usr/bin/bty-check\nStandardOutput=file:/report\nStandardError=file:/report\n";
/// How long systemd may take from its start to its end, in seconds.
const CONTAINER_SECONDS: &str = "120";

/// A Debian with bty on it, as a package and its maintainer script leave it.
fn install(root: &Path) -> Result<()> {
    osimage::debian_root(root)?;
    let xtask = env::var_os("BTY_XTASK")
        .context("BTY_XTASK names no program: run these tests by cargo xtask test")?;
    Program::new(xtask)
        .args(["install", "--programs"])
        .arg(daemon::binaries()?)
        .arg("--root")
        .arg(root)
        .run()?;
    Program::new("systemd-sysusers").arg(format!("--root={}", root.display())).run()?;
    let check = root.join("usr/bin/bty-check");
    fs::write(&check, CHECK).context("writing the check")?;
    fs::set_permissions(&check, PermissionsExt::from_mode(0o755)).context("the check's mode")?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("bty-check.service"), UNIT).context("writing the check's unit")?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).context("making a folder for units")?;
    symlink("../bty-check.service", wants.join("bty-check.service"))
        .context("enabling the check")?;
    let enable = ["enable", "bty.target"];
    Program::new("systemctl").arg(format!("--root={}", root.display())).args(enable).run().map(drop)
}

#[test]
fn systemd_runs_everything_and_restarts_what_is_killed() -> Result<()> {
    packages::ensure(packages::LAB)?;
    let folder = tempfile::tempdir().context("making a folder")?;
    let root = folder.path().join("root");
    install(&root)?;
    let mut lan = Lan::new()?;
    let host = lan.add_server()?;
    let namespace = format!("--network-namespace-path=/run/netns/{}", host.namespace.name());
    let output = Program::new("timeout")
        .args([CONTAINER_SECONDS, "systemd-nspawn", "--quiet", "--register=no", "--keep-unit"])
        .args([namespace.as_str(), "--boot", "--directory"])
        .arg(&root)
        .output()?;
    let report = fs::read_to_string(root.join("report")).unwrap_or_default();
    let console = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        report.lines().any(|line| line == "all is well"),
        "{report}\n== the container's console\n{console}"
    );
    Ok(())
}

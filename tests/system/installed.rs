//! Installed as a package would be, and run by systemd: as its own users, behind its sockets, within its limits.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use bty_testkit::{
    Child, Program, daemon,
    namespace::{Host, Lan},
    osimage, packages, wait,
};
use tempfile::TempDir;

/// What each check begins with; it runs in the container once everything has started, and ends it.
const BEGINNING: &str = include_str!("installed/lib.sh");
const UNIT: &str = "[Unit]\nAfter=multi-user.target bty.target\n[Service]\nType=simple\n\
                    ExecStart=/usr/bin/bty-check\nStandardOutput=file:/report\nStandardError=file:/report\n";
/// How long systemd may take from its start to its end.
const CONTAINER: Duration = Duration::from_mins(4);
/// How long what was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(30);
/// Locked while a container runs, by whichever tests of this machine. Containers that nobody registers share one tree of control
/// groups: where two run, one's systemd removes the group of a unit that the other's is about to start ("Failed to spawn executor: No
/// such file or directory").
const ONE_CONTAINER: &str = "/run/bty-tests-container.lock";

/// A container that runs. Dropping it ends everything in it, and waits for that.
struct Container {
    nspawn: Child,
    host: Host,
}

impl Drop for Container {
    fn drop(&mut self) {
        // Where nspawn is killed, what runs in the container lives on. Where that is killed, nspawn ends.
        let _ = self.host.namespace.end_processes();
        let _ = self.nspawn.wait(KILLED);
    }
}

/// A Debian with bty on it, and a check that runs when it has started.
struct Installed {
    folder: TempDir,
}

impl Installed {
    /// As a package and its maintainer script leave it.
    fn new(check: &str) -> Result<Self> {
        packages::ensure(packages::LAB)?;
        let installed = Self { folder: tempfile::tempdir().context("making a folder")? };
        let root = installed.root();
        osimage::debian_root(&root)?;
        installed.install_programs()?;
        Program::new("systemd-sysusers").arg(format!("--root={}", root.display())).run()?;
        let program = root.join("usr/bin/bty-check");
        fs::write(&program, format!("{BEGINNING}\n{check}")).context("writing the check")?;
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755))
            .context("the check's mode")?;
        let units = root.join("etc/systemd/system");
        fs::write(units.join("bty-check.service"), UNIT).context("writing the check's unit")?;
        let wants = units.join("multi-user.target.wants");
        fs::create_dir_all(&wants).context("making a folder for units")?;
        symlink("../bty-check.service", wants.join("bty-check.service"))
            .context("enabling the check")?;
        Program::new("systemctl")
            .arg(format!("--root={}", root.display()))
            .args(["enable", "bty.target"])
            .run()?;
        Ok(installed)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn install_programs(&self) -> Result<()> {
        let xtask = env::var_os("BTY_XTASK")
            .context("BTY_XTASK names no program: run these tests by cargo xtask test")?;
        Program::new(xtask)
            .args(["install", "--programs"])
            .arg(daemon::binaries()?)
            .arg("--live")
            .arg(bty_tests::live()?)
            .arg("--root")
            .arg(self.root())
            .run()
            .map(drop)
    }

    /// Boots it, installs the programs once more where the check asks for it, and takes the check's word for how it went.
    fn check(&self) -> Result<()> {
        let alone = File::create(ONE_CONTAINER).context("making the lock for containers")?;
        alone.lock().context("waiting for other tests' containers")?;
        // Sweeps what a killed test left, and so the container that had the lock before.
        let mut lan = Lan::new()?;
        let mut container = self.boot(lan.add_server()?)?;
        let root = self.root();
        let (asked, done) = (root.join("install-now"), root.join("installed-now"));
        let ended = wait::until_true("the end of the container", CONTAINER, || {
            if asked.exists() && !done.exists() {
                self.install_programs()?;
                fs::write(&done, "").context("telling the check")?;
            }
            Ok(container.nspawn.status()?.is_some())
        });
        let console = container.nspawn.log().unwrap_or_default();
        drop(container);
        let report = fs::read_to_string(root.join("report")).unwrap_or_default();
        let is_well = report.lines().any(|line| line == "all is well");
        ended
            .and_then(|()| is_well.then_some(()).context("the check failed"))
            .with_context(|| format!("{report}\n== the container's console\n{console}"))
    }

    fn boot(&self, host: Host) -> Result<Container> {
        let namespace = format!("--network-namespace-path=/run/netns/{}", host.namespace.name());
        let nspawn = Program::new("systemd-nspawn")
            .args(["--quiet", "--register=no", "--keep-unit"])
            .args([namespace.as_str(), "--boot", "--directory"])
            .arg(self.root())
            .spawn(&self.folder.path().join("console"))?;
        Ok(Container { nspawn, host })
    }
}

#[test]
fn systemd_runs_everything_and_restarts_what_is_killed() -> Result<()> {
    Installed::new(include_str!("installed/daily.sh"))?.check()
}

#[test]
fn a_daemon_is_started_when_it_is_ready_and_every_order_will_do() -> Result<()> {
    Installed::new(include_str!("installed/order.sh"))?.check()
}

#[test]
fn a_daemon_that_hangs_is_restarted_and_the_journal_has_everything() -> Result<()> {
    Installed::new(include_str!("installed/watchdog.sh"))?.check()
}

#[test]
fn an_upgrade_refuses_nobody_and_a_wrong_configuration_is_explained() -> Result<()> {
    Installed::new(include_str!("installed/upkeep.sh"))?.check()
}

#[test]
fn the_units_give_little_away() -> Result<()> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    // In tenths, as systemd-analyze takes them.
    for (daemon, most) in
        [("dhcp", "20"), ("tftp", "20"), ("httpd", "20"), ("registry", "20"), ("flasher", "30")]
    {
        Program::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={most}"))
            .arg(units.join(format!("bty-{daemon}.service")))
            .run()
            .with_context(|| format!("bty-{daemon} may do more than it should"))?;
    }
    Ok(())
}

//! A daemon counts as started when it says that it is ready, and as stopped well when it exits 0 on SIGTERM.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::Result;
use bty_testkit::{DaemonSpec, daemon};

/// A program that does as a daemon does, in the language that every Debian has.
const WELL_BEHAVED: &str = r#"#!/usr/bin/perl
use strict; use Socket;
$SIG{TERM} = sub { print "stopping\n"; exit 0 };
sub notify { socket(my $s, AF_UNIX, SOCK_DGRAM, 0); send($s, $_[0], 0, sockaddr_un($ENV{NOTIFY_SOCKET})) or die }
$| = 1;
print "arguments: @ARGV\n";
notify("STATUS=starting");
notify("READY=1\nSTATUS=serving");
notify("STATUS=idle");
sleep 1 while 1;
"#;

const SPOILT: &str = "#!/bin/sh\necho 'no such key: colour' >&2\nexit 2\n";

fn program(folder: &Path, text: &str) -> Result<std::path::PathBuf> {
    let path = folder.join("bty-example");
    fs::write(&path, text)?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    Ok(path)
}

#[test]
fn a_daemon_is_started_when_it_is_ready_and_stopped_by_sigterm() -> Result<()> {
    let folder = tempfile::tempdir()?;
    program(folder.path(), WELL_BEHAVED)?;
    let installation = folder.path().join("lab");
    daemon::write_config(&installation, "[log]\nformat = \"text\"\n")?;
    let mut running = DaemonSpec::of_bty(folder.path(), "bty-example", &installation).start()?;
    assert!(running.resident_bytes()? > 0);
    running.wait_for_notice("STATUS=idle", Duration::from_secs(10))?;

    let running = running.restart()?;
    let config = daemon::config_path(&installation);
    assert!(running.log()?.contains(&format!("arguments: --config {}", config.display())));
    assert!(running.log()?.contains("stopping"));
    running.stop()
}

#[test]
fn a_daemon_that_ends_before_it_is_ready_is_an_error_with_its_words() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = program(folder.path(), SPOILT)?;
    let failed = DaemonSpec::new(path, &folder.path().join("lab")).start().unwrap_err();
    let shown = format!("{failed:#}");
    assert!(shown.contains("no such key: colour"), "{shown}");
    assert!(shown.contains("exit status: 2"), "{shown}");
    Ok(())
}

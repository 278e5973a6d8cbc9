//! `btyctl` as scripts use it: what it prints, and how it ends.

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    appliance::{Appliance, DhcpMode},
    child::Program,
    daemon,
};
use bty_tests::{appliance, with_logs};

const MAC: &str = "52:54:00:77:aa:01";

/// Runs btyctl for people; gives its exit code, what it printed, and what it complained of.
fn btyctl(appliance: &Appliance, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = Program::new(daemon::binaries()?.join("btyctl"))
        .arg("--run-dir")
        .arg(appliance.folder().join("run"))
        .args(arguments)
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

#[test]
fn failures_end_with_the_code_of_their_sort_and_say_what_to_do() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        appliance.btyctl(&["machine", "set", MAC, "--name", "one"])?;
        let cases: [(&[&str], i32, &str); 8] = [
            (&["machine", "show", "nobody"], 3, "nobody"),
            (&["machine", "set", "52:54:00:77:aa:02", "--name", "one"], 4, "one"),
            (&["machine", "set", "x", "--policy", "never"], 2, "flash-once"),
            (&["machine", "set", MAC, "--disk", "sda"], 2, "serial:S"),
            (&["image", "show", "nothing"], 3, "nothing"),
            (&["image", "rm", "nothing"], 3, "nothing"),
            (&["run", "show", "0192"], 3, "0192"),
            (&["--server", "http://127.0.0.1:7600", "machine", "list"], 2, "BTY_TOKEN"),
        ];
        for (arguments, code, because) in cases {
            let (ended, _, words) = btyctl(appliance, arguments)?;
            ensure!(ended == Some(code), "{arguments:?} ended with {ended:?}: {words}");
            ensure!(words.contains(because), "{arguments:?} should say {because:?}: {words}");
        }
        Ok(())
    })
}

#[test]
fn a_registry_that_is_away_is_named() -> Result<()> {
    let output = Program::new(daemon::binaries()?.join("btyctl"))
        .args(["--run-dir", "/nowhere", "machine", "list"])
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(7), "{} {words}", output.status);
    ensure!(words.matches("/nowhere/registry/api.sock").count() == 1, "{words}");
    Ok(())
}

#[test]
fn tables_are_for_people_and_json_is_for_programs() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        for verb in ["image", "machine", "run", "event"] {
            let (code, _, words) = btyctl(appliance, &[verb, "list"])?;
            ensure!(code == Some(0), "{verb} list of an empty appliance: {words}");
        }
        appliance.btyctl(&["machine", "set", MAC, "--name", "one", "--policy", "local"])?;
        let (_, table, _) = btyctl(appliance, &["machine", "list"])?;
        for part in ["MAC", MAC, "one", "local"] {
            ensure!(table.contains(part), "{part} is missing:\n{table}");
        }
        ensure!(!table.contains('\x1b'), "colours in what is no terminal:\n{table}");
        let (_, explained, _) = btyctl(appliance, &["machine", "explain", "one"])?;
        ensure!(explained.contains("local"), "{explained}");
        let events = appliance.btyctl(&["event", "list"])?;
        ensure!(events.to_string().contains(MAC), "{events}");
        let (code, status, words) = btyctl(appliance, &["status"])?;
        ensure!(code == Some(0), "{words}");
        for daemon in ["registry", "dhcp", "tftp", "httpd"] {
            ensure!(status.contains(daemon), "{daemon} is missing:\n{status}");
        }
        let (_, removed, _) = btyctl(appliance, &["machine", "rm", "one"])?;
        let (code, _, _) = btyctl(appliance, &["machine", "show", "one"])?;
        ensure!(code == Some(3), "it is still there: {removed}");
        Ok(())
    })
}

#[test]
fn every_program_explains_itself() -> Result<()> {
    let binaries = daemon::binaries()?;
    for name in ["btyctl", "bty-registry", "bty-httpd", "bty-tftp", "bty-dhcp", "bty-flasher"] {
        let help = Program::new(binaries.join(name)).arg("--help").run()?;
        ensure!(help.contains("Usage:") && help.lines().count() > 5, "{name}: {help}");
        ensure!(help.lines().all(|line| line.chars().count() <= 80), "{name} is too wide:\n{help}");
        let version = Program::new(binaries.join(name)).arg("--version").run()?;
        ensure!(version.trim().starts_with(name), "{name}: {version}");
        let wrong = Program::new(binaries.join(name)).arg("--no-such-flag").output()?;
        ensure!(wrong.status.code() == Some(2), "{name}: {}", wrong.status);
    }
    Ok(())
}

#[test]
fn an_unknown_key_is_an_error_with_its_place() -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let file = folder.path().join("bty.toml");
    for name in ["bty-registry", "bty-httpd", "bty-tftp", "bty-dhcp"] {
        let section = name.strip_prefix("bty-").unwrap_or_default();
        std::fs::write(&file, format!("\n[{section}]\nmoed = 1\n")).context("writing")?;
        let output = Program::new(daemon::binaries()?.join(name))
            .arg("--config")
            .arg(&file)
            .arg("--check-config")
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2), "{name}: {} {words}", output.status);
        ensure!(words.contains("moed") && words.contains(":3:1"), "{name}: {words}");
    }
    Ok(())
}

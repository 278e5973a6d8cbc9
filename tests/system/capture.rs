//! A disk that is captured straight into a running appliance, with a base image, and written back.

use std::{fs, os::unix::fs::FileExt, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    appliance::{Appliance, DhcpMode, text},
    child::Program,
    daemon, wait,
};
use bty_tests::{appliance, content, with_logs};
use nix::sys::signal::Signal;
use serde_json::Value;

const MIB: usize = 1 << 20;

/// A loop device over a file. Detached when dropped.
struct LoopDisk(String);

impl LoopDisk {
    fn over(file: &Path) -> Result<Self> {
        let node = Program::new("losetup").args(["--find", "--show"]).arg(file).run()?;
        Ok(Self(node.trim().to_owned()))
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Program::new("losetup").args(["--detach", &self.0]).run();
    }
}

/// Captures a disk into the appliance.
fn capture(appliance: &Appliance, disk: &LoopDisk, more: &[&str]) -> Result<Program> {
    let socket = appliance.folder().join("run/registry/api.sock");
    Ok(Program::new(daemon::binaries()?.join("bty-flasher"))
        .args(["capture", &disk.0, "lab:new", "--output", "json", "--into"])
        .arg(socket)
        .args(more))
}

/// What the program said last.
fn last_line(program: &Program) -> Result<Value> {
    let said = program.run()?;
    let line = said.lines().last().context("it said nothing")?;
    serde_json::from_str(line).context("reading what it said")
}

/// Names of the store's files, and what the registry says that they take.
fn store(appliance: &Appliance) -> Result<(Vec<String>, Value)> {
    let mut names = Vec::new();
    for entry in fs::read_dir(appliance.folder().join("state/registry/images"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let mut usage = appliance.btyctl(&["image", "usage"])?;
    if let Some(usage) = usage.as_object_mut() {
        // Of the whole machine's file system.
        usage.retain(|key, _| !key.contains("free"));
    }
    Ok((names, usage))
}

/// Files of a process that have no name any more, or none yet.
fn nameless_files(process: u32) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        let target = fs::read_link(entry?.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        count += usize::from(target.contains("/images/") && target.ends_with("(deleted)"));
    }
    Ok(count)
}

#[test]
fn a_disk_is_captured_with_a_base_and_written_back_and_a_killed_capture_leaves_nothing()
-> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let registry = appliance.daemon("bty-registry")?.id();
        let at = |name: &str| appliance.folder().join(name);
        let mut bytes = content(24 * MIB);
        bytes.get_mut(8 * MIB..12 * MIB).context("a short disk")?.fill(0);
        fs::write(at("base.raw"), &bytes).context("writing the base image")?;
        let base = appliance.import(&at("base.raw"), "lab:base")?;
        // What was changed since: a chunk of its own, and one that was zeros.
        bytes.get_mut(5 * MIB..5 * MIB + 512).context("a short disk")?.fill(7);
        bytes.get_mut(9 * MIB..9 * MIB + 512).context("a short disk")?.fill(7);
        fs::write(at("disk.raw"), &bytes).context("writing the disk")?;
        let disk = LoopDisk::over(&at("disk.raw"))?;
        let before = store(appliance)?;

        // With so much work for each byte it takes long enough to be killed on the way.
        let slow = capture(appliance, &disk, &["--level", "19"])?;
        let mut client = slow.spawn(&at("capture.log"))?;
        wait::until_true("the capture to be on its way", Duration::from_mins(1), || {
            let is_done =
                |line: &str| line.contains("\"capture\"") && !line.contains("\"done_bytes\":0,");
            Ok(client.log()?.lines().any(is_done))
        })?;
        client.signal(Signal::SIGKILL)?;
        ensure!(!client.wait(Duration::from_mins(1))?.success(), "it ended too early");
        wait::until_true("the registry to give it up", Duration::from_secs(20), || {
            Ok(nameless_files(registry)? == 0)
        })?;
        let after = store(appliance)?;
        ensure!(before == after, "{before:?} was there before, {after:?} is there now");
        let images = appliance.btyctl(&["image", "list"])?.to_string();
        ensure!(!images.contains("lab:new") && images.contains(&base), "{images}");

        let captured = last_line(&capture(appliance, &disk, &["--base", "lab:base"])?)?;
        let number = |key: &str| captured.get(key).and_then(Value::as_u64);
        ensure!(number("sent_chunks") == Some(2), "{captured}");
        ensure!(number("same_chunks") > Some(70), "{captured}");
        let id = text(&captured, "/id")?;
        let shown = appliance.btyctl(&["image", "show", "lab:new"])?;
        ensure!(shown.to_string().contains(&id), "{shown}");

        let out = at("out.img.zst").display().to_string();
        appliance.btyctl(&["image", "export", "lab:new", &out])?;
        fs::File::create(at("other.raw"))?.write_all_at(&[0xA5; 512], 24 * MIB as u64 - 512)?;
        let other = LoopDisk::over(&at("other.raw"))?;
        let flasher = Program::new(daemon::binaries()?.join("bty-flasher"));
        let written =
            last_line(&flasher.args(["write", &out, &other.0, "--yes", "--output", "json"]))?;
        ensure!(text(&written, "/id")? == id, "{written}");
        ensure!(fs::read(at("other.raw"))? == bytes, "the disk that was written is another one");
        Ok(())
    })
}

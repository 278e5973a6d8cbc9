//! The image store as an operator cares for it: what goes in comes out, damage is found and repaired, and what is old goes.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    appliance::{Appliance, DhcpMode},
    child::Program,
    daemon,
};
use bty_tests::{appliance, with_logs};

const CHUNK: usize = 256 * 1024;

/// A disk of 3 MiB and a bit: text and zeros.
fn disk(text: &str) -> Vec<u8> {
    let mut disk = vec![0; 12 * CHUNK + 512];
    let bytes = text.bytes().cycle();
    disk.iter_mut().zip(bytes).take(5 * CHUNK).for_each(|(to, from)| *to = from);
    disk
}

/// Runs btyctl and gives what it printed as it is.
fn printed(appliance: &Appliance, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Program::new(daemon::binaries()?.join("btyctl"))
        .arg("--run-dir")
        .arg(appliance.folder().join("run"))
        .args(arguments)
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(0), "{arguments:?}: {} {words}", output.status);
    Ok(output.stdout)
}

/// The code that btyctl ends with, and what it printed and complained of.
fn ended(appliance: &Appliance, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Program::new(daemon::binaries()?.join("btyctl"))
        .arg("--run-dir")
        .arg(appliance.folder().join("run"))
        .args(arguments)
        .output()?;
    let words = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&words).into_owned()))
}

fn import(appliance: &Appliance, disk: &[u8], name: &str) -> Result<String> {
    let file = appliance.folder().join("disk.raw");
    fs::write(&file, disk).context("writing a disk")?;
    appliance.import(&file, name)
}

fn only_file_of(folder: &Path) -> Result<std::path::PathBuf> {
    let entry = fs::read_dir(folder)?.next().context("the store is empty")??;
    Ok(entry.path())
}

#[test]
fn what_is_exported_is_what_was_imported() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let disk = disk("all work and no play ");
        import(appliance, &disk, "lab:1")?;
        let at = |name: &str| appliance.folder().join(name);
        let path = |name: &str| at(name).display().to_string();
        printed(appliance, &["image", "export", "lab:1", &path("out.img")])?;
        ensure!(fs::read(at("out.img"))? == disk, "another disk was exported");
        printed(appliance, &["image", "export", "lab:1", &path("out.img.zst")])?;
        let unpacked = Program::new("zstd").args(["-dc"]).arg(at("out.img.zst")).output()?;
        ensure!(unpacked.stdout == disk, "zstd unpacks another disk");
        let piped = printed(appliance, &["image", "export", "lab:1", "-"])?;
        ensure!(piped == disk, "another disk was piped");
        let packed = printed(appliance, &["image", "export", "lab:1", "-", "--format", "zst"])?;
        ensure!(packed == fs::read(at("out.img.zst"))?, "another file was piped");
        let (code, words) = ended(appliance, &["image", "export", "lab:1", "/dev/null"])?;
        ensure!(code == Some(2) && words.contains("bty-flasher write"), "{code:?}: {words}");
        Ok(())
    })
}

#[test]
fn damage_is_found_never_exported_and_repaired_by_the_next_import() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let disk = disk("to be or not to be ");
        import(appliance, &disk, "lab:1")?;
        let (code, words) = ended(appliance, &["image", "verify", "lab:1"])?;
        ensure!(code == Some(0) && words.contains("all 13 chunks"), "{code:?}: {words}");
        let file = only_file_of(&appliance.folder().join("state/registry/images"))?;
        let mut bytes = fs::read(&file)?;
        *bytes.get_mut(20).context("a short file")? ^= 1;
        fs::write(&file, bytes)?;
        let (code, words) = ended(appliance, &["image", "verify", "lab:1"])?;
        ensure!(code == Some(8) && words.contains("1 of 13 chunks"), "{code:?}: {words}");
        let out = appliance.folder().join("out.img");
        let export = ["image", "export", "lab:1", &out.display().to_string()];
        let (code, words) = ended(appliance, &export)?;
        ensure!(code == Some(8) && !out.exists(), "{code:?}: {words}");
        import(appliance, &disk, "lab:1")?;
        let (code, words) = ended(appliance, &["image", "verify", "lab:1"])?;
        ensure!(code == Some(0), "{code:?}: {words}");
        Ok(())
    })
}

#[test]
fn old_images_go_and_assigned_ones_stay() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        for number in ["1", "2", "3"] {
            import(appliance, &disk(number), &format!("lab:{number}"))?;
        }
        let diff = appliance.btyctl(&["image", "diff", "lab:1", "lab:2"])?;
        let written = diff.pointer("/total/written_bytes").and_then(serde_json::Value::as_u64);
        ensure!(written == Some(5 * CHUNK as u64), "{diff}");
        appliance.btyctl(&["machine", "set", "52:54:00:77:aa:01", "--image", "lab:1"])?;
        let prune = ["image", "prune", "--keep", "1"];
        let would = appliance.btyctl(&[&prune[..], &["--dry-run"]].concat())?;
        let did = appliance.btyctl(&prune)?;
        ensure!(would == did, "{would} was announced, {did} was done");
        let usage = appliance.btyctl(&["image", "usage"])?;
        ensure!(usage.get("images") == Some(&2.into()), "{usage}");
        let (code, words) = ended(appliance, &["image", "prune", "--keep", "0"])?;
        ensure!(code == Some(2), "{code:?}: {words}");
        Ok(())
    })
}

//! What is changed on a disk after it has proved its image, by the live system's own kernel; and the receipt of that flash.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware,
    appliance::{Appliance, DhcpMode, text},
    child::Program,
    daemon,
    osimage::{self, EXT4_BANNER, EXT4_LABEL},
};
use bty_tests::{
    DISK_BYTES, STEP, appliance, assigned_machine, ensure_runs, wait_until_flashed, with_logs,
};
use serde_json::Value;

const USER_DATA: &str = "#cloud-config\nhostname: grown\n";

/// Name, start and size of each partition, in bytes, as another program than ours sees them.
fn partitions(disk: &Path) -> Result<Vec<(String, u64, u64)>> {
    let said = Program::new("sfdisk").arg("--json").arg(disk).run()?;
    let table: Value = serde_json::from_str(&said).context("reading what sfdisk says")?;
    let listed = table.pointer("/partitiontable/partitions").and_then(Value::as_array);
    let bytes = |partition: &Value, key: &str| {
        partition.get(key).and_then(Value::as_u64).map(|sectors| sectors * 512)
    };
    listed
        .context("sfdisk sees no partitions")?
        .iter()
        .map(|partition| {
            let (start, size) = (bytes(partition, "start"), bytes(partition, "size"));
            Ok((text(partition, "/name")?, start.context("no start")?, size.context("no size")?))
        })
        .collect()
}

/// That table, last file system and seed are as they were wanted.
fn ensure_changed(disk: &Path) -> Result<()> {
    let said = Program::new("sgdisk").arg("--verify").arg(disk).run()?;
    ensure!(said.contains("No problems found"), "{said}");
    let found = partitions(disk)?;
    let [.., (root, start, size), (_, seed_start, seed_size)] = &found[..] else {
        anyhow::bail!("partitions are missing: {found:?}");
    };
    ensure!(root == EXT4_LABEL && start + size == *seed_start, "{found:?}");
    // But for the table and what alignment takes.
    ensure!(seed_start + seed_size > DISK_BYTES - (2 << 20), "{found:?}");
    let file_system = format!("{}?offset={start}", disk.display());
    Program::new("e2fsck").args(["-f", "-n", &file_system]).run()?;
    let shown = Program::new("dumpe2fs").args(["-h", &file_system]).run()?;
    let blocks = format!("{}", size / 4096);
    let line = shown.lines().find(|line| line.starts_with("Block count:")).unwrap_or_default();
    ensure!(line.ends_with(&format!(" {blocks}")), "{line}, and not {blocks}");
    let seed = format!("{}@@{seed_start}", disk.display());
    let label = Program::new("mlabel").args(["-s", "-i", &seed]).run()?;
    ensure!(label.contains("CIDATA"), "{label}");
    let read = Program::new("mtype").args(["-i", &seed, "::user-data"]).run()?;
    ensure!(read == USER_DATA, "the seed is {read:?}");
    Ok(())
}

/// That the run has a receipt, which holds without the appliance.
fn ensure_receipt(appliance: &Appliance, run: &str, id: &str) -> Result<()> {
    let folder = appliance.folder();
    let saved = folder.display().to_string();
    let key = text(&appliance.btyctl(&["receipt", "key"])?, "/public_key")?;
    fs::write(folder.join("bty.pub"), key).context("keeping the key")?;
    appliance.btyctl(&["receipt", "save", run, &saved])?;
    let output = Program::new(daemon::binaries()?.join("btyctl"))
        .args(["--run-dir", "/nowhere", "--output", "json", "receipt", "verify"])
        .arg(folder.join(format!("{run}.receipt.json")))
        .arg("--key")
        .arg(folder.join("bty.pub"))
        .run()?;
    let receipt: Value = serde_json::from_str(&output).context("reading the receipt")?;
    ensure!(text(&receipt, "/proved_id")? == id && text(&receipt, "/run")? == run, "{receipt}");
    ensure!(text(&receipt, "/disk/serial")? == "DISK0001", "{receipt}");
    Ok(())
}

#[test]
fn a_disk_is_grown_and_seeded_after_its_proof_and_boots() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let id = appliance.import(&osimage::grub_on_ext4(appliance.folder())?, "grub:ext4")?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let file = disk.file.clone();
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::Bios, disk, "grub:ext4", "flash-once")?;
        let seed = appliance.folder().join("seed");
        fs::create_dir(&seed).context("making the seed's folder")?;
        fs::write(seed.join("user-data"), USER_DATA).context("writing the seed")?;
        let seed = seed.display().to_string();
        let wanted = ["--gpt-to-end", "--grow", "--new-guids", "--seed", &seed];
        appliance.btyctl(&[&["machine", "set", "m1"], &wanted[..]].concat())?;
        machine.power_on()?;
        let run = wait_until_flashed(appliance, &mac, 1, &id)?;
        // Before the image's own system has it.
        machine.power_off()?;
        let results = run.pointer("/record/fix_ups").and_then(Value::as_array);
        let results: Vec<(String, String)> = results
            .context("the record has no changes")?
            .iter()
            .map(|result| Ok((text(result, "/name")?, text(result, "/outcome")?)))
            .collect::<Result<_>>()?;
        let names: Vec<&str> = results.iter().map(|(name, _)| name.as_str()).collect();
        ensure!(
            names == ["gpt-to-end", "seed", "grow-partition", "new-guids", "grow-file-system"]
                && results.iter().all(|(_, outcome)| outcome == "FIX_UP_OUTCOME_DONE"),
            "{run:#}"
        );
        ensure_changed(&file)?;
        ensure_receipt(appliance, &text(&run, "/id")?, &id)?;
        machine.power_on()?;
        machine.wait_for(EXT4_BANNER, STEP)?;
        ensure_runs(appliance, &mac, 1)
    })
}

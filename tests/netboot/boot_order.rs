//! What UEFI is told to boot after a flash: the disk at once, by the image's own loader; the network first at every later power-on; and
//! a disk that doesn't boot is not tried for ever.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware, Machine,
    appliance::{Appliance, ApplianceSpec, DhcpMode, text},
    daemon,
    osimage::{self, REMOVABLE_BANNER, VENDOR_BANNER},
    wait,
};
use bty_tests::{
    STEP, appliance, assigned_machine, ensure_runs, live, wait_until_flashed, with_logs,
};
use serde_json::Value;

/// Disks of these machines, in bytes.
const DISK_BYTES: u64 = 64 << 20;
/// Where firmware doesn't look by itself.
const VENDOR_LOADER: &str = "\\EFI\\debian\\grubx64.efi";

/// A machine that is switched off and is to get the image with these loaders.
fn machine_for(
    appliance: &mut Appliance,
    removable: Option<&Path>,
) -> Result<(Machine, String, String)> {
    let ipxe = live()?.join("boot/x64/snponly.efi");
    let image = osimage::two_loaders(&ipxe, removable, appliance.folder())?;
    let id = appliance.import(&image, "x64")?;
    let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
    let (machine, mac) =
        assigned_machine(appliance, "m1", Firmware::UefiPxe, disk, "x64", "flash-once")?;
    Ok((machine, mac, id))
}

/// The messages of the machine's events of this kind, oldest first.
fn events(appliance: &Appliance, mac: &str, kind: &str) -> Result<Vec<String>> {
    let mut found = all_events(appliance, mac)?;
    found.retain(|event| event.pointer("/kind").and_then(Value::as_str) == Some(kind));
    found.iter().map(|event| text(event, "/message")).collect()
}

/// Whether the machine was sent to its disk since it came back from there last.
fn is_sent_again(appliance: &Appliance, mac: &str) -> Result<bool> {
    let all = all_events(appliance, mac)?;
    let mut kinds = all.iter().rev().filter_map(|event| event.pointer("/kind")?.as_str());
    Ok(kinds.find(|kind| ["boot.local", "boot.returned"].contains(kind)) == Some("boot.local"))
}

/// The machine's events, oldest first.
fn all_events(appliance: &Appliance, mac: &str) -> Result<Vec<Value>> {
    let listed = appliance.btyctl(&["event", "list", "--machine", mac, "--limit", "1000"])?;
    let mut found =
        listed.pointer("/events").and_then(Value::as_array).cloned().unwrap_or_default();
    found.sort_by_key(|event| {
        event.pointer("/id").and_then(Value::as_str).and_then(|id| id.parse::<u64>().ok())
    });
    Ok(found)
}

/// The firmware's variable of this name, out of the flash that QEMU keeps: a second witness beside the agent. Of UEFI's variables each
/// has a header of 60 bytes (`AUTHENTICATED_VARIABLE_HEADER` of EDK2), and state 3F while it is in force.
fn variable(appliance: &Appliance, name: &str) -> Result<Option<Vec<u8>>> {
    let flash = fs::read(appliance.folder().join("m1/vars.fd")).context("reading the variables")?;
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let size_at = |at: usize| {
        let bytes = flash.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let found = (0..flash.len()).step_by(4).find_map(|at| {
        let is_valid = flash.get(at..)?.starts_with(&[0xaa, 0x55, 0x3f]);
        let (names, data) = (size_at(at + 36)?, size_at(at + 40)?);
        let called = flash.get(at + 60..)?.get(..names)?;
        let content = flash.get(at + 60 + names..)?.get(..data)?;
        (is_valid && called == name).then(|| content.to_vec())
    });
    Ok(found)
}

/// The boot order, as the agent writes it.
fn order(appliance: &Appliance) -> Result<String> {
    let bytes = variable(appliance, "BootOrder")?.context("the firmware has no boot order")?;
    let numbers = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    Ok(numbers.map(|number| format!("{number:04X}")).collect::<Vec<_>>().join(","))
}

#[test]
fn the_restart_boots_the_images_own_loader_and_later_power_ons_the_network() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let ipxe = live()?.join("boot/x64/snponly.efi");
        let (mut machine, mac, id) = machine_for(appliance, Some(&ipxe))?;

        machine.power_on()?;
        let run = wait_until_flashed(appliance, &mac, 1, &id)?;
        let next = run.pointer("/record/next_boot").context("nothing is on record")?;
        ensure!(text(next, "/loader")? == VENDOR_LOADER, "another loader: {next}");
        ensure!(next.pointer("/written") == Some(&true.into()), "nothing was written: {next}");
        ensure!(next.pointer("/is_next") == Some(&true.into()), "it is not next: {next}");
        machine.wait_for(VENDOR_BANNER, STEP)?;
        // Booted without asking: one power-on was seen, and no word of the server sent it to its disk.
        ensure!(events(appliance, &mac, "boot.firmware")?.len() == 1, "it asked the network again");
        ensure!(events(appliance, &mac, "boot.local")?.is_empty(), "it was sent to its disk");
        machine.power_off()?;
        let entry = text(next, "/entry")?;
        ensure!(order(appliance)? == text(next, "/order")?, "the boot order was changed");
        ensure!(variable(appliance, "BootNext")?.is_none(), "it is to be booted again and again");
        ensure!(variable(appliance, &entry)?.is_some(), "{entry} is gone");
        ensure!(
            !order(appliance)?.contains(entry.trim_start_matches("Boot")),
            "it is in the order"
        );

        // The network is first still (PXE, then HTTP Boot): the server sends it on, and the firmware finds what it finds by itself.
        machine.power_on()?;
        machine.wait_for(REMOVABLE_BANNER, STEP)?;
        ensure!(!events(appliance, &mac, "boot.local")?.is_empty(), "it did not ask the network");
        ensure_runs(appliance, &mac, 1)?;

        // The entry is used again.
        appliance.btyctl(&["machine", "set", "m1", "--rearm"])?;
        machine.power_cycle()?;
        let run = wait_until_flashed(appliance, &mac, 2, &id)?;
        let again = run.pointer("/record/next_boot").context("nothing is on record")?;
        ensure!(text(again, "/entry")? == entry, "another entry: {again}");
        ensure!(again.pointer("/written") == Some(&false.into()), "it was written anew: {again}");
        machine.wait_for(VENDOR_BANNER, STEP)?;
        machine.power_off()
    })
}

#[test]
fn an_operator_may_have_the_order_rewritten_with_the_network_first() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        // Firmware finds nothing on this disk by itself: only the entry in the order makes it boot a second time.
        let (mut machine, mac, id) = machine_for(appliance, None)?;
        appliance.btyctl(&["machine", "set", "m1", "--boot-entry", "order"])?;
        machine.power_on()?;
        let run = wait_until_flashed(appliance, &mac, 1, &id)?;
        machine.wait_for(VENDOR_BANNER, STEP)?;
        machine.power_cycle()?;
        machine.wait_for(VENDOR_BANNER, STEP)?;
        ensure!(!events(appliance, &mac, "boot.local")?.is_empty(), "the network is not first");
        let next = run.pointer("/record/next_boot").context("nothing is on record")?;
        let (entry, new_order) = (text(next, "/entry")?, text(next, "/new_order")?);
        let second = new_order.split(',').nth(1).unwrap_or_default();
        ensure!(entry == format!("Boot{second}"), "the disk is not second: {next}");
        machine.power_off()
    })
}

/// How often a machine may come back from its disk: so often that it was sent there the other way too.
const RETURNS: usize = 3;

/// An appliance that holds a machine then. Firmware that is emulated on a busy processor takes longer to be back than any real one.
fn appliance_that_holds_after_returns() -> Result<Appliance> {
    let mut spec = ApplianceSpec::new(daemon::binaries()?, live()?, DhcpMode::Proxy);
    spec.settings
        .push(("registry", format!("max_attempts = {RETURNS}\nback_within_seconds = 120")));
    Appliance::start(spec)
}

#[test]
fn a_disk_that_does_not_boot_comes_back_says_so_and_is_held() -> Result<()> {
    with_logs(appliance_that_holds_after_returns()?, |appliance| {
        let broken = appliance.folder().join("broken.efi");
        fs::write(&broken, "no program").context("writing a loader that is none")?;
        let image = osimage::two_loaders(&broken, Some(&broken), appliance.folder())?;
        let id = appliance.import(&image, "broken")?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?;
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", Firmware::UefiPxe, disk, "broken", "flash-once")?;
        machine.power_on()?;
        wait_until_flashed(appliance, &mac, 1, &id)?;

        // The firmware was told to boot it, can't, and goes on to the network by itself.
        let returned = |count: usize| {
            wait::until("the machine to be back", STEP, || {
                let events = events(appliance, &mac, "boot.returned")?;
                Ok((events.len() >= count).then_some(events))
            })
        };
        let first = returned(1)?.concat();
        ensure!(first.contains("after its firmware was told to boot the disk"), "{first}");
        // From now on it is sent there, the usual way and the other. This firmware ends in a menu; somebody resets it, and it is back.
        for count in 1..=RETURNS {
            wait::until_true("it to be sent to its disk", STEP, || is_sent_again(appliance, &mac))?;
            machine.reset()?;
            returned(1 + count)?;
        }
        machine.wait_for(&format!("its disk at once, {RETURNS} times in a row"), STEP)?;
        let held = text(&appliance.machine(&mac)?, "/observed/held_reason")?;
        ensure!(held.contains("btyctl machine set m1 --reset-way"), "no way on: {held}");
        ensure_runs(appliance, &mac, 1)?;

        appliance.btyctl(&["machine", "set", "m1", "--reset-way"])?;
        let next = text(&appliance.machine(&mac)?, "/decision/action")?;
        ensure!(next == "ACTION_LOCAL", "it is not let go: {next}");
        machine.power_off()
    })
}

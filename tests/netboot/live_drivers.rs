//! The live system in parts: a known machine loads its own drivers alone, and gets all where those are not enough.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Firmware, Machine, NicModel,
    appliance::{Appliance, DhcpMode},
    osimage::{self, GRUB_BANNER},
    wait,
};
use bty_tests::{STEP, appliance, assigned_machine, ensure_runs, wait_until_flashed, with_logs};
use serde_json::Value;

/// The machine has reported its hardware, and is now to be flashed with GRUB's rescue disk.
fn known_machine(appliance: &mut Appliance) -> Result<(Machine, String, String)> {
    let id = appliance.import(&osimage::grub_rescue()?, "grub:rescue")?;
    let disk = appliance.new_disk("DISK0001", 64 << 20)?;
    let (mut machine, mac) =
        assigned_machine(appliance, "m1", Firmware::Bios, disk, "grub:rescue", "inventory")?;
    machine.power_on()?;
    appliance.wait_for_run(&mac, 1, "RUN_STATE_SUCCEEDED", STEP)?;
    machine.power_off()?;
    appliance.btyctl(&["machine", "set", "m1", "--policy", "flash-once"])?;
    Ok((machine, mac, id))
}

/// The boot script.
fn script(appliance: &Appliance, mac: &str) -> Result<String> {
    let url = format!("http://10.77.0.1/boot/script?mac={mac}&via=pxe&platform=pcbios&tries=0");
    appliance.server().program("curl").args(["-sSf", &url]).run()
}

/// What the boot script says of the initramfs, as soon as it names one: bty-httpd hears from the registry what a machine is to do.
fn initramfs(appliance: &Appliance, mac: &str) -> Result<String> {
    wait::until("an initramfs in the boot script", Duration::from_secs(10), || {
        let script = script(appliance, mac)?;
        Ok(script.lines().find_map(|line| line.strip_prefix("initrd ")).map(str::to_owned))
    })
}

/// Bytes of what is behind the URL of such a line.
fn fetched_bytes(appliance: &Appliance, line: &str) -> Result<u64> {
    let url = line.split(' ').find(|word| word.starts_with("http")).context("no URL")?;
    let arguments = ["-sSf", "-o", "/dev/null", "-w", "%{size_download}", url];
    Ok(appliance.server().program("curl").args(arguments).run()?.trim().parse()?)
}

#[test]
fn a_known_machine_loads_what_it_needs_and_does_with_256_mib() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let (mut machine, mac, id) = known_machine(appliance)?;
        let asked = initramfs(appliance, "52-54-00-00-00-99")?;
        ensure!(!asked.contains("modules="), "what does an unknown machine need: {asked}");
        let all = fetched_bytes(appliance, &asked)?;

        machine.spec_mut().memory_mib = 256;
        machine.power_on()?;
        wait_until_flashed(appliance, &mac, 2, &id)?;
        machine.wait_for(GRUB_BANNER, STEP)?;
        // Said where they could not be loaded.
        ensure!(!machine.console().has("loading drivers")?, "not all drivers were loaded");

        let asked = script(appliance, &mac)?;
        let is_sent = asked.contains("is flashed") && asked.contains("sanboot");
        ensure!(is_sent && !asked.contains("initrd"), "it is not sent to its disk: {asked}");
        appliance.btyctl(&["machine", "set", "m1", "--rearm"])?;
        let asked = initramfs(appliance, &mac)?;
        ensure!(asked.contains("virtio_net") && !asked.contains("igc"), "{asked}");
        let own = fetched_bytes(appliance, &asked)?;
        println!("its own live system has {own} bytes, all that there is {all}");
        ensure!(own < all / 2, "{own} bytes where everything has {all}");
        ensure_runs(appliance, &mac, 2)
    })
}

#[test]
fn another_network_card_gets_a_machine_all_drivers() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let (mut machine, mac, id) = known_machine(appliance)?;
        machine.spec_mut().nics.first_mut().context("no card")?.model = NicModel::E1000e;
        machine.power_on()?;
        machine.wait_for("without drivers for.* e1000e", STEP)?;
        wait_until_flashed(appliance, &mac, 2, &id)?;
        machine.wait_for(GRUB_BANNER, STEP)?;
        let shown = appliance.machine(&mac)?;
        let modules = shown.pointer("/observed/hardware/modules").and_then(Value::as_array);
        let has = |name: &str| modules.is_some_and(|all| all.iter().any(|module| module == name));
        ensure!(has("e1000e") && !has("virtio_net"), "{shown}");
        ensure_runs(appliance, &mac, 2)
    })
}

//! What the machine is made of, from `/sys` and `/proc`.

use std::{fs, path::Path, time::Duration};

use bty_api::types::v1::{Cpu, Disk as WireDisk, Dmi, Firmware, Hardware, Nic};
use bty_disk::{discover::System, health};

use crate::wire;

/// The most cards that a report names, as the contract says.
const MAX_NICS: usize = 64;
/// The most disks.
const MAX_DISKS: usize = 256;
/// The most modules.
const MAX_MODULES: usize = 512;
/// How long the disks may take to say how they are, all together: the plan waits for it.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
/// The longest name that is believed.
const MAX_CHARS: usize = 128;

/// The report; `drivers` is the file in which the loader of drivers names those that it lacks.
pub(super) fn report(drivers: Option<&Path>) -> Hardware {
    let disks = System::default().disks().unwrap_or_default();
    let firmware =
        if Path::new("/sys/firmware/efi").exists() { Firmware::Uefi } else { Firmware::Bios };
    let healths = health::of_all(&disks, HEALTH_LIMIT);
    let shown = disks.iter().zip(&healths).take(MAX_DISKS);
    let disks = shown
        .map(|(disk, health)| WireDisk { health: Some(wire::health(health)), ..wire::disk(disk) });
    Hardware {
        disks: disks.collect(),
        nics: nics(),
        cpu: Some(cpu(&text("/proc/cpuinfo"))),
        memory_bytes: memory(&text("/proc/meminfo")),
        firmware: firmware.into(),
        dmi: Some(dmi()),
        modules: first_words(&text("/proc/modules")),
        missing_modules: drivers
            .map(|file| first_words(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default())))
            .unwrap_or_default(),
    }
}

/// The first word of each line: a module's name in `/proc/modules` (proc(5)) and in the loader's file.
fn first_words(lines: &str) -> Vec<String> {
    let words = lines.lines().filter_map(|line| line.split_ascii_whitespace().next());
    let mut words: Vec<String> = words.map(short).take(MAX_MODULES).collect();
    words.sort();
    words
}

fn nics() -> Vec<Nic> {
    let cards = fs::read_dir("/sys/class/net").into_iter().flatten().filter_map(Result::ok);
    // What has no device behind it is no card: lo, bridges, tunnels.
    let mut nics: Vec<Nic> = cards
        .filter(|card| card.path().join("device").exists())
        .map(|card| {
            let path = card.path();
            let read = |attribute: &str| {
                short(&fs::read_to_string(path.join(attribute)).unwrap_or_default())
            };
            let driver = fs::read_link(path.join("device/driver")).unwrap_or_default();
            Nic {
                name: card.file_name().to_string_lossy().into_owned(),
                mac: read("address"),
                driver: driver.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                link: read("carrier") == "1",
                // -1 where there is no link, an error where nobody knows.
                speed_mbps: read("speed").parse().unwrap_or_default(),
            }
        })
        .take(MAX_NICS)
        .collect();
    nics.sort_by(|one, other| one.name.cmp(&other.name));
    nics
}

fn cpu(cpuinfo: &str) -> Cpu {
    let field = |name: &str| {
        cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim))
    };
    let threads = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    Cpu {
        model: short(field("model name").unwrap_or_default()),
        threads: u32::try_from(threads).unwrap_or_default(),
        architecture: std::env::consts::ARCH.to_owned(),
    }
}

fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn dmi() -> Dmi {
    let id = |name: &str| short(&text(&format!("/sys/class/dmi/id/{name}")));
    let uuid = id("product_uuid").to_ascii_lowercase();
    // Firmware that was never told its UUID gives one of these, on thousands of machines.
    let filler = uuid.chars().all(|digit| digit == '0' || digit == '-')
        || uuid.chars().all(|digit| digit == 'f' || digit == '-')
        || uuid == "03000200-0400-0500-0006-000700080009";
    Dmi {
        system_vendor: id("sys_vendor"),
        product_name: id("product_name"),
        product_serial: id("product_serial"),
        product_uuid: if filler { String::new() } else { uuid },
        board: short(&format!("{} {}", id("board_vendor"), id("board_name"))),
        firmware_version: short(&format!("{} {}", id("bios_vendor"), id("bios_version"))),
    }
}

fn text(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn short(text: &str) -> String {
    text.trim().chars().filter(|character| !character.is_control()).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read_in_order() {
        let got = first_words("virtio_net 98304 0 - Live 0x0\nahci 57344 3 libahci, Live 0x0\n\n");
        assert_eq!(got, ["ahci", "virtio_net"]);
    }

    #[test]
    fn processors_and_memory_are_read() {
        let got = cpu(
            "processor\t: 0\nmodel name\t: Intel N97\n\nprocessor\t: 1\nmodel name\t: Intel N97\n",
        );
        assert_eq!((got.model.as_str(), got.threads), ("Intel N97", 2));
        assert_eq!(memory("MemTotal:        1000 kB\nMemFree: 1 kB\n"), 1_024_000);
        assert_eq!((cpu("").threads, memory("")), (0, 0));
    }
}

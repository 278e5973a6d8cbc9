//! What disks there are, from `/sys/class/block` and `/proc`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Disk, InUse};

/// Where the kernel's view is: `/` on a real machine, a folder in tests.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self::at("/")
    }
}

/// Devices that are no disks, though the kernel calls them so.
const NO_DISKS: [&str; 6] = ["loop", "ram", "zram", "sr", "fd", "nbd"];
/// Devices made of others; the gate refuses what is below them.
const MADE_OF_OTHERS: [&str; 2] = ["dm-", "md"];
/// The kernel counts sizes in `/sys/class/block/*/size` in these, whatever the device's sectors are.
const SYSFS_SECTOR_BYTES: u64 = 512;
/// More bytes of a sysfs attribute are nobody's.
const MAX_ATTRIBUTE_BYTES: usize = 4096;

impl System {
    /// With `/sys` and `/proc` below this folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The disks that could be flashed, in the order of their names. Loop devices and partitions are not among them.
    pub fn disks(&self) -> io::Result<Vec<Disk>> {
        let usage = self.usage();
        let mut names: Vec<String> = fs::read_dir(self.class())?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                !NO_DISKS.iter().chain(&MADE_OF_OTHERS).any(|kind| name.starts_with(kind))
            })
            // Each half of an eMMC's boot area is a device of its own.
            .filter(|name| {
                !(name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb")))
            })
            .filter(|name| !self.device(name).join("partition").exists())
            // One path of several to an NVMe disk has no node of its own (nvme0c0n1).
            .filter(|name| read_text(&self.device(name).join("hidden")) != "1")
            .collect();
        names.sort();
        let disks = names.iter().map(|name| self.disk(name, &usage));
        // A card reader without a card is a disk of no bytes.
        Ok(disks.filter(|disk| disk.size_bytes > 0).collect())
    }

    /// The one device with this node, even a loop device: a person who names one means it. `None` where there is none, and for a
    /// partition. Links such as those in `/dev/disk/by-id` are followed.
    pub fn named(&self, path: &str) -> Option<Disk> {
        let named = path.trim_start_matches('/');
        let node = fs::canonicalize(self.root.join(named)).ok();
        let node = node.as_deref().and_then(|node| node.strip_prefix(&self.root).ok()?.to_str());
        // What sysfs knows without a node is good enough to say what is wrong with it.
        let node = node.unwrap_or(named);
        let name = node.strip_prefix("dev/")?.replace('/', "!");
        let device = self.device(&name);
        let is_whole = device.join("size").exists() && !device.join("partition").exists();
        is_whole.then(|| self.disk(&name, &self.usage())).filter(|disk| disk.size_bytes > 0)
    }

    fn class(&self) -> PathBuf {
        self.root.join("sys/class/block")
    }

    fn device(&self, name: &str) -> PathBuf {
        self.class().join(name)
    }

    fn disk(&self, name: &str, usage: &Usage) -> Disk {
        let device = self.device(name);
        let text = |attribute: &str| read_text(&device.join(attribute));
        let number = |attribute: &str| text(attribute).parse::<u64>().unwrap_or_default();
        let sectors = |attribute: &str| {
            u32::try_from(number(attribute)).ok().filter(|&bytes| bytes > 0).unwrap_or(512)
        };
        let wwn = wwn(&first_of([text("wwid"), text("device/wwid")]));
        let mut in_use = usage.of(name);
        in_use.extend(self.holders(name));
        Disk {
            // sysfs writes a slash in a device's name as an exclamation mark (cciss!c0d0).
            path: format!("/dev/{}", name.replace('!', "/")),
            serial: serial(&device, &wwn),
            wwn,
            model: model(&device),
            transport: transport(name, &device),
            size_bytes: number("size").saturating_mul(SYSFS_SECTOR_BYTES),
            logical_sector_bytes: sectors("queue/logical_block_size"),
            physical_sector_bytes: sectors("queue/physical_block_size"),
            rotational: number("queue/rotational") != 0,
            removable: number("removable") != 0,
            read_only: number("ro") != 0,
            in_use,
        }
    }

    /// Device mapper, md and others that hold the disk or a partition of it.
    fn holders(&self, name: &str) -> Vec<InUse> {
        let mut parts = vec![name.to_owned()];
        parts.extend(
            children(&self.device(name)).into_iter().filter(|child| child.starts_with(name)),
        );
        let held = |part: &String| {
            let device =
                if part == name { self.device(name) } else { self.device(name).join(part) };
            children(&device.join("holders"))
                .into_iter()
                .map(move |holder| (part.clone(), holder))
                .collect::<Vec<_>>()
        };
        parts
            .iter()
            .flat_map(held)
            .map(|(part, holder)| InUse::Held {
                device: format!("/dev/{part}"),
                by: format!("/dev/{holder}"),
            })
            .collect()
    }

    fn usage(&self) -> Usage {
        // One mount point that is no UTF-8 must not hide all the others.
        let read = |path: &str| {
            let bytes = fs::read(self.root.join(path)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let partitions = self.partitions();
        Usage::new(
            &read("proc/self/mountinfo"),
            &read("proc/swaps"),
            &read("proc/mounts"),
            &partitions,
        )
    }

    /// Each partition's disk and number (`major:minor`), and each disk's own number.
    fn partitions(&self) -> Devices {
        let mut devices = Devices::default();
        for disk in children(&self.class()) {
            let device = self.device(&disk);
            if device.join("partition").exists() {
                continue;
            }
            devices.add(&disk, &disk, read_text(&device.join("dev")));
            for part in children(&device)
                .into_iter()
                .filter(|part| device.join(part).join("partition").exists())
            {
                devices.add(&part, &disk, read_text(&device.join(&part).join("dev")));
            }
        }
        devices
    }
}

/// Names and numbers of devices, and the disk that each is (a part of).
#[derive(Debug, Default)]
struct Devices {
    by_number: BTreeMap<String, (String, String)>,
    by_name: BTreeMap<String, String>,
}

impl Devices {
    fn add(&mut self, name: &str, disk: &str, number: String) {
        self.by_number.insert(number, (name.to_owned(), disk.to_owned()));
        self.by_name.insert(name.to_owned(), disk.to_owned());
    }
}

/// What uses which disk: mounts and swap.
#[derive(Debug, Default)]
struct Usage(BTreeMap<String, Vec<InUse>>);

impl Usage {
    fn new(mountinfo: &str, swaps: &str, mounts: &str, devices: &Devices) -> Self {
        let mut usage = Self::default();
        for line in mountinfo.lines() {
            // proc_pid_mountinfo(5): id, parent, major:minor, root, mount point.
            let mut fields = line.split(' ').skip(2);
            let (Some(number), Some(at)) = (fields.next(), fields.nth(1)) else { continue };
            if let Some((name, disk)) = devices.by_number.get(number) {
                usage.add(disk, mounted(name, at));
            }
        }
        // Some file systems (btrfs) have a number of their own in mountinfo; their device's name is in the older list.
        for line in mounts.lines() {
            let mut fields = line.split(' ');
            let (Some(source), Some(at)) = (fields.next(), fields.next()) else { continue };
            if let Some((name, disk)) = known(source, devices) {
                usage.add(disk, mounted(name, at));
            }
        }
        for line in swaps.lines().skip(1) {
            let source = line.split_whitespace().next().unwrap_or_default();
            if let Some((name, disk)) = known(source, devices) {
                usage.add(disk, InUse::Swap { device: format!("/dev/{name}") });
            }
        }
        usage
    }

    fn add(&mut self, disk: &str, found: InUse) {
        let known = self.0.entry(disk.to_owned()).or_default();
        if !known.contains(&found) {
            known.push(found);
        }
    }

    fn of(&self, disk: &str) -> Vec<InUse> {
        self.0.get(disk).cloned().unwrap_or_default()
    }
}

fn mounted(name: &str, at: &str) -> InUse {
    // Blanks and the like in mount points are octal (proc_pid_mountinfo(5)).
    let at = at.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    InUse::Mounted { device: format!("/dev/{name}"), at }
}

fn known<'a>(source: &'a str, devices: &'a Devices) -> Option<(&'a str, &'a str)> {
    let name = source.strip_prefix("/dev/")?;
    devices.by_name.get(name).map(|disk| (name, disk.as_str()))
}

/// As people know it from `lsblk` and from labels: a SCSI or ATA disk's number with `0x`, others with their kind.
fn wwn(wwid: &str) -> String {
    wwid.strip_prefix("naa.").map_or_else(|| wwid.to_owned(), |number| format!("0x{number}"))
}

/// The disk's number. That of the USB device that it is in stands for it only where it has neither that nor a WWN: a dock has one
/// number for all of its disks, and for the next one that is put there.
fn serial(device: &Path, wwn: &str) -> String {
    let scsi = || {
        // Unit serial number page (SPC-4, 7.8.18): four bytes of header, then the number.
        let page = fs::read(device.join("device/vpd_pg80")).unwrap_or_default();
        clean(&String::from_utf8_lossy(page.get(4..).unwrap_or_default()))
    };
    first_of([
        read_text(&device.join("serial")),
        read_text(&device.join("device/serial")),
        scsi(),
        if wwn.is_empty() { usb_serial(device) } else { String::new() },
    ])
}

/// The number of the USB device that the disk is in: the kernel does not ask USB storage for that page, on which many hang.
fn usb_serial(device: &Path) -> String {
    let place = fs::canonicalize(device).unwrap_or_default();
    let usb = place.ancestors().find(|folder| folder.join("idVendor").exists());
    usb.map(|folder| read_text(&folder.join("serial"))).unwrap_or_default()
}

fn model(device: &Path) -> String {
    let (vendor, model) =
        (read_text(&device.join("device/vendor")), read_text(&device.join("device/model")));
    let name = read_text(&device.join("device/name"));
    // A virtio disk's vendor is a PCI number, which tells nobody anything.
    let vendor = if vendor.starts_with("0x") || vendor == "ATA" { String::new() } else { vendor };
    first_of([clean(&format!("{vendor} {model}")), name])
}

fn transport(name: &str, device: &Path) -> String {
    let place = fs::canonicalize(device).unwrap_or_default();
    let place = place.to_string_lossy();
    let kinds = [
        ("/usb", "usb"),
        ("/ata", "sata"),
        ("/end_device-", "sas"),
        ("/virtio", "virtio"),
        ("/nvme", "nvme"),
        ("/mmc", "mmc"),
    ];
    let by_place = kinds.iter().find(|(part, _)| place.contains(part)).map(|(_, kind)| *kind);
    let by_name = ["nvme", "loop"].into_iter().find(|kind| name.starts_with(kind));
    by_name
        .or(by_place)
        .or_else(|| name.starts_with("sd").then_some("scsi"))
        .unwrap_or_default()
        .to_owned()
}

fn read_text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    clean(&String::from_utf8_lossy(bytes.get(..MAX_ATTRIBUTE_BYTES).unwrap_or(&bytes)))
}

/// Without the blanks, NULs and control characters that devices pad their names with.
fn clean(text: &str) -> String {
    let printable: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn first_of<const N: usize>(texts: [String; N]) -> String {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn children(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;

//! What a virtual machine is made of, and the QEMU arguments that make it.

use std::path::{Path, PathBuf};

use crate::namespace::Port;

/// How a machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// `SeaBIOS`; its PXE client is QEMU's iPXE option ROM.
    Bios,
    /// OVMF, whose own PXE client comes first where the NIC is virtio (others bring QEMU's iPXE option ROM).
    UefiPxe,
    /// OVMF, whose HTTP Boot client comes first (virtio only).
    UefiHttp,
    /// The same firmware for a 64-bit ARM processor, PXE first (virtio only).
    Arm64Pxe,
    /// The same firmware for a 64-bit ARM processor, HTTP Boot first (virtio only).
    Arm64Http,
}

impl Firmware {
    /// Whether this is UEFI.
    pub fn is_uefi(self) -> bool {
        self != Self::Bios
    }

    /// Whether the machine has a 64-bit ARM processor.
    pub fn is_arm64(self) -> bool {
        matches!(self, Self::Arm64Pxe | Self::Arm64Http)
    }

    /// UEFI's code, its variables as they leave the factory, and Debian's package that has them. What is secure enforces Secure
    /// Boot with Microsoft's keys, which Debian's shim is signed for.
    pub(super) fn files(self, is_secure: bool) -> (&'static str, &'static str, &'static str) {
        match (self.is_arm64(), is_secure) {
            (true, _) => (
                "/usr/share/AAVMF/AAVMF_CODE.fd",
                "/usr/share/AAVMF/AAVMF_VARS.fd",
                "qemu-efi-aarch64",
            ),
            (false, false) => {
                ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf")
            }
            (false, true) => (
                "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
                "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
                "ovmf",
            ),
        }
    }
}

/// A network card's model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NicModel {
    /// virtio-net-pci; the only one that OVMF itself has a driver for.
    #[default]
    Virtio,
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// Realtek 8139.
    Rtl8139,
    /// `VMware`'s.
    Vmxnet3,
}

impl NicModel {
    fn device(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net-pci",
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::Rtl8139 => "rtl8139",
            Self::Vmxnet3 => "vmxnet3",
        }
    }
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The switch's port that it is plugged into, a tap.
    pub port: Port,
    /// Its address, lower case with colons.
    pub mac: String,
    /// Its model.
    pub model: NicModel,
}

impl Nic {
    /// A virtio card in a tap.
    pub fn new(port: Port, mac: impl Into<String>) -> Self {
        Self { port, mac: mac.into(), model: NicModel::Virtio }
    }
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiskBus {
    /// virtio-blk: `/dev/vda`.
    #[default]
    Virtio,
    /// `NVMe`: `/dev/nvme0n1`.
    Nvme,
    /// SATA on AHCI: `/dev/sda`; sectors of 512 bytes only.
    Ahci,
    /// SCSI on virtio-scsi: `/dev/sda`.
    Scsi,
    /// USB mass storage on a controller of its own: `/dev/sda`.
    Usb,
}

/// A virtual disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The raw file with its content.
    pub file: PathBuf,
    /// How it is attached.
    pub bus: DiskBus,
    /// The serial number that the guest sees.
    pub serial: String,
    /// Bytes a logical sector: 512 or 4096.
    pub sector_bytes: u32,
    /// Whether writes are refused.
    pub is_read_only: bool,
}

impl Disk {
    /// A disk of 512-byte sectors on virtio whose content is in `file`.
    pub fn new(file: impl Into<PathBuf>, serial: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            bus: DiskBus::Virtio,
            serial: serial.into(),
            sector_bytes: 512,
            is_read_only: false,
        }
    }

    /// On another bus.
    #[must_use]
    pub fn on(mut self, bus: DiskBus) -> Self {
        self.bus = bus;
        self
    }

    /// With other sectors.
    #[must_use]
    pub fn with_sectors_of(mut self, bytes: u32) -> Self {
        self.sector_bytes = bytes;
        self
    }

    /// Makes the file, empty and sparse, of this size; an existing one loses its content.
    pub fn create(&self, size_bytes: u64) -> anyhow::Result<()> {
        use anyhow::Context;
        std::fs::File::create(&self.file)
            .and_then(|file| file.set_len(size_bytes))
            .with_context(|| format!("making the disk {}", self.file.display()))
    }
}

/// A virtual machine, switched off.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// What it is called in files and messages.
    pub name: String,
    /// How it starts.
    pub firmware: Firmware,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u32,
    /// Its SMBIOS UUID. Never all zeros: servers must not key anything on that.
    pub uuid: String,
    /// Its network cards, first in the boot order.
    pub nics: Vec<Nic>,
    /// Its disks, last in the boot order.
    pub disks: Vec<Disk>,
    /// Whether the disks come before the network.
    pub boots_disk_first: bool,
    /// Whether its UEFI runs only what Microsoft's keys have signed.
    pub has_secure_boot: bool,
    /// Whether it has a screen, which [`super::Machine::screenshot`] needs.
    pub has_screen: bool,
    /// A kernel and an initramfs to start instead of the firmware's choice, with the command line.
    pub direct_kernel: Option<DirectKernel>,
    /// More arguments for QEMU.
    pub more_arguments: Vec<String>,
}

/// A kernel that QEMU loads itself.
#[derive(Debug, Clone)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The command line.
    pub command_line: String,
}

impl MachineSpec {
    /// A machine with 1 GiB and one processor, and neither a card nor a disk.
    pub fn new(name: impl Into<String>, firmware: Firmware) -> Self {
        let name = name.into();
        let uuid = uuid_of(&name);
        Self {
            name,
            firmware,
            memory_mib: 1024,
            cpus: 1,
            uuid,
            nics: Vec::new(),
            disks: Vec::new(),
            boots_disk_first: false,
            has_secure_boot: false,
            has_screen: false,
            direct_kernel: None,
            more_arguments: Vec::new(),
        }
    }

    /// With a card more.
    #[must_use]
    pub fn with_nic(mut self, nic: Nic) -> Self {
        self.nics.push(nic);
        self
    }

    /// With a disk more.
    #[must_use]
    pub fn with_disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// With this much memory.
    #[must_use]
    pub fn with_memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// With a screen.
    #[must_use]
    pub fn with_screen(mut self) -> Self {
        self.has_screen = true;
        self
    }

    /// QEMU's arguments, apart from its control sockets. `accelerator` is QEMU's `-accel`.
    pub(super) fn arguments(&self, accelerator: &str, vars: &Path) -> Vec<String> {
        let mut arguments = Arguments::default();
        let (machine, emulated_cpu) = match self.firmware {
            // SeaBIOS prints on the serial port only without graphics.
            Firmware::Bios => ("q35,graphics=off", TCG_CPU),
            // The variables must be out of the system's reach.
            Firmware::UefiPxe | Firmware::UefiHttp if self.has_secure_boot => {
                ("q35,smm=on", TCG_CPU)
            }
            Firmware::UefiPxe | Firmware::UefiHttp => ("q35", TCG_CPU),
            Firmware::Arm64Pxe | Firmware::Arm64Http => ("virt", TCG_ARM64_CPU),
        };
        let cpu = if accelerator.starts_with("kvm") { "host" } else { emulated_cpu };
        arguments.add("-nodefaults", "");
        arguments.add("-machine", machine);
        arguments.add("-accel", accelerator);
        arguments.add("-cpu", cpu);
        arguments.add("-smp", self.cpus.to_string());
        arguments.add("-m", self.memory_mib.to_string());
        arguments.add("-uuid", self.uuid.as_str());
        arguments.add("-name", self.name.as_str());
        arguments.add("-display", "none");
        arguments.add("-device", "virtio-rng-pci");
        if self.has_screen {
            // A 64-bit ARM processor has no VGA: its caches and the card's window don't agree.
            let card = if self.firmware.is_arm64() { "virtio-gpu-pci" } else { "VGA" };
            arguments.add("-device", card);
        }
        if self.firmware.is_uefi() {
            arguments.add_uefi(self.firmware, self.has_secure_boot, vars);
        }
        for (index, nic) in self.nics.iter().enumerate() {
            arguments.add_nic(index, nic, self.nic_boot_index(index), self.firmware);
        }
        for (index, disk) in self.disks.iter().enumerate() {
            arguments.add_disk(index, disk, FIRST_DISK_BOOT_INDEX + index);
        }
        if let Some(direct) = &self.direct_kernel {
            arguments.add("-kernel", escape(&direct.kernel));
            arguments.add("-initrd", escape(&direct.initramfs));
            arguments.add("-append", direct.command_line.as_str());
        }
        arguments.0.extend(self.more_arguments.iter().cloned());
        arguments.0
    }

    fn nic_boot_index(&self, index: usize) -> usize {
        let first = if self.boots_disk_first { 2 * FIRST_DISK_BOOT_INDEX } else { 1 };
        first + index
    }
}

/// x86-64-v2, because with `max` C libraries choose vector instructions that TCG emulates dearly. Without cmpxchg16b, because
/// QEMU 7.2 now and then leaves garbage in the flags after it: one start in ten of a 6.12 kernel, which allocates memory by
/// that instruction, ended in a double fault in `__kmalloc`; none of forty did without.
const TCG_CPU: &str = "Nehalem,cx16=off";

/// The plainest that Debian runs on: what newer ones can besides, signed pointers above all, is dear to emulate.
const TCG_ARM64_CPU: &str = "cortex-a57";

/// Where the disks begin in QEMU's boot order; network cards come before or after them.
const FIRST_DISK_BOOT_INDEX: usize = 50;

#[derive(Debug, Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn add(&mut self, flag: &str, value: impl Into<String>) {
        self.0.push(flag.to_owned());
        let value = value.into();
        if !value.is_empty() {
            self.0.push(value);
        }
    }

    fn add_uefi(&mut self, firmware: Firmware, is_secure: bool, vars: &Path) {
        let (code, ..) = firmware.files(is_secure);
        self.add("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"));
        if is_secure {
            self.add("-global", "driver=cfi.pflash01,property=secure,value=on");
        }
        self.add("-drive", format!("if=pflash,unit=1,format=raw,file={}", escape(vars)));
        // Else it tries PXE over IPv6 too, and waits for it.
        self.add("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n");
        if matches!(firmware, Firmware::UefiHttp | Firmware::Arm64Http) {
            // One boot index covers PXE and HTTP Boot of a card, in that order.
            self.add("-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n");
        }
    }

    fn add_nic(&mut self, index: usize, nic: &Nic, boot_index: usize, firmware: Firmware) {
        let port = nic.port.name();
        self.add("-netdev", format!("tap,id=net{index},ifname={port},script=no,downscript=no"));
        // Without the option ROM OVMF uses its own drivers and its own PXE; it has none for other models.
        let rom =
            if firmware.is_uefi() && nic.model == NicModel::Virtio { ",romfile=" } else { "" };
        self.add(
            "-device",
            format!(
                "{},id=nic{index},netdev=net{index},mac={},bootindex={boot_index}{rom}",
                nic.model.device(),
                nic.mac
            ),
        );
    }

    fn add_disk(&mut self, index: usize, disk: &Disk, boot_index: usize) {
        let file = escape(&disk.file);
        let read_only = if disk.is_read_only { "on" } else { "off" };
        self.add(
            "-drive",
            format!(
                "if=none,id=disk{index},file={file},format=raw,cache=unsafe,discard=unmap,readonly={read_only}"
            ),
        );
        let (controller, device) = match disk.bus {
            DiskBus::Virtio => (String::new(), "virtio-blk-pci".to_owned()),
            DiskBus::Nvme => (String::new(), "nvme".to_owned()),
            DiskBus::Ahci => {
                (format!("ich9-ahci,id=ahci{index}"), format!("ide-hd,bus=ahci{index}.0"))
            }
            DiskBus::Scsi => {
                (format!("virtio-scsi-pci,id=scsi{index}"), format!("scsi-hd,bus=scsi{index}.0"))
            }
            DiskBus::Usb => {
                (format!("qemu-xhci,id=usb{index}"), format!("usb-storage,bus=usb{index}.0"))
            }
        };
        self.add_device(&controller);
        let size = disk.sector_bytes;
        self.add_device(&format!(
            "{device},drive=disk{index},serial={},bootindex={boot_index},logical_block_size={size},physical_block_size={size}",
            disk.serial
        ));
    }

    fn add_device(&mut self, device: &str) {
        if !device.is_empty() {
            self.add("-device", device);
        }
    }
}

/// A path as QEMU's option parser takes it, where a comma ends a value.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A UUID that belongs to this name (FNV-1a twice over): the same in each run, another for another name.
fn uuid_of(name: &str) -> String {
    let hash = |seed: u64| {
        name.bytes()
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    let (high, low) = (hash(0xcbf2_9ce4_8422_2325), hash(0x6c62_272e_07bb_0142));
    let text = format!("{high:016x}{low:016x}");
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    // RFC 9562 5.8: version 8 is for one's own making.
    format!("{}-{}-8{}-8{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_card_comes_before_the_disk_unless_asked_otherwise() {
        let lan_port = Port::for_tests("tap1");
        let mut spec = MachineSpec::new("m", Firmware::UefiHttp)
            .with_nic(Nic::new(lan_port, "52:54:00:77:00:01"))
            .with_disk(Disk::new("/tmp/a,b.raw", "S1").on(DiskBus::Nvme).with_sectors_of(4096));
        let arguments = spec.arguments("tcg", Path::new("vars.fd")).join(" ");
        assert!(arguments.contains("mac=52:54:00:77:00:01,bootindex=1,romfile="), "{arguments}");
        assert!(arguments.contains("file=/tmp/a,,b.raw"), "{arguments}");
        assert!(
            arguments.contains("nvme,drive=disk0,serial=S1,bootindex=50,logical_block_size=4096")
        );
        spec.boots_disk_first = true;
        assert!(spec.arguments("tcg", Path::new("v")).join(" ").contains("bootindex=100,romfile="));
    }

    #[test]
    fn a_machine_has_a_uuid_of_its_own() {
        let one = MachineSpec::new("one", Firmware::Bios).uuid;
        assert_eq!(one, MachineSpec::new("one", Firmware::Bios).uuid);
        assert_ne!(one, MachineSpec::new("two", Firmware::Bios).uuid);
        assert_eq!(one.len(), 36);
    }
}

//! What machines are made of: every model of network card and every way to attach a disk, with both sizes of sectors.
//!
//! Each cell is a card, a disk and a sector size; the cells together have every card with several disks and every disk with each
//! size that it comes in. The flashed disk is compared byte by byte, and then it must boot.

use anyhow::{Context, Result};
use bty_testkit::{
    DiskBus, Firmware, NicModel,
    appliance::DhcpMode,
    osimage::{self, GRUB_BANNER, IPXE_X64_BANNER},
};
use bty_tests::{
    STEP, appliance, assigned_machine, ensure_holds, ensure_runs, live, wait_until_flashed,
    with_logs,
};

const DISK_BYTES: u64 = 64 << 20;

/// Flashes an empty disk on this bus through this card, compares it, and boots it. Sectors of 512 bytes are a BIOS machine's, those
/// of 4096 a UEFI one's: no BIOS boots from them.
fn is_flashed_and_boots(model: NicModel, bus: DiskBus, sector_bytes: u32) -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let (image, firmware, banner) = if sector_bytes == 512 {
            (osimage::grub_rescue()?, Firmware::Bios, GRUB_BANNER)
        } else {
            let image = osimage::ipxe_x64(
                &live()?.join("boot/x64/ipxe.efi"),
                sector_bytes,
                appliance.folder(),
            )?;
            (image, Firmware::UefiPxe, IPXE_X64_BANNER)
        };
        let id = appliance.import(&image, "small")?;
        let disk = appliance.new_disk("DISK0001", DISK_BYTES)?.on(bus);
        let disk = disk.with_sectors_of(sector_bytes);
        let file = disk.file.clone();
        let (mut machine, mac) =
            assigned_machine(appliance, "m1", firmware, disk, "small", "flash-once")?;
        machine.spec_mut().nics.first_mut().context("no card")?.model = model;
        machine.power_on()?;
        wait_until_flashed(appliance, &mac, 1, &id)?;
        machine.wait_for(banner, STEP)?;
        // Neither of the images writes to its disk.
        ensure_holds(&file, &image)?;
        ensure_runs(appliance, &mac, 1)
    })
}

macro_rules! cells {
    ($($(#[$attribute:meta])* $name:ident: $model:ident, $bus:ident, $sector_bytes:literal;)*) => {
        $(
            $(#[$attribute])*
            #[test]
            fn $name() -> Result<()> {
                is_flashed_and_boots(NicModel::$model, DiskBus::$bus, $sector_bytes)
            }
        )*
    };
}

cells! {
    e1000_and_ahci: E1000, Ahci, 512;
    rtl8139_and_usb: Rtl8139, Usb, 512;
    e1000e_and_nvme_of_4096: E1000e, Nvme, 4096;
    vmxnet3_and_scsi_of_4096: Vmxnet3, Scsi, 4096;
    #[cfg(feature = "full")]
    e1000e_and_scsi: E1000e, Scsi, 512;
    #[cfg(feature = "full")]
    vmxnet3_and_nvme: Vmxnet3, Nvme, 512;
    #[cfg(feature = "full")]
    rtl8139_and_virtio_of_4096: Rtl8139, Virtio, 4096;
    #[cfg(feature = "full")]
    e1000_and_usb_of_4096: E1000, Usb, 4096;
    #[cfg(feature = "full")]
    virtio_and_ahci: Virtio, Ahci, 512;
    #[cfg(feature = "full")]
    virtio_and_scsi_of_4096: Virtio, Scsi, 4096;
}

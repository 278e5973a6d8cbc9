//! Discovery over trees of files such as the kernel shows.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("proc/self/mountinfo", "");
        tree
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn disk(&self, name: &str, number: &str, sectors: u64) {
        self.write(&format!("sys/class/block/{name}/size"), format!("{sectors}\n"));
        self.write(&format!("sys/class/block/{name}/dev"), format!("{number}\n"));
        self.write(&format!("sys/class/block/{name}/queue/logical_block_size"), "512\n");
    }

    fn partition(&self, disk: &str, name: &str, number: &str) {
        self.write(&format!("sys/class/block/{disk}/{name}/partition"), "1\n");
        self.write(&format!("sys/class/block/{disk}/{name}/dev"), format!("{number}\n"));
        self.write(&format!("sys/class/block/{name}/partition"), "1\n");
    }

    fn disks(&self) -> Vec<Disk> {
        System::at(self.0.path()).disks().unwrap()
    }
}

#[test]
fn a_virtio_an_nvme_and_a_scsi_disk_have_their_serials() {
    let tree = Tree::new();
    tree.disk("vda", "254:0", 8);
    tree.write("sys/class/block/vda/serial", "S1");
    tree.disk("nvme0n1", "259:0", 8);
    tree.write("sys/class/block/nvme0n1/device/serial", "NV42                \n");
    tree.write("sys/class/block/nvme0n1/device/model", "QEMU NVMe Ctrl      \n");
    tree.write("sys/class/block/nvme0n1/wwid", "nvme.8086-1\n");
    tree.disk("sda", "8:0", 8);
    tree.write("sys/class/block/sda/device/wwid", "naa.5000c500a1b2c3d4\n");
    tree.write("sys/class/block/sda/device/vpd_pg80", b"\0\x80\0\x04WD-1");
    tree.write("sys/class/block/sda/device/vendor", "ATA     \n");
    tree.write("sys/class/block/sda/device/model", "WDC WD40\n");
    let disks = tree.disks();
    let got: Vec<_> = disks
        .iter()
        .map(|disk| (disk.path.as_str(), disk.serial.as_str(), disk.model.as_str()))
        .collect();
    assert_eq!(
        got,
        [
            ("/dev/nvme0n1", "NV42", "QEMU NVMe Ctrl"),
            ("/dev/sda", "WD-1", "WDC WD40"),
            ("/dev/vda", "S1", "")
        ]
    );
    assert_eq!(
        (disks[0].wwn.as_str(), disks[1].wwn.as_str()),
        ("nvme.8086-1", "0x5000c500a1b2c3d4")
    );
    assert_eq!(disks[2].size_bytes, 8 * 512);
}

#[test]
fn a_usb_disk_has_the_serial_of_its_usb_device() {
    let tree = Tree::new();
    let usb = "sys/devices/pci0000:00/0000:00:02.0/usb2/2-1";
    tree.write(&format!("{usb}/idVendor"), "46f4\n");
    tree.write(&format!("{usb}/serial"), "USB-7\n");
    let block = format!("{usb}/2-1:1.0/host2/target2:0:0/2:0:0:0/block/sdb");
    tree.write(&format!("{block}/size"), "8\n");
    let class = tree.0.path().join("sys/class/block");
    fs::create_dir_all(&class).unwrap();
    std::os::unix::fs::symlink(tree.0.path().join(&block), class.join("sdb")).unwrap();
    let disks = tree.disks();
    assert_eq!(disks[0].serial, "USB-7");
    assert_eq!(disks[0].transport, "usb");
    // What the disk says of itself comes before what the dock says of itself.
    tree.write(&format!("{block}/device/wwid"), "naa.5000c500a1b2c3d4\n");
    let numbers = |disk: &Disk| (disk.serial.clone(), disk.wwn.clone());
    assert_eq!(numbers(&tree.disks()[0]), (String::new(), "0x5000c500a1b2c3d4".into()));
    assert!(
        tree.disks()[0].to_string().contains("(WWN 0x5000c500a1b2c3d4, "),
        "it is told by that"
    );
    tree.write(&format!("{block}/device/vpd_pg80"), b"\0\x80\0\x04WD-1");
    assert_eq!(tree.disks()[0].serial, "WD-1");
    // Another kind of disk behind no USB device has none.
    tree.disk("sda", "8:0", 8);
    assert_eq!(tree.disks()[0].serial, "");
}

#[test]
fn what_is_no_disk_is_not_listed_but_a_named_loop_device_is_found() {
    let tree = Tree::new();
    for (name, number) in
        [("loop0", "7:0"), ("ram0", "1:0"), ("sr0", "11:0"), ("dm-0", "253:0"), ("md127", "9:127")]
    {
        tree.disk(name, number, 8);
    }
    tree.disk("sdb", "8:16", 0);
    tree.disk("nvme0c0n1", "259:1", 8);
    tree.write("sys/class/block/nvme0c0n1/hidden", "1\n");
    tree.disk("mmcblk0boot0", "179:8", 8);
    tree.disk("sda", "8:0", 8);
    tree.partition("sda", "sda1", "8:1");
    let paths: Vec<_> = tree.disks().into_iter().map(|disk| disk.path).collect();
    assert_eq!(paths, ["/dev/sda"]);
    let system = System::at(tree.0.path());
    assert_eq!(system.named("/dev/loop0").map(|disk| disk.path), Some("/dev/loop0".into()));
    std::os::unix::fs::symlink("../sda", {
        tree.write("dev/sda", "");
        tree.write("dev/by-id/readme", "");
        tree.0.path().join("dev/by-id/ata-WD")
    })
    .unwrap();
    assert_eq!(system.named("/dev/by-id/ata-WD").map(|disk| disk.path), Some("/dev/sda".into()));
    assert_eq!(system.named("/dev/sda1"), None);
    assert_eq!(system.named("/dev/../etc/passwd"), None);
    assert_eq!(system.named("/dev/nothing"), None);
}

#[test]
fn mounts_swap_and_holders_are_uses() {
    let tree = Tree::new();
    tree.disk("sda", "8:0", 8);
    tree.partition("sda", "sda1", "8:1");
    tree.partition("sda", "sda2", "8:2");
    tree.partition("sda", "sda3", "8:3");
    tree.write("sys/class/block/sda/sda3/holders/dm-0/name", "");
    tree.disk("sdb", "8:16", 8);
    tree.write(
        "proc/self/mountinfo",
        "22 1 8:1 / /my\\040disk rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
    );
    tree.write("proc/mounts", "/dev/sda1 /my\\040disk ext4 rw 0 0\n/dev/sdb /srv btrfs rw 0 0\n");
    tree.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n");
    let disks = tree.disks();
    let uses = |disk: &Disk| disk.in_use.iter().map(InUse::to_string).collect::<Vec<_>>();
    assert_eq!(
        uses(&disks[0]),
        ["/dev/sda1 is mounted on /my disk", "/dev/sda2 is swap", "/dev/sda3 is held by /dev/dm-0"]
    );
    assert_eq!(uses(&disks[1]), ["/dev/sdb is mounted on /srv"]);
    assert_eq!((disks[0].is_mounted(), disks[0].is_system()), (true, false));
}

#[test]
fn a_mount_point_that_is_no_text_hides_no_other() {
    let tree = Tree::new();
    tree.disk("sda", "8:0", 8);
    tree.write(
        "proc/self/mountinfo",
        b"20 1 0:30 / /\xff\xfe rw - tmpfs tmpfs rw\n22 1 8:0 / /mnt rw - ext4 /dev/sda rw\n",
    );
    assert!(tree.disks()[0].is_mounted());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_kernel_and_the_devices_say_is_read_or_left_out(
        attribute in proptest::collection::vec(any::<u8>(), 0..200),
        mounts in proptest::collection::vec(any::<u8>(), 0..200),
        words in "([0-9: /a-z-]{0,30}\n){0,5}",
    ) {
        let tree = Tree::new();
        tree.disk("sda", "8:0", 8);
        tree.partition("sda", "sda1", "8:1");
        for name in ["serial", "wwid", "ro", "removable", "hidden", "device/model", "device/vpd_pg80",
            "queue/rotational", "queue/physical_block_size", "sda1/dev"]
        {
            tree.write(&format!("sys/class/block/sda/{name}"), &attribute);
        }
        tree.write("proc/self/mountinfo", &mounts);
        tree.write("proc/swaps", &mounts);
        tree.write("proc/mounts", &words);
        for disk in tree.disks() {
            prop_assert_eq!(disk.path.as_str(), "/dev/sda");
            prop_assert!(!disk.to_string().chars().any(char::is_control));
        }
    }
}

//! Which partition is meant: a decision on what is on the disk.

use bty_types::fix_ups::PartitionChoice;

use super::look::Volume;

/// Types of partitions with the root file system of a system for this processor (Discoverable Partitions Specification).
const ROOT_TYPES: &[&str] = if cfg!(target_arch = "aarch64") {
    &["b921b045-1df0-41c3-af44-4c6f280d3fae"]
} else {
    &["4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "44479540-f297-41b2-9af7-d131d5f0458a"]
};

/// The partitions that may be meant, the likeliest first.
pub(super) fn candidates(
    choice: PartitionChoice,
    volumes: &[Volume],
) -> Result<Vec<&Volume>, String> {
    let found: Vec<&Volume> = match choice {
        PartitionChoice::Number(number) => {
            volumes.iter().filter(|volume| volume.number() == number).collect()
        }
        PartitionChoice::Esp => {
            volumes.iter().filter(|volume| volume.partition.is_efi_system()).take(1).collect()
        }
        PartitionChoice::Root => root(volumes),
    };
    if !found.is_empty() {
        return Ok(found);
    }
    let numbers: Vec<String> = volumes
        .iter()
        .map(|volume| match volume.kind {
            "" => volume.number().to_string(),
            kind => format!("{} ({kind})", volume.number()),
        })
        .collect();
    Err(format!("the disk has no partition {choice}; it has {}", numbers.join(", ")))
}

/// By its type, else the largest with a file system of Linux.
fn root(volumes: &[Volume]) -> Vec<&Volume> {
    let mut found: Vec<&Volume> = volumes.iter().filter(|volume| volume.is_linux()).collect();
    found.sort_by_key(|volume| {
        let is_root = ROOT_TYPES.contains(&volume.partition.kind.as_str());
        std::cmp::Reverse((is_root, volume.partition.size_bytes))
    });
    found
}

/// Where Ignition looks for its configuration: Flatcar's in the partition OEM, Fedora CoreOS's in the file system called boot.
pub(super) fn ignition(volumes: &[Volume]) -> Option<(u32, &'static str)> {
    let called = |name: &str| {
        volumes
            .iter()
            .find(|volume| volume.partition.name == name || volume.label == name)
            .map(Volume::number)
    };
    called("OEM")
        .map(|number| (number, "/config.ign"))
        .or_else(|| called("boot").map(|number| (number, "/ignition/config.ign")))
}

/// Where Windows's setup looks for its answers: in the largest NTFS the folder Panther, else its root; without one the root of FAT.
pub(super) fn unattend(volumes: &[Volume]) -> Vec<(u32, &'static str)> {
    let largest = |is_one: fn(&Volume) -> bool| {
        let found = volumes.iter().filter(|volume| is_one(volume));
        found.max_by_key(|volume| volume.partition.size_bytes).map(Volume::number)
    };
    if let Some(number) = largest(|volume| volume.kind == "ntfs") {
        return vec![(number, "/Windows/Panther/unattend.xml"), (number, "/unattend.xml")];
    }
    largest(Volume::is_fat).map(|number| (number, "/autounattend.xml")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use bty_image::inspect::{Partition, PartitionId};

    use super::*;

    fn volume(number: u32, size_bytes: u64, kind: &'static str, label: &str) -> Volume {
        let partition = Partition {
            number,
            start_bytes: 0,
            size_bytes,
            kind: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
            name: String::new(),
            id: PartitionId::OfDisk(1),
        };
        Volume { partition, kind, label: label.into() }
    }

    fn numbers(choice: PartitionChoice, volumes: &[Volume]) -> Vec<u32> {
        candidates(choice, volumes).unwrap().into_iter().map(Volume::number).collect()
    }

    #[test]
    fn the_root_is_the_one_that_says_so_or_the_largest() {
        let mut volumes =
            [volume(1, 9, "ext4", ""), volume(2, 5, "xfs", ""), volume(3, 99, "fat32", "")];
        assert_eq!(numbers(PartitionChoice::Root, &volumes), [1, 2]);
        volumes[1].partition.kind = ROOT_TYPES[0].into();
        assert_eq!(numbers(PartitionChoice::Root, &volumes), [2, 1]);
        assert_eq!(numbers(PartitionChoice::Number(3), &volumes), [3]);
        let shown = candidates(PartitionChoice::Esp, &volumes).unwrap_err();
        assert_eq!(shown, "the disk has no partition esp; it has 1 (ext4), 2 (xfs), 3 (fat32)");
    }

    #[test]
    fn configurations_go_where_their_programs_look() {
        let coreos = [volume(2, 1, "fat16", "EFI-SYSTEM"), volume(3, 2, "ext4", "boot")];
        assert_eq!(ignition(&coreos), Some((3, "/ignition/config.ign")));
        let mut flatcar = [volume(6, 1, "btrfs", ""), volume(9, 2, "ext4", "ROOT")];
        assert_eq!(ignition(&flatcar), None);
        flatcar[0].partition.name = "OEM".into();
        assert_eq!(ignition(&flatcar), Some((6, "/config.ign")));
        let windows =
            [volume(1, 1, "fat32", ""), volume(3, 9, "ntfs", ""), volume(4, 1, "ntfs", "")];
        assert_eq!(unattend(&windows)[0], (3, "/Windows/Panther/unattend.xml"));
        assert_eq!(unattend(&windows[..1]), [(1, "/autounattend.xml")]);
        assert_eq!(unattend(&coreos[1..]), []);
    }
}

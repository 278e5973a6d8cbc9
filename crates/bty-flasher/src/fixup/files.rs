//! Files for the image's own file systems: a seed, configurations of installers, and any others. Those for one partition go together.

use std::collections::BTreeMap;

use bty_disk::device::BlockDevice;
use bty_types::{
    FixUps,
    fix_ups::{Content, DroppedFile, FilePlace, PartitionChoice, SeedPlace},
};

use super::{
    FixUpResult, fat,
    look::{Volume, look},
    mounted::Mounted,
    ntfs, place,
};

/// Where cloud-init looks for a seed in its own file system.
const SEED: &str = "/var/lib/cloud/seed/nocloud";
/// What every system has, and a partition with nothing but data has not.
const OF_ROOT: &str = "etc";
/// Where distributions on btrfs have their root, where it is not what is mounted by itself.
const SUBVOLUMES: [&str; 2] = ["root", "@"];

/// Something to put on the disk, in the first of its places that takes it.
struct Wanted {
    name: String,
    places: Vec<Vec<DroppedFile>>,
}

/// Puts everything where it belongs.
pub(super) fn fix(disk: &BlockDevice, fix_ups: &FixUps) -> Vec<FixUpResult> {
    let looked = look(disk).map_err(|problem| format!("reading the disk: {problem}"));
    let volumes = looked.as_deref().unwrap_or_default();
    let (wanted, mut results) = wanted(fix_ups, volumes);
    if let Err(why) = &looked {
        let names = results.into_iter().map(|result| result.name);
        let names = names.chain(wanted.into_iter().map(|wanted| wanted.name));
        return names.map(|name| FixUpResult::failed(name, why)).collect();
    }
    for Wanted { name, places } in wanted {
        let mut outcome = Err("the image has neither NTFS nor FAT to put it on".to_owned());
        for files in places {
            outcome = put_all(disk, volumes, &files);
            if outcome.is_ok() {
                break;
            }
        }
        results.push(match outcome {
            Ok(detail) => FixUpResult::done(name, detail),
            Err(why) => FixUpResult::failed(name, why),
        });
    }
    results
}

/// What is asked for, and what can't be had on this disk.
fn wanted(fix_ups: &FixUps, volumes: &[Volume]) -> (Vec<Wanted>, Vec<FixUpResult>) {
    let (mut wanted, mut failed) = (Vec::new(), Vec::new());
    let secret = |partition, path: &str, content: &Content| {
        let path = path.parse().ok()?;
        let at = FilePlace { partition, path };
        Some(DroppedFile { at, content: content.clone(), mode: 0o600, owner: (0, 0) })
    };
    if let Some(seed) = fix_ups.seed.as_ref().filter(|seed| seed.place == SeedPlace::Files) {
        let files = seed.files().into_iter().filter_map(|(name, content)| {
            secret(PartitionChoice::Root, &format!("{SEED}/{name}"), content)
        });
        wanted.push(Wanted { name: "seed".into(), places: vec![files.collect()] });
    }
    if let Some(content) = &fix_ups.ignition {
        match place::ignition(volumes) {
            Some((number, path)) => {
                let file = secret(PartitionChoice::Number(number), path, content);
                wanted.push(Wanted {
                    name: "ignition".into(),
                    places: vec![file.into_iter().collect()],
                });
            }
            None => failed.push(FixUpResult::failed(
                "ignition",
                "the image has no partition that Ignition looks into: one called OEM or boot",
            )),
        }
    }
    if let Some(content) = &fix_ups.unattend {
        let places = place::unattend(volumes).into_iter().map(|(number, path)| {
            secret(PartitionChoice::Number(number), path, content).into_iter().collect()
        });
        wanted.push(Wanted { name: "unattend".into(), places: places.collect() });
    }
    wanted.extend(fix_ups.files.iter().map(|file| Wanted {
        name: format!("file {}", file.at),
        places: vec![vec![file.clone()]],
    }));
    (wanted, failed)
}

/// Puts files into the partitions that they name; says where.
fn put_all(
    disk: &BlockDevice,
    volumes: &[Volume],
    files: &[DroppedFile],
) -> Result<String, String> {
    let mut by_choice: BTreeMap<String, Vec<&DroppedFile>> = BTreeMap::new();
    for file in files {
        by_choice.entry(file.at.partition.to_string()).or_default().push(file);
    }
    let mut said = Vec::new();
    for files in by_choice.values() {
        let Some(first) = files.first() else { continue };
        let candidates = place::candidates(first.at.partition, volumes)?;
        let number = match first.at.partition {
            PartitionChoice::Root => put_into_root(disk, &candidates, files)?,
            _ => match candidates.first() {
                Some(volume) => put(disk, volume, files)?,
                None => continue,
            },
        };
        let paths: Vec<&str> = files.iter().map(|file| file.at.path.as_str()).collect();
        said.push(format!("partition {number} has {}", paths.join(", ")));
    }
    Ok(said.join("; "))
}

fn put(disk: &BlockDevice, volume: &Volume, files: &[&DroppedFile]) -> Result<u32, String> {
    let number = volume.number();
    match volume.kind {
        _ if volume.is_fat() => fat::put(disk, volume, files)?,
        _ if volume.is_linux() => {
            let mounted = Mounted::new(disk, volume, None)?;
            files.iter().try_for_each(|file| mounted.put(file))?;
            mounted.finish(disk)?;
        }
        "ntfs" => files.iter().try_for_each(|file| ntfs::put(disk, volume, file))?,
        "" => return Err(format!("partition {number} holds no file system that is known")),
        kind => return Err(format!("partition {number} holds {kind}, which is not written")),
    }
    Ok(number)
}

/// Looks for the root file system where it may be, and puts the files there.
fn put_into_root(
    disk: &BlockDevice,
    candidates: &[&Volume],
    files: &[&DroppedFile],
) -> Result<u32, String> {
    let mut problem = None;
    for volume in candidates {
        let subvolumes = SUBVOLUMES.iter().map(|name| Some(*name));
        let ways = [None].into_iter().chain(subvolumes.filter(|_| volume.kind == "btrfs"));
        for subvolume in ways {
            match Mounted::new(disk, volume, subvolume) {
                Ok(mounted) if mounted.has_folder(OF_ROOT) => {
                    files.iter().try_for_each(|file| mounted.put(file))?;
                    mounted.finish(disk)?;
                    return Ok(volume.number());
                }
                Err(why) if subvolume.is_none() => problem = problem.or(Some(why)),
                // Of a subvolume that isn't there nobody needs to hear.
                Ok(_) | Err(_) => {}
            }
        }
    }
    let none = "no partition has a root file system: none has a folder /etc";
    Err(problem.unwrap_or_else(|| none.to_owned()))
}

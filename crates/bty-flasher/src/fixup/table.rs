//! The partition table: first decided as a whole, then written with a flush after each write. The seed's partition is written before
//! the table that names it.

use std::{fs::File, io::Read};

use bty_api::status::chain;
use bty_disk::{
    device::Target,
    table::{HEAD_BYTES, Slot, Table, TableError},
};
use bty_image::ReadAt;
use bty_types::{
    FixUps,
    fix_ups::{Seed, SeedPlace},
};

use super::{FixUpResult, cidata, look};
use crate::any_offset::{self, Bytes};

/// What is to become of the table.
struct Planned {
    table: Table,
    /// Where the seed's partition is.
    seed: Option<Slot>,
    results: Vec<FixUpResult>,
}

/// Changes the table as far as it is asked for.
pub(super) fn fix(disk: &dyn Target, wanted: &FixUps) -> Vec<FixUpResult> {
    let names = names(wanted);
    if names.is_empty() {
        return Vec::new();
    }
    try_fix(disk, wanted)
        .unwrap_or_else(|why| names.iter().map(|name| FixUpResult::failed(*name, &why)).collect())
}

/// What is asked for of the table.
fn names(wanted: &FixUps) -> Vec<&'static str> {
    let asked = [
        (wanted.gpt_to_end, "gpt-to-end"),
        (seed(wanted).is_some(), "seed"),
        (wanted.grow, "grow-partition"),
        (wanted.new_guids, "new-guids"),
    ];
    asked.into_iter().filter(|asked| asked.0).map(|asked| asked.1).collect()
}

fn seed(wanted: &FixUps) -> Option<&Seed> {
    wanted.seed.as_ref().filter(|seed| seed.place == SeedPlace::Partition)
}

fn try_fix(disk: &dyn Target, wanted: &FixUps) -> Result<Vec<FixUpResult>, String> {
    let before = read(disk)?;
    let mut problem = None;
    let mut random = || {
        random().unwrap_or_else(|why| {
            problem = Some(why);
            [0; 16]
        })
    };
    let has_seed = look::look(disk)
        .map_err(|problem| chain(&problem))?
        .iter()
        .find(|volume| volume.label.eq_ignore_ascii_case(cidata::LABEL))
        .map(look::Volume::number);
    let Planned { table, seed: place, results } =
        plan(before.clone(), wanted, has_seed, &mut random);
    if let Some(problem) = problem {
        return Err(format!("reading /dev/urandom: {problem}"));
    }
    if table == before {
        return Ok(results);
    }
    let written = write(disk, &table, place.zip(seed(wanted)));
    Ok(match written {
        Ok(()) => results,
        Err(why) => results.into_iter().map(|result| result.or_failed(&why)).collect(),
    })
}

/// Reads the table and sees that it and its backup are at one.
fn read(disk: &dyn Target) -> Result<Table, String> {
    let bytes = usize::try_from(disk.size_bytes()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
    let mut head = vec![0; bytes];
    let failed = |problem: std::io::Error| format!("reading the partition table: {problem}");
    Bytes(disk).read_exact_at(&mut head, 0).map_err(failed)?;
    let shown = |problem: TableError| chain(&problem);
    let table = Table::parse(&head, disk.sector_bytes(), disk.size_bytes()).map_err(shown)?;
    if let Table::Gpt(gpt) = &table {
        let mut sector = vec![0; usize::try_from(disk.sector_bytes()).unwrap_or_default()];
        Bytes(disk).read_exact_at(&mut sector, gpt.backup_at()).map_err(failed)?;
        gpt.check_backup(&sector).map_err(shown)?;
    }
    Ok(table)
}

/// Decides what becomes of the table; `has_seed` is the partition that is called CIDATA already.
fn plan(
    mut table: Table,
    wanted: &FixUps,
    has_seed: Option<u32>,
    random: &mut dyn FnMut() -> [u8; 16],
) -> Planned {
    let mut results = Vec::new();
    let needs_room = wanted.grow || seed(wanted).is_some();
    if let (true, Table::Gpt(gpt)) = (wanted.gpt_to_end || needs_room, &mut table) {
        let was_at = gpt.backup_at();
        if gpt.move_to_end() {
            let detail =
                format!("the backup is at byte {} now, and was at {was_at}", gpt.backup_at());
            results.push(FixUpResult::done("gpt-to-end", detail));
        } else if wanted.gpt_to_end {
            let detail = "the backup is at the disk's end";
            results.push(FixUpResult::not_needed("gpt-to-end", detail));
        }
    } else if wanted.gpt_to_end {
        results.push(FixUpResult::not_needed("gpt-to-end", "an MBR has no backup"));
    }
    let mut place = None;
    if seed(wanted).is_some() {
        let added = match has_seed {
            Some(number) => Err(format!(
                "the image's partition {number} is called {} already, and cloud-init would take either",
                cidata::LABEL
            )),
            None => table
                .add_fat(cidata::LABEL, cidata::BYTES, random)
                .map_err(|problem| chain(&problem)),
        };
        results.push(match added {
            Ok(slot) => {
                place = Some(slot);
                let detail = format!("partition {} is called {}", slot.number, cidata::LABEL);
                FixUpResult::done("seed", detail)
            }
            Err(why) => FixUpResult::failed("seed", why),
        });
    }
    if wanted.grow {
        let last = table.last().map(|slot| slot.number);
        let grown = match has_seed {
            // As in an image that was captured from a disk with a seed.
            Some(number) if last == has_seed => Err(format!(
                "the last partition, {number}, is called {}, and those before it have no room to grow",
                cidata::LABEL
            )),
            _ => table.grow().map_err(|problem| chain(&problem)),
        };
        results.push(match grown {
            Ok(Some(Slot { number, size_bytes, .. })) => {
                let detail = format!("partition {number} has {size_bytes} bytes now");
                FixUpResult::done("grow-partition", detail)
            }
            Ok(None) => FixUpResult::not_needed(
                "grow-partition",
                "the last partition ends where the disk does",
            ),
            Err(why) => FixUpResult::failed("grow-partition", why),
        });
    }
    if wanted.new_guids {
        table.renew(random);
        let detail = match table {
            Table::Gpt(_) => "the disk and its partitions have new GUIDs",
            Table::Mbr(_) => "the disk has a new signature",
        };
        results.push(FixUpResult::done("new-guids", detail));
    }
    Planned { table, seed: place, results }
}

fn write(disk: &dyn Target, table: &Table, seed: Option<(Slot, &Seed)>) -> Result<(), String> {
    let put = |bytes: &[u8], offset: u64| {
        any_offset::write(disk, bytes, offset)
            .and_then(|()| disk.flush())
            .map_err(|problem| format!("writing at byte {offset}: {problem}"))
    };
    if let Some((slot, seed)) = seed {
        let image = cidata::image(seed, disk.sector_bytes())
            .map_err(|problem| format!("making a FAT file system: {problem}"))?;
        put(&image, slot.start_bytes)?;
    }
    table.writes().iter().try_for_each(|write| put(&write.bytes, write.offset))
}

fn random() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

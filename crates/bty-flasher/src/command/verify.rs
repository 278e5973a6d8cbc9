//! `bty-flasher verify`.

#![allow(clippy::print_stdout, reason = "results go to standard output")]

use std::sync::atomic::AtomicBool;

use bty_disk::{
    Disk,
    device::{BlockDevice, Target},
    discover::System,
};
use bty_image::inspect::Partition;
use bty_types::ErrorKind;
use serde::Serialize;

use super::{Failure, Format, VerifyDiskArguments, show::Show, write};
use crate::{
    engine::{self, Difference, Options},
    supply, target,
};

/// How a partition differs.
#[derive(Debug, Serialize)]
struct PartitionReport {
    /// Its number; 0 for what is in none.
    number: u32,
    /// Its name; empty where it has none.
    name: String,
    start_bytes: u64,
    size_bytes: u64,
    differing_bytes: u64,
}

/// The result as programs see it.
#[derive(Debug, Serialize)]
struct Verified<'a> {
    disk: &'a str,
    is_image: bool,
    #[serde(flatten)]
    difference: &'a Difference,
    partitions: Vec<PartitionReport>,
}

pub(super) fn run(arguments: &VerifyDiskArguments) -> Result<(), Failure> {
    let selector = write::selector(&arguments.disk)?;
    let supply::Opened { mut image, inspection } =
        supply::open(&arguments.image).map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let disk = target::find(&System::default(), &selector)
        .map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let device = BlockDevice::open_to_read(disk.path.as_ref())
        .map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let show = Show::new(arguments.output);
    let options = Options::default();
    let outcome =
        engine::verify(&mut image, &device, &options, &AtomicBool::new(false), &|event| {
            show.event(event);
        });
    show.end();
    let difference = outcome.map_err(|problem| Failure::of(problem.kind(), &problem))?;
    let partitions = by_partition(&difference, &inspection.partitions);
    tell(arguments.output, &disk, &difference, partitions, device.size_bytes());
    if difference.is_none() {
        return Ok(());
    }
    let message = format!(
        "{} is not the image: {} of {} bytes are in chunks that differ",
        disk.path, difference.differing_bytes, difference.raw_bytes
    );
    Err(Failure::new(ErrorKind::Corrupt, message))
}

fn tell(
    output: Format,
    disk: &Disk,
    difference: &Difference,
    partitions: Vec<PartitionReport>,
    disk_bytes: u64,
) {
    let path = disk.path.as_str();
    if output == Format::Json {
        let result =
            Verified { disk: path, is_image: difference.is_none(), difference, partitions };
        if let Ok(line) = serde_json::to_string(&result) {
            println!("{line}");
        }
        return;
    }
    if difference.is_none() {
        let id = difference.id.map_or_else(String::new, |id| format!(" {id}"));
        println!("{path} is the image{id}: all of its {} bytes", difference.raw_bytes);
        return;
    }
    println!("{:>10}  {:20} {:>16} {:>16}", "PARTITION", "NAME", "BYTES", "DIFFERING");
    for partition in &partitions {
        let number = match partition.number {
            0 => "none".to_owned(),
            number => number.to_string(),
        };
        let PartitionReport { name, size_bytes, differing_bytes, .. } = partition;
        println!("{number:>10}  {name:20} {size_bytes:>16} {differing_bytes:>16}");
    }
    for (title, ranges) in [("differs", &difference.ranges), ("unreadable", &difference.unreadable)]
    {
        for (start, bytes) in ranges.iter().take(SHOWN_RANGES) {
            println!("{title} from byte {start}, {bytes} bytes");
        }
        if ranges.len() > SHOWN_RANGES {
            println!("and {} more; --output json has all", ranges.len() - SHOWN_RANGES);
        }
    }
    if difference.raw_bytes > disk_bytes {
        println!("the disk has {disk_bytes} bytes, the image {}", difference.raw_bytes);
    }
}

/// So many ranges are shown to a person.
const SHOWN_RANGES: usize = 20;

/// What differs in each partition, and outside of all.
fn by_partition(difference: &Difference, partitions: &[Partition]) -> Vec<PartitionReport> {
    let inside = |start: u64, size: u64| -> u64 {
        let overlap = |&(at, bytes): &(u64, u64)| {
            (at + bytes).min(start.saturating_add(size)).saturating_sub(at.max(start))
        };
        difference.ranges.iter().map(overlap).sum()
    };
    let mut rows: Vec<PartitionReport> = partitions
        .iter()
        .map(|partition| PartitionReport {
            number: partition.number,
            name: partition.name.clone(),
            start_bytes: partition.start_bytes,
            size_bytes: partition.size_bytes,
            differing_bytes: inside(partition.start_bytes, partition.size_bytes),
        })
        .collect();
    let in_partitions: u64 = rows.iter().map(|row| row.differing_bytes).sum();
    let sizes: u64 = rows.iter().map(|row| row.size_bytes).sum();
    rows.push(PartitionReport {
        number: 0,
        name: String::new(),
        start_bytes: 0,
        size_bytes: difference.raw_bytes.saturating_sub(sizes),
        differing_bytes: difference.differing_bytes.saturating_sub(in_partitions),
    });
    rows
}

#[cfg(test)]
mod tests {
    use bty_image::inspect::PartitionId;

    use super::*;

    #[test]
    fn what_differs_is_counted_where_it_is() {
        let partition = |number, start_bytes, size_bytes| Partition {
            number,
            start_bytes,
            size_bytes,
            kind: String::new(),
            name: String::new(),
            id: PartitionId::OfDisk(1),
        };
        let partitions = [partition(1, 100, 50), partition(2, 150, 100), partition(5, 300, 10)];
        let ranges = vec![(0, 10), (140, 20), (240, 100)];
        let difference = Difference {
            id: None,
            raw_bytes: 1000,
            differing_bytes: 130,
            ranges,
            unreadable: Vec::new(),
        };
        let rows = by_partition(&difference, &partitions);
        let counted: Vec<_> = rows.iter().map(|row| (row.number, row.differing_bytes)).collect();
        assert_eq!(counted, [(1, 10), (2, 20), (5, 10), (0, 90)]);
    }
}

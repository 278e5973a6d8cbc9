//! What a disk that holds one image has to be sent to hold another.

use std::ops::Range;

use bty_api::registry::v1::{DiffImagesResponse, ImageDiff, Partition, PartitionDiff};
use bty_image::container::{ChunkDiff, diff};

use super::{Held, HeldProblem};

/// Compares two images by their indexes; the partitions are those of `to`.
pub(crate) fn compare(
    from: &Held,
    to: &Held,
    partitions: Vec<Partition>,
) -> Result<DiffImagesResponse, HeldProblem> {
    let (from, to) = (from.index()?, to.index()?);
    let (total, partitions) = add_up(diff(&from, &to), partitions);
    Ok(DiffImagesResponse {
        from_id: from.id().to_string(),
        to_id: to.id().to_string(),
        total: Some(total),
        partitions,
    })
}

/// Adds chunks, which come in order, up: all, and by the partitions that they lie in.
fn add_up(
    chunks: impl Iterator<Item = ChunkDiff>,
    mut partitions: Vec<Partition>,
) -> (ImageDiff, Vec<PartitionDiff>) {
    partitions.sort_by_key(|partition| partition.start_bytes);
    let mut parts: Vec<(Range<u64>, PartitionDiff)> = partitions
        .into_iter()
        .map(|partition| {
            let end = partition.start_bytes.saturating_add(partition.size_bytes);
            let diff = PartitionDiff { diff: Some(ImageDiff::default()), ..Default::default() };
            (partition.start_bytes..end, PartitionDiff { partition: Some(partition), ..diff })
        })
        .collect();
    let (mut total, mut outside) = (ImageDiff::default(), ImageDiff::default());
    // The first partition that does not end before the chunk.
    let mut next = 0;
    for chunk in chunks {
        add(&mut total, &chunk);
        let start = chunk.chunk.raw_offset;
        let end = start + u64::from(chunk.chunk.raw_bytes);
        while parts.get(next).is_some_and(|(range, _)| range.end <= start) {
            next += 1;
        }
        let part = parts.get_mut(next).filter(|(range, _)| range.start < end);
        match part.and_then(|(_, part)| part.diff.as_mut()) {
            Some(diff) => add(diff, &chunk),
            None => add(&mut outside, &chunk),
        }
    }
    let mut rows: Vec<PartitionDiff> = parts.into_iter().map(|(_, part)| part).collect();
    rows.push(PartitionDiff { partition: None, diff: Some(outside) });
    (total, rows)
}

fn add(sum: &mut ImageDiff, diff: &ChunkDiff) {
    let raw_bytes = u64::from(diff.chunk.raw_bytes);
    if diff.is_same {
        sum.same_bytes += raw_bytes;
    } else if diff.chunk.is_hole {
        sum.zeroed_bytes += raw_bytes;
    } else {
        sum.written_bytes += raw_bytes;
        sum.fetched_bytes += u64::from(diff.chunk.frame_bytes);
    }
}

#[cfg(test)]
mod tests {
    use bty_image::container::Chunk;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A chunk of a MiB whose frame has a tenth of a million bytes.
    fn chunk(number: u64, is_same: bool, is_hole: bool) -> ChunkDiff {
        let chunk = Chunk {
            number,
            raw_offset: number * MIB,
            raw_bytes: 1 << 20,
            frame_offset: 0,
            frame_bytes: 100_000,
            is_hole,
            value: [0; 32],
            is_whole_disk: false,
        };
        ChunkDiff { chunk, is_same }
    }

    fn partition(number: u32, start_bytes: u64, size_bytes: u64) -> Partition {
        Partition { number, start_bytes, size_bytes, ..Partition::default() }
    }

    fn sums(same: u64, written: u64, zeroed: u64) -> ImageDiff {
        ImageDiff {
            same_bytes: same * MIB,
            written_bytes: written * MIB,
            fetched_bytes: written * 100_000,
            zeroed_bytes: zeroed * MIB,
        }
    }

    #[test]
    fn each_chunk_counts_once_with_the_first_partition_that_it_lies_in() {
        let chunks = [
            chunk(0, false, false),
            chunk(1, true, false),
            chunk(2, false, true),
            chunk(3, false, false),
            chunk(4, true, true),
            chunk(5, false, false),
        ];
        // The table has them in another order; 2 begins in the middle of chunk 3, and 1 ends there.
        let table = vec![partition(2, 3 * MIB + 512, MIB), partition(1, MIB, 2 * MIB + 512)];
        let (total, rows) = add_up(chunks.into_iter(), table);
        assert_eq!(total, sums(2, 3, 1));
        let rows: Vec<_> = rows
            .into_iter()
            .map(|row| (row.partition.map_or(0, |found| found.number), row.diff.unwrap()))
            .collect();
        assert_eq!(rows, [(1, sums(1, 1, 1)), (2, sums(1, 0, 0)), (0, sums(0, 2, 0))]);
    }
}

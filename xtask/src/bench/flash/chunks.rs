//! The chunk's size and zstd's level: what each choice costs and moves. Prints the table that docs/format/chunk-size.md shows.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Bench, CLUSTER_BYTES, Way, middle};

const SIZES_KIB: [u32; 5] = [64, 128, 256, 512, 1024];
const LEVELS: [i32; 3] = [1, 3, 9];
const USUAL_LEVEL: i32 = 3;
const USUAL_KIB: u32 = 256;

/// Each size at the usual level, each level at the usual size.
pub(in crate::bench) fn chunks(flasher: &Path, folder: &Path, runs: u32) -> Result<()> {
    let bench = Bench::new(flasher, folder)?;
    bench.image("a")?;
    // As files lie, not as chunks do.
    bench.changed_in("b", 3, 4 * CLUSTER_BYTES, 100 << 10)?;
    println!(
        "| chunk | level | container | import | import CPU | flash | flash CPU | 3 % changed: fetched | written |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let sizes = SIZES_KIB.map(|kib| (kib, USUAL_LEVEL));
    let levels =
        LEVELS.map(|level| (USUAL_KIB, level)).into_iter().filter(|way| !sizes.contains(way));
    for (kib, level) in sizes.into_iter().chain(levels) {
        row(&bench, runs, kib, level)?;
    }
    Ok(())
}

fn row(bench: &Bench, runs: u32, kib: u32, level: i32) -> Result<()> {
    let import = |image: &str| {
        let program = bench.examples.join("import");
        let command = format!("{} $F/$I $F/{image}.img.zst {kib} {level}", program.display());
        Way::limit("import", command)
    };
    let (mut imports, mut flashes, mut moved) = (Vec::new(), Vec::new(), (0, 0));
    for _ in 0..runs {
        bench.wipe()?;
        imports.push(bench.run(&import("a"), "a", None)?.cost);
        let flash = bench.ours("--compare off --verify stream", "a.img.zst");
        flashes.push(bench.run(&flash, "a", None)?.cost);
    }
    bench.run(&import("b"), "b", None)?;
    bench.holds("a")?;
    let record = bench.run(&bench.ours("", "b.img.zst"), "b", None)?.record;
    let record = record.context("the flasher gave no record")?;
    for (field, value) in [("fetched_bytes", &mut moved.0), ("written_bytes", &mut moved.1)] {
        *value = record.get(field).and_then(serde_json::Value::as_u64).context(field)?;
    }
    let size = std::fs::metadata(bench.path("a.img.zst"))?.len();
    let (import, flash) = (middle(&imports), middle(&flashes));
    println!(
        "| {kib} KiB | {level} | {} MB | {:.1} s | {:.1} s | {:.2} s | {:.2} s | {} MB | {} MB |",
        size / 1_000_000,
        import.seconds,
        import.cpu_seconds,
        flash.seconds,
        flash.cpu_seconds,
        tenths(moved.0),
        tenths(moved.1)
    );
    Ok(())
}

/// Megabytes with one digit after the point.
fn tenths(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10)
}

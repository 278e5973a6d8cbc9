//! Other formats than the container, beside the usual tool for each.

use std::path::Path;

use anyhow::Result;

use super::{Bench, DD, Figure, Way};

/// Writing the image to a blank disk from each.
pub(in crate::bench) fn formats(flasher: &Path, folder: &Path, runs: u32) -> Result<Vec<Figure>> {
    let bench = Bench::new(flasher, folder)?;
    bench.image("a")?;
    bench.pack("a")?;
    bench.shell(
        "gzip -1 -kc $F/$I > $F/$I.gz; bzip2 -1 -kc $F/$I > $F/$I.bz2; xz -T0 -0 -kc $F/$I > $F/$I.xz",
        "a",
        "",
    )?;
    let unpacked = |tool: &str| format!("{tool} -dc $F/$I.{{}} | {DD}");
    let mut figures = Vec::new();
    for (what, extension, peer, command) in [
        (
            "flash, from raw",
            "",
            "dd, sparse",
            "dd if=$F/$I of=$D bs=4M oflag=direct conv=fsync,sparse".into(),
        ),
        (
            "flash, from qcow2",
            ".qcow2",
            "qemu-img",
            "qemu-img convert -n -W -m8 -f qcow2 -O raw $F/$I.qcow2 $D && sync $D".into(),
        ),
        ("flash, from zst", ".zst", "zstd | dd", unpacked("zstd").replace("{}", "zst")),
        ("flash, from gz", ".gz", "gzip | dd", unpacked("gzip").replace("{}", "gz")),
        ("flash, from xz", ".xz", "xz | dd", unpacked("xz -T0").replace("{}", "xz")),
        ("flash, from bz2", ".bz2", "bzip2 | dd", unpacked("bzip2").replace("{}", "bz2")),
    ] {
        let image = format!("a{extension}");
        let ways = [bench.ours("--compare off --verify stream", &image), Way::new(peer, command)];
        figures.extend(bench.compared(what, &ways, runs, "a", Bench::wipe)?);
    }
    Ok(figures)
}

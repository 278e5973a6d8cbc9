//! A disk that is blank.

use std::path::Path;

use anyhow::Result;

use super::{Bench, DD, Figure, Way};

/// Writing the image to it, verified, and read back too.
pub(in crate::bench) fn blank(flasher: &Path, folder: &Path, runs: u32) -> Result<Vec<Figure>> {
    let bench = Bench::new(flasher, folder)?;
    bench.image("a")?;
    bench.pack("a")?;
    let stream = || bench.ours("--compare off --verify stream", "a.img.zst");
    let ways = [
        stream(),
        Way::new(
            "qemu-img convert from qcow2 with zstd",
            "qemu-img convert -n -W -m8 -f qcow2 -O raw $F/$I.qcow2 $D && sync $D",
        ),
        Way::new("zstd | dd", format!("zstd -dc $F/$I.zst | {DD}")),
        Way::new("bmaptool from zst", "bmaptool copy --bmap $F/$I.bmap $F/$I.zst $D"),
        Way::limit(
            "the limit: fio writes what is mapped",
            "fio --name=w --filename=$D --rw=write --bs=2M --direct=1 --ioengine=libaio --iodepth=8 \
             --end_fsync=1 --size=$(( $(stat -c %b $F/$I) * 512 )) >/dev/null",
        ),
        Way::limit(
            "the limit: decompressing what is mapped on all cores",
            format!("{} $F/$I.img.zst", bench.examples.join("decompress").display()),
        ),
    ];
    let mut figures = bench.compared("flash, blank disk", &ways, runs, "a", Bench::wipe)?;
    let ways = [
        bench.ours("--compare off --verify readback", "a.img.zst"),
        Way::new(
            "zstd | b3sum and dd, and b3sum of what the disk gives back",
            format!(
                "zstd -dc $F/$I.zst | tee >(b3sum --num-threads 1 >/dev/null) | {DD} && \
                 dd if=$D bs=4M iflag=direct status=none | b3sum --num-threads 1"
            ),
        ),
    ];
    let what = "flash, blank disk, read back";
    figures.extend(bench.compared(what, &ways, runs, "a", Bench::wipe)?);
    Ok(figures)
}

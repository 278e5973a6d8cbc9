//! A disk that holds an image of which so many per cent of the used blocks are others.

use std::path::Path;

use anyhow::Result;
use bty_testkit::{Child, Lan};

use super::{Bench, DD, Figure, SlowDisk, Way};
use crate::bench::nginx;

/// Where the images are served.
const PORT: u16 = 8097;
/// A machine's own link, and its share of one when five are flashed at once; in Mbit/s.
const LINKS: [(u32, &str); 2] = [
    (1000, "re-flash, 3 % changed, over 1 Gbit/s"),
    (200, "re-flash, 3 % changed, over 200 Mbit/s"),
];
/// Bytes a second of a disk that is slower to read than to write, and than the source.
const SLOW: u64 = 200_000_000;

/// Re-flashing it, from a file, over links, and where the disk is slow to read.
pub(in crate::bench) fn again(flasher: &Path, folder: &Path, runs: u32) -> Result<Vec<Figure>> {
    let bench = Bench::new(flasher, folder)?;
    bench.image("a")?;
    let mut figures = Vec::new();
    for (name, what, per_cent) in [
        ("b", "re-flash, 3 % changed", 3),
        ("a", "re-flash, unchanged", 0),
        ("c", "re-flash, 50 % changed", 50),
    ] {
        if per_cent > 0 {
            bench.changed(name, per_cent)?;
        }
        bench.pack(name)?;
        let container = format!("{name}.img.zst");
        let ways = [
            bench.ours("", &container),
            Way::new("bmaptool, raw", "bmaptool copy --bmap $F/$I.bmap $F/$I $D"),
            Way::new("zstd | dd", format!("zstd -dc $F/$I.zst | {DD}")),
            Way::new(
                "rsync --inplace",
                "rsync --inplace --no-whole-file --copy-devices --write-devices $F/$I $D && sync $D",
            ),
            full(&bench, "", &container),
        ];
        figures.extend(bench.compared(what, &ways, runs, name, |bench| bench.holds("a"))?);
    }
    let stream = "--verify stream";
    let ways = [bench.ours(stream, "c.img.zst"), full(&bench, stream, "c.img.zst")];
    let slow = SlowDisk::new(SLOW)?;
    let what = "re-flash, 50 % changed, a disk that is read at 200 MB/s";
    figures.extend(bench.compared_on(
        what,
        &ways,
        runs,
        "c",
        |bench| bench.holds("a"),
        Some(&slow),
    )?);
    drop(slow);
    figures.extend(over_links(bench, runs)?);
    Ok(figures)
}

fn full(bench: &Bench, options: &str, container: &str) -> Way {
    let command = bench.ours(&format!("--compare off {options}"), container).command;
    Way::new("our own full flash", command)
}

/// The image `b` from a server, onto a disk that holds `a`.
fn over_links(mut bench: Bench, runs: u32) -> Result<Vec<Figure>> {
    let mut lan = Lan::new()?;
    let server = lan.add_server()?;
    let client = lan.add_host("machine", "10.77.0.90/24")?;
    let _nginx: Child = nginx::start(&server, bench.folder.path(), PORT, "", None)?;
    let url = format!("http://10.77.0.1:{PORT}");
    let flasher = bench.flasher.display();
    let ways = [
        Way::new("bty-flasher", format!("{flasher} write {url}/b.img.zst $D --yes --output json")),
        Way::new("curl | zstd | dd", format!("curl -sf {url}/b.zst | zstd -dc | {DD}")),
        Way::new("bmaptool from a URL", format!("bmaptool copy --bmap $F/$I.bmap {url}/b.zst $D")),
        Way::new(
            "our own full flash",
            format!("{flasher} write {url}/b.img.zst $D --yes --compare off"),
        ),
    ];
    let mut figures = Vec::new();
    let port = client.port.clone();
    bench.client = Some(client);
    for (mbit, what) in LINKS {
        lan.set_rate(&port, Some(mbit * 1000))?;
        figures.extend(bench.compared(what, &ways, runs, "b", |bench| bench.holds("a"))?);
    }
    Ok(figures)
}

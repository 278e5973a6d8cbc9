//! Writing an image to a disk, beside what people use: a blank disk, and one that holds nearly the same image.
//!
//! The image is 8 GiB with an ext4 that holds 2.2 GiB of this machine's own programs and libraries. The disk is a loop device. Every
//! tool ends when its bytes would survive a power cut.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{Child, Host, Lan, Program, packages};

use super::{Figure, median, nginx};

const IMAGE_BYTES: u64 = 8 << 30;
/// Of files; with what the file system needs for itself.
const FILES_BYTES: u64 = 2_200 << 20;
/// What changes between two images, of what is used: clusters as an update leaves them.
const CLUSTER_BYTES: u64 = 256 << 10;
const PEERS: &[&str] = &[
    "b3sum",
    "bmap-tools",
    "curl",
    "e2fsprogs",
    "fio",
    "nginx-light",
    "qemu-utils",
    "rsync",
    "time",
    "zstd",
];
/// Where the images are served.
const PORT: u16 = 8097;
/// A machine's own link, and its share of one when five are flashed at once; in Mbit/s.
const LINKS: [(u32, &str); 2] = [
    (1000, "re-flash, 3 % changed, over 1 Gbit/s"),
    (200, "re-flash, 3 % changed, over 200 Mbit/s"),
];

/// One way to write the image.
struct Way {
    what: &'static str,
    /// For a shell; `$D` is the disk, `$F` the folder, `$I` the image.
    command: String,
}

/// How long it took, processor time, and the most memory of one of its processes.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

/// The files, and the disk.
struct Bench {
    folder: tempfile::TempDir,
    flasher: PathBuf,
    /// The machine that is flashed, where the image comes from elsewhere.
    client: Option<Host>,
}

/// A disk that is blank.
pub(super) fn blank(flasher: &Path, runs: u32) -> Result<Vec<Figure>> {
    packages::ensure(PEERS)?;
    let bench = Bench::new(flasher)?;
    bench.image("a")?;
    bench.pack("a")?;
    let ways = [
        bench.ours("", "--compare off --verify stream", "a.img.zst"),
        Way {
            what: "qemu-img convert from qcow2 with zstd",
            command: "qemu-img convert -n -W -m8 -f qcow2 -O raw $F/$I.qcow2 $D && sync $D".into(),
        },
        Way {
            what: "zstd | dd",
            command: "zstd -dc $F/$I.zst | dd of=$D bs=4M iflag=fullblock oflag=direct conv=fsync"
                .into(),
        },
        Way {
            what: "bmaptool from zst",
            command: "bmaptool copy --bmap $F/$I.bmap $F/$I.zst $D".into(),
        },
    ];
    let mut figures = bench.compared("flash, blank disk", &ways, runs, "a", Bench::wipe)?;
    let ways = [
        bench.ours("", "--compare off --verify readback", "a.img.zst"),
        Way {
            what: "zstd | b3sum and dd, and b3sum of what the disk gives back",
            command: "zstd -dc $F/$I.zst | tee >(b3sum --num-threads 1 >/dev/null) | \
                      dd of=$D bs=4M iflag=fullblock oflag=direct conv=fsync && \
                      dd if=$D bs=4M iflag=direct | b3sum"
                .into(),
        },
    ];
    figures.extend(bench.compared(
        "flash, blank disk, read back",
        &ways,
        runs,
        "a",
        Bench::wipe,
    )?);
    figures.extend(bench.limits(runs)?);
    Ok(figures)
}

/// A disk that holds an image of which so many per cent of the used blocks are others.
pub(super) fn again(flasher: &Path, runs: u32) -> Result<Vec<Figure>> {
    packages::ensure(PEERS)?;
    let bench = Bench::new(flasher)?;
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
            bench.ours("", "", &container),
            Way {
                what: "bmaptool, raw",
                command: "bmaptool copy --bmap $F/$I.bmap $F/$I $D".into(),
            },
            Way {
                what: "zstd | dd",
                command:
                    "zstd -dc $F/$I.zst | dd of=$D bs=4M iflag=fullblock oflag=direct conv=fsync"
                        .into(),
            },
            Way {
                what: "rsync --inplace",
                command: "rsync --inplace --no-whole-file --copy-devices --write-devices $F/$I $D && sync $D"
                    .into(),
            },
            Way {
                what: "our own full flash",
                command: format!(
                    "{} write $F/{container} $D --yes --compare off",
                    bench.flasher.display()
                ),
            },
        ];
        figures.extend(bench.compared(what, &ways, runs, name, |bench| bench.holds("a"))?);
    }
    figures.extend(over_links(bench, runs)?);
    Ok(figures)
}

/// The image `b` from a server, onto a disk that holds `a`.
fn over_links(mut bench: Bench, runs: u32) -> Result<Vec<Figure>> {
    let mut lan = Lan::new()?;
    let server = lan.add_server()?;
    let client = lan.add_host("machine", "10.77.0.90/24")?;
    let _nginx: Child = nginx::start(&server, bench.folder.path(), PORT, "", None)?;
    let url = format!("http://10.77.0.1:{PORT}");
    let ways = [
        Way {
            what: "bty-flasher",
            command: format!(
                "{} write {url}/b.img.zst $D --yes --output json",
                bench.flasher.display()
            ),
        },
        Way {
            what: "curl | zstd | dd",
            command: format!(
                "curl -sf {url}/b.zst | zstd -dc | dd of=$D bs=4M iflag=fullblock oflag=direct conv=fsync"
            ),
        },
        Way {
            what: "bmaptool from a URL",
            command: format!("bmaptool copy --bmap $F/$I.bmap {url}/b.zst $D"),
        },
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

impl Bench {
    fn new(flasher: &Path) -> Result<Self> {
        let target = crate::workspace::root().join("target");
        let folder = tempfile::tempdir_in(target).context("making a folder for the images")?;
        Ok(Self { folder, flasher: flasher.to_owned(), client: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shell(&self, script: &str, image: &str, disk: &str) -> Result<String> {
        let bash = match &self.client {
            Some(client) => client.program("bash"),
            None => Program::new("bash"),
        };
        bash.args(["-o", "pipefail", "-ec", script])
            .env("F", self.folder.path())
            .env("I", image)
            .env("D", disk)
            .run()
    }

    /// A raw image with files of this machine.
    fn image(&self, name: &str) -> Result<()> {
        eprintln!("making an image of {FILES_BYTES} bytes of files");
        let script = format!(
            "mkdir $F/files; find /usr ${{RUSTUP_HOME:-$HOME/.rustup}} -xdev -type f -size +0 -size -64M -printf '%s %p\\n' 2>/dev/null | \
             sort -k 2 | awk '{{ if (sum + $1 <= {FILES_BYTES}) {{ sum += $1; print $2 }} }}' > $F/list; \
             tar --create --files-from $F/list --ignore-failed-read 2>/dev/null | tar --extract --directory $F/files; \
             truncate --size {IMAGE_BYTES} $F/$I; mkfs.ext4 -q -F -d $F/files $F/$I; rm -r $F/files; fallocate --dig-holes $F/$I"
        );
        self.shell(&script, name, "").map(drop)
    }

    /// The image `a` with so many per cent of its used blocks changed, in clusters.
    fn changed(&self, name: &str, per_cent: u64) -> Result<()> {
        self.shell("cp --sparse=always $F/a $F/$I", name, "")?;
        let file = File::options().read(true).write(true).open(self.path(name))?;
        let mut cluster = vec![0; usize::try_from(CLUSTER_BYTES)?];
        let (mut used, mut changed) = (0_u64, 0_u64);
        for at in (0..IMAGE_BYTES).step_by(usize::try_from(CLUSTER_BYTES)?) {
            file.read_exact_at(&mut cluster, at)?;
            if at == 0 || cluster.iter().all(|&byte| byte == 0) {
                continue;
            }
            used += 1;
            // Evenly, and the same each time.
            if used * per_cent / 100 > changed {
                changed += 1;
                cluster.rotate_left(4096);
                cluster.iter_mut().step_by(512).for_each(|byte| *byte ^= 0x5A);
                file.write_all_at(&cluster, at)?;
            }
        }
        ensure!(changed > 0, "nothing was changed");
        eprintln!("{name}: {changed} of {used} used clusters of 256 KiB changed");
        Ok(())
    }

    /// The image in every format that one of the ways wants.
    fn pack(&self, name: &str) -> Result<()> {
        eprintln!("packing {name}");
        let import = crate::workspace::root().join("target/fast/examples/import");
        self.shell(
            &format!(
                "{} $F/$I $F/$I.img.zst; zstd -q -T0 -3 -f $F/$I -o $F/$I.zst; \
                 qemu-img convert -O qcow2 -c -o compression_type=zstd -m8 -W $F/$I $F/$I.qcow2; \
                 bmaptool create -o $F/$I.bmap $F/$I",
                import.display()
            ),
            name,
            "",
        )
        .map(drop)
    }

    fn ours(&self, what: &'static str, options: &str, container: &str) -> Way {
        let flasher = self.flasher.display();
        let command = format!("{flasher} write $F/{container} $D --yes {options} --output json");
        Way { what: if what.is_empty() { "bty-flasher" } else { what }, command }
    }

    /// A disk of the image's size without content.
    fn wipe(&self) -> Result<()> {
        let disk = File::create(self.path("disk")).context("making a disk")?;
        disk.set_len(IMAGE_BYTES).context("making a disk")
    }

    /// A disk that holds this image.
    fn holds(&self, name: &str) -> Result<()> {
        self.shell("cp --sparse=always $F/$I $F/disk; sync $F/disk", name, "").map(drop)
    }

    /// Runs the ways by turns; ours is the first.
    fn compared(
        &self,
        what: &'static str,
        ways: &[Way],
        runs: u32,
        image: &str,
        prepare: impl Fn(&Self) -> Result<()>,
    ) -> Result<Vec<Figure>> {
        eprintln!("{what}");
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); ways.len()];
        for _ in 0..runs {
            for (way, costs) in ways.iter().zip(&mut costs) {
                prepare(self)?;
                costs.push(self.run(way, image)?);
            }
        }
        let costs: Vec<Cost> = costs.iter().map(|costs| middle(costs)).collect();
        for (way, cost) in ways.iter().zip(&costs) {
            eprintln!(
                "  {}: {:.2} s, {:.2} CPU s, {:.0} MiB",
                way.what, cost.seconds, cost.cpu_seconds, cost.peak_mib
            );
        }
        let (ours, peers) = costs.split_first().context("no way")?;
        let named = ways.get(1..).unwrap_or_default();
        Ok(peers
            .iter()
            .zip(named)
            .map(|(peer, way)| Figure {
                what,
                unit: "s",
                ours: ours.seconds,
                peer: peer.seconds,
                peer_is: way.what,
                ratio: peer.seconds / ours.seconds,
            })
            .collect())
    }

    fn run(&self, way: &Way, image: &str) -> Result<Cost> {
        let node =
            Program::new("losetup").args(["--find", "--show"]).arg(self.path("disk")).run()?;
        let node = node.trim();
        let timed = format!(
            "sync; /usr/bin/time --format '%e %U %S %M' --output $F/cost bash -o pipefail -ec '{}'",
            way.command
        );
        let outcome = self.shell(&timed, image, node);
        // A limit writes no image.
        let same = if way.command.starts_with("fio") {
            Ok(String::new())
        } else {
            self.shell("cmp $F/$I $D", image, node)
        };
        Program::new("losetup").args(["--detach", node]).run()?;
        let said = outcome.with_context(|| way.what)?;
        same.with_context(|| format!("{} did not write the image", way.what))?;
        if let Some(record) = said.lines().last().filter(|line| line.contains("fetched_bytes")) {
            eprintln!("    {record}");
        }
        let cost = fs::read_to_string(self.path("cost")).context("reading what it cost")?;
        let numbers: Vec<f64> =
            cost.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seconds, user, system, kib] = numbers[..] else {
            anyhow::bail!("time(1) said {cost}");
        };
        Ok(Cost { seconds, cpu_seconds: user + system, peak_mib: kib / 1024.0 })
    }

    /// What no tool can be faster than: writing what is mapped.
    fn limits(&self, runs: u32) -> Result<Vec<Figure>> {
        let ways = [
            self.ours("", "--compare off --verify stream", "a.img.zst"),
            Way {
                what: "the limit: fio writes what is mapped",
                command: "fio --name=w --filename=$D --rw=write --bs=2M --direct=1 --ioengine=libaio --iodepth=8 \
                          --end_fsync=1 --size=$(( $(stat -c %b $F/$I) * 512 )) >/dev/null"
                    .into(),
            },
        ];
        self.compared("flash, beside the disk's limit", &ways, runs, "a", Self::wipe)
    }
}

fn middle(costs: &[Cost]) -> Cost {
    let of = |field: fn(&Cost) -> f64| median(costs.iter().map(field).collect());
    Cost {
        seconds: of(|cost| cost.seconds),
        cpu_seconds: of(|cost| cost.cpu_seconds),
        peak_mib: of(|cost| cost.peak_mib),
    }
}

//! Writing an image to a disk, beside what people use: a blank disk, and one that holds nearly the same image.
//!
//! The image is 8 GiB with an ext4 that holds 2.2 GiB of this machine's own programs and libraries. The disk is a loop device. Every
//! tool ends when its bytes would survive a power cut.

mod again;
mod blank;
mod chunks;
mod formats;
mod slow_disk;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{Host, Program, packages};

pub(super) use again::again;
pub(super) use blank::blank;
pub(super) use chunks::chunks;
pub(super) use formats::formats;
use slow_disk::SlowDisk;

use super::{Figure, median};

const IMAGE_BYTES: u64 = 8 << 30;
/// Of files; with what the file system needs for itself.
const FILES_BYTES: u64 = 2_200 << 20;
/// What changes between two images, of what is used: clusters as an update leaves them.
const CLUSTER_BYTES: u64 = 256 << 10;
/// The usual way to write what comes through a pipe.
const DD: &str = "dd of=$D bs=4M iflag=fullblock oflag=direct conv=fsync status=none";
const PEERS: &[&str] = &[
    "b3sum",
    "bzip2",
    "bmap-tools",
    "curl",
    "e2fsprogs",
    "fio",
    "nginx-light",
    "qemu-utils",
    "rsync",
    "time",
    "xz-utils",
    "zstd",
];

/// One way to write the image.
struct Way {
    what: &'static str,
    /// For a shell; `$D` is the disk, `$F` the folder, `$I` the image.
    command: String,
    /// Whether it is a part of the work alone, and leaves no image on the disk.
    is_limit: bool,
}

impl Way {
    fn new(what: &'static str, command: impl Into<String>) -> Self {
        Self { what, command: command.into(), is_limit: false }
    }

    fn limit(what: &'static str, command: impl Into<String>) -> Self {
        Self { is_limit: true, ..Self::new(what, command) }
    }
}

/// How long it took, processor time, and the most memory of one of its processes.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

/// What one run came to.
struct Ran {
    cost: Cost,
    /// What the flasher said last, where it was the flasher.
    record: Option<serde_json::Value>,
}

/// The files, and the disk.
struct Bench {
    folder: tempfile::TempDir,
    flasher: PathBuf,
    /// Where bty-image's examples are: the importer, and the limit.
    examples: PathBuf,
    /// The machine that is flashed, where the image comes from elsewhere.
    client: Option<Host>,
}

impl Bench {
    /// In this folder: the images, and the file that the disk is made of.
    fn new(flasher: &Path, folder: &Path) -> Result<Self> {
        packages::ensure(PEERS)?;
        let folder = tempfile::tempdir_in(folder).context("making a folder for the images")?;
        let (examples, client) = (flasher.with_file_name("examples"), None);
        Ok(Self { folder, flasher: flasher.to_owned(), examples, client })
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
        self.changed_in(name, per_cent, CLUSTER_BYTES, 0)
    }

    /// The same in clusters of this size, each so far behind a multiple of it.
    fn changed_in(&self, name: &str, per_cent: u64, size: u64, behind: u64) -> Result<()> {
        self.shell("cp --sparse=always $F/a $F/$I", name, "")?;
        let file = File::options().read(true).write(true).open(self.path(name))?;
        let mut cluster = vec![0; usize::try_from(size)?];
        let (mut used, mut changed) = (0_u64, 0_u64);
        for at in (size + behind..=IMAGE_BYTES - size).step_by(usize::try_from(size)?) {
            file.read_exact_at(&mut cluster, at)?;
            if cluster.iter().all(|&byte| byte == 0) {
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
        eprintln!("{name}: {changed} of {used} used clusters of {size} bytes changed");
        Ok(())
    }

    /// The image in every format that one of the ways wants.
    fn pack(&self, name: &str) -> Result<()> {
        eprintln!("packing {name}");
        let import = self.examples.join("import");
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

    fn ours(&self, options: &str, image: &str) -> Way {
        let flasher = self.flasher.display();
        let command = format!("{flasher} write $F/{image} $D --yes {options} --output json");
        Way::new("bty-flasher", command)
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
        self.compared_on(what, ways, runs, image, prepare, None)
    }

    /// The same where the disk may be slow.
    fn compared_on(
        &self,
        what: &'static str,
        ways: &[Way],
        runs: u32,
        image: &str,
        prepare: impl Fn(&Self) -> Result<()>,
        slow: Option<&SlowDisk>,
    ) -> Result<Vec<Figure>> {
        eprintln!("{what}");
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); ways.len()];
        for _ in 0..runs {
            for (way, costs) in ways.iter().zip(&mut costs) {
                prepare(self)?;
                let ran = self.run(way, image, slow)?;
                if let Some(record) = ran.record {
                    eprintln!("    {record}");
                }
                costs.push(ran.cost);
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

    fn run(&self, way: &Way, image: &str, slow: Option<&SlowDisk>) -> Result<Ran> {
        let node =
            Program::new("losetup").args(["--find", "--show"]).arg(self.path("disk")).run()?;
        let node = node.trim();
        let enter = slow.map_or_else(|| "true".to_owned(), SlowDisk::enter);
        let timed = format!(
            "sync; {enter}; /usr/bin/time --format '%e %U %S %M' --output $F/cost bash -o pipefail -ec '{}'",
            way.command
        );
        let outcome = self.shell(&timed, image, node);
        let same =
            if way.is_limit { Ok(String::new()) } else { self.shell("cmp $F/$I $D", image, node) };
        Program::new("losetup").args(["--detach", node]).run()?;
        let said = outcome.with_context(|| way.what)?;
        same.with_context(|| format!("{} did not write the image", way.what))?;
        let record = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let cost = fs::read_to_string(self.path("cost")).context("reading what it cost")?;
        let numbers: Vec<f64> =
            cost.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seconds, user, system, kib] = numbers[..] else {
            anyhow::bail!("time(1) said {cost}");
        };
        let cost = Cost { seconds, cpu_seconds: user + system, peak_mib: kib / 1024.0 };
        Ok(Ran { cost, record })
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

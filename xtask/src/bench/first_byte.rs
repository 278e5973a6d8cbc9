//! From the kernel's start to the first byte of the image on the disk: the live system with everything that it checks, beside the
//! reference flasher, on the same kernel, virtual machine, network and image.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bty_testkit::vm::DirectKernel;
use bty_testkit::{
    Firmware, Machine,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    wait,
};
use xshell::Shell;

use super::{Figure, median, nginx, reference};

const IMAGE_BYTES: usize = 64 << 20;
/// Where the disk is looked at: a chunk is larger.
const STRIDE_BYTES: usize = 64 << 10;
/// What Debian's kernel prints before it has unpacked itself. Early, because the serial console comes up later.
const KERNEL_STARTS: &str = "KASLR using";
const EARLY: &str = "earlyprintk=serial,ttyS0,115200";
/// Where the reference's init looks for the image.
pub(super) const PORT: u16 = 8098;
pub(super) const PATIENCE: Duration = Duration::from_mins(3);

/// Measures it.
pub(super) fn measure(shell: &Shell, binaries: &Path, live: &Path, runs: u32) -> Result<Figure> {
    eprintln!("first byte: {runs} runs of each");
    let mut appliance = Appliance::start(ApplianceSpec::new(
        binaries.to_owned(),
        live.to_owned(),
        DhcpMode::Proxy,
    ))?;
    let folder = appliance.folder().to_owned();
    let packed = image(shell, &folder)?;
    appliance.import(&packed, "bench")?;
    let initramfs = reference::build(shell, &folder)?;
    let _server = nginx::start(appliance.server(), &folder, PORT, "", None)?;

    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let disk = appliance.new_disk(&format!("BTY{run}"), 256 << 20)?;
        let mut machine =
            appliance.add_machine(&format!("bty{run}"), Firmware::Bios, vec![disk])?;
        let mac = machine.spec().nics.first().context("no card")?.mac.clone();
        let wish = ["machine", "set", &mac, "--image", "bench", "--disk", "only"];
        appliance.btyctl(&[&wish[..], &["--policy", "flash-once"]].concat())?;
        machine.spec_mut().direct_kernel = Some(DirectKernel {
            kernel: live.join("vmlinuz"),
            initramfs: live.join("initramfs.img"),
            command_line: format!("{} {EARLY}", command_line(&appliance, &mac)?),
        });
        ours.push(seconds_to_first_byte(&mut machine)?);

        let disk = appliance.new_disk(&format!("REF{run}"), 256 << 20)?;
        let mut machine =
            appliance.add_machine(&format!("ref{run}"), Firmware::Bios, vec![disk])?;
        machine.spec_mut().direct_kernel = Some(DirectKernel {
            kernel: live.join("vmlinuz"),
            initramfs: initramfs.clone(),
            command_line: format!(
                "quiet loglevel=4 panic=30 console=tty0 console=ttyS0,115200 {EARLY}"
            ),
        });
        peers.push(seconds_to_first_byte(&mut machine)?);
    }
    let (ours, peer) = (median(ours), median(peers));
    Ok(Figure {
        what: "kernel start to first byte written",
        unit: "s",
        ours,
        peer,
        peer_is: "busybox udhcpc, wget | zstd | dd",
        ratio: peer / ours,
    })
}

/// An image without a hole, packed; the raw one stands in for nothing else.
pub(super) fn image(shell: &Shell, folder: &Path) -> Result<PathBuf> {
    let raw = folder.join("image.raw");
    // Text and noise by turns: neither free to unpack nor free to send.
    let mut bytes = vec![0; IMAGE_BYTES];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for (number, block) in bytes.chunks_exact_mut(4096).enumerate() {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let noise = state.to_le_bytes();
            word.copy_from_slice(if number % 2 == 0 { &noise } else { b"one text" });
        }
    }
    fs::write(&raw, bytes).context("writing the image")?;
    let packed = folder.join("image.zst");
    xshell::cmd!(shell, "zstd -q -3 -f {raw} -o {packed}").run()?;
    Ok(packed)
}

/// The kernel's command line as the machine's boot script has it.
fn command_line(appliance: &Appliance, mac: &str) -> Result<String> {
    let url = format!("http://10.77.0.1/boot/script?mac={mac}&via=pxe&platform=pcbios&tries=0");
    let script = appliance.server().program("curl").args(["-sf", &url]).run()?;
    let line = script.lines().find_map(|line| line.strip_prefix("kernel "));
    let arguments = line.and_then(|line| line.split_once(' ')).map(|(_, arguments)| arguments);
    let arguments = arguments.with_context(|| format!("no kernel in {script}"))?;
    Ok(arguments.trim_end_matches("|| goto again").replace("initrd=initramfs.img ", ""))
}

/// Switches the machine on, and off again when the first byte is there.
fn seconds_to_first_byte(machine: &mut Machine) -> Result<f64> {
    let disk = machine.spec().disks.first().context("no disk")?.file.clone();
    machine.power_on()?;
    machine.wait_for(KERNEL_STARTS, PATIENCE)?;
    let started = Instant::now();
    wait_for_data(&disk)?;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("  {}: {seconds:.2} s", machine.spec().name);
    machine.power_off()?;
    Ok(seconds)
}

/// Waits until something of the image is on this disk.
pub(super) fn wait_for_data(disk: &Path) -> Result<()> {
    let file = File::open(disk).context("opening the disk")?;
    wait::until_true("the first byte on the disk", PATIENCE, || has_data(&file))
}

fn has_data(disk: &File) -> Result<bool> {
    let mut block = [0; 512];
    for at in (0..IMAGE_BYTES).step_by(STRIDE_BYTES) {
        disk.read_exact_at(&mut block, at as u64).context("reading the disk")?;
        if block.iter().any(|&byte| byte != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

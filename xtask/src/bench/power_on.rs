//! From power-on to the first byte of the image on the disk, for each firmware: bty with everything that it checks, beside dnsmasq,
//! nginx and the reference flasher. The machine is known to both: bty's live system has its drivers alone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use bty_testkit::{
    Disk, Dnsmasq, Firmware, Host, Lan, Machine, MachineSpec, Nic,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    child::Child,
};
use tempfile::TempDir;
use xshell::Shell;

use super::{
    Figure,
    first_byte::{self, PATIENCE, PORT},
    median, nginx, reference,
};

const DISK_BYTES: u64 = 256 << 20;
const FIRMWARE: [(Firmware, &str); 3] = [
    (Firmware::Bios, "power-on to first byte, BIOS PXE"),
    (Firmware::UefiPxe, "power-on to first byte, UEFI PXE"),
    (Firmware::UefiHttp, "power-on to first byte, UEFI HTTP Boot"),
];

/// Measures it.
pub(super) fn measure(
    shell: &Shell,
    binaries: &Path,
    live: &Path,
    runs: u32,
) -> Result<Vec<Figure>> {
    eprintln!("power-on to first byte: {runs} runs of each");
    let spec = ApplianceSpec::new(binaries.to_owned(), live.to_owned(), DhcpMode::Full);
    let mut appliance = Appliance::start(spec)?;
    let packed = first_byte::image(shell, appliance.folder())?;
    appliance.import(&packed, "bench")?;
    let mut peer = Reference::start(shell, live, &packed)?;
    let mut figures = Vec::new();
    for (firmware, what) in FIRMWARE {
        eprintln!("{what}");
        let (mut ours, mac) = known_machine(&mut appliance, firmware)?;
        let mut theirs = peer.machine(firmware)?;
        let (mut our_seconds, mut their_seconds) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            appliance.btyctl(&["machine", "set", &mac, "--rearm"])?;
            our_seconds.push(seconds(&mut ours)?);
            their_seconds.push(seconds(&mut theirs)?);
        }
        let (ours, peer) = (median(our_seconds), median(their_seconds));
        figures.push(Figure {
            what,
            unit: "s",
            ours,
            peer,
            peer_is: "dnsmasq, nginx, busybox, wget | zstd | dd",
            ratio: peer / ours,
        });
    }
    Ok(figures)
}

/// A machine whose hardware is on record.
fn known_machine(appliance: &mut Appliance, firmware: Firmware) -> Result<(Machine, String)> {
    let name = format!("{firmware:?}").to_lowercase();
    let disk = appliance.new_disk(&name, DISK_BYTES)?;
    let mut machine = appliance.add_machine(&name, firmware, vec![disk])?;
    let mac = machine.spec().nics.first().context("no card")?.mac.clone();
    appliance.btyctl(&["machine", "set", &mac, "--policy", "inventory"])?;
    machine.power_on()?;
    appliance.wait_for_run(&mac, 1, "RUN_STATE_SUCCEEDED", PATIENCE)?;
    machine.power_off()?;
    let wish = ["machine", "set", &mac, "--image", "bench", "--disk", "only"];
    appliance.btyctl(&[&wish[..], &["--policy", "flash-once"]].concat())?;
    Ok((machine, mac))
}

/// Switches the machine on with an empty disk, and off again when the first byte is there.
fn seconds(machine: &mut Machine) -> Result<f64> {
    let disk = machine.spec().disks.first().context("no disk")?.clone();
    disk.create(DISK_BYTES)?;
    let started = Instant::now();
    machine.power_on()?;
    first_byte::wait_for_data(&disk.file)?;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("  {}: {seconds:.2} s", machine.spec().name);
    machine.power_off()?;
    Ok(seconds)
}

/// A LAN whose server is dnsmasq and nginx.
struct Reference {
    lan: Lan,
    folder: TempDir,
    machines: u8,
    _server: Host,
    _running: (Dnsmasq, Dnsmasq, Child),
}

impl Reference {
    fn start(shell: &Shell, live: &Path, packed: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bty-reference-").tempdir()?;
        let root = folder.path().join("served");
        fs::create_dir_all(&root).context("making the reference's folder")?;
        serve(shell, live, packed, &root)?;
        let mut lan = Lan::new()?;
        let server = lan.add_server()?;
        let url = format!("http://10.77.0.1:{PORT}");
        let dhcp =
            Dnsmasq::start_boot_server(&server, &folder.path().join("dnsmasq"), &root, &url)?;
        let router = Dnsmasq::start_router(&lan.add_router_host()?, &folder.path().join("router"))?;
        let nginx = nginx::start(&server, &root, PORT, "", None)?;
        Ok(Self { lan, folder, machines: 0, _server: server, _running: (dhcp, router, nginx) })
    }

    fn machine(&mut self, firmware: Firmware) -> Result<Machine> {
        self.machines += 1;
        let name = format!("reference-{firmware:?}").to_lowercase();
        let disk = Disk::new(self.folder.path().join(format!("{name}.raw")), "REFERENCE");
        let mac = format!("52:54:00:99:00:{:02x}", self.machines);
        let spec = MachineSpec::new(&name, firmware)
            .with_nic(Nic::new(self.lan.add_tap()?, mac))
            .with_disk(disk);
        Machine::new(spec, &self.folder.path().join(name), Some(self.lan.switch()))
    }
}

/// Lays out what the reference serves: the same kernel, image and boot programs, its own initramfs.
fn serve(shell: &Shell, live: &Path, packed: &Path, root: &Path) -> Result<()> {
    let initramfs: PathBuf = reference::build(shell, root)?;
    fs::rename(initramfs, root.join("initramfs.img"))?;
    for (from, to) in [
        (live.join("vmlinuz"), "vmlinuz"),
        (live.join("boot/undionly.kpxe"), "undionly.kpxe"),
        (live.join("boot/x64/snponly.efi"), "snponly.efi"),
        (packed.to_owned(), "image.zst"),
    ] {
        fs::copy(&from, root.join(to)).with_context(|| format!("copying {}", from.display()))?;
    }
    let url = format!("http://10.77.0.1:{PORT}");
    let script = format!(
        "#!ipxe\nkernel {url}/vmlinuz initrd=initramfs.img quiet loglevel=4 panic=30 console=tty0 console=ttyS0,115200\n\
         initrd --name initramfs.img {url}/initramfs.img\nboot\n"
    );
    fs::write(root.join("boot.ipxe"), script).context("writing the reference's script")
}

//! Virtual machines: QEMU with real firmware.
//!
//! A [`Machine`] exists while it is off too: its disks and its UEFI variables outlive each power cycle, as a real one's do.
//! Emulation is the default and KVM has to be asked for (`BTY_LAB_ACCEL=kvm`), because a `/dev/kvm` that opens says little:
//! there are machines where it does and guests hang.

mod qmp;
mod screen;
mod spec;

use std::{
    env, fs,
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::json;

pub use screen::Screenshot;
pub use spec::{DirectKernel, Disk, DiskBus, Firmware, MachineSpec, Nic, NicModel};

use crate::{
    child::{Child, Program},
    console::Console,
    namespace::Namespace,
};
use qmp::Qmp;

/// How long QEMU may take to end after it was told to.
const QUIT_TIMEOUT: Duration = Duration::from_secs(20);

/// A virtual machine, on or off.
#[derive(Debug)]
pub struct Machine {
    spec: MachineSpec,
    folder: PathBuf,
    namespace: Option<Namespace>,
    cycles: u32,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    qemu: Child,
    qmp: Qmp,
    /// Kept open: QEMU drops what the guest hasn't taken yet when it is closed.
    serial: UnixStream,
    since: Instant,
}

impl Running {
    fn check_alive(&mut self) -> Result<()> {
        check_alive(&mut self.qemu)
    }
}

fn check_alive(qemu: &mut Child) -> Result<()> {
    match qemu.status()? {
        None => Ok(()),
        Some(status) => bail!("QEMU ended with {status}; {}", qemu.last_words()),
    }
}

/// QEMU's `-accel`: what `BTY_LAB_ACCEL` says, emulation otherwise, and always for another processor than this machine's.
fn accelerator(firmware: Firmware) -> String {
    let is_own = firmware.is_arm64() == cfg!(target_arch = "aarch64");
    match env::var("BTY_LAB_ACCEL") {
        Ok(chosen) if is_own && !chosen.is_empty() && chosen != "tcg" => chosen,
        _ => "tcg,thread=multi".to_owned(),
    }
}

impl Machine {
    /// A machine that is off and keeps its files in `folder`. With cards it must be in the namespace of its LAN's switch.
    pub fn new(spec: MachineSpec, folder: &Path, namespace: Option<&Namespace>) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let folder = folder.canonicalize().context("resolving the machine's folder")?;
        Ok(Self { spec, folder, namespace: namespace.cloned(), cycles: 0, running: None })
    }

    /// What it is made of.
    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    /// For changing what it is made of; it counts from the next power-on.
    pub fn spec_mut(&mut self) -> &mut MachineSpec {
        &mut self.spec
    }

    /// Whether it is on.
    pub fn is_on(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.check_alive().is_ok())
    }

    /// How long it has been on.
    pub fn uptime(&self) -> Option<Duration> {
        self.running.as_ref().map(|running| running.since.elapsed())
    }

    /// How often it was switched on.
    pub fn power_cycles(&self) -> u32 {
        self.cycles
    }

    /// Switches it on; an error where it is on already.
    pub fn power_on(&mut self) -> Result<()> {
        if self.is_on() {
            bail!("{} is on already", self.spec.name);
        }
        self.running = None;
        let vars = self.folder.join("vars.fd");
        if self.spec.firmware.is_uefi() && !vars.exists() {
            let (_, factory, package) = self.spec.firmware.files(self.spec.has_secure_boot);
            fs::copy(factory, vars)
                .with_context(|| format!("copying {factory} (package {package})"))?;
        }
        self.cycles += 1;
        let (control, serial) = self.sockets()?;
        let log = self.console_log();
        let since = Instant::now();
        let firmware = self.spec.firmware;
        let qemu = if firmware.is_arm64() { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
        let mut program = Program::new(qemu)
            .args(self.spec.arguments(&accelerator(firmware), &self.folder.join("vars.fd")))
            .args(["-qmp", &format!("unix:{},server=on,wait=off", control.display())])
            .args([
                "-chardev",
                &format!(
                    "socket,id=serial,path={},server=on,wait=off,logfile={}",
                    serial.display(),
                    log.display()
                ),
            ])
            .args(["-serial", "chardev:serial"]);
        if let Some(namespace) = &self.namespace {
            program = program.within(namespace);
        }
        let mut qemu = program.spawn(&self.folder.join(format!("qemu-{}.log", self.cycles)))?;
        let qmp = Qmp::connect(&control, || check_alive(&mut qemu))?;
        let serial = UnixStream::connect(&serial).context("connecting to the serial port")?;
        // What the machine prints is in the log; unread here it would fill the socket and hold the guest up.
        let mut unread = serial.try_clone().context("sharing the serial port")?;
        thread::spawn(move || io::copy(&mut unread, &mut io::sink()));
        self.running = Some(Running { qemu, qmp, serial, since });
        Ok(())
    }

    /// The control and the serial socket of this power cycle, not there yet.
    fn sockets(&self) -> Result<(PathBuf, PathBuf)> {
        let at = |kind: &str| self.folder.join(format!("{kind}.sock"));
        let (control, serial) = (at("qmp"), at("serial"));
        for socket in [&control, &serial] {
            // sun_path holds 108 bytes.
            if socket.as_os_str().len() > 100 {
                bail!("{} is too long a path for a socket", socket.display());
            }
            // The last power cycle's may still be there.
            let _ = fs::remove_file(socket);
        }
        Ok((control, serial))
    }

    /// Cuts the power: QEMU ends at once, and the guest hears nothing of it.
    pub fn power_off(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        // QEMU may close the socket before it answers, or have ended by itself.
        let _ = running.qmp.execute("quit", &json!({}));
        running.qemu.wait(QUIT_TIMEOUT).map(drop)
    }

    /// Kills QEMU as `kill -9` does: nothing that it still holds gets anywhere.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.qemu.signal(Signal::SIGKILL)?;
        running.qemu.wait(QUIT_TIMEOUT).map(drop)
    }

    /// Cuts the power and switches it on again.
    pub fn power_cycle(&mut self) -> Result<()> {
        self.power_off()?;
        self.power_on()
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.execute("system_reset", &json!({}))
    }

    /// Presses the power button, which an operating system may heed.
    pub fn press_power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown", &json!({}))
    }

    /// Stops the machine's time, or lets it go on.
    pub fn set_paused(&mut self, is_paused: bool) -> Result<()> {
        self.execute(if is_paused { "stop" } else { "cont" }, &json!({}))
    }

    /// Pulls the cable out of its card `nic` (the first is 0), or plugs it back in.
    pub fn set_cable(&mut self, nic: usize, plugged: bool) -> Result<()> {
        self.execute("set_link", &json!({ "name": format!("nic{nic}"), "up": plugged }))
    }

    /// What is on the screen.
    pub fn screenshot(&mut self) -> Result<Screenshot> {
        let file = self.folder.join("screen.ppm");
        self.execute("screendump", &json!({ "filename": file }))?;
        Screenshot::read(&file)
    }

    /// What it has printed on its serial port since it was switched on last.
    pub fn console(&self) -> Console {
        Console::new(self.console_log())
    }

    /// Waits for a match of the regular expression `pattern` on the console of this power cycle.
    pub fn wait_for(&mut self, pattern: &str, timeout: Duration) -> Result<String> {
        let console = self.console();
        let name = self.spec.name.clone();
        console
            .wait_for(pattern, timeout, || match &mut self.running {
                Some(running) => running.check_alive(),
                None => bail!("{name} is off"),
            })
            .with_context(|| format!("machine {}", self.spec.name))
    }

    /// Types on the serial port.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        let Some(running) = &mut self.running else { bail!("{} is off", self.spec.name) };
        running.serial.write_all(text.as_bytes()).context("typing")
    }

    fn execute(&mut self, command: &str, arguments: &serde_json::Value) -> Result<()> {
        let Some(running) = &mut self.running else { bail!("{} is off", self.spec.name) };
        running.qmp.execute(command, arguments).map(drop)
    }

    fn console_log(&self) -> PathBuf {
        self.folder.join(format!("console-{}.log", self.cycles))
    }
}

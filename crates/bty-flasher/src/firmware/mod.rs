//! The UEFI firmware's boot entries: after a good flash the firmware is told to boot the disk at the next start, once.
//!
//! So the restart does not go by the network first, and firmware that doesn't find the image's loader by itself is shown it. The
//! boot order stays as it is: firmware that tries the network first goes on doing so.
//!
//! Nothing here makes a flash fail. What goes wrong is a warning, and the machine comes back by the network as it always did.

mod choose;
pub mod device_path;
pub mod load_option;
pub mod loader;
mod variables;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bty_api::{registry::v1::NextBoot, status};
use bty_disk::{Disk, device::BlockDevice};
use bty_types::BootEntry;

use choose::{Wanted, choose, reorder};
use variables::{Variables, entry_name};

/// Where the kernel shows that it was started by UEFI.
const EFI: &str = "/sys/firmware/efi";
/// How long firmware may take: each variable is a call that stops a processor, for a second on some boards.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long it may take to take something back, once it has taken that long.
const MORE_PATIENCE: Duration = Duration::from_secs(10);
/// Characters of a disk's serial number in an entry's name.
const LABEL_CHARS: usize = 64;

/// Tells the firmware to boot the disk next; `None` where it is not to be told, or is no UEFI. Takes the device, since a firmware that
/// does not answer keeps it.
pub(crate) fn boot_next(device: BlockDevice, disk: &Disk, wish: BootEntry) -> Option<NextBoot> {
    if wish == BootEntry::Off || !Path::new(EFI).exists() {
        return None;
    }
    let label = label(disk);
    let is_over = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut next = NextBoot::default();
            if let Err(warning) = set(&device, label, wish, &is_over, &mut next) {
                next.warning = warning;
            }
            // Nobody hears this any more, and it was said already that the disk is not next.
            if is_over.swap(true, Ordering::SeqCst) {
                let _ = take_back();
            }
            let _ = tell.send(next);
        }
    });
    let warning = match told.recv_timeout(PATIENCE) {
        Ok(next) => return Some(next),
        // It was done at the last moment.
        Err(mpsc::RecvTimeoutError::Timeout) if is_over.swap(true, Ordering::SeqCst) => {
            return Some(told.recv().unwrap_or_default());
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let late = format!("the firmware did not answer within {} s", PATIENCE.as_secs());
            match within(MORE_PATIENCE, take_back) {
                Ok(()) => late,
                Err(why) => format!("{late}, and may boot the disk next all the same: {why}"),
            }
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            "setting the boot entry panicked; this is a fault of bty".to_owned()
        }
    };
    Some(NextBoot { warning, ..NextBoot::default() })
}

/// Takes back that the disk is booted next: the server does not know of the flash, and would flash again over what has run meanwhile.
pub(crate) fn withdraw() -> Result<(), String> {
    within(PATIENCE, take_back)
}

fn take_back() -> Result<(), String> {
    let shown = |problem| status::chain(&problem);
    Variables::of_firmware().map_err(shown)?.remove("BootNext").map_err(shown)
}

/// What the firmware is asked for, where it answers in this time; else the asking is left to itself.
fn within(
    patience: Duration,
    ask: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(ask()));
    told.recv_timeout(patience).unwrap_or_else(|why| {
        Err(match why {
            mpsc::RecvTimeoutError::Timeout => {
                format!("the firmware did not answer within {} s", patience.as_secs())
            }
            mpsc::RecvTimeoutError::Disconnected => "asking it panicked".to_owned(),
        })
    })
}

fn set(
    device: &BlockDevice,
    label: String,
    wish: BootEntry,
    is_over: &AtomicBool,
    next: &mut NextBoot,
) -> Result<(), String> {
    let found = loader::find(device, suffix()).map_err(|problem| status::chain(&problem))?;
    next.loader.clone_from(&found.file);
    let variables = Variables::of_firmware().map_err(|problem| status::chain(&problem))?;
    let wanted = Wanted { drive: found.drive, file: found.file, label };
    write(&variables, &wanted, wish, is_over, next)
}

/// Writes what is to be in the firmware's variables, until it `is_over`.
fn write(
    variables: &Variables,
    wanted: &Wanted,
    wish: BootEntry,
    is_over: &AtomicBool,
    next: &mut NextBoot,
) -> Result<(), String> {
    let shown = |problem| status::chain(&problem);
    // The firmware was waited for long enough: what it has been told is all that it is told.
    let go_on = || {
        let is_late = is_over.load(Ordering::SeqCst);
        if is_late { Err("the firmware took too long".to_owned()) } else { Ok(()) }
    };
    let known = variables.known().map_err(shown)?;
    next.order = list(&known.order);
    let choice = choose(&known, wanted).ok_or("the firmware has no number free for an entry")?;
    let name = entry_name(choice.number);
    if let Some(content) = &choice.content {
        go_on()?;
        let written = if choice.is_new {
            variables.create(&name, content)
        } else {
            variables.write(&name, content)
        };
        written.map_err(shown)?;
        next.written = true;
    }
    next.entry = name;
    go_on()?;
    variables.write("BootNext", &choice.number.to_le_bytes()).map_err(shown)?;
    next.is_next = true;
    if wish == BootEntry::Order {
        let order = reorder(&known, choice.number)
            .map_err(|why| format!("the boot order was left alone: {why}"))?;
        if order != known.order {
            go_on()?;
            let bytes: Vec<u8> = order.iter().copied().flat_map(u16::to_le_bytes).collect();
            variables.write("BootOrder", &bytes).map_err(shown)?;
            next.new_order = list(&order);
        }
    }
    Ok(())
}

/// What bty calls its entry for this disk: the next flash finds it by that.
fn label(disk: &Disk) -> String {
    let names = [&disk.serial, &disk.wwn, &disk.path];
    let name = names.into_iter().find(|name| !name.is_empty()).map_or("", String::as_str);
    format!("bty: {}", name.chars().take(LABEL_CHARS).collect::<String>())
}

/// What this firmware's programs are called with. Some 64-bit machines have a 32-bit firmware.
fn suffix() -> &'static str {
    let size = fs::read_to_string(Path::new(EFI).join("fw_platform_size")).unwrap_or_default();
    match (std::env::consts::ARCH, size.trim()) {
        ("aarch64", _) => "aa64",
        (_, "32") => "ia32",
        _ => "x64",
    }
}

/// Entries as people write them.
fn list(order: &[u16]) -> String {
    let numbers: Vec<String> = order.iter().map(|number| format!("{number:04X}")).collect();
    numbers.join(",")
}

/// What was done, for the screen.
pub(crate) fn lines(next: &NextBoot) -> Vec<String> {
    let mut lines = Vec::new();
    if next.is_next {
        let written = if next.written { ", written now" } else { "" };
        lines.push(format!(
            "the firmware boots {} of the disk next ({}{written})",
            next.loader, next.entry
        ));
    }
    if !next.new_order.is_empty() {
        lines.push(format!("the boot order was {}, and is {} now", next.order, next.new_order));
    }
    if !next.warning.is_empty() {
        lines.push(format!("warning: the firmware's boot entries: {}", next.warning));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{
        device_path::{HardDrive, Signature},
        *,
    };

    fn wanted() -> Wanted {
        let signature = Signature::Guid([7; 16]);
        Wanted {
            drive: HardDrive { partition: 1, start: 2048, size: 4096, signature },
            file: "\\EFI\\debian\\shimx64.efi".into(),
            label: "bty: S1".into(),
        }
    }

    #[test]
    fn a_firmware_that_is_given_up_is_told_nothing_more() {
        for (is_over, files) in [(true, 0), (false, 2)] {
            let folder = tempfile::tempdir().unwrap();
            let variables = Variables::at(folder.path());
            let mut next = NextBoot::default();
            let is_over = AtomicBool::new(is_over);
            let done = write(&variables, &wanted(), BootEntry::Next, &is_over, &mut next);
            assert_eq!((done.is_ok(), next.is_next), (files > 0, files > 0), "{done:?}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), files);
        }
    }

    #[test]
    fn what_the_firmware_never_answers_ends() {
        assert_eq!(within(PATIENCE, || Ok(())), Ok(()));
        let (keep, kept) = mpsc::channel::<()>();
        let problem = within(Duration::ZERO, move || kept.recv().map_err(|_| "gone".to_owned()));
        assert_eq!(problem, Err("the firmware did not answer within 0 s".to_owned()));
        drop(keep);
        assert_eq!(within(PATIENCE, || panic!("asked")), Err("asking it panicked".to_owned()));
    }

    #[test]
    fn an_entry_is_called_by_what_tells_the_disk_from_others() {
        let disk = |serial: &str, wwn: &str| Disk {
            path: "/dev/vda".into(),
            serial: serial.into(),
            wwn: wwn.into(),
            ..Disk::default()
        };
        assert_eq!(label(&disk("S1", "eui.1")), "bty: S1");
        assert_eq!(label(&disk("", "eui.1")), "bty: eui.1");
        assert_eq!(label(&disk("", "")), "bty: /dev/vda");
        assert_eq!(label(&disk(&"x".repeat(500), "")).len(), 69);
    }

    #[test]
    fn what_was_done_is_said_and_so_is_what_was_not() {
        let done = NextBoot {
            entry: "Boot0004".into(),
            loader: "\\EFI\\debian\\shimx64.efi".into(),
            written: true,
            is_next: true,
            order: "0000,0001".into(),
            ..NextBoot::default()
        };
        assert_eq!(
            lines(&done),
            [
                "the firmware boots \\EFI\\debian\\shimx64.efi of the disk next (Boot0004, written now)"
            ]
        );
        let not = NextBoot { warning: "why".into(), ..NextBoot::default() };
        assert_eq!(lines(&not), ["warning: the firmware's boot entries: why"]);
    }
}

//! Making all that a disk holds go: which ways it has, which of them are tried, and what came of it.
//!
//! [`look`] asks the disk what it offers and [`choose`] decides. [`erase`] first blanks the disk's beginning and end, so that what is cut
//! off half way doesn't boot; then carries out one way after the other until one has done it, which samples that were read before tell
//! beside the disk's own word; then sees to it that no partition table is left.

mod ata;
mod blocks;
mod choose;
mod nvme;
mod problem;
mod samples;
mod way;

#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bty_sys::AlignedBuf;

pub use ata::PASSWORD;
pub use choose::{AtaOffer, NvmeOffer, Offer, PassedOver, Plan, Planned, choose};
pub use problem::{EraseError, Failed};
pub use samples::Reading;
use samples::Samples;
pub use way::{How, Way};

use crate::{
    Disk,
    commands::{CommandError, Commands, Protocol},
    device::Target,
    nvme::{FormatErase, SanitizeAction, SanitizeState},
};

/// What is blanked at the disk's beginning and end: boot code and partition tables, and the signatures of file systems and RAID.
const EDGE_BYTES: u64 = 1 << 20;
/// Between looks at a sanitize.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(1) };

/// A disk's bytes and its commands.
pub trait Device: Target + Commands {}

impl<T: Target + Commands> Device for T {}

/// What is said while a disk is erased.
#[derive(Debug, Clone, Copy)]
pub enum Said<'a> {
    /// The disk's edges are blanked.
    Blanking,
    /// This is tried now.
    Trying(Planned),
    /// So much of it is done.
    Progress {
        /// Done.
        done: u64,
        /// Of so much.
        total: u64,
    },
    /// It didn't do it.
    DidNot {
        /// What was tried.
        way: Way,
        /// Why it didn't.
        why: &'a Failed,
    },
    /// The end is looked at.
    Checking,
}

/// Whom it is said to.
pub type Say<'a> = &'a (dyn Fn(Said<'_>) + Sync);

/// A disk that was erased.
#[derive(Debug)]
pub struct Erased {
    /// What did it.
    pub way: Way,
    /// What was tried before, and why it didn't.
    pub attempts: Vec<(Way, Failed)>,
    /// What the disk reads as now, where it was looked at.
    pub reading: Reading,
}

/// Asks the disk what it offers. A password that bty left on it, because an erase was cut off, is taken off.
pub fn look(device: &dyn Device, disk: &Disk, how: How) -> Result<Offer, EraseError> {
    let other = || format!("it is no such disk ({})", kind(disk));
    let nvme = match Protocol::of(disk) {
        Protocol::Nvme => nvme_offer(device)?,
        _ => Err(other()),
    };
    let ata = match Protocol::of(disk) {
        Protocol::AtaOverUsb if how != How::AtaSecureErase => {
            Err("it is not asked through a USB adapter, some of which hang, but where this is asked for by its name".into())
        }
        Protocol::Ata | Protocol::AtaOverUsb => ata::offer(device)
            .and_then(|offer| ata::reopen(device, offer))
            .map_err(|problem| problem.with_source()),
        Protocol::Nvme | Protocol::None => Err(other()),
    };
    let discards = device.takes_discards();
    // The kernel doesn't say which disks do; eMMC is the kind that has them.
    let secure_discards = discards && disk.transport == "mmc";
    // The kernel takes virtual disks for turning ones, where nothing says otherwise.
    let rotational =
        disk.rotational && matches!(Protocol::of(disk), Protocol::Ata | Protocol::AtaOverUsb);
    Ok(Offer { rotational, nvme, ata, discards, secure_discards })
}

fn kind(disk: &Disk) -> &str {
    if disk.transport.is_empty() { "of a kind that is not known" } else { &disk.transport }
}

/// What the controller has, or why it has nothing; an error where it is busy with an erase.
fn nvme_offer(device: &dyn Device) -> Result<Result<NvmeOffer, String>, EraseError> {
    let ask = || -> Result<NvmeOffer, CommandError> {
        let controller = crate::nvme::controller(device)?;
        let (number, _) = crate::nvme::namespace(device)?;
        let others = crate::nvme::other_namespaces(device, number)?;
        Ok(NvmeOffer { controller, others, ..NvmeOffer::default() })
    };
    let mut offer = match ask() {
        Ok(offer) => offer,
        Err(problem) => return Ok(Err(problem.with_source())),
    };
    if offer.controller.sanitize_forgets_key || offer.controller.sanitize_erases_blocks {
        let Ok(status) = crate::nvme::sanitize_status(device) else { return Ok(Ok(offer)) };
        if status.state == SanitizeState::Running {
            let percent = (u32::from(status.progress) * 100) >> 16;
            return Err(EraseError::Busy { percent });
        }
        (offer.block_seconds, offer.key_seconds) = (status.block_seconds, status.key_seconds);
    }
    Ok(Ok(offer))
}

/// Erases the disk as planned.
pub fn erase(
    device: &dyn Device,
    plan: &Plan,
    offer: &Offer,
    cancelled: &AtomicBool,
    say: Say<'_>,
) -> Result<Erased, EraseError> {
    if plan.planned.is_empty() {
        return Err(EraseError::NotOffered { passed_over: plan.passed_over.clone() });
    }
    let samples = Samples::take(device, edge_bytes(device));
    say(Said::Blanking);
    blank(device).map_err(EraseError::Blank)?;
    let mut attempts = Vec::new();
    for &planned in &plan.planned {
        if cancelled.load(Ordering::Relaxed) {
            return Err(EraseError::Cancelled { goes_on: false });
        }
        say(Said::Trying(planned));
        let outcome = carry_out(device, planned.way, offer, cancelled, say).and_then(|()| {
            let reading = samples.compare(device);
            if reading.as_before > 0 { Err(Failed::StillThere(reading)) } else { Ok(()) }
        });
        let way = planned.way;
        match outcome {
            Ok(()) => {
                say(Said::Checking);
                clear_edges(device).map_err(|problem| EraseError::Edges { way, problem })?;
                return Ok(Erased { way, attempts, reading: samples.compare(device) });
            }
            Err(Failed::Cancelled) => return Err(EraseError::Cancelled { goes_on: false }),
            Err(Failed::GoesOn) => return Err(EraseError::Cancelled { goes_on: true }),
            Err(problem @ Failed::Locked { .. }) => return Err(EraseError::Locked(problem)),
            Err(why) => {
                say(Said::DidNot { way, why: &why });
                attempts.push((way, why));
            }
        }
    }
    Err(EraseError::NothingDid { attempts, passed_over: plan.passed_over.clone() })
}

fn carry_out(
    device: &dyn Device,
    way: Way,
    offer: &Offer,
    cancelled: &AtomicBool,
    say: Say<'_>,
) -> Result<(), Failed> {
    let ata = offer.ata.clone().unwrap_or_default();
    let sanitize = |action| nvme::sanitize(device, action, LOOK_EVERY, cancelled, say);
    match way {
        Way::SanitizeKey => sanitize(SanitizeAction::Key),
        Way::SanitizeBlocks => sanitize(SanitizeAction::Block),
        Way::FormatKey => nvme::format_with(device, FormatErase::Key),
        Way::FormatData => nvme::format_with(device, FormatErase::UserData),
        Way::AtaEnhanced => ata::erase(device, true, ata.enhanced_erase_time),
        Way::AtaErase => ata::erase(device, false, ata.erase_time),
        Way::SecureDiscard => blocks::discard(device, true, cancelled, say),
        Way::Discard => blocks::discard(device, false, cancelled, say),
        Way::Zeroes => blocks::zero(device, cancelled, say),
    }
}

/// Whole sectors, and no more than the disk has.
fn edge_bytes(device: &dyn Device) -> u64 {
    EDGE_BYTES.min(device.size_bytes())
}

fn edges(device: &dyn Device) -> [u64; 2] {
    [0, device.size_bytes() - edge_bytes(device)]
}

/// Writes zeros to both edges, and has them last.
fn blank(device: &dyn Device) -> Result<(), Failed> {
    let bytes = usize::try_from(edge_bytes(device)).unwrap_or_default();
    let zeros = AlignedBuf::new(bytes);
    let zeros = zeros.get(..bytes).unwrap_or_default();
    for offset in edges(device) {
        device.write_at(zeros, offset).map_err(|source| Failed::Disk {
            doing: "blanking",
            offset,
            source,
        })?;
    }
    device.flush().map_err(|source| Failed::Disk { doing: "flushing", offset: 0, source })
}

/// Sees to it that the edges are zeros: what lost its key reads as noise.
fn clear_edges(device: &dyn Device) -> Result<(), Failed> {
    let bytes = edge_bytes(device);
    let mut buffer = AlignedBuf::new(usize::try_from(bytes).unwrap_or_default());
    let mut is_clear = || -> Result<bool, Failed> {
        let [first, last] = edges(device);
        Ok(blocks::is_zero(device, &mut buffer, first, bytes)?
            && blocks::is_zero(device, &mut buffer, last, bytes)?)
    };
    // What an erase leaves may not even be readable until it is written.
    if is_clear().is_ok_and(|is_clear| is_clear) {
        return Ok(());
    }
    blank(device)?;
    if is_clear()? { Ok(()) } else { Err(Failed::NotZero { offset: 0 }) }
}

//! Sanitize and Format on an NVMe disk.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{Device, Failed, Said, Say};
use crate::nvme::{
    FormatErase, SanitizeAction, SanitizeState, begin_sanitize, format, leave_failed_sanitize,
    namespace, sanitize_status,
};

/// How often a lost answer is asked for again before it is given up.
const MOST_SILENCE: u32 = 30;

/// Begins a sanitize and waits for its end. Where it is called off, the disk goes on.
pub(super) fn sanitize(
    device: &dyn Device,
    action: SanitizeAction,
    look_every: Duration,
    cancelled: &AtomicBool,
    say: Say<'_>,
) -> Result<(), Failed> {
    begin_sanitize(device, action)?;
    let mut silent = 0;
    loop {
        // Not at once: a controller may still show how the last one ended.
        std::thread::sleep(look_every);
        if cancelled.load(Ordering::Relaxed) {
            return Err(Failed::GoesOn);
        }
        match sanitize_status(device).map(|status| (status.state, status.progress)) {
            Ok((SanitizeState::Done, _)) => return Ok(()),
            Ok((SanitizeState::Running, progress)) => {
                say(Said::Progress { done: progress.into(), total: 1 << 16 });
            }
            Ok((SanitizeState::Failed, _)) => {
                // Else the disk refuses whatever is tried next.
                let _ = leave_failed_sanitize(device);
                return Err(Failed::SanitizeFailed);
            }
            // Some controllers answer nothing, or nothing new, while they begin.
            Ok(_) | Err(_) if silent < MOST_SILENCE => silent += 1,
            Ok(_) => return Err(Failed::SanitizeFailed),
            Err(problem) => return Err(problem.into()),
        }
    }
}

/// Formats the namespace as it is formatted now.
pub(super) fn format_with(device: &dyn Device, erase: FormatErase) -> Result<(), Failed> {
    let (number, namespace) = namespace(device)?;
    Ok(format(device, number, namespace, erase)?)
}

//! What a machine does next.
//!
//! [`what_next`] is pure, total and the only place that decides: recorded state and the time go in, an action and the reason
//! come out. Every request for a decision, by a boot script, by an agent's check-in or by a person, is answered by it.
//!
//! | policy | next boot |
//! |---|---|
//! | `local` | the disk |
//! | `flash-once` | flash, where this generation has not been flashed; else the disk |
//! | `flash-always` | flash; then one power-on from the disk; then flash again |
//! | `inventory` | report the hardware, once in this generation; else the disk |
//!
//! A disk that the firmware boots at the restart after the flash, without asking, has had its power-on. A machine that comes back
//! from its disk at once, again and again, is held. Only returns after we sent it there count for that, since only then is it known
//! to have come back at once, and only when both ways to its disk were tried.
//!
//! Work that can't be done, has failed for a reason that stays, or was begun too often without an end, becomes a hold: never
//! silently a boot of a disk that is not what the operator wants.

mod explain;
pub(crate) mod live;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use bty_api::types::v1::Action;
use bty_types::{BootChain, ImageId, Policy};

use crate::record::{Failure, Intent, Machine, Observed, RunState};

pub(crate) use explain::explain;

/// A power-on whose agent has not checked in yet counts as under way for so long.
pub(crate) const COMING_UP: Duration = Duration::from_mins(3);
/// Returns from its disk after which a machine is sent there the other way.
pub(crate) const RETURNS_UNTIL_OTHER_EXIT: u32 = 2;

/// What a decision rests on beside intent and observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// What the assigned image resolves to now.
    pub image: Resolved,
    /// How often work may be begun without being finished.
    pub max_attempts: u32,
    /// How a machine boots of which nothing else is said.
    pub boot_chain: BootChain,
}

/// What the assigned image resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// No image is assigned.
    Unset,
    /// The store has no image of this name or id.
    Absent,
    /// The store has it.
    Present(ImageId),
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker<'a> {
    /// A power-on that has just begun, or a person who wants to know what it would be told.
    PowerOn,
    /// The agent in the live system of this boot, at a check-in.
    Agent {
        /// The boot id of its boot script.
        boot_id: &'a str,
    },
}

/// What a machine does next, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// What it does.
    pub action: Action,
    /// Why, in one sentence.
    pub reason: String,
}

impl Decision {
    fn new(action: Action, reason: impl Into<String>) -> Self {
        Self { action, reason: reason.into() }
    }
}

/// Decides what a machine does next.
pub(crate) fn what_next(
    machine: &Machine,
    around: &Surroundings,
    asker: Asker<'_>,
    now: SystemTime,
) -> Decision {
    let Machine { intent, observed, .. } = machine;
    let generation = intent.generation;
    let finished = observed.finished_generation >= generation;
    let work = match intent.policy {
        Policy::Local => return Decision::new(Action::Local, "the policy is local"),
        Policy::Inventory if finished => {
            return Decision::new(Action::Local, "the hardware is on record");
        }
        Policy::Inventory => Decision::new(Action::Inventory, "the hardware is not on record yet"),
        Policy::FlashOnce if finished => {
            return to_disk(machine, around, format!("generation {generation} is flashed"));
        }
        Policy::FlashOnce => {
            Decision::new(Action::Flash, format!("generation {generation} is not flashed yet"))
        }
        Policy::FlashAlways if !finished => {
            Decision::new(Action::Flash, format!("generation {generation} is not flashed yet"))
        }
        Policy::FlashAlways if observed.disk_turn_at.is_none() => {
            let reason = "it was flashed, and its disk has its one turn";
            return to_disk(machine, around, reason.to_owned());
        }
        Policy::FlashAlways
            if observed.returns.max(observed.restart_returns) >= around.max_attempts =>
        {
            let reason = "its disk has a turn to show that it boots";
            return to_disk(machine, around, reason.to_owned());
        }
        Policy::FlashAlways => Decision::new(Action::Flash, "its disk has had its one turn"),
    };
    if let Some(reason) = obstacle(intent, observed, around, work.action) {
        return Decision::new(Action::Hold, reason);
    }
    let tries = closed_tries(observed, asker, now);
    if tries >= around.max_attempts {
        return Decision::new(Action::Hold, too_often(intent, observed, tries));
    }
    work
}

/// What makes this work impossible until somebody changes something.
fn obstacle(
    intent: &Intent,
    observed: &Observed,
    around: &Surroundings,
    work: Action,
) -> Option<String> {
    if work == Action::Flash {
        match (around.image, &intent.image) {
            (Resolved::Unset, _) | (_, None) => {
                return Some("no image is assigned: set one".into());
            }
            (Resolved::Absent, Some(image)) => {
                return Some(format!(
                    "the image {image} is not in the store: import it, or set another"
                ));
            }
            (Resolved::Present(_), Some(_)) => {}
        }
        if intent.disk.is_none() {
            return Some("no disk is chosen: set one".into());
        }
    }
    let failure = current_failure(intent, observed)?;
    is_lasting(&failure.reason).then(|| failure.message.clone())
}

/// The failure that stands in this generation's way.
fn current_failure<'a>(intent: &Intent, observed: &'a Observed) -> Option<&'a Failure> {
    observed.failure.as_ref().filter(|failure| failure.generation == intent.generation)
}

/// Whether a failure would come again at every try: it is about the disk or the image that was named, not about the way.
pub(crate) fn is_lasting(reason: &str) -> bool {
    reason.starts_with("DISK_") || reason.starts_with("IMAGE_") || reason == PROOF_MISMATCH
}

/// The disk does not hold the image after all of it was written.
pub(crate) const PROOF_MISMATCH: &str = "PROOF_MISMATCH";

/// Tries that have ended badly. The asker's own try is not one, nor is one that is still on its way: a repeated request of the
/// same power-on must be told the same.
fn closed_tries(observed: &Observed, asker: Asker<'_>, now: SystemTime) -> u32 {
    let open = match (asker, &observed.open_boot_id) {
        (_, None) => false,
        (Asker::Agent { boot_id }, Some(open)) => boot_id == open,
        (Asker::PowerOn, Some(open)) => {
            let works = observed
                .run
                .as_ref()
                .is_some_and(|run| run.state == RunState::Running && run.boot_id == *open);
            works || is_coming_up(observed, now)
        }
    };
    observed.attempts.saturating_sub(u32::from(open))
}

fn is_coming_up(observed: &Observed, now: SystemTime) -> bool {
    let Some(attempt) = &observed.attempt else { return false };
    // A clock that was set back makes it long ago, which is the safe side.
    now.duration_since(attempt.at).is_ok_and(|since| since < COMING_UP)
}

/// Whether a machine comes back from its disk at once, so often that it waits: it had its tries, and one of them went the other way.
fn comes_back(observed: &Observed, around: &Surroundings) -> bool {
    observed.returns >= around.max_attempts.max(RETURNS_UNTIL_OTHER_EXIT + 1)
}

/// To its disk, unless it comes back from there at once, again and again: one more try, or one more flash, would end the same.
/// What its firmware was told at the restart after a flash is no proof, since its system may have restarted it; what we told it is.
fn to_disk(machine: &Machine, around: &Surroundings, reason: String) -> Decision {
    let observed = &machine.observed;
    let told = observed.attempt.as_ref().map(|attempt| attempt.action);
    let was_told_by_us = matches!(told, Some(Action::Local | Action::Hold));
    if !comes_back(observed, around) || !was_told_by_us {
        return Decision::new(Action::Local, reason);
    }
    let returns = observed.returns;
    let called = machine.called();
    let reason = format!(
        "it was flashed and came back from its disk at once, {returns} times in a row: the image does not boot here, or the \
         firmware does not go to the disk; btyctl machine set {called} --reset-way sends it there again, --rearm flashes it again"
    );
    Decision::new(Action::Hold, reason)
}

fn too_often(intent: &Intent, observed: &Observed, tries: u32) -> String {
    let times = if tries == 1 { "once".to_owned() } else { format!("{tries} times") };
    match current_failure(intent, observed) {
        Some(failure) => format!("failed {times}: {}", failure.message),
        None => format!("failed {times}: it was started, but its agent did not check in"),
    }
}

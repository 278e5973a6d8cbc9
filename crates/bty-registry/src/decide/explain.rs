//! The facts that a decision rests on, and what the operator can do.

use std::time::SystemTime;

use bty_api::types::v1::Action;
use bty_types::{BootChain, ImageSelector, MacAddr, Policy};

use super::{
    Asker, Decision, Resolved, Surroundings, closed_tries, comes_back, current_failure, what_next,
};
use crate::record::{Intent, Machine, Observed, Way};

/// Why a machine does what it does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// What it does.
    pub decision: Decision,
    /// What was weighed, in this order.
    pub facts: Vec<String>,
    /// What the operator can do now.
    pub hints: Vec<String>,
}

/// Explains what a new power-on of the machine would be told.
pub(crate) fn explain(machine: &Machine, around: &Surroundings, now: SystemTime) -> Explanation {
    let Machine { mac, intent, observed, .. } = machine;
    let decision = what_next(machine, around, Asker::PowerOn, now);
    let mut facts =
        vec![format!("the policy is {}, in generation {}", intent.policy, intent.generation)];
    if matches!(intent.policy, Policy::FlashOnce | Policy::FlashAlways) {
        facts.extend(assignment(intent, around));
        facts.extend(disk_state(intent, observed, around));
    } else if intent.policy == Policy::Inventory {
        facts.push(match observed.hardware {
            Some(_) => "its hardware has been reported".into(),
            None => "its hardware has never been reported".into(),
        });
    }
    facts.extend(tries(intent, observed, around, now));
    facts.extend(way(intent, observed, around));
    let hints = hints(*mac, intent, observed, around, decision.action);
    Explanation { decision, facts, hints }
}

fn assignment(intent: &Intent, around: &Surroundings) -> Vec<String> {
    let image = match (&intent.image, around.image) {
        (None, _) | (_, Resolved::Unset) => "no image is assigned".into(),
        (Some(image), Resolved::Absent) => format!("the image {image} is not in the store"),
        (Some(image @ ImageSelector::Name(_)), Resolved::Present(id)) => {
            format!("the image {image} is {id} now")
        }
        (Some(image @ ImageSelector::Id(_)), Resolved::Present(_)) => {
            format!("the image {image} is in the store")
        }
    };
    let disk = match &intent.disk {
        None => "no disk is chosen".into(),
        Some(disk) => format!("the disk to write is {disk}"),
    };
    vec![image, disk]
}

fn disk_state(intent: &Intent, observed: &Observed, around: &Surroundings) -> Vec<String> {
    let mut facts = Vec::new();
    match observed.flashed {
        None => facts.push("no flash of it has been finished".into()),
        Some(flashed) => {
            facts.push(format!("the latest good flash proved {}", flashed.image));
            if observed.finished_generation >= intent.generation
                && let Resolved::Present(now) = around.image
                && now != flashed.image
                && let Some(image) = &intent.image
            {
                facts.push(format!("{image} has moved since: that alone does not flash it again"));
            }
        }
    }
    if observed.finished_generation > 0 {
        facts.push(format!("generation {} is finished", observed.finished_generation));
    }
    if intent.policy == Policy::FlashAlways && observed.flashed.is_some() {
        facts.push(match observed.disk_turn_at {
            Some(_) => "its disk has had its turn since".into(),
            None => "its disk has not had its turn since".into(),
        });
    }
    facts
}

fn tries(
    intent: &Intent,
    observed: &Observed,
    around: &Surroundings,
    now: SystemTime,
) -> Vec<String> {
    let mut facts = Vec::new();
    if observed.attempts > 0 {
        let ended = closed_tries(observed, Asker::PowerOn, now);
        facts.push(format!(
            "its work was begun {} times and not finished, {ended} of them ended; {} are allowed",
            observed.attempts, around.max_attempts
        ));
    }
    if let Some(failure) = current_failure(intent, observed) {
        facts.push(format!("the latest try failed ({}): {}", failure.reason, failure.message));
    } else if observed.failure.is_some() {
        facts.push("an earlier generation's work failed and was not finished".into());
    }
    facts
}

fn way(intent: &Intent, observed: &Observed, around: &Surroundings) -> Vec<String> {
    let mut facts = Vec::new();
    let chain = intent.chain.unwrap_or(around.boot_chain);
    if chain != BootChain::Ipxe {
        facts.push(format!("its boot chain is {chain}"));
    }
    if observed.way.own_drivers {
        facts.push("it gets iPXE with drivers of its own: the usual one was not heard of".into());
    }
    if observed.way.other_exit {
        facts.push("it leaves for its disk another way: it came back from the usual one".into());
    }
    if observed.returns > 0 {
        facts.push(format!(
            "it came back {} times in a row right after bty sent it to its disk",
            observed.returns
        ));
    }
    if observed.restart_returns > 0 {
        facts.push(format!(
            "it came back {} times in a row soon after its firmware was told to boot the disk",
            observed.restart_returns
        ));
    }
    facts
}

fn hints(
    mac: MacAddr,
    intent: &Intent,
    observed: &Observed,
    around: &Surroundings,
    action: Action,
) -> Vec<String> {
    let mut hints = Vec::new();
    if matches!(intent.policy, Policy::FlashOnce | Policy::FlashAlways) {
        match (&intent.image, around.image) {
            (None, _) | (_, Resolved::Unset) => {
                hints.push(format!("btyctl machine set {mac} --image NAME:TAG"));
            }
            (Some(_), Resolved::Absent) => {
                hints.push("btyctl image import ...".into());
                hints.push(format!("btyctl machine set {mac} --image NAME:TAG"));
            }
            (Some(_), Resolved::Present(_)) => {}
        }
        let chosen_is_wrong = current_failure(intent, observed)
            .is_some_and(|failure| failure.reason.starts_with("DISK_"));
        if intent.disk.is_none() || chosen_is_wrong {
            hints.extend(disks(mac, observed));
        }
    }
    let moved = |id| observed.flashed.is_some_and(|flashed| flashed.image != id);
    let tag_moved = matches!(around.image, Resolved::Present(id) if moved(id));
    let was_tried = observed.attempts > 0 || current_failure(intent, observed).is_some();
    let disk_does_not_boot = action == Action::Hold && comes_back(observed, around);
    if disk_does_not_boot {
        hints.push(format!("btyctl machine set {mac} --reset-way (sends it to its disk again)"));
        hints.push(format!("btyctl machine set {mac} --rearm (flashes it again)"));
    } else if action == Action::Hold && was_tried {
        hints.push(format!("btyctl machine set {mac} --rearm (tries again)"));
    } else if action == Action::Local && intent.policy == Policy::FlashOnce && tag_moved {
        hints.push(format!("btyctl machine set {mac} --rearm (flashes what the name means now)"));
    }
    if observed.way != Way::default() && !disk_does_not_boot {
        hints.push(format!(
            "btyctl machine set {mac} --reset-way (boots it in the usual way again)"
        ));
    }
    hints
}

/// A hint for each disk that could be meant, or a word on how to learn of them.
fn disks(mac: MacAddr, observed: &Observed) -> Vec<String> {
    let known = observed.hardware.as_ref().map_or(&[][..], |hardware| &hardware.disks);
    if known.is_empty() {
        return vec![format!(
            "btyctl machine set {mac} --disk serial:S (let it report its disks first: --policy inventory)"
        )];
    }
    // A number that is the dock's, or that a careless maker gave twice, is a serial and never a WWN. A WWN with blanks is one that the
    // kernel has put together from the serial.
    let name = |disk: &bty_api::types::v1::Disk| match (disk.serial.as_str(), disk.wwn.as_str()) {
        ("", "") => format!("path:{}", disk.path),
        (serial, wwn) if wwn.is_empty() || !serial.is_empty() && wwn.contains(' ') => {
            format!("serial:{serial}")
        }
        (_, wwn) => format!("wwn:{wwn}"),
    };
    // A machine may have hundreds; the first few show how.
    known
        .iter()
        .take(8)
        .map(|disk| {
            format!(
                "btyctl machine set {mac} --disk {} ({} {}, {} bytes)",
                name(disk),
                disk.path,
                disk.model,
                disk.size_bytes
            )
        })
        .collect()
}

//! What the daemons on the boot path saw.

use std::time::{Duration, SystemTime};

use bty_api::{
    convert::system_time,
    registry::v1::Contact,
    types::v1::{Action, BootPath, Stage},
};
use bty_types::{MacAddr, Policy};

use crate::{
    problem::Problem,
    record::{Attempt, Machine, NewEvent},
    store::Transaction,
    work::way::{self, Lesson},
};

/// Contacts in one report.
pub(crate) const MAX_CONTACTS: usize = 1000;
/// Characters of a detail that are kept.
const DETAIL_CHARS: usize = 500;
/// The window of the limits on new machines and on events.
const MINUTE: Duration = Duration::from_mins(1);

/// What became of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Contacts that were new.
    pub new: u64,
    /// Those of them whose machine is not known, and no more can be taken in.
    pub dropped: u64,
    /// Those of them that made no event, since their machine has made too many.
    pub untold: u64,
}

/// Takes contacts in order, each once.
pub(crate) fn take_contacts(
    transaction: &mut Transaction<'_>,
    reporter: &str,
    contacts: &[Contact],
) -> Result<Taken, Problem> {
    let heard = transaction.heard_of(reporter)?;
    let daemon = reporter.split('/').next().unwrap_or(reporter);
    let mut last = heard;
    let mut taken = Taken::default();
    for contact in contacts.iter().filter(|contact| contact.sequence > heard) {
        last = last.max(contact.sequence);
        taken.new += 1;
        if contact.mac.is_empty() {
            record_of_network(transaction, contact, daemon)?;
            continue;
        }
        // A reporter has parsed the address already. One contact that is wrong must not block the others behind it.
        let Ok(mac) = contact.mac.parse() else {
            tracing::warn!(
                mac = contact.mac,
                reporter,
                "a contact without a MAC address was dropped"
            );
            continue;
        };
        let Some(machine) = known_or_new(transaction, mac, contact, daemon)? else {
            taken.dropped += 1;
            continue;
        };
        if !take(transaction, machine, contact, daemon)? {
            taken.untold += 1;
        }
    }
    if last > heard {
        transaction.heard(reporter, last)?;
    }
    if taken.dropped > 0 {
        tracing::warn!(
            dropped = taken.dropped,
            reporter,
            "contacts of unknown machines were dropped: too many are new"
        );
    }
    if taken.untold > 0 {
        tracing::warn!(
            untold = taken.untold,
            reporter,
            "machines boot too often for all of it to be recorded"
        );
    }
    Ok(taken)
}

/// Records what concerns the network and no machine, such as another DHCP server.
fn record_of_network(
    transaction: &mut Transaction<'_>,
    contact: &Contact,
    daemon: &str,
) -> Result<(), Problem> {
    transaction.event(NewEvent {
        kind: "network.server",
        actor: daemon.to_owned(),
        message: printable(&contact.detail).chars().take(DETAIL_CHARS).collect(),
        ..NewEvent::default()
    })?;
    Ok(())
}

/// The machine, made where it isn't known; `None` where no more can be taken in.
pub(super) fn known_or_new(
    transaction: &mut Transaction<'_>,
    mac: MacAddr,
    contact: &Contact,
    actor: &str,
) -> Result<Option<Machine>, Problem> {
    if let Some(machine) = transaction.machine(mac)? {
        return Ok(Some(machine));
    }
    let now = transaction.now();
    let (known, new) = transaction.count_machines(now.checked_sub(MINUTE).unwrap_or(now))?;
    let rules = transaction.rules();
    if known >= rules.max_machines || new >= rules.max_new_machines_per_minute {
        return Ok(None);
    }
    let machine = Machine::new(mac, rules.unknown_policy, now);
    let at = if contact.address.is_empty() {
        String::new()
    } else {
        format!(" at {}", printable(&contact.address))
    };
    let machine = transaction.put_machine(machine)?;
    transaction.event(NewEvent {
        kind: "machine.discovered",
        actor: actor.to_owned(),
        mac: Some(mac),
        message: format!(
            "saw {mac} for the first time{at}; its policy is {}",
            machine.intent.policy
        ),
        ..NewEvent::default()
    })?;
    Ok(Some(machine))
}

/// Records a contact; whether it was told too, where there is something to tell.
fn take(
    transaction: &mut Transaction<'_>,
    mut machine: Machine,
    contact: &Contact,
    daemon: &str,
) -> Result<bool, Problem> {
    let now = transaction.now();
    // A reporter's clock is ours: it runs on the same machine. A time from the future would outlive every comparison.
    let at = system_time(contact.at.as_ref()).filter(|&at| at <= now).unwrap_or(now);
    let stage = stage(contact);
    // A machine that waits asks every few seconds, each time anew: that is told once.
    let is_new = machine.observed.stage != stage || contact.new_attempt && stage != Stage::Held;
    let lesson = way::learn(&mut machine, contact, stage, transaction.rules(), at);
    machine.reached(stage, at);
    if !contact.address.is_empty() {
        machine.observed.address = printable(&contact.address);
    }
    if contact.stage() == Stage::Script {
        take_script(&mut machine, contact, at);
    }
    let mac = machine.mac;
    transaction.put_machine(machine)?;
    if let Some(lesson) = lesson {
        record_lesson(transaction, mac, lesson)?;
    }
    let is_told = contact.failed || is_new;
    let minute_ago = now.checked_sub(MINUTE).unwrap_or(now);
    let most = transaction.rules().max_boot_events_per_minute;
    if is_told && transaction.has_boot_events(mac, most, minute_ago..=now)? {
        return Ok(false);
    }
    if is_told {
        transaction.event(NewEvent {
            kind: if contact.failed { "boot.failed" } else { kind(stage) },
            actor: daemon.to_owned(),
            mac: Some(mac),
            message: message(contact, stage),
            ..NewEvent::default()
        })?;
    }
    Ok(true)
}

/// Records what was learned of how a machine boots.
pub(super) fn record_lesson(
    transaction: &mut Transaction<'_>,
    mac: MacAddr,
    lesson: Lesson,
) -> Result<(), Problem> {
    let Lesson { kind, message } = lesson;
    tracing::info!(%mac, kind, message, "a machine's way to boot was judged");
    transaction.event(NewEvent {
        kind,
        actor: "registry".to_owned(),
        mac: Some(mac),
        message,
        ..NewEvent::default()
    })?;
    Ok(())
}

/// How far the machine is: a script that sends it to its disk or makes it wait is a stage of its own.
fn stage(contact: &Contact) -> Stage {
    match (contact.stage(), contact.action()) {
        (Stage::Script, Action::Local) => Stage::Local,
        (Stage::Script, Action::Hold) => Stage::Held,
        (stage, _) => stage,
    }
}

fn take_script(machine: &mut Machine, contact: &Contact, at: SystemTime) {
    let action = contact.action();
    let path = Some(contact.path()).filter(|&path| path != BootPath::Unspecified);
    let earlier = machine.observed.attempt.take().filter(|_| !contact.new_attempt);
    let is_work = is_work(action);
    // This report was late where its agent has checked in already, and that has counted.
    let has_counted =
        machine.observed.run.as_ref().is_some_and(|run| run.boot_id == contact.boot_id);
    // Of a power-on that asks several times, the first that is told to work counts.
    let begins_work = !has_counted
        && is_work
        && earlier.as_ref().is_none_or(|earlier| !self::is_work(earlier.action));
    let mut paths = earlier.map(|earlier| earlier.paths).unwrap_or_default();
    if let Some(path) = path.filter(|path| !paths.contains(path)) {
        paths.push(path);
    }
    machine.observed.attempt = Some(Attempt { action, paths, at });
    if begins_work {
        machine.observed.attempts = machine.observed.attempts.saturating_add(1);
    }
    if is_work && !has_counted {
        machine.observed.open_boot_id = Some(contact.boot_id.clone());
    }
    let has_its_turn = action == Action::Local && machine.intent.policy == Policy::FlashAlways;
    if has_its_turn && machine.observed.disk_turn_at.is_none() {
        machine.observed.disk_turn_at = Some(at);
    }
}

pub(super) const fn is_work(action: Action) -> bool {
    matches!(action, Action::Flash | Action::Inventory)
}

const fn kind(stage: Stage) -> &'static str {
    match stage {
        Stage::Firmware => "boot.firmware",
        Stage::BootProgram => "boot.program",
        Stage::Ipxe => "boot.ipxe",
        Stage::Script => "boot.script",
        Stage::Kernel => "boot.kernel",
        Stage::Initramfs => "boot.initramfs",
        Stage::Local => "boot.local",
        Stage::Held => "boot.held",
        Stage::Agent | Stage::Writing | Stage::Proving | Stage::Finished => "boot.agent",
        Stage::Unspecified => "boot.seen",
    }
}

fn message(contact: &Contact, stage: Stage) -> String {
    let detail: String = printable(&contact.detail).chars().take(DETAIL_CHARS).collect();
    let what = match stage {
        Stage::Firmware => "the firmware asks the network",
        Stage::BootProgram => "it fetches its boot program",
        Stage::Ipxe => "iPXE asks the network",
        Stage::Script if contact.action() == Action::Inventory => {
            "it is told to report its hardware"
        }
        Stage::Script => "it is told to flash",
        Stage::Kernel => "it fetches the live kernel",
        Stage::Initramfs => "it fetches the live system",
        Stage::Local => "it is told to boot its disk",
        Stage::Held => "it is told to wait",
        Stage::Agent | Stage::Writing | Stage::Proving | Stage::Finished => "its agent is at work",
        Stage::Unspecified => "it was seen",
    };
    match (detail.is_empty(), contact.failed) {
        (true, false) => what.to_owned(),
        (true, true) => format!("{what}, and that failed"),
        (false, true) => detail,
        (false, false) => format!("{what}: {detail}"),
    }
}

/// Text from the network as one line.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2 * DETAIL_CHARS).collect()
}

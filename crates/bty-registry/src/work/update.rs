//! What an operator does to a machine.

use bty_api::types::v1::FixUps as WireFixUps;
use bty_types::{BootChain, BootEntry, DiskSelector, FixUps, ImageSelector, MacAddr, Policy};

use crate::{
    problem::Problem,
    record::{Machine, NewEvent},
    store::{Snapshot, Transaction},
};

/// A change of the wish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Update {
    /// The name.
    pub name: Edit<String>,
    /// The policy; `None` where it stays.
    pub policy: Option<Policy>,
    /// The image.
    pub image: Edit<ImageSelector>,
    /// The disk.
    pub disk: Edit<DiskSelector>,
    /// The boot chain.
    pub chain: Edit<BootChain>,
    /// What becomes of its firmware's boot entries.
    pub boot_entry: Edit<BootEntry>,
    /// Whether its disk is written even where it says that it is about to fail.
    pub failing_disk_ok: Option<bool>,
    /// What is changed on its disk after a flash.
    pub fix_ups: Edit<FixUps>,
    /// Begin a new generation even where nothing else changes.
    pub rearm: bool,
    /// Forget what was learned of how it boots.
    pub reset_way: bool,
    /// The generation that the machine must have; 0 for any.
    pub expect_generation: u64,
}

/// What becomes of a field that may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Edit<T> {
    /// It stays.
    #[default]
    Keep,
    /// It is this now, or empty.
    Set(Option<T>),
}

impl<T: PartialEq> Edit<T> {
    /// What the field is to be, where that is another than `now`.
    #[allow(clippy::option_option, reason = "whether it changes, and to what")]
    fn change(self, now: Option<&T>) -> Option<Option<T>> {
        match self {
            Self::Set(value) if value.as_ref() != now => Some(value),
            Self::Set(_) | Self::Keep => None,
        }
    }
}

/// The machine that an operator calls so: by its address or its name.
pub(crate) fn find_machine(snapshot: &Snapshot<'_>, called: &str) -> Result<Machine, Problem> {
    let found = match called.parse::<MacAddr>() {
        Ok(mac) => snapshot.machine(mac)?,
        Err(_) => snapshot.machine_named(called)?,
    };
    found.ok_or_else(|| Problem::NoMachine(called.to_owned()))
}

/// Changes the wish for a machine, and makes the machine where it isn't known.
pub(crate) fn update_machine(
    transaction: &mut Transaction<'_>,
    called: &str,
    update: Update,
    actor: String,
) -> Result<Machine, Problem> {
    let now = transaction.now();
    let (mut machine, made) = match (find_machine(transaction, called), called.parse()) {
        (Ok(machine), _) => (machine, false),
        (Err(Problem::NoMachine(_)), Ok(mac)) => {
            let (known, _) = transaction.count_machines(now)?;
            if known >= transaction.rules().max_machines {
                return Err(Problem::Full(format!(
                    "{known} machines are known already: delete some, or raise max_machines"
                )));
            }
            (Machine::new(mac, transaction.rules().unknown_policy, now), true)
        }
        (Err(problem), _) => return Err(problem),
    };
    let found = machine.intent.generation;
    if update.expect_generation != 0 && (made || update.expect_generation != found) {
        return Err(Problem::GenerationMoved {
            expected: update.expect_generation,
            found: if made { 0 } else { found },
        });
    }
    if let Edit::Set(Some(name)) = &update.name
        && let Some(owner) = transaction.machine_named(name)?
        && owner.mac != machine.mac
    {
        return Err(Problem::NameTaken { name: name.clone(), mac: owner.mac.to_string() });
    }
    if let Edit::Set(wanted) = &update.fix_ups {
        transaction.put_fix_ups(machine.mac, wanted.as_ref())?;
    }
    let words = apply(&mut machine, update, made);
    if words.is_empty() && !made {
        return Ok(machine);
    }
    let what = if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) };
    let (kind, message) = if made {
        ("machine.made", format!("made {}{what}", machine.called()))
    } else {
        ("machine.changed", format!("changed {}{what}", machine.called()))
    };
    let machine = transaction.put_machine(machine)?;
    let mac = Some(machine.mac);
    transaction.event(NewEvent { kind, actor, mac, message, ..NewEvent::default() })?;
    Ok(machine)
}

/// Applies the update; returns in words what changed.
fn apply(machine: &mut Machine, update: Update, made: bool) -> Vec<String> {
    let mut words = Vec::new();
    let intent = &mut machine.intent;
    let told = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    if let Some(name) = update.name.change(intent.name.as_ref()) {
        words.push(format!("name {}", told(name.clone())));
        intent.name = name;
    }
    // How it boots says nothing about what its disk is to hold.
    if let Some(chain) = update.chain.change(intent.chain.as_ref()) {
        words.push(format!("chain {}", told(chain.map(|chain| chain.to_string()))));
        intent.chain = chain;
    }
    if let Some(entry) = update.boot_entry.change(intent.boot_entry.as_ref()) {
        words.push(format!("boot entry {}", told(entry.map(|entry| entry.to_string()))));
        intent.boot_entry = entry;
    }
    if let Some(is_ok) = update.failing_disk_ok.filter(|is_ok| *is_ok != intent.failing_disk_ok) {
        words.push(format!("failing disk {}", if is_ok { "ok" } else { "not ok" }));
        intent.failing_disk_ok = is_ok;
    }
    // Contents are not compared: what is shown has none. That there were none and are none is no change.
    if let Edit::Set(wanted) = update.fix_ups
        && (wanted.is_some() || intent.fix_ups.is_some())
    {
        intent.fix_ups = wanted.map(|wanted| WireFixUps::from(&wanted).without_contents());
        let named = intent.fix_ups.as_ref().map(|wanted| wanted.words().join(", "));
        words.push(format!("fix-ups {}", told(named)));
    }
    let before = words.len();
    if let Some(policy) = update.policy.filter(|policy| *policy != intent.policy) {
        words.push(format!("policy {policy}"));
        intent.policy = policy;
    }
    if let Some(image) = update.image.change(intent.image.as_ref()) {
        words.push(format!("image {}", told(image.as_ref().map(ToString::to_string))));
        intent.image = image;
    }
    if let Some(disk) = update.disk.change(intent.disk.as_ref()) {
        words.push(format!("disk {}", told(disk.as_ref().map(ToString::to_string))));
        intent.disk = disk;
    }
    if update.rearm {
        words.push("rearmed".into());
    }
    let began = words.len() > before;
    if update.reset_way {
        machine.let_go();
        words.push("boots in the usual way again".into());
    }
    // A machine that was just made is in its first generation already.
    if began && !made {
        machine.begin_generation();
        words.push(format!("generation {}", machine.intent.generation));
    }
    words
}

/// Forgets a machine.
pub(crate) fn delete_machine(
    transaction: &mut Transaction<'_>,
    called: &str,
    actor: String,
) -> Result<(), Problem> {
    let machine = find_machine(transaction, called)?;
    if let Some(run) = machine.running() {
        return Err(Problem::RunUnderWay(run.id.clone()));
    }
    transaction.delete_machine(machine.mac)?;
    transaction.event(NewEvent {
        kind: "machine.deleted",
        actor,
        mac: Some(machine.mac),
        message: format!("forgot {}", machine.called()),
        ..NewEvent::default()
    })?;
    Ok(())
}

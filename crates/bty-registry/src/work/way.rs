//! How a machine is booted, learned from its boots: what did not work is done the other way the next time.
//!
//! Each choice has two sides, because each has failed where the other worked: iPXE with the firmware's network driver hangs on
//! some boards and iPXE with its own on others; some firmware goes on to the disk when iPXE exits, and some starts over.

use std::time::{Duration, SystemTime};

use bty_api::{
    registry::v1::Contact,
    types::v1::{Platform, Stage},
};
use bty_types::BootChain;

use crate::{decide::RETURNS_UNTIL_OTHER_EXIT, record::Machine, rules::Rules};

/// A boot program that has not been heard of for so long is given up: spanning tree keeps a port silent for up to 50 s after
/// the program has reset its card, and iPXE waits for that.
pub(crate) const PROGRAM_SILENT: Duration = Duration::from_mins(3);
/// A firmware that asks again sooner was given no time to fail: it refused the program. Later, somebody has switched the
/// machine off because it hung.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);
/// A machine that its firmware was to send to the disk at a restart, and that is back so soon, may not have booted it: a server's
/// self-test takes up to four minutes. Or its system has restarted it at once.
const RESTARTED_WITHIN: Duration = Duration::from_mins(5);

/// What was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lesson {
    /// The event's kind.
    pub kind: &'static str,
    /// What happened, and what is done about it.
    pub message: String,
}

/// Takes a contact that is about to be recorded; `stage` is the one that it brings the machine to.
pub(super) fn learn(
    machine: &mut Machine,
    contact: &Contact,
    stage: Stage,
    rules: &Rules,
    at: SystemTime,
) -> Option<Lesson> {
    let chain = machine.intent.chain.unwrap_or(rules.boot_chain);
    take_platform(machine, contact.platform());
    let is_start = stage == Stage::Firmware || stage == Stage::Ipxe;
    if !is_start || contact.failed {
        return None;
    }
    let since = at.duration_since(machine.observed.stage_at?).ok()?;
    match (machine.observed.stage, stage) {
        (Stage::BootProgram, Stage::Firmware) if since < REFUSED_WITHIN => {
            refused(machine, chain, since)
        }
        (Stage::BootProgram, Stage::Firmware) => give_up_program(machine, chain, since, at),
        (Stage::Local, _) => back_from_disk(machine, contact, rules.back_within, since),
        (Stage::Finished, _) => back_from_restart(machine, since),
        _ => None,
    }
}

/// Takes it that nothing was heard of a machine since it fetched its boot program.
pub(super) fn program_was_silent(
    machine: &mut Machine,
    chain: BootChain,
    now: SystemTime,
) -> Option<Lesson> {
    let since = now.duration_since(machine.observed.stage_at?).ok()?;
    let is_due = machine.observed.stage == Stage::BootProgram && since >= PROGRAM_SILENT;
    if is_due { give_up_program(machine, chain, since, now) } else { None }
}

/// Another firmware has other faults.
fn take_platform(machine: &mut Machine, platform: Platform) {
    let known = machine.observed.platform;
    if platform == Platform::Unspecified || platform == known {
        return;
    }
    machine.observed.platform = platform;
    if known != Platform::Unspecified {
        machine.reset_way();
    }
}

fn refused(machine: &Machine, chain: BootChain, since: Duration) -> Option<Lesson> {
    if machine.observed.platform != Platform::UefiX64 || chain != BootChain::Ipxe {
        return None;
    }
    Some(Lesson {
        kind: "boot.refused",
        message: format!(
            "its firmware asks again {} s after it fetched the boot program, and so does not run it: if Secure Boot is on, \
             btyctl machine set {} --chain shim",
            since.as_secs(),
            machine.mac
        ),
    })
}

fn give_up_program(
    machine: &mut Machine,
    chain: BootChain,
    since: Duration,
    at: SystemTime,
) -> Option<Lesson> {
    let takes_ipxe = chain == BootChain::Ipxe || machine.observed.platform != Platform::UefiX64;
    let way = &mut machine.observed.way;
    // Once for each time that it fetched a program.
    let was_moved = way.moved_at.zip(machine.observed.stage_at);
    if !takes_ipxe || was_moved.is_some_and(|(moved, fetched)| moved >= fetched) {
        return None;
    }
    way.own_drivers = !way.own_drivers;
    way.moved_at = Some(at);
    let whose = if way.own_drivers { "its own network drivers" } else { "the firmware's driver" };
    Some(Lesson {
        kind: "boot.way",
        message: format!(
            "nothing was heard of it for {} s after it fetched its boot program: from now on it gets iPXE with {whose}",
            since.as_secs()
        ),
    })
}

/// Back after we sent it to its disk. So soon, its firmware went on, without a self-test between: then it has not booted.
fn back_from_disk(
    machine: &mut Machine,
    contact: &Contact,
    back_within: Duration,
    since: Duration,
) -> Option<Lesson> {
    let attempt = machine.observed.attempt.as_ref()?;
    // UEFI tries HTTP Boot of the same card before the disk.
    if !attempt.paths.contains(&contact.path()) {
        return None;
    }
    if since >= back_within {
        machine.observed.count_returns_anew();
        return None;
    }
    let observed = &mut machine.observed;
    observed.returns = observed.returns.saturating_add(1);
    let next = if observed.returns.is_multiple_of(RETURNS_UNTIL_OTHER_EXIT) {
        observed.way.other_exit = !observed.way.other_exit;
        "from now on it is sent there another way"
    } else {
        "its disk does not boot, or its firmware did not go there"
    };
    Some(Lesson {
        kind: "boot.returned",
        message: format!(
            "it is back {} s after it was sent to its disk, {} in a row: {next}",
            since.as_secs(),
            times(observed.returns)
        ),
    })
}

/// Back after a flash whose agent had told the firmware to boot the disk. That alone proves nothing, and the firmware did not go the
/// way that we send it, so it is counted by itself: the ways stay, and `decide` sends the machine to its disk before it holds it.
fn back_from_restart(machine: &mut Machine, since: Duration) -> Option<Lesson> {
    let observed = &mut machine.observed;
    // The turn began with the end of the run; where it did not, the machine was to come back.
    if observed.disk_turn_at.is_none() || observed.disk_turn_at != observed.stage_at {
        return None;
    }
    if since >= RESTARTED_WITHIN {
        observed.count_returns_anew();
        return None;
    }
    observed.restart_returns = observed.restart_returns.saturating_add(1);
    Some(Lesson {
        kind: "boot.returned",
        message: format!(
            "it is back {} s after its firmware was told to boot the disk, {} in a row: its disk does not boot, or it was \
             started again",
            since.as_secs(),
            times(observed.restart_returns)
        ),
    })
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use bty_api::types::v1::{Action, BootPath};
    use bty_types::Policy;

    use super::*;
    use crate::record::Attempt;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn machine(stage: Stage) -> Machine {
        let mut machine =
            Machine::new("52:54:00:77:00:01".parse().unwrap(), Policy::FlashAlways, at(0));
        machine.reached(stage, at(0));
        machine.observed.platform = Platform::UefiX64;
        machine
    }

    fn sent_to_its_disk(paths: &[BootPath]) -> Machine {
        let mut machine = machine(Stage::Local);
        machine.observed.attempt =
            Some(Attempt { action: Action::Local, paths: paths.to_vec(), at: at(0) });
        machine
    }

    fn hears(machine: &mut Machine, stage: Stage, path: BootPath, second: u64) -> Option<Lesson> {
        let contact = Contact { path: path.into(), stage: stage.into(), ..Contact::default() };
        learn(machine, &contact, stage, &Rules::for_tests(), at(second))
    }

    #[test]
    fn a_program_that_hangs_is_followed_by_the_other_one() {
        let mut hung = machine(Stage::BootProgram);
        assert_eq!(program_was_silent(&mut hung, BootChain::Ipxe, at(179)), None);
        let lesson = program_was_silent(&mut hung, BootChain::Ipxe, at(180)).unwrap();
        assert!(lesson.message.contains("its own network drivers"), "{lesson:?}");
        assert!(hung.observed.way.own_drivers);
        assert_eq!(program_was_silent(&mut hung, BootChain::Ipxe, at(184)), None, "once");
        assert_eq!(hears(&mut hung, Stage::Firmware, BootPath::Pxe, 300), None, "once");
        hung.reached(Stage::BootProgram, at(310));
        assert!(hears(&mut hung, Stage::Firmware, BootPath::Pxe, 400).is_some());
        assert!(!hung.observed.way.own_drivers, "and back");
    }

    #[test]
    fn a_program_that_runs_teaches_nothing() {
        let mut running = machine(Stage::BootProgram);
        assert_eq!(hears(&mut running, Stage::Ipxe, BootPath::Pxe, 60), None);
        running.reached(Stage::Ipxe, at(60));
        assert_eq!(program_was_silent(&mut running, BootChain::Ipxe, at(900)), None);
        assert!(!running.observed.way.own_drivers);
    }

    #[test]
    fn a_program_that_is_refused_at_once_is_secure_boot() {
        let mut refusing = machine(Stage::BootProgram);
        let lesson = hears(&mut refusing, Stage::Firmware, BootPath::Http, 2).unwrap();
        assert!(lesson.message.contains("--chain shim"), "{lesson:?}");
        assert!(!refusing.observed.way.own_drivers);
        let mut bios = machine(Stage::BootProgram);
        bios.observed.platform = Platform::Bios;
        assert_eq!(hears(&mut bios, Stage::Firmware, BootPath::Pxe, 2), None);
    }

    #[test]
    fn the_signed_chain_has_no_other_program() {
        let mut hung = machine(Stage::BootProgram);
        assert_eq!(program_was_silent(&mut hung, BootChain::Shim, at(400)), None);
    }

    #[test]
    fn a_machine_that_comes_back_from_its_disk_leaves_another_way_the_second_time() {
        let mut back = sent_to_its_disk(&[BootPath::Pxe]);
        let first = hears(&mut back, Stage::Firmware, BootPath::Pxe, 5).unwrap();
        assert!(first.message.contains("once in a row"), "{first:?}");
        assert!(!back.observed.way.other_exit);
        hears(&mut back, Stage::Firmware, BootPath::Pxe, 5).unwrap();
        assert!(back.observed.way.other_exit);
        assert_eq!(back.observed.returns, 2);
        assert_eq!(hears(&mut back, Stage::Firmware, BootPath::Pxe, 100), None);
        assert_eq!(back.observed.returns, 0, "its disk has booted");
        assert!(back.observed.way.other_exit, "what worked stays");
    }

    fn flashed(disk_turn: Option<u64>) -> Machine {
        let mut machine = machine(Stage::Finished);
        machine.observed.disk_turn_at = disk_turn.map(at);
        machine
    }

    #[test]
    fn a_machine_that_is_back_from_the_disk_that_its_firmware_was_to_boot_is_noticed() {
        let mut back = flashed(Some(0));
        let lesson = hears(&mut back, Stage::Firmware, BootPath::Pxe, 299).unwrap();
        assert_eq!(lesson.kind, "boot.returned");
        assert!(lesson.message.contains("back 299 s after its firmware"), "{lesson:?}");
        assert_eq!((back.observed.restart_returns, back.observed.way.other_exit), (1, false));
        back.reached(Stage::Finished, at(300));
        back.observed.disk_turn_at = Some(at(300));
        hears(&mut back, Stage::Ipxe, BootPath::Http, 340).unwrap();
        assert_eq!((back.observed.restart_returns, back.observed.way.other_exit), (2, false));
        assert_eq!(back.observed.returns, 0, "bty did not send it there");
    }

    #[test]
    fn returns_by_the_firmware_do_not_change_which_way_comes_next() {
        // Three returns from restarts, then the ways to the disk in their order: the usual one twice, and then the other.
        let mut back = flashed(Some(0));
        for _ in 0..3 {
            hears(&mut back, Stage::Firmware, BootPath::Pxe, 40).unwrap();
        }
        back.observed.attempt = sent_to_its_disk(&[BootPath::Pxe]).observed.attempt;
        let mut ways = Vec::new();
        for _ in 0..3 {
            ways.push(back.observed.way.other_exit);
            back.reached(Stage::Local, at(50));
            hears(&mut back, Stage::Firmware, BootPath::Pxe, 55).unwrap();
        }
        assert_eq!(ways, [false, false, true]);
        assert_eq!((back.observed.returns, back.observed.restart_returns), (3, 3));
    }

    #[test]
    fn how_soon_is_at_once_can_be_set() {
        let rules = Rules { back_within: Duration::from_mins(1), ..Rules::for_tests() };
        let contact = Contact { path: BootPath::Pxe.into(), ..Contact::default() };
        for (second, returns) in [(59, 1), (60, 0)] {
            let mut slow = sent_to_its_disk(&[BootPath::Pxe]);
            learn(&mut slow, &contact, Stage::Firmware, &rules, at(second));
            assert_eq!(slow.observed.returns, returns, "after {second} s");
        }
    }

    #[test]
    fn a_system_that_ran_for_a_while_has_booted() {
        let mut ran = flashed(Some(0));
        (ran.observed.returns, ran.observed.restart_returns) = (2, 2);
        assert_eq!(hears(&mut ran, Stage::Firmware, BootPath::Pxe, 300), None);
        assert_eq!((ran.observed.returns, ran.observed.restart_returns), (0, 0));
    }

    #[test]
    fn a_machine_that_was_to_come_back_is_no_return() {
        // Its firmware was told nothing, or told at an earlier flash and it has reported its hardware since.
        for disk_turn in [None, Some(100)] {
            let mut machine = flashed(disk_turn);
            assert_eq!(hears(&mut machine, Stage::Firmware, BootPath::Pxe, 5), None);
            assert_eq!(machine.observed.restart_returns, 0);
        }
    }

    #[test]
    fn http_boot_of_the_same_card_is_no_return() {
        let mut machine = sent_to_its_disk(&[BootPath::Pxe]);
        assert_eq!(hears(&mut machine, Stage::Firmware, BootPath::Http, 5), None);
        assert_eq!(machine.observed.returns, 0);
    }

    #[test]
    fn another_firmware_begins_anew() {
        let mut changed = machine(Stage::Script);
        changed.observed.way.own_drivers = true;
        let contact = Contact { platform: Platform::Bios.into(), ..Contact::default() };
        learn(&mut changed, &contact, Stage::Firmware, &Rules::for_tests(), at(900));
        assert!(!changed.observed.way.own_drivers);
        assert_eq!(changed.observed.platform, Platform::Bios);
    }
}

//! The decision as tables, and what must hold of it for any state.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bty_api::types::v1::{Action, BootPath};
use bty_types::{BootChain, ImageId, MacAddr, Policy};
use proptest::{option, prelude::*};

use super::{Asker, COMING_UP, PROOF_MISMATCH, Resolved, Surroundings, explain, what_next};
use crate::record::{Attempt, Failure, Flashed, LatestRun, Machine, RunState};

const BOOT: &str = "0192-boot";
const OTHER_BOOT: &str = "0192-other";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn id(byte: u8) -> ImageId {
    ImageId::new([byte; 32])
}

fn around() -> Surroundings {
    Surroundings { image: Resolved::Present(id(1)), max_attempts: 3, boot_chain: BootChain::Ipxe }
}

/// A machine that is assigned an image and a disk, in generation 4.
fn machine(policy: Policy) -> Machine {
    let mac: MacAddr = "52:54:00:77:00:01".parse().unwrap();
    let mut machine = Machine::new(mac, policy, at(0));
    machine.intent.generation = 4;
    machine.intent.image = Some("debian:13".parse().unwrap());
    machine.intent.disk = Some("serial:S1".parse().unwrap());
    machine
}

/// After a good flash of its generation.
fn flashed(policy: Policy) -> Machine {
    let mut machine = machine(policy);
    machine.observed.finished_generation = 4;
    machine.observed.flashed = Some(Flashed { image: id(1), at: at(10) });
    machine
}

fn failed(reason: &str, attempts: u32) -> Machine {
    let mut machine = machine(Policy::FlashOnce);
    machine.observed.attempts = attempts;
    machine.observed.failure = Some(Failure {
        generation: 4,
        reason: reason.into(),
        message: format!("{reason} happened"),
    });
    machine
}

/// After so many tries, the last of which began at second 100 and has not ended.
fn trying(attempts: u32, run: Option<RunState>) -> Machine {
    let mut machine = machine(Policy::FlashOnce);
    machine.observed.attempts = attempts;
    machine.observed.open_boot_id = Some(BOOT.into());
    machine.observed.attempt =
        Some(Attempt { action: Action::Flash, paths: vec![BootPath::Pxe], at: at(100) });
    machine.observed.run =
        run.map(|state| LatestRun { id: "run".into(), state, boot_id: BOOT.into(), percent: 0 });
    machine
}

fn told(
    machine: &Machine,
    around: &Surroundings,
    asker: Asker<'_>,
    now: SystemTime,
) -> (Action, String) {
    let decision = what_next(machine, around, asker, now);
    (decision.action, decision.reason)
}

fn after(mut machine: Machine, change: fn(&mut Machine)) -> Machine {
    change(&mut machine);
    machine
}

fn assert_told(rows: Vec<(&str, Machine, Action, &str)>) {
    for (name, machine, action, reason) in rows {
        let want = (action, reason.to_owned());
        assert_eq!(told(&machine, &around(), Asker::PowerOn, at(30)), want, "{name}");
        let agent = Asker::Agent { boot_id: BOOT };
        assert_eq!(told(&machine, &around(), agent, at(30)), want, "{name}, an agent");
    }
}

const NEW_WISH: fn(&mut Machine) = Machine::begin_generation;
const NO_DISK: fn(&mut Machine) = |machine| machine.intent.disk = None;
const DISK_TURN: fn(&mut Machine) = |machine| machine.observed.disk_turn_at = Some(at(20));

/// Back from its disk so often in a row; the latest power-on was told this.
fn back(mut machine: Machine, returns: u32, told: Action) -> Machine {
    machine.observed.returns = returns;
    machine.observed.attempt = Some(Attempt { action: told, paths: Vec::new(), at: at(15) });
    machine
}

/// Back so often in a row from restarts at which its firmware was to boot the disk.
fn back_by_firmware(mut machine: Machine, returns: u32) -> Machine {
    machine.observed.restart_returns = returns;
    machine.observed.attempt =
        Some(Attempt { action: Action::Flash, paths: Vec::new(), at: at(15) });
    machine
}

#[test]
fn local_and_inventory() {
    use Policy::{Inventory, Local};
    let (work, done) = ("the hardware is not on record yet", "the hardware is on record");
    assert_told(vec![
        ("local", machine(Local), Action::Local, "the policy is local"),
        ("never reported", machine(Inventory), Action::Inventory, work),
        ("needs no disk", after(machine(Inventory), NO_DISK), Action::Inventory, work),
        ("reported", flashed(Inventory), Action::Local, done),
        ("rearmed", after(flashed(Inventory), NEW_WISH), Action::Inventory, work),
    ]);
}

#[test]
fn flash_once() {
    use Policy::FlashOnce;
    let (work, done) = ("generation 4 is not flashed yet", "generation 4 is flashed");
    let new_work = "generation 5 is not flashed yet";
    let no_disk = "no disk is chosen: set one";
    assert_told(vec![
        ("not yet", machine(FlashOnce), Action::Flash, work),
        ("done", flashed(FlashOnce), Action::Local, done),
        ("done, the disk had a turn", after(flashed(FlashOnce), DISK_TURN), Action::Local, done),
        ("a new wish", after(flashed(FlashOnce), NEW_WISH), Action::Flash, new_work),
        ("no disk", after(machine(FlashOnce), NO_DISK), Action::Hold, no_disk),
        ("done, then no disk", after(flashed(FlashOnce), NO_DISK), Action::Local, done),
    ]);
}

#[test]
fn flash_always() {
    use Policy::FlashAlways;
    let turn = "it was flashed, and its disk has its one turn";
    let new_work = "generation 5 is not flashed yet";
    let again = "its disk has had its one turn";
    assert_told(vec![
        ("not yet", machine(FlashAlways), Action::Flash, "generation 4 is not flashed yet"),
        ("done", flashed(FlashAlways), Action::Local, turn),
        ("after the disk's turn", after(flashed(FlashAlways), DISK_TURN), Action::Flash, again),
        ("a new wish", after(flashed(FlashAlways), NEW_WISH), Action::Flash, new_work),
    ]);
}

#[test]
fn a_disk_that_does_not_boot_is_flashed_and_tried_so_often_and_then_holds() {
    use Action::{Flash, Hold, Local};
    use Policy::{FlashAlways, FlashOnce};
    let held = "it was flashed and came back from its disk at once, 3 times in a row: the image does not boot here, or the \
                firmware does not go to the disk; btyctl machine set 52:54:00:77:00:01 --reset-way sends it there again, \
                --rearm flashes it again";
    let (done, again) = ("generation 4 is flashed", "its disk has had its one turn");
    let turn = "it was flashed, and its disk has its one turn";
    let (once, always) = (|| flashed(FlashOnce), || flashed(FlashAlways));
    let after_turn = || after(always(), DISK_TURN);
    let show = "its disk has a turn to show that it boots";
    let new_work = "generation 5 is not flashed yet";
    assert_told(vec![
        ("once, back twice", back(once(), 2, Local), Local, done),
        ("once, back by us", back(once(), 3, Local), Hold, held),
        ("once, held already", back(once(), 3, Hold), Hold, held),
        ("once, back by its firmware only", back_by_firmware(once(), 3), Local, done),
        ("once, a new wish", after(back(once(), 3, Hold), NEW_WISH), Flash, new_work),
        ("once, let go", after(back(once(), 3, Hold), Machine::let_go), Local, done),
        ("always, back twice", back(after_turn(), 2, Local), Flash, again),
        ("always, back by its firmware twice", back_by_firmware(after_turn(), 2), Flash, again),
        ("always, back by its firmware only", back_by_firmware(after_turn(), 3), Local, show),
        ("always, and then by us", back(back_by_firmware(after_turn(), 3), 2, Local), Local, show),
        ("always, by us again", back(back_by_firmware(after_turn(), 3), 3, Local), Hold, held),
        ("always, back by us", back(after_turn(), 3, Local), Hold, held),
        ("always, held already", back(after_turn(), 3, Hold), Hold, held),
        ("always, flashed and not told", back(always(), 3, Flash), Local, turn),
        ("always, let go", after(back(after_turn(), 3, Hold), Machine::let_go), Local, turn),
        ("always, usual way again", after(after_turn(), Machine::let_go), Flash, again),
    ]);
}

#[test]
fn a_machine_is_held_only_when_both_ways_to_its_disk_were_tried() {
    use Policy::{FlashAlways, FlashOnce};
    for max_attempts in [1, 2] {
        let around = Surroundings { max_attempts, ..around() };
        let next = |machine| told(&machine, &around, Asker::PowerOn, at(30)).0;
        for (returns, action) in [(1, Action::Local), (2, Action::Local), (3, Action::Hold)] {
            let once = back(flashed(FlashOnce), returns, Action::Local);
            assert_eq!(next(once), action, "once, {returns} of {max_attempts}");
            let always = back(after(flashed(FlashAlways), DISK_TURN), returns, Action::Local);
            let action = if returns < max_attempts { Action::Flash } else { action };
            assert_eq!(next(always), action, "always, {returns} of {max_attempts}");
        }
    }
}

#[test]
fn a_machine_that_is_held_for_its_disk_is_told_both_ways_on() {
    let held = back(flashed(Policy::FlashOnce), 3, Action::Local);
    let want = [
        "btyctl machine set 52:54:00:77:00:01 --reset-way (sends it to its disk again)",
        "btyctl machine set 52:54:00:77:00:01 --rearm (flashes it again)",
    ];
    assert_eq!(explain(&held, &around(), at(30)).hints, want);
}

#[test]
fn a_flash_without_an_image_waits_and_says_what_to_set() {
    let mut machine = machine(Policy::FlashOnce);
    let absent = Surroundings { image: Resolved::Absent, ..around() };
    let reason = "the image debian:13 is not in the store: import it, or set another";
    assert_eq!(told(&machine, &absent, Asker::PowerOn, at(0)), (Action::Hold, reason.to_owned()));
    machine.intent.image = None;
    let unset = Surroundings { image: Resolved::Unset, ..around() };
    let reason = "no image is assigned: set one";
    assert_eq!(told(&machine, &unset, Asker::PowerOn, at(0)), (Action::Hold, reason.to_owned()));
}

#[test]
fn a_failure_that_would_come_again_holds_at_once() {
    for reason in ["DISK_ABSENT", "DISK_TOO_SMALL", "IMAGE_GONE", PROOF_MISMATCH] {
        let want = (Action::Hold, format!("{reason} happened"));
        assert_eq!(told(&failed(reason, 1), &around(), Asker::PowerOn, at(0)), want);
        let mut rearmed = failed(reason, 1);
        rearmed.begin_generation();
        assert_eq!(
            told(&rearmed, &around(), Asker::PowerOn, at(0)).0,
            Action::Flash,
            "{reason}, rearmed"
        );
    }
}

#[test]
fn other_failures_are_tried_again_until_it_is_enough() {
    for (attempts, action) in
        [(1, Action::Flash), (2, Action::Flash), (3, Action::Hold), (9, Action::Hold)]
    {
        let got = told(&failed("NETWORK", attempts), &around(), Asker::PowerOn, at(0));
        assert_eq!(got.0, action, "{attempts} attempts");
        if action == Action::Hold {
            assert_eq!(got.1, format!("failed {attempts} times: NETWORK happened"));
        }
    }
}

#[test]
fn an_agent_that_never_checked_in_is_named_as_such() {
    let machine = trying(3, None);
    let late = at(100) + COMING_UP;
    let want = "failed 3 times: it was started, but its agent did not check in".to_owned();
    assert_eq!(told(&machine, &around(), Asker::PowerOn, late), (Action::Hold, want));
}

#[test]
fn the_last_try_is_not_held_against_itself() {
    let coming_up = at(100) + Duration::from_secs(5);
    let late = at(100) + COMING_UP;
    let power_on = Asker::PowerOn;
    let (own, other) = (Asker::Agent { boot_id: BOOT }, Asker::Agent { boot_id: OTHER_BOOT });
    let rows = [
        ("asked again at once", trying(3, None), power_on, coming_up, Action::Flash),
        ("asked again late", trying(3, None), power_on, late, Action::Hold),
        ("its agent checks in", trying(3, None), own, coming_up, Action::Flash),
        ("its agent checks in late", trying(3, None), own, late, Action::Flash),
        ("its agent is at work", trying(3, Some(RunState::Running)), power_on, late, Action::Flash),
        (
            "another agent checks in",
            trying(3, Some(RunState::Running)),
            other,
            coming_up,
            Action::Hold,
        ),
        ("a power-on too many", trying(4, None), power_on, coming_up, Action::Hold),
        ("its agent checks in", trying(4, None), own, coming_up, Action::Hold),
        ("the clock was set back", trying(3, None), power_on, at(0), Action::Hold),
    ];
    for (name, machine, asker, now, action) in rows {
        assert_eq!(told(&machine, &around(), asker, now).0, action, "{name}");
    }
}

#[test]
fn a_failure_of_an_earlier_generation_is_no_obstacle() {
    let mut machine = failed("DISK_ABSENT", 0);
    machine.intent.generation = 5;
    assert_eq!(told(&machine, &around(), Asker::PowerOn, at(0)).0, Action::Flash);
}

#[test]
fn explaining_names_a_tag_that_moved_and_how_to_follow_it() {
    let moved = Surroundings { image: Resolved::Present(id(2)), ..around() };
    let explained = explain(&flashed(Policy::FlashOnce), &moved, at(30));
    assert_eq!(explained.decision.action, Action::Local);
    let facts = [
        "the policy is flash-once, in generation 4".to_owned(),
        format!("the image debian:13 is {} now", id(2)),
        "the disk to write is serial:S1".to_owned(),
        format!("the latest good flash proved {}", id(1)),
        "debian:13 has moved since: that alone does not flash it again".to_owned(),
        "generation 4 is finished".to_owned(),
    ];
    assert_eq!(explained.facts, facts);
    let hint = "btyctl machine set 52:54:00:77:00:01 --rearm (flashes what the name means now)";
    assert_eq!(explained.hints, [hint]);
}

#[test]
fn explaining_a_missing_disk_offers_those_there_are() {
    use bty_api::types::v1::{Disk, Hardware};
    let mut machine = machine(Policy::FlashOnce);
    machine.intent.disk = None;
    let hint = |machine: &Machine| explain(machine, &around(), at(0)).hints;
    assert!(hint(&machine)[0].contains("--policy inventory"), "{:?}", hint(&machine));
    let disk = |path: &str, serial: &str| Disk {
        path: path.into(),
        serial: serial.into(),
        model: "QEMU".into(),
        size_bytes: 4096,
        ..Disk::default()
    };
    let disks = vec![disk("/dev/sda", "S9"), disk("/dev/sdb", "")];
    machine.observed.hardware = Some(Hardware { disks, ..Hardware::default() });
    let want = [
        "btyctl machine set 52:54:00:77:00:01 --disk serial:S9 (/dev/sda QEMU, 4096 bytes)",
        "btyctl machine set 52:54:00:77:00:01 --disk path:/dev/sdb (/dev/sdb QEMU, 4096 bytes)",
    ];
    assert_eq!(hint(&machine), want);
}

#[test]
fn explaining_a_missing_disk_prefers_a_number_that_is_the_disks_own() {
    use bty_api::types::v1::{Disk, Hardware};
    let mut machine = machine(Policy::FlashOnce);
    machine.intent.disk = None;
    let rows = [
        ("S1", "", "serial:S1"),
        ("S1", "0x5000c500a1b2c3d4", "wwn:0x5000c500a1b2c3d4"),
        ("", "0x5000c500a1b2c3d4", "wwn:0x5000c500a1b2c3d4"),
        ("S1", "t10.ATA QEMU HARDDISK S1", "serial:S1"),
        ("", "t10.ATA QEMU HARDDISK S1", "wwn:t10.ATA QEMU HARDDISK S1"),
    ];
    for (serial, wwn, want) in rows {
        let disk = Disk { serial: serial.into(), wwn: wwn.into(), ..Disk::default() };
        machine.observed.hardware = Some(Hardware { disks: vec![disk], ..Hardware::default() });
        let hints = explain(&machine, &around(), at(0)).hints;
        assert!(hints[0].contains(&format!("--disk {want} (")), "{hints:?}");
    }
}

fn any_machine() -> impl Strategy<Value = Machine> {
    let policy = prop::sample::select(&Policy::ALL[..]);
    let state = prop::sample::select(vec![
        RunState::Running,
        RunState::Succeeded,
        RunState::Failed,
        RunState::Lost,
    ]);
    let run = option::of((state, any::<bool>()));
    let failure = option::of((0..6_u64, prop::sample::select(vec!["DISK_ABSENT", "NETWORK"])));
    let wish = (policy, any::<bool>(), any::<bool>(), 1..6_u64);
    let asked =
        (0..400_u64, prop::sample::select(vec![Action::Flash, Action::Local, Action::Hold]));
    let seen = (0..6_u64, 0..6_u32, any::<bool>(), option::of(asked), any::<bool>(), 0..6_u32);
    (wish, seen, run, failure).prop_map(|(wish, seen, run, failure)| {
        let (policy, has_image, has_disk, generation) = wish;
        let (finished, attempts, is_open, asked, had_turn, returns) = seen;
        let mut machine = machine(policy);
        machine.intent.generation = generation;
        machine.intent.image = machine.intent.image.filter(|_| has_image);
        machine.intent.disk = machine.intent.disk.filter(|_| has_disk);
        let observed = &mut machine.observed;
        observed.finished_generation = finished;
        observed.attempts = attempts;
        observed.open_boot_id = is_open.then(|| BOOT.to_owned());
        observed.returns = returns;
        observed.restart_returns = attempts;
        observed.attempt =
            asked.map(|(seconds, action)| Attempt { action, paths: Vec::new(), at: at(seconds) });
        observed.disk_turn_at = had_turn.then(|| at(50));
        observed.run = run.map(|(state, is_own)| LatestRun {
            id: "run".into(),
            state,
            boot_id: if is_own { BOOT } else { OTHER_BOOT }.into(),
            percent: 0,
        });
        observed.failure = failure.map(|(generation, reason)| Failure {
            generation,
            reason: reason.into(),
            message: "it failed".into(),
        });
        machine
    })
}

proptest! {
    #[test]
    fn for_any_state_there_is_one_sound_answer(
        machine in any_machine(),
        image in prop::sample::select(vec![Resolved::Unset, Resolved::Absent, Resolved::Present(id(1))]),
        as_agent in any::<bool>(),
        seconds in 0..1000_u64,
    ) {
        let around = Surroundings { image, ..around() };
        let asker = if as_agent { Asker::Agent { boot_id: BOOT } } else { Asker::PowerOn };
        let (action, reason) = told(&machine, &around, asker, at(seconds));
        prop_assert!(!reason.is_empty());
        prop_assert_ne!(action, Action::Unspecified);
        let wants_flash = matches!(machine.intent.policy, Policy::FlashOnce | Policy::FlashAlways);
        let finished = machine.observed.finished_generation >= machine.intent.generation;
        if action == Action::Flash {
            prop_assert!(wants_flash && machine.intent.disk.is_some() && matches!(image, Resolved::Present(_)));
            prop_assert!(machine.observed.attempts <= 3, "nothing loops");
        }
        // Work that is not done never turns into a boot of the disk.
        if action == Action::Local && machine.intent.policy != Policy::Local {
            prop_assert!(finished);
        }
        let explained = explain(&machine, &around, at(seconds));
        prop_assert!(!explained.facts.is_empty());
        prop_assert!(explained.decision.action != Action::Hold || !explained.hints.is_empty(), "a hold without a hint");
    }
}

//! Which power-on a request for a boot script belongs to, and so what it is told.
//!
//! One power-on may ask several times: UEFI firmware tries PXE, is sent to its disk, and tries HTTP Boot of the same card before
//! the disk's turn comes; a lost answer is asked for again. All of these must get the same answer, or a machine that flashes
//! and boots its disk by turns would flash where its disk's turn was.

use std::time::{Duration, SystemTime};

use bty_api::{
    convert::{system_time, timestamp},
    registry::v1::{BootAttempt, MachineBoot},
    types::v1::{Action, BootPath},
};

/// Within this time after a request, one by another way of the firmware is the same power-on: it tries one way after the
/// other, and no power-on begins with the way that came second the last time.
const OTHER_WAY: Duration = Duration::from_mins(3);
/// Within this time, a question by the same way that is asked again is the same power-on; iPXE asks every few seconds, and
/// may have waited for an answer that was lost.
const SAME_WAY: Duration = Duration::from_mins(1);

/// A request for a boot script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The firmware's way.
    pub path: BootPath,
    /// Whether iPXE has only just started.
    pub is_first: bool,
}

/// What a request for a boot script is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What to do.
    pub action: Action,
    /// Why, for the screen.
    pub reason: String,
    /// Whether a new power-on began.
    pub new_attempt: bool,
    /// The power-on, this request included.
    pub attempt: BootAttempt,
}

/// Answers a request that came at `now` from a machine that the registry knows.
pub fn answer(machine: &MachineBoot, question: Question, now: SystemTime) -> Answer {
    let path = question.path;
    let earlier = machine.attempt.as_ref().filter(|attempt| belongs(attempt, question, now));
    let mut paths: Vec<i32> = earlier.map(|attempt| attempt.paths.clone()).unwrap_or_default();
    if !paths.contains(&path.into()) {
        paths.push(path.into());
    }
    // Only a turn of the disk must be kept: what else a machine is told follows from what it has done, which the registry
    // knows better than the last answer.
    let kept = earlier.filter(|attempt| attempt.action() == Action::Local);
    let action = kept.map_or_else(|| machine.action(), BootAttempt::action);
    let reason = match kept {
        Some(_) if machine.action() != Action::Local => "it is still the disk's turn".to_owned(),
        _ => machine.reason.clone(),
    };
    let attempt = BootAttempt { action: action.into(), paths, at: Some(timestamp(now)) };
    Answer { action, reason, new_attempt: earlier.is_none(), attempt }
}

fn belongs(attempt: &BootAttempt, question: Question, now: SystemTime) -> bool {
    // A waiting machine asks again and again, and each time counts afresh.
    if attempt.action() == Action::Hold {
        return false;
    }
    let Some(at) = system_time(attempt.at.as_ref()) else { return false };
    // A clock that was set back must not glue all coming boots to this one.
    let Ok(since) = now.duration_since(at) else { return false };
    if attempt.paths.contains(&question.path.into()) {
        !question.is_first && since < SAME_WAY
    } else {
        since < OTHER_WAY
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const PXE: Question = Question { path: BootPath::Pxe, is_first: true };
    const PXE_AGAIN: Question = Question { is_first: false, ..PXE };
    const HTTP: Question = Question { path: BootPath::Http, is_first: true };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn machine(next: Action, attempt: Option<(Action, &[Question], u64)>) -> MachineBoot {
        MachineBoot {
            mac: "52:54:00:77:00:01".into(),
            action: next.into(),
            reason: "the registry says so".into(),
            attempt: attempt.map(|(action, paths, seconds)| BootAttempt {
                action: action.into(),
                paths: paths.iter().map(|question| question.path.into()).collect(),
                at: Some(timestamp(at(seconds))),
            }),
            ..MachineBoot::default()
        }
    }

    #[test]
    fn a_table_of_power_ons() {
        use Action::{Flash, Hold, Local};
        // Next action, earlier attempt, way and second of this request; then the action and whether a power-on began.
        type Row<'a> =
            (&'a str, Action, Option<(Action, &'a [Question], u64)>, Question, u64, Action, bool);
        let rows: [Row<'_>; 12] = [
            ("first boot ever", Flash, None, PXE, 0, Flash, true),
            (
                "the disk's turn, asked for again by HTTP",
                Flash,
                Some((Local, &[PXE], 0)),
                HTTP,
                12,
                Local,
                false,
            ),
            (
                "the disk's turn, the answer was lost",
                Flash,
                Some((Local, &[PXE], 0)),
                PXE_AGAIN,
                34,
                Local,
                false,
            ),
            ("a reset at once", Flash, Some((Local, &[PXE], 0)), PXE, 2, Flash, true),
            ("the next power-on", Flash, Some((Local, &[PXE], 0)), PXE, 40, Flash, true),
            ("one that asks late", Flash, Some((Local, &[PXE], 0)), PXE_AGAIN, 90, Flash, true),
            (
                "the next power-on after both ways",
                Flash,
                Some((Local, &[PXE, HTTP], 0)),
                PXE,
                40,
                Flash,
                true,
            ),
            ("HTTP long after", Flash, Some((Local, &[PXE], 0)), HTTP, 200, Flash, true),
            (
                "the flash is done, HTTP comes",
                Local,
                Some((Flash, &[PXE], 0)),
                HTTP,
                60,
                Local,
                false,
            ),
            ("a waiting machine is let go", Flash, Some((Hold, &[PXE], 0)), PXE, 5, Flash, true),
            (
                "a flash whose script was lost",
                Flash,
                Some((Flash, &[PXE], 0)),
                PXE_AGAIN,
                3,
                Flash,
                false,
            ),
            ("the clock was set back", Flash, Some((Local, &[PXE], 100)), HTTP, 0, Flash, true),
        ];
        for (name, next, attempt, question, second, action, new_attempt) in rows {
            let got = answer(&machine(next, attempt), question, at(second));
            assert_eq!((got.action, got.new_attempt), (action, new_attempt), "{name}");
            assert!(got.attempt.paths.contains(&question.path.into()), "{name}");
            assert_eq!(got.attempt.action(), action, "{name}");
        }
    }

    #[test]
    fn a_power_on_remembers_all_its_ways() {
        let got = answer(&machine(Action::Local, Some((Action::Local, &[PXE], 0))), HTTP, at(12));
        assert_eq!(got.attempt.paths, [i32::from(BootPath::Pxe), i32::from(BootPath::Http)]);
    }
}

//! An agent ends its run.

use bty_types::ImageId;

use super::{
    check_in::Boot,
    progress::revive,
    run_end::{self, Ended},
};
use crate::{
    decide::PROOF_MISMATCH,
    problem::Problem,
    receipt::{self, Key},
    record::{FlashRecord, Run, RunFailure, RunState},
    store::Transaction,
};

/// Bytes of a log that are kept: its end, which tells most.
const LOG_BYTES: usize = 64 * 1024;
/// Bytes of a reason and of a message.
const REASON_BYTES: usize = 64;
const MESSAGE_BYTES: usize = 4096;

/// How an agent says that its run ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The image is on the disk.
    Flashed(Box<FlashRecord>),
    /// The hardware was reported.
    Inventoried,
    /// It failed.
    Failed(RunFailure),
}

/// Takes the end of a run, and gives a good flash its receipt; returns whether the machine is to restart now.
pub(crate) fn finish(
    transaction: &mut Transaction<'_>,
    boot: &Boot,
    run_id: &str,
    outcome: Outcome,
    key: &Key,
) -> Result<bool, Problem> {
    let mut run = run_of(transaction, boot, run_id)?;
    if run.state == RunState::Lost {
        run = revive(transaction, run)?;
    }
    match run.state {
        // Said again: the answer is the same.
        RunState::Succeeded => return Ok(true),
        RunState::Failed | RunState::Lost => return Ok(false),
        RunState::Running => {}
    }
    let ended = judge(&run, outcome);
    let is_good = matches!(ended, Ended::Flashed(_) | Ended::Inventoried);
    run_end::end(transaction, run, ended, "agent")?;
    give_receipt(transaction, run_id, key)?;
    Ok(is_good)
}

/// Keeps the receipt of a run that flashed. A flash that is good is not made bad by a receipt that can't be signed.
fn give_receipt(transaction: &mut Transaction<'_>, run_id: &str, key: &Key) -> Result<(), Problem> {
    let Some(run) = transaction.run(run_id)? else { return Ok(()) };
    let name = transaction.machine(run.mac)?.and_then(|machine| machine.intent.name);
    let Some(receipt) = receipt::of(&run, name) else { return Ok(()) };
    match key.sign(&receipt) {
        Ok(signed) => transaction.put_receipt(&run.id, &signed)?,
        Err(problem) => {
            let err = bty_api::status::chain(&problem);
            tracing::error!(run = run.id, err, "a flash has no receipt");
        }
    }
    Ok(())
}

/// The run, where it is this boot's.
pub(super) fn run_of(transaction: &Transaction<'_>, boot: &Boot, id: &str) -> Result<Run, Problem> {
    transaction
        .run(id)?
        .filter(|run| run.mac == boot.mac && run.boot_id == boot.id)
        .ok_or_else(|| Problem::NotItsRun(id.to_owned()))
}

/// An end that does not fit the run is a failure of its agent.
fn judge(run: &Run, outcome: Outcome) -> Ended {
    let unfit = |message: &str| {
        Ended::Failed(RunFailure {
            reason: "AGENT_PROTOCOL".into(),
            message: message.into(),
            ..RunFailure::default()
        })
    };
    match (outcome, run.image_id) {
        (Outcome::Flashed(record), Some(image)) if record.proved_id == image => {
            Ended::Flashed(record)
        }
        (Outcome::Flashed(record), Some(image)) => Ended::Failed(mismatch(record.proved_id, image)),
        (Outcome::Flashed(_), None) => {
            unfit("the agent says that it flashed, but was to report the hardware")
        }
        (Outcome::Inventoried, None) => Ended::Inventoried,
        (Outcome::Inventoried, Some(_)) => {
            unfit("the agent says that it reported the hardware, but was to flash")
        }
        (Outcome::Failed(failure), _) => Ended::Failed(bounded(failure)),
    }
}

fn mismatch(proved: ImageId, image: ImageId) -> RunFailure {
    RunFailure {
        reason: PROOF_MISMATCH.into(),
        message: format!(
            "the disk holds {proved} where {image} was written: the disk or the memory of the machine is bad; replace it"
        ),
        ..RunFailure::default()
    }
}

fn bounded(failure: RunFailure) -> RunFailure {
    let known = !failure.reason.is_empty();
    RunFailure {
        reason: if known { ending(failure.reason, REASON_BYTES) } else { "UNKNOWN".into() },
        message: ending(failure.message, MESSAGE_BYTES),
        agent_log: ending(failure.agent_log, LOG_BYTES),
        kernel_log: ending(failure.kernel_log, LOG_BYTES),
    }
}

/// The end of a text, at most so many bytes.
fn ending(text: String, most: usize) -> String {
    let mut from = text.len().saturating_sub(most);
    if from == 0 {
        return text;
    }
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_end_in_whole_characters() {
        assert_eq!(ending("abc".into(), 3), "abc");
        assert_eq!(ending("abcdef".into(), 3), "def");
        assert_eq!(ending("aüüü".into(), 3), "ü");
        assert_eq!(ending(String::new(), 3), "");
    }
}

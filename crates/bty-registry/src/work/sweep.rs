//! What time alone changes.

use std::time::{Duration, SystemTime};

use super::{
    contact::record_lesson,
    run_end::{self, Ended},
    way::{self, PROGRAM_SILENT},
};
use crate::{decide::COMING_UP, problem::Problem, record::Run, store::Transaction};

/// For so long after a power-on came to nothing its machine is looked at again; longer than the time between two sweeps.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Ends the runs whose agents were not heard of for too long, counting from `since` at the earliest: the registry cannot have
/// heard anything before it was started, nor can it tell how long a silence was in which its clock was set. Looks again at machines whose power-on came to nothing, and changes how those boot
/// whose boot program was not heard of. Returns how many runs ended.
pub(crate) fn sweep(
    transaction: &mut Transaction<'_>,
    since: SystemTime,
) -> Result<usize, Problem> {
    let now = transaction.now();
    let lost_after = transaction.rules().lost_after;
    let (early, running): (Vec<Run>, Vec<Run>) =
        transaction.running()?.into_iter().partition(|run| run.heard_at > now);
    for mut run in early {
        // The clock was set back: else this agent could be silent until it has come that far again.
        run.heard_at = now;
        transaction.put_run(&run)?;
    }
    let is_lost = |run: &Run| {
        let heard = run.heard_at.max(since);
        now.duration_since(heard).is_ok_and(|silence| silence > lost_after)
    };
    let lost: Vec<Run> = running.into_iter().filter(is_lost).collect();
    let count = lost.len();
    for run in lost {
        let message = format!("its agent was not heard of for {} s", lost_after.as_secs());
        run_end::end(transaction, run, Ended::lost("AGENT_SILENT", &message), "registry")?;
    }
    let overdue: Vec<_> = transaction
        .machines_trying()?
        .into_iter()
        .filter(|(_, asked)| {
            now.duration_since(*asked)
                .is_ok_and(|since| (COMING_UP..COMING_UP + LOOK_AGAIN).contains(&since))
        })
        .map(|(mac, _)| mac)
        .collect();
    transaction.refresh_machines(&overdue)?;
    let before = now.checked_sub(PROGRAM_SILENT).unwrap_or(now);
    if since > before {
        return Ok(count);
    }
    for mut machine in transaction.machines_at_program(before)? {
        let chain = machine.intent.chain.unwrap_or_else(|| transaction.rules().boot_chain);
        if let Some(lesson) = way::program_was_silent(&mut machine, chain, now) {
            let mac = machine.mac;
            transaction.put_machine(machine)?;
            record_lesson(transaction, mac, lesson)?;
        }
    }
    Ok(count)
}

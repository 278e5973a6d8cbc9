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
/// heard anything before it was started, nor can it tell how long a silence was in which its clock was set. Looks again at machines
/// whose power-on came to nothing, and changes how those boot whose boot program was not heard of. Returns how many runs ended.
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

#[cfg(test)]
mod tests {
    use bty_api::types::v1::{Action, Stage};
    use bty_types::{MacAddr, Policy};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        record::{Machine, RunState},
        rules::Rules,
        store::Store,
    };

    const DAY: Duration = Duration::from_hours(24);

    fn mac() -> MacAddr {
        "52:54:00:77:00:01".parse().unwrap()
    }

    fn run(heard_at: SystemTime) -> Run {
        Run {
            id: "r1".into(),
            mac: mac(),
            boot_id: "b1".into(),
            action: Action::Inventory,
            generation: 1,
            state: RunState::Running,
            image_id: None,
            index_digest: String::new(),
            image: String::new(),
            disk_selector: String::new(),
            disk: None,
            started_at: heard_at,
            ended_at: None,
            heard_at,
            check_ins: 1,
            agent_version: String::new(),
            percent: 0,
            progress: None,
            steps: Vec::new(),
            failure: None,
            record: None,
            revision: 0,
        }
    }

    /// A store with a machine that fetched its boot program, and a run whose agent was heard, then; and the folder that it is in.
    async fn store(then: SystemTime) -> (Store, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Rules::for_tests(), |_| ()).unwrap();
        let put = store.write(move |transaction| {
            let mut machine = Machine::new(mac(), Policy::Inventory, then);
            machine.reached(Stage::BootProgram, then);
            transaction.put_machine(machine)?;
            transaction.put_run(&run(then))?;
            Ok::<_, Problem>(())
        });
        put.await.unwrap();
        (store, folder)
    }

    /// Sweeps, having listened for so long: how many runs were lost, when the agent counts as heard, and whether the machine is to get
    /// another iPXE.
    async fn swept(store: &Store, listened: Duration) -> (usize, SystemTime, bool) {
        let sweeping = store.write(move |transaction| {
            let lost = sweep(transaction, transaction.now() - listened)?;
            let heard_at = transaction.run("r1")?.unwrap().heard_at;
            let machine = transaction.machine(mac())?.unwrap();
            Ok::<_, Problem>((lost, heard_at, machine.observed.way.moved_at.is_some()))
        });
        sweeping.await.unwrap()
    }

    #[tokio::test]
    async fn a_silence_counts_from_when_the_clock_was_set_forward() {
        let then = SystemTime::now() - DAY;
        let (store, _folder) = store(then).await;
        let (lost, _, moved) = swept(&store, Duration::ZERO).await;
        assert_eq!((lost, moved), (0, false), "nobody was listening for a day");
        let (lost, _, moved) = swept(&store, Duration::from_mins(2)).await;
        assert_eq!((lost, moved), (1, false), "lost after a minute, a boot program has three");
        let (lost, _, moved) = swept(&store, Duration::from_mins(4)).await;
        assert_eq!((lost, moved), (0, true));
    }

    #[tokio::test]
    async fn what_was_heard_in_the_future_was_heard_now() {
        let before = SystemTime::now() - Duration::from_secs(1);
        let (store, _folder) = store(SystemTime::now() + DAY).await;
        let (lost, heard_at, _) = swept(&store, DAY).await;
        assert_eq!(lost, 0);
        assert!(heard_at <= SystemTime::now() && heard_at >= before, "{heard_at:?}");
    }
}

//! A whole rack is switched on: many clients of each kind at the same moment.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::appliance::{DAEMONS, DhcpMode};
use bty_tests::{appliance, live, with_logs};
use serde_json::Value;

/// Clients of each kind.
const CLIENTS: usize = 64;
/// What a daemon may have had resident at most, in bytes.
const PEAK_BYTES: u64 = 80 << 20;
/// The slowest client takes at most so many times as long as the one in the middle, and this many seconds.
const SLOWEST: f64 = 4.0;
const GRACE_SECONDS: f64 = 2.0;

/// What many.sh says of the clients of one kind: seconds, in order; an error where one did not get what it asked for.
fn seconds(report: &str, kind: &str) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    for line in report.lines().filter(|line| line.split(' ').next() == Some(kind)) {
        let words: Vec<&str> = line.split(' ').collect();
        ensure!(words.len() == 3, "a client did not get what it asked for: {line}");
        seconds.push(words.get(2).context("no time")?.parse().context("reading a time")?);
    }
    ensure!(seconds.len() == CLIENTS, "{} of {CLIENTS} {kind} clients came back", seconds.len());
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

/// How long they took, for whoever reads the test's output.
fn ensure_nobody_starves(report: &str, kind: &str) -> Result<String> {
    let seconds = seconds(report, kind)?;
    let (median, slowest) = (seconds[CLIENTS / 2], seconds[CLIENTS - 1]);
    ensure!(
        slowest <= SLOWEST * median + GRACE_SECONDS,
        "{kind}: the slowest took {slowest} s where the median took {median} s: {seconds:?}"
    );
    Ok(format!("{kind}: the median took {median:.2} s, the slowest {slowest:.2} s"))
}

#[test]
fn a_rack_that_is_switched_on_gets_everything_and_nobody_starves() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let rack = appliance.lan().add_host("rack", "")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("system/many.sh");
        let live = fs::canonicalize(live()?).context("finding the live system")?;
        let report = rack.program("sh").arg(script).arg(CLIENTS.to_string()).arg(live).run()?;
        for kind in ["tftp", "http"] {
            println!("{}", ensure_nobody_starves(&report, kind)?);
        }
        for name in DAEMONS {
            let peak = appliance.daemon(name)?.peak_bytes()?;
            println!("{name}: {} KiB resident at most", peak / 1024);
            ensure!(peak <= PEAK_BYTES, "{name} had {peak} bytes resident");
        }
        // Each iPXE asked in the name of another machine; all are on record.
        let listed = appliance.btyctl(&["machine", "list"])?;
        let machines = listed.pointer("/machines").and_then(Value::as_array).into_iter().flatten();
        let asked = machines.filter(|machine| {
            machine["mac"].as_str().is_some_and(|mac| mac.starts_with("52:54:00:77:02:"))
        });
        let asked = asked.count();
        ensure!(asked == CLIENTS, "{asked} of {CLIENTS} machines are known: {listed}");
        Ok(())
    })
}

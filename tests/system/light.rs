//! How little of a machine bty takes.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use bty_testkit::appliance::{DAEMONS, DhcpMode};
use bty_tests::{appliance, live, with_logs};

const MIB: u64 = 1 << 20;
/// What the four daemons may have resident together when nobody asks anything.
const IDLE_BYTES: u64 = 64 * MIB;
/// What a known machine may load until it flashes: kernel and initramfs.
const LIVE_BYTES: u64 = 40 * MIB;
/// How long a daemon may take from its start until it serves.
const READY: Duration = Duration::from_millis(100);
/// Of so many starts the fastest counts: the machine that tests is busy with other things.
const STARTS: usize = 5;

#[test]
fn four_idle_daemons_fit_in_64_mib() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        appliance.btyctl(&["machine", "list"])?;
        let resident = appliance.resident_bytes()?;
        println!("resident together: {} KiB", resident / 1024);
        ensure!(resident <= IDLE_BYTES, "{resident} bytes are over {IDLE_BYTES}");
        Ok(())
    })
}

#[test]
fn each_daemon_is_ready_in_100_ms() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        for name in DAEMONS {
            let mut fastest = Duration::MAX;
            for _ in 0..STARTS {
                appliance.kill_and_restart(name)?;
                fastest = fastest.min(appliance.daemon(name)?.ready_after());
            }
            println!("{name} is ready after {fastest:?}");
            ensure!(fastest < READY, "{name} takes {fastest:?}");
        }
        Ok(())
    })
}

#[test]
fn what_a_machine_loads_fits_in_40_mib() -> Result<()> {
    let live = live()?;
    let size = |name: &str| {
        fs::metadata(live.join(name)).map(|file| file.len()).with_context(|| format!("no {name}"))
    };
    let total = size("vmlinuz")? + size("initramfs.img")?;
    println!("kernel and initramfs: {total} bytes");
    ensure!(total <= LIVE_BYTES, "{total} bytes are over {LIVE_BYTES}");
    Ok(())
}

//! The disk that holds database and images is full: what can't be kept is refused in words, what was kept stays, and when there is room
//! all goes on.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    SmallDisk,
    appliance::{Appliance, ApplianceSpec, DAEMONS, DhcpMode},
    wait,
};
use bty_tests::{content, live, with_logs};

const STATE_BYTES: u64 = 24 << 20;
const MAC: &str = "52:54:00:77:00:01";
/// Of which exit code `btyctl` speaks when there is no room.
const EXHAUSTED: &str = "exit status: 9";

fn disk(appliance: &Appliance) -> Result<&SmallDisk> {
    appliance.state_disk().context("the state has no disk of its own")
}

/// An error unless this is refused because there is no room, and says so.
fn ensure_refused(appliance: &Appliance, arguments: &[&str]) -> Result<()> {
    let refused = appliance.btyctl(arguments).err();
    let words = refused.with_context(|| format!("{arguments:?} found room"))?.to_string();
    ensure!(words.contains(EXHAUSTED), "{arguments:?}: {words}");
    let says_why = ["full", "space", "room"].iter().any(|word| words.contains(word));
    ensure!(says_why, "{arguments:?} does not say why: {words}");
    Ok(())
}

/// What was recorded before, and must be there whatever happens.
fn ensure_kept(appliance: &Appliance) -> Result<()> {
    let machine = appliance.btyctl(&["machine", "show", "one"])?.to_string();
    ensure!(machine.contains(MAC), "{machine}");
    let images = appliance.btyctl(&["image", "list"])?.to_string();
    ensure!(images.contains("\"small") && !images.contains("large"), "{images}");
    let url = format!("http://10.77.0.1/boot/script?mac={}", MAC.replace(':', "-"));
    // bty-httpd hears from the registry what the machine is to do.
    wait::until_true("the boot script that the policy asks for", Duration::from_secs(10), || {
        let script = appliance.server().program("curl").args(["-sSf", &url]).run()?;
        Ok(script.contains("the policy is local"))
    })
}

#[test]
fn what_was_kept_stays_and_what_cannot_be_is_refused() -> Result<()> {
    let mut spec = ApplianceSpec::new(bty_testkit::daemon::binaries()?, live()?, DhcpMode::Proxy);
    spec.state_bytes = Some(STATE_BYTES);
    with_logs(Appliance::start(spec)?, |appliance| {
        let large = appliance.folder().join("large.img");
        fs::write(&large, content(32 << 20)).context("writing an image")?;
        let small = appliance.folder().join("small.img");
        fs::write(&small, content(1 << 20)).context("writing an image")?;
        let (large, small) = (large.display().to_string(), small.display().to_string());
        appliance.btyctl(&["machine", "set", MAC, "--name", "one", "--policy", "local"])?;
        appliance.btyctl(&["image", "import", &small, "--name", "small"])?;
        // Too large for what is free, though there is room for all else.
        ensure_refused(appliance, &["image", "import", &large, "--name", "large"])?;
        ensure_kept(appliance)?;

        disk(appliance)?.fill()?;
        ensure_refused(appliance, &["machine", "set", MAC, "--name", "two"])?;
        ensure_refused(appliance, &["token", "create", "new", "--role", "operator"])?;
        ensure_refused(appliance, &["image", "import", &large, "--name", "large"])?;
        ensure_kept(appliance)?;
        for name in DAEMONS.iter().filter(|name| **name != "bty-registry") {
            appliance.kill_and_restart(name)?;
        }
        ensure_kept(appliance)?;

        disk(appliance)?.make_room()?;
        appliance.kill_and_restart("bty-registry")?;
        ensure_kept(appliance)?;
        appliance.btyctl(&["machine", "set", MAC, "--name", "two"])?;
        appliance.btyctl(&["token", "create", "new", "--role", "operator"])?;
        appliance.btyctl(&["machine", "show", "two"]).map(drop)
    })
}

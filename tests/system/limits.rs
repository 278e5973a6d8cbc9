//! One bad client does not hurt the others.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    appliance::{DAEMONS, DhcpMode},
    wait,
};
use bty_tests::{appliance, with_logs};
use serde_json::Value;

/// What a client that behaves may have to wait beside one that doesn't.
const AT_MOST: &str = "10";
/// Machines that the registry gets to know in a minute, whatever comes.
const NEW_MACHINES: usize = 1000;
/// What the four daemons may have resident together while they are flooded.
const FLOODED_BYTES: u64 = 128 << 20;

#[test]
fn a_client_that_takes_all_it_can_leaves_the_others_theirs() -> Result<()> {
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let hog = appliance.lan().add_host("hog", "10.77.0.66/24")?;
        let good = appliance.lan().add_host("good", "10.77.0.20/24")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("system/hog.py");
        let mut flood =
            hog.program("python3").arg(script).spawn(&appliance.folder().join("hog"))?;
        let into = appliance.folder().join("fetched");
        let mut rounds = 0;
        // While it goes on, and once more after it.
        while rounds < 3 || !flood.log()?.contains("flooded") {
            let url = "http://10.77.0.1/boot.ipxe";
            let said = good.program("curl").args(["-sSf", "--max-time", AT_MOST, url]).run()?;
            ensure!(said.starts_with("#!ipxe"), "{said}");
            let tftp = "busybox tftp -g -b 1468 -r x64/snponly.efi 10.77.0.1 -l";
            let fetch = [&[AT_MOST], &tftp.split(' ').collect::<Vec<_>>()[..]].concat();
            good.program("timeout").args(fetch).arg(&into).run().context("fetching by TFTP")?;
            appliance.btyctl(&["image", "list"])?;
            rounds += 1;
            ensure!(flood.status()?.is_none(), "the flood ended: {}", flood.last_words());
            ensure!(rounds < 1000, "the flood has no end");
        }
        println!("{rounds} rounds of requests were served meanwhile");
        let metrics = appliance
            .server()
            .program("curl")
            .args(["-sSf", "--max-time", AT_MOST, "http://127.0.0.1/metrics"])
            .run()?;
        let refused = metrics
            .lines()
            .find_map(|line| line.strip_prefix("bty_httpd_connections_refused_total "));
        let refused: u64 =
            refused.context("no bty_httpd_connections_refused_total")?.trim().parse()?;
        ensure!(refused >= 2 * (300 - 64), "{refused} connections were refused");
        // Contacts are reported a little later.
        wait::until_true("the machines to settle", Duration::from_secs(20), || {
            let counted = |appliance: &bty_testkit::appliance::Appliance| -> Result<usize> {
                let listed = appliance.btyctl(&["machine", "list"])?;
                let machines = listed.pointer("/machines").and_then(Value::as_array);
                Ok(machines.map_or(0, Vec::len))
            };
            let before = counted(appliance)?;
            std::thread::sleep(Duration::from_secs(1));
            Ok(before == counted(appliance)? && before > 0)
        })?;
        let listed = appliance.btyctl(&["machine", "list"])?;
        let machines = listed.pointer("/machines").and_then(Value::as_array).map_or(0, Vec::len);
        ensure!(machines <= 2 * NEW_MACHINES, "{machines} machines were made of nothing");
        let resident = appliance.resident_bytes()?;
        println!(
            "{machines} machines, {} KiB resident in {} daemons",
            resident / 1024,
            DAEMONS.len()
        );
        ensure!(resident <= FLOODED_BYTES, "{resident} bytes are over {FLOODED_BYTES}");
        Ok(())
    })
}

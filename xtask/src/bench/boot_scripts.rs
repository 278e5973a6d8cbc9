//! Boot scripts a second with a thousand machines: bty-httpd on one core, beside nginx on the same core with a file of that size.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    child::Program,
};

use super::{Figure, median, nginx};

const MACHINES: u32 = 1000;
/// Where the server runs; wrk gets the other core.
const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
const NGINX_PORT: u16 = 8099;
/// Asks as iPXE does that got no answer at once: the same power-on of one of the machines, in turn.
const WRK: &str = r#"
local n = 0
request = function()
  local machine = n % 1000
  n = n + 1
  return wrk.format("GET", string.format("/boot/script?mac=52-54-00-78-%02x-%02x&via=pxe&platform=efi&tries=1",
    math.floor(machine / 256), machine % 256))
end
"#;

/// Measures it.
pub(super) fn measure(binaries: &Path, live: &Path, runs: u32) -> Result<Figure> {
    eprintln!("boot scripts: {MACHINES} machines");
    let mut appliance =
        Appliance::start(ApplianceSpec::new(binaries.to_owned(), live.to_owned(), DhcpMode::Full))?;
    let image = appliance.folder().join("image.raw");
    fs::write(&image, vec![0x5a; 1 << 20]).context("writing an image")?;
    appliance.import(&image, "bench")?;
    for machine in 0..MACHINES {
        let mac = format!("52:54:00:78:{:02x}:{:02x}", machine / 256, machine % 256);
        let wish = ["machine", "set", &mac, "--image", "bench", "--disk", "only"];
        appliance.btyctl(&[&wish[..], &["--policy", "flash-once"]].concat())?;
    }
    let daemon = appliance.daemon("bty-httpd")?.id().to_string();
    Program::new("taskset").args(["-a", "-c", "-p", SERVER_CORE, &daemon]).run()?;

    let folder = appliance.folder().to_owned();
    let script = folder.join("machines.lua");
    fs::write(&script, WRK).context("writing wrk's script")?;
    let first = "http://10.77.0.1/boot/script?mac=52-54-00-78-00-00&via=pxe&platform=efi&tries=1";
    let sample = appliance.server().program("curl").args(["-sf", first]).run()?;
    ensure!(sample.contains("/live/vmlinuz"), "no script that boots the live system: {sample}");
    let peer_folder = folder.join("nginx");
    fs::create_dir_all(&peer_folder).context("making nginx's folder")?;
    fs::write(peer_folder.join("script"), &sample).context("writing nginx's file")?;
    let everywhere = "location / { try_files /script =404; }";
    let _nginx =
        nginx::start(appliance.server(), &peer_folder, NGINX_PORT, everywhere, Some(SERVER_CORE))?;

    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        ours.push(requests_per_second(&appliance, "http://10.77.0.1/", &script)?);
        let peer = format!("http://10.77.0.1:{NGINX_PORT}/");
        peers.push(requests_per_second(&appliance, &peer, &script)?);
    }
    let (ours, peer) = (median(ours), median(peers));
    Ok(Figure {
        what: "boot scripts for 1000 machines on one core",
        unit: "requests/s",
        ours,
        peer,
        peer_is: "nginx, one worker, a static file of that size",
        ratio: ours / peer,
    })
}

fn requests_per_second(appliance: &Appliance, url: &str, script: &Path) -> Result<f64> {
    let said = appliance
        .server()
        .program("taskset")
        .args(["-c", CLIENT_CORE, "wrk", "--threads", "1", "--connections", "32"])
        .args(["--duration", "5s", "--script"])
        .arg(script)
        .arg(url)
        .run()?;
    ensure!(!said.contains("Non-2xx"), "not every request was answered: {said}");
    let found = said.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    found.and_then(|value| value.trim().parse().ok()).with_context(|| format!("wrk says: {said}"))
}

//! Boot scripts with two thousand machines: bty-httpd on one core, beside nginx on the same core with a file of that size.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    child::Program,
};

use super::{Figure, median, nginx, process::cpu_seconds};

const MACHINES: u32 = 2000;
const CONNECTIONS: &str = "64";
/// Where the server runs; wrk gets the other core.
const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
const NGINX_PORT: u16 = 8099;
/// Asks as iPXE does that got no answer at once: the same power-on of one of the machines, in turn.
const WRK: &str = r#"
local n = 0
request = function()
  local machine = n % 2000
  n = n + 1
  return wrk.format("GET", string.format("/boot/script?mac=52-54-00-78-%02x-%02x&via=pxe&platform=efi&tries=1",
    math.floor(machine / 256), machine % 256))
end
"#;

/// What one server did in one run.
#[derive(Debug, Clone, Copy)]
struct Taken {
    per_second: f64,
    /// What 99 of 100 requests took at most.
    p99_ms: f64,
    cpu_us: f64,
}

/// Measures it.
pub(super) fn measure(binaries: &Path, runs: u32) -> Result<Vec<Figure>> {
    eprintln!("boot scripts: {MACHINES} machines");
    let live = tempfile::tempdir().context("making a folder")?;
    fs::create_dir(live.path().join("boot"))?;
    fs::write(live.path().join("initramfs.img"), "none")?;
    let usual = ApplianceSpec::new(binaries.to_owned(), live.path().to_owned(), DhcpMode::Full);
    let settings = vec![("httpd", "max_connections_per_client = 100".to_owned())];
    let mut appliance = Appliance::start(ApplianceSpec { settings, ..usual })?;
    add_machines(&appliance)?;
    let ours = appliance.daemon("bty-httpd")?.id();
    Program::new("taskset").args(["-a", "-c", "-p", SERVER_CORE, &ours.to_string()]).run()?;

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
    let nginx =
        nginx::start(appliance.server(), &peer_folder, NGINX_PORT, everywhere, Some(SERVER_CORE))?;

    let peer_url = format!("http://10.77.0.1:{NGINX_PORT}/");
    let (mut taken, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        taken.push(load(&appliance, "http://10.77.0.1/", ours, &script)?);
        peers.push(load(&appliance, &peer_url, nginx.id(), &script)?);
    }
    Ok(compared(&taken, &peers).into())
}

fn add_machines(appliance: &Appliance) -> Result<()> {
    let image = appliance.folder().join("image.raw");
    fs::write(&image, vec![0x5a; 1 << 20]).context("writing an image")?;
    appliance.import(&image, "bench")?;
    for machine in 0..MACHINES {
        let mac = format!("52:54:00:78:{:02x}:{:02x}", machine / 256, machine % 256);
        let wish = ["machine", "set", &mac, "--image", "bench", "--disk", "only"];
        appliance.btyctl(&[&wish[..], &["--policy", "flash-once"]].concat())?;
    }
    Ok(())
}

/// Our figures beside nginx's, each the median of its runs.
fn compared(ours: &[Taken], peers: &[Taken]) -> [Figure; 3] {
    let figure = |what, unit, figure: fn(&Taken) -> f64, more_is_better: bool| {
        let [ours, peer] =
            [ours, peers].map(|taken| median(taken.iter().map(figure).collect::<Vec<_>>()));
        let ratio = if more_is_better { ours / peer } else { peer / ours };
        let peer_is = "nginx, one worker, a static file of that size";
        Figure { what, unit, ours, peer, peer_is, ratio }
    };
    [
        figure(
            "boot scripts for 2000 machines on one core",
            "requests/s",
            |taken| taken.per_second,
            true,
        ),
        figure("the same, 99 of 100 within", "ms", |taken| taken.p99_ms, false),
        figure("the same, CPU for a request", "us", |taken| taken.cpu_us, false),
    ]
}

fn load(appliance: &Appliance, url: &str, server: u32, script: &Path) -> Result<Taken> {
    let before = cpu_seconds(server)?;
    let said = appliance
        .server()
        .program("taskset")
        .args(["-c", CLIENT_CORE, "wrk", "--threads", "1", "--connections", CONNECTIONS])
        .args(["--latency", "--duration", "5s", "--script"])
        .arg(script)
        .arg(url)
        .run()?;
    let cpu_seconds = cpu_seconds(server)? - before;
    ensure!(!said.contains("Non-2xx"), "not every request was answered: {said}");
    let found = |name: &str| {
        let value = said.lines().find_map(|line| line.trim().strip_prefix(name));
        value.map(str::trim).with_context(|| format!("wrk says no {name} in {said}"))
    };
    let per_second: f64 = found("Requests/sec:")?.parse()?;
    let requests = said.lines().find_map(|line| line.trim().split_once(" requests in "));
    let requests: f64 = requests.with_context(|| format!("wrk says: {said}"))?.0.parse()?;
    let p99_ms = milliseconds(found("99%")?).with_context(|| format!("wrk says: {said}"))?;
    Ok(Taken { per_second, p99_ms, cpu_us: cpu_seconds * 1e6 / requests })
}

/// What wrk writes as `1.23ms`, `870.00us` or `1.05s`.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let (number, unit) =
        units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    Some(number.parse::<f64>().ok()? * unit)
}

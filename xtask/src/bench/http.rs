//! Files over HTTP beside nginx, which sends them by sendfile(2): each server on one core, and the clients on the other.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Host,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
};

use super::{
    Figure, median, nginx,
    process::{cpu_seconds, forget_peak, peak_mib},
};

const FILE_BYTES: u64 = 4 << 30;
/// What the flasher asks for at once, at least.
const PART_BYTES: u64 = 4 << 20;
const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
const NGINX_PORT: u16 = 8097;
const PEER: &str = "nginx, one worker, sendfile";

/// By how many clients the file is fetched, together once: each fetches a whole file of its size, or its share of the large one in
/// parts.
struct Cell {
    what: &'static str,
    cost: &'static str,
    memory: &'static str,
    clients: u64,
    in_parts: bool,
}

const CELLS: [Cell; 6] = [
    Cell {
        what: "HTTP, 1 client, a file of 4 GiB",
        cost: "the same, CPU for a GB",
        memory: "the same, memory at most",
        clients: 1,
        in_parts: false,
    },
    Cell {
        what: "HTTP, 8 clients, files of 512 MiB",
        cost: "the same, CPU for a GB",
        memory: "the same, memory at most",
        clients: 8,
        in_parts: false,
    },
    Cell {
        what: "HTTP, 64 clients, files of 64 MiB",
        cost: "the same, CPU for a GB",
        memory: "the same, memory at most",
        clients: 64,
        in_parts: false,
    },
    Cell {
        what: "HTTP, 1 client, parts of 4 MiB",
        cost: "the same, CPU for a GB",
        memory: "the same, memory at most",
        clients: 1,
        in_parts: true,
    },
    Cell {
        what: "HTTP, 8 clients, parts of 4 MiB",
        cost: "the same, CPU for a GB",
        memory: "the same, memory at most",
        clients: 8,
        in_parts: true,
    },
    Cell {
        what: "HTTP, 64 clients, parts of 4 MiB",
        cost: "the same, CPU for a GB",
        memory: "the same, memory at most",
        clients: 64,
        in_parts: true,
    },
];

impl Cell {
    /// What each client fetches.
    fn bytes(&self) -> u64 {
        FILE_BYTES / self.clients
    }

    fn file(&self) -> String {
        name(if self.in_parts { FILE_BYTES } else { self.bytes() })
    }
}

fn name(bytes: u64) -> String {
    format!("{bytes}.img.zst")
}

/// A server to compare.
struct Server {
    what: &'static str,
    address: String,
    folder: &'static str,
    pid: u32,
}

/// What one server did in one run, or in the middle one.
#[derive(Debug, Clone, Copy)]
struct Taken {
    megabytes_per_second: f64,
    cpu_seconds_per_gigabyte: f64,
    peak_mib: f64,
}

/// Measures every cell.
pub(super) fn measure(binaries: &Path, runs: u32) -> Result<Vec<Figure>> {
    let live = tempfile::tempdir().context("making a folder")?;
    fs::create_dir(live.path().join("boot"))?;
    fs::write(live.path().join("initramfs.img"), "none")?;
    let usual = ApplianceSpec::new(binaries.to_owned(), live.path().to_owned(), DhcpMode::Proxy);
    let settings = vec![("httpd", "max_connections_per_client = 100".to_owned())];
    let mut appliance = Appliance::start(ApplianceSpec { settings, ..usual })?;
    let images = appliance.folder().join("state/registry/images");
    for cell in &CELLS {
        write(&images.join(cell.file()), if cell.in_parts { FILE_BYTES } else { cell.bytes() })?;
    }
    let client = appliance.lan().add_host("load", "10.77.0.90/24")?;
    let ours = appliance.daemon("bty-httpd")?.id();
    let pinned = ["-a", "-c", "-p", SERVER_CORE, &ours.to_string()];
    bty_testkit::Program::new("taskset").args(pinned).run()?;
    let nginx = nginx::start(appliance.server(), &images, NGINX_PORT, "", Some(SERVER_CORE))?;
    let servers = [
        Server { what: "bty-httpd", address: "10.77.0.1:80".into(), folder: "/images", pid: ours },
        Server {
            what: PEER,
            address: format!("10.77.0.1:{NGINX_PORT}"),
            folder: "",
            pid: nginx.id(),
        },
    ];
    let mut figures = Vec::new();
    for cell in &CELLS {
        eprintln!("{}", cell.what);
        let mut taken = [Vec::new(), Vec::new()];
        // The first is for the caches.
        for run in 0..=runs {
            for (server, taken) in servers.iter().zip(&mut taken) {
                let one = one(&client, server, cell)?;
                if run > 0 {
                    taken.push(one);
                }
            }
        }
        figures.extend(compared(cell, &servers, &taken));
    }
    Ok(figures)
}

/// A file without a hole.
fn write(path: &Path, bytes: u64) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut file = File::create(path).context("making a file to fetch")?;
    let block = vec![0x5a; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&block).context("writing a file to fetch")?;
    }
    Ok(())
}

/// Our figures beside nginx's, each the median of its runs.
fn compared(cell: &Cell, servers: &[Server; 2], taken: &[Vec<Taken>; 2]) -> [Figure; 3] {
    let middle = |taken: &Vec<Taken>, figure: fn(&Taken) -> f64| {
        median(taken.iter().map(figure).collect::<Vec<_>>())
    };
    let [ours, peer] = taken.each_ref().map(|taken| Taken {
        megabytes_per_second: middle(taken, |taken| taken.megabytes_per_second),
        cpu_seconds_per_gigabyte: middle(taken, |taken| taken.cpu_seconds_per_gigabyte),
        peak_mib: middle(taken, |taken| taken.peak_mib),
    });
    for (server, taken) in servers.iter().zip([ours, peer]) {
        let Taken { megabytes_per_second: rate, cpu_seconds_per_gigabyte: cost, peak_mib } = taken;
        eprintln!("  {}: {rate:.0} MB/s, {cost:.3} CPU s/GB, {peak_mib:.1} MiB", server.what);
    }
    let figure =
        |what, unit, ours, peer, ratio| Figure { what, unit, ours, peer, peer_is: PEER, ratio };
    let (rate, peer_rate) = (ours.megabytes_per_second, peer.megabytes_per_second);
    let (cost, peer_cost) = (ours.cpu_seconds_per_gigabyte, peer.cpu_seconds_per_gigabyte);
    [
        figure(cell.what, "MB/s", rate, peer_rate, rate / peer_rate),
        figure(cell.cost, "s", cost, peer_cost, peer_cost / cost),
        figure(cell.memory, "MiB", ours.peak_mib, peer.peak_mib, peer.peak_mib / ours.peak_mib),
    ]
}

fn one(client: &Host, server: &Server, cell: &Cell) -> Result<Taken> {
    forget_peak(server.pid)?;
    let before = cpu_seconds(server.pid)?;
    let mut load = client
        .program("taskset")
        .args(["-c", CLIENT_CORE])
        .arg(std::env::current_exe()?)
        .args(["http-load", &server.address, &format!("{}/{}", server.folder, cell.file())])
        .args(["--clients", &cell.clients.to_string(), "--bytes", &cell.bytes().to_string()]);
    if cell.in_parts {
        load = load.args(["--part-bytes", &PART_BYTES.to_string()]);
    }
    let said = load.run().with_context(|| format!("loading {}", server.what))?;
    let (bytes, seconds) = said.trim().split_once(' ').context("no figures")?;
    let (bytes, seconds): (u64, f64) = (bytes.parse()?, seconds.parse()?);
    ensure!(bytes == FILE_BYTES, "{} sent {bytes} bytes", server.what);
    let megabytes = f64::from(u32::try_from(bytes / 1000)?) / 1e3;
    Ok(Taken {
        megabytes_per_second: megabytes / seconds,
        cpu_seconds_per_gigabyte: (cpu_seconds(server.pid)? - before) / (megabytes / 1e3),
        peak_mib: peak_mib(server.pid)?,
    })
}

//! TFTP beside the servers that people use, dnsmasq and atftpd, each on one core, and a client on the other. (Debian's tftpd-hpa can't
//! be installed beside atftpd, and is as fast as dnsmasq.)

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Child, Host,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
};

use super::{Figure, median, process::cpu_seconds};

const MOST_BYTES: usize = 64 << 20;
pub(super) const SERVER_CORE: &str = "0";
pub(super) const CLIENT_CORE: &str = "1";

/// What is fetched, how, and by how many at the same time.
struct Cell {
    what: &'static str,
    cost: &'static str,
    /// atftpd ends a transfer after 65,535 blocks.
    file_bytes: usize,
    clients: usize,
    block_bytes: u16,
    window_blocks: u16,
    /// Of a hundred frames, each way.
    lost: u8,
}

const CELLS: [Cell; 7] = [
    Cell {
        what: "TFTP, 1 client, blocks of 512",
        cost: "the same, CPU for a GB",
        file_bytes: 24 << 20,
        clients: 1,
        block_bytes: 512,
        window_blocks: 1,
        lost: 0,
    },
    Cell {
        what: "TFTP, 1 client, blocks of 1468",
        cost: "the same, CPU for a GB",
        file_bytes: 64 << 20,
        clients: 1,
        block_bytes: 1468,
        window_blocks: 1,
        lost: 0,
    },
    Cell {
        what: "TFTP, 1 client, windows of 16",
        cost: "the same, CPU for a GB",
        file_bytes: 64 << 20,
        clients: 1,
        block_bytes: 1468,
        window_blocks: 16,
        lost: 0,
    },
    Cell {
        what: "TFTP, 16 clients, windows of 16",
        cost: "the same, CPU for a GB",
        file_bytes: 32 << 20,
        clients: 16,
        block_bytes: 1468,
        window_blocks: 16,
        lost: 0,
    },
    Cell {
        what: "TFTP, 64 clients, windows of 16",
        cost: "the same, CPU for a GB",
        file_bytes: 8 << 20,
        clients: 64,
        block_bytes: 1468,
        window_blocks: 16,
        lost: 0,
    },
    Cell {
        what: "TFTP, 1 % lost, windows of 16",
        cost: "the same, CPU for a GB",
        file_bytes: 8 << 20,
        clients: 1,
        block_bytes: 1468,
        window_blocks: 16,
        lost: 1,
    },
    Cell {
        what: "TFTP, 1 % lost, no windows",
        cost: "the same, CPU for a GB",
        file_bytes: 1 << 20,
        clients: 1,
        block_bytes: 1468,
        window_blocks: 1,
        lost: 1,
    },
];

impl Cell {
    fn file(&self) -> String {
        format!("file{}", self.file_bytes)
    }
}

/// A server to compare.
struct Server {
    what: &'static str,
    address: String,
    pid: u32,
    /// Where it runs; the appliance keeps ours.
    _running: Option<(Host, Child)>,
}

/// Measures every cell: megabytes a second of ours and of the best of the others.
pub(super) fn measure(binaries: &Path, runs: u32) -> Result<Vec<Figure>> {
    let live = tempfile::tempdir().context("making a folder")?;
    let boot = live.path().join("boot");
    fs::create_dir(&boot)?;
    fs::write(live.path().join("initramfs.img"), "none")?;
    for cell in &CELLS {
        fs::write(boot.join(cell.file()), vec![0x5a; cell.file_bytes])?;
    }
    let usual = ApplianceSpec::new(binaries.to_owned(), live.path().to_owned(), DhcpMode::Proxy);
    let settings = vec![(
        "tftp",
        format!("max_file_bytes = {}\nmax_transfers_per_client = 100", 2 * MOST_BYTES),
    )];
    let mut appliance = Appliance::start(ApplianceSpec { settings, ..usual })?;
    let client = appliance.lan().add_host("load", "10.77.0.90/24")?;

    let mut servers = vec![Server {
        what: "bty-tftp",
        address: "10.77.0.1:69".into(),
        pid: appliance.daemon("bty-tftp")?.id(),
        _running: None,
    }];
    let pid = servers.first().context("no server")?.pid.to_string();
    bty_testkit::Program::new("taskset").args(["-a", "-c", "-p", SERVER_CORE, &pid]).run()?;
    let root = boot.to_str().context("a path")?;
    let listening = [
        (
            "atftpd",
            92,
            format!("atftpd --daemon --no-fork --user root --maxthread 200 --logfile - {root}"),
        ),
        (
            "dnsmasq",
            93,
            format!(
                "dnsmasq --keep-in-foreground --port=0 --user=root --enable-tftp --tftp-max=200 \
                 --tftp-root={root} --conf-file=/dev/null"
            ),
        ),
    ];
    for (what, number, command) in listening {
        let host = appliance.lan().add_host(what, &format!("10.77.0.{number}/24"))?;
        let child = host
            .program("taskset")
            .args(["-c", SERVER_CORE])
            .args(command.split_whitespace())
            .spawn(&appliance.folder().join(format!("{what}.log")))?;
        let address = format!("10.77.0.{number}:69");
        servers.push(Server { what, address, pid: child.id(), _running: Some((host, child)) });
    }
    std::thread::sleep(std::time::Duration::from_millis(500));

    let mut figures = Vec::new();
    for cell in &CELLS {
        eprintln!("{}", cell.what);
        // A lost frame must be one block for every server, not all that the kernel was given at once.
        let segments = if cell.lost > 0 { "off" } else { "on" };
        let offload = ["-K", "eth0", "tx-udp-segmentation", segments];
        appliance.server().program("ethtool").args(offload).run()?;
        appliance.lan().set_loss(&client.port, cell.lost)?;
        let mut taken: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); servers.len()];
        for _ in 0..runs {
            for (server, (rates, costs)) in servers.iter().zip(&mut taken) {
                let (rate, cost) = one(&client, server, cell)?;
                rates.push(rate);
                costs.push(cost);
            }
        }
        figures.extend(compared(cell, &servers, taken)?);
    }
    Ok(figures)
}

/// Our rate and cost beside the best of the others, each the median of its runs.
fn compared(
    cell: &Cell,
    servers: &[Server],
    taken: Vec<(Vec<f64>, Vec<f64>)>,
) -> Result<[Figure; 2]> {
    let taken: Vec<(f64, f64)> =
        taken.into_iter().map(|(rates, costs)| (median(rates), median(costs))).collect();
    for (server, (rate, cost)) in servers.iter().zip(&taken) {
        eprintln!("  {}: {rate:.1} MB/s, {cost:.1} CPU s/GB", server.what);
    }
    let (&(ours, our_cost), others) = taken.split_first().context("no server")?;
    let peer = others.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
    let peer_cost = others.iter().map(|(_, cost)| *cost).fold(f64::INFINITY, f64::min);
    let figure = |what, unit, ours, peer, ratio| {
        let peer_is = "the better of atftpd and dnsmasq";
        Figure { what, unit, ours, peer, peer_is, ratio }
    };
    Ok([
        figure(cell.what, "MB/s", ours, peer, ours / peer),
        figure(cell.cost, "s", our_cost, peer_cost, peer_cost / our_cost),
    ])
}

/// Megabytes a second, and the server's CPU seconds for a gigabyte.
fn one(client: &Host, server: &Server, cell: &Cell) -> Result<(f64, f64)> {
    let before = cpu_seconds(server.pid)?;
    let said = client
        .program("taskset")
        .args(["-c", CLIENT_CORE])
        .arg(std::env::current_exe()?)
        .args(["tftp-load", &server.address, &cell.file()])
        .args(["--clients", &cell.clients.to_string()])
        .args(["--blksize", &cell.block_bytes.to_string()])
        .args(["--windowsize", &cell.window_blocks.to_string()])
        .run()
        .with_context(|| format!("loading {}", server.what))?;
    let (bytes, seconds) = said.trim().split_once(' ').context("no figures")?;
    let (bytes, seconds): (usize, f64) = (bytes.parse()?, seconds.parse()?);
    ensure!(bytes == cell.clients * cell.file_bytes, "{} sent {bytes} bytes", server.what);
    // A child that served is counted when it is waited for.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let megabytes = f64::from(u32::try_from(bytes / 1000)?) / 1e3;
    Ok((megabytes / seconds, (cpu_seconds(server.pid)? - before) / (megabytes / 1e3)))
}

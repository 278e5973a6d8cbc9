//! DHCP beside Kea and dnsmasq, each on one core, and perfdhcp on the other: whole exchanges through a relay with leases that
//! survive the server's end, and offers to firmware by a proxy.
//!
//! bty-dhcp promises more than the others: a lease is on the disk before it is told, where theirs is with the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{Child, Daemon, DaemonSpec, Host, Kea, Lan, Program, daemon::write_config, wait};
use tempfile::TempDir;

use super::{
    Figure, median,
    process::{cpu_seconds, peak_mib},
    tftp::{CLIENT_CORE, SERVER_CORE},
};

const NETWORK: &str = "10.66.0.0/16";
const FIRST: &str = "10.66.16.0";
const LAST: &str = "10.66.31.255";
/// So many clients take turns.
const CLIENTS: &str = "4000";
const SECONDS: u32 = 4;
/// Of a hundred exchanges, what may be lost at a rate that counts as sustained.
const MOST_LOST: f64 = 0.01;
/// How often a rate is tried: once may be chance, when something else is busy with the disk.
const TRIES: u32 = 3;
/// Exchanges a second; each is tried until one is too much.
const RATES: [u32; 14] =
    [200, 400, 700, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 10_000, 12_000];
/// Offers a second take half the packets.
const LIKE_FIRMWARE: [&str; 5] = [
    "-i",
    "-o",
    // "PXEClient:Arch:00007:UNDI:003000"
    "60,505845436c69656e743a417263683a30303030373a554e44493a303033303030",
    "-o",
    "93,0007",
];

/// A server that runs until it is dropped.
struct Server {
    what: &'static str,
    address: String,
    pid: u32,
    _running: Running,
}

/// What keeps a server running.
enum Running {
    Ours { _daemon: Daemon },
    Kea { _kea: Kea },
    Other { _child: Child },
}

/// What came of a load.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Exchanges a second that came to their end.
    rate: f64,
    /// Of those that began.
    lost: f64,
    /// The answer that took longer than 99 of 100, in milliseconds; of offers and acknowledgements the worse.
    slow_ms: f64,
    /// The server's processor time for an exchange, in microseconds.
    cpu_us: f64,
}

/// Where the servers run.
struct Lab {
    lan: Lan,
    client: Host,
    binaries: PathBuf,
    folder: TempDir,
}

/// Measures both: ours and Kea's or dnsmasq's.
pub(super) fn measure(binaries: &Path, runs: u32) -> Result<Vec<Figure>> {
    let mut lan = Lan::new()?;
    let client = lan.add_host("load", "10.66.0.9/16")?;
    // perfdhcp begins at once; an address that must be found first would be a drop.
    let folder = tempfile::tempdir().context("making a folder")?;
    let mut lab = Lab { lan, client, binaries: binaries.to_owned(), folder };
    let mut figures = lab.exchanges(runs)?;
    figures.extend(lab.offers(runs)?);
    Ok(figures)
}

impl Lab {
    fn exchanges(&mut self, runs: u32) -> Result<Vec<Figure>> {
        eprintln!("DHCP, whole exchanges through a relay");
        let full = format!(
            "[dhcp]\nmode = \"full\"\ninterfaces = [\"eth0\"]\nprobe_seconds = 0\n\
             [[dhcp.subnet]]\ninterface = \"eth0\"\nnetwork = {NETWORK:?}\nrange_start = {FIRST:?}\nrange_end = {LAST:?}\n"
        );
        let servers = [
            self.ours("full", 1, &full)?,
            self.kea(2)?,
            self.dnsmasq(
                "lease",
                3,
                &format!("--dhcp-range={FIRST},{LAST},255.255.0.0,1h --dhcp-lease-max=5000"),
            )?,
        ];
        self.compare(
            &servers,
            &[],
            runs,
            Words {
                rate: "DHCP, exchanges through a relay, at most 1 % lost",
                slow: "the same at the peer's highest rate, 99 % are answered within",
                cpu: "the same, CPU for an exchange",
                memory: "the same, peak memory",
            },
        )
    }

    fn offers(&mut self, runs: u32) -> Result<Vec<Figure>> {
        eprintln!("DHCP, a proxy's offers to firmware");
        let proxy = "[dhcp]\nmode = \"proxy\"\ninterfaces = [\"eth0\"]\nprobe_seconds = 0\n";
        let servers = [
            self.ours("proxy", 4, proxy)?,
            self.kea(5)?,
            self.dnsmasq(
                "proxy",
                6,
                "--dhcp-range=10.66.0.0,proxy,255.255.0.0 --pxe-service=X86-64_EFI,bty,snponly.efi",
            )?,
        ];
        self.compare(
            &servers,
            &LIKE_FIRMWARE,
            runs,
            Words {
                rate: "DHCP, offers to firmware, at most 1 % lost",
                slow: "the same at the peer's highest rate, 99 % are answered within",
                cpu: "the same, CPU for an offer",
                memory: "the same, peak memory",
            },
        )
    }

    fn host(&mut self, role: &str, number: u8) -> Result<(Host, PathBuf, String)> {
        let host = self.lan.add_host(role, &format!("10.66.0.{number}/16"))?;
        let folder = self.folder.path().join(role);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok((host, folder, format!("10.66.0.{number}")))
    }

    fn ours(&mut self, role: &str, number: u8, configuration: &str) -> Result<Server> {
        let (host, folder, address) = self.host(role, number)?;
        write_config(&folder, configuration)?;
        let spec = DaemonSpec::of_bty(&self.binaries, "bty-dhcp", &folder);
        let daemon = spec.within(&host.namespace).start()?;
        let pid = daemon.id();
        Program::new("taskset").args(["-a", "-c", "-p", SERVER_CORE, &pid.to_string()]).run()?;
        Ok(Server { what: "bty-dhcp", address, pid, _running: Running::Ours { _daemon: daemon } })
    }

    fn kea(&mut self, number: u8) -> Result<Server> {
        let (host, folder, address) = self.host(&format!("kea{number}"), number)?;
        let subnet = (NETWORK, FIRST, LAST);
        let kea = Kea::start_with(&host, &folder, subnet, "udp", &["taskset", "-c", SERVER_CORE])?;
        Ok(Server { what: "Kea", address, pid: kea.id(), _running: Running::Kea { _kea: kea } })
    }

    fn dnsmasq(&mut self, role: &str, number: u8, lines: &str) -> Result<Server> {
        let (host, folder, address) = self.host(&format!("dnsmasq-{role}"), number)?;
        let mut child = host
            .program("taskset")
            .args(["-c", SERVER_CORE, "dnsmasq", "--keep-in-foreground", "--port=0"])
            .args(["--user=root", "--conf-file=/dev/null", "--no-ping", "--interface=eth0"])
            .args(["--log-facility=-"])
            .arg(format!("--dhcp-leasefile={}", folder.join("leases").display()))
            .args(lines.split_whitespace())
            .spawn(&folder.join("dnsmasq.log"))?;
        child.wait_for_log("DHCP, ", Duration::from_secs(10))?;
        let pid = child.id();
        Ok(Server { what: "dnsmasq", address, pid, _running: Running::Other { _child: child } })
    }

    /// Finds what each sustains, then compares ours to the best of the others at that one's highest rate.
    fn compare(
        &self,
        servers: &[Server],
        options: &[&str],
        runs: u32,
        words: Words,
    ) -> Result<Vec<Figure>> {
        let mut highest = vec![Vec::new(); servers.len()];
        for _ in 0..runs {
            for (server, rates) in servers.iter().zip(&mut highest) {
                rates.push(self.highest(server, options)?);
            }
        }
        let highest: Vec<f64> = highest.into_iter().map(median).collect();
        let (&ours, others) = highest.split_first().context("no server")?;
        ensure!(ours > 0.0, "bty-dhcp does not even sustain the lowest rate");
        let (best, &peer) = others
            .iter()
            .enumerate()
            .max_by(|one, other| one.1.total_cmp(other.1))
            .context("no peer")?;
        let pair =
            [servers.first().context("no server")?, servers.get(best + 1).context("no peer")?];
        let mut taken: [Vec<Taken>; 2] = Default::default();
        for _ in 0..runs {
            for (server, taken) in pair.iter().zip(&mut taken) {
                taken.push(self.load(server, peer, options)?);
            }
        }
        let [mine, theirs] = &taken;
        let middle = |all: &[Taken], of: fn(&Taken) -> f64| median(all.iter().map(of).collect());
        let slow = [middle(mine, |one| one.slow_ms), middle(theirs, |one| one.slow_ms)];
        let cpu = [middle(mine, |one| one.cpu_us), middle(theirs, |one| one.cpu_us)];
        let memory = [peak_mib(pair[0].pid)?, peak_mib(pair[1].pid)?];
        let peer_is = pair[1].what;
        let less = |what, unit, [ours, peer]: [f64; 2]| Figure {
            what,
            unit,
            ours,
            peer,
            peer_is,
            ratio: peer / ours,
        };
        Ok(vec![
            Figure { what: words.rate, unit: "/s", ours, peer, peer_is, ratio: ours / peer },
            less(words.slow, "ms", slow),
            less(words.cpu, "us", cpu),
            less(words.memory, "MiB", memory),
        ])
    }

    /// The highest rate that loses next to nothing; 0 where none does.
    fn highest(&self, server: &Server, options: &[&str]) -> Result<f64> {
        let mut highest = 0.0;
        for rate in RATES {
            let mut sustained = None;
            for _ in 0..TRIES {
                let taken = self.load(server, f64::from(rate), options)?;
                let Taken { rate: ended, lost, slow_ms, cpu_us } = taken;
                let percent = lost * 100.0;
                eprintln!(
                    "  {} at {rate}/s: {ended:.0}/s, {percent:.1} % lost, 99 % within {slow_ms:.1} ms, {cpu_us:.0} us CPU",
                    server.what
                );
                if lost <= MOST_LOST {
                    sustained = Some(ended);
                    break;
                }
            }
            let Some(ended) = sustained else { break };
            highest = ended;
        }
        Ok(highest)
    }

    fn load(&self, server: &Server, rate: f64, options: &[&str]) -> Result<Taken> {
        let settled = idle(server.pid)?;
        let output = self
            .client
            .program("taskset")
            .args(["-c", CLIENT_CORE, "perfdhcp", "-4", "-g", "multi", "-x", "t"])
            .args(["-r", &format!("{rate:.0}"), "-R", CLIENTS, "-p", &SECONDS.to_string()])
            .args(["-W", "300000"])
            .args(options)
            .arg(&server.address)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let used = idle(server.pid)? - settled;
        let began = number(&said, "sent packets: ")
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        // The last kind of answer that there is: acknowledgements, or offers where no more is asked.
        let kinds: Vec<Vec<f64>> =
            said.split("***Timestamps for packets: ").skip(1).map(delays_ms).collect();
        let ended = count(kinds.last().context("perfdhcp shows no times")?);
        let slow = kinds.into_iter().map(|delays| percentile(delays, 99)).fold(0.0, f64::max);
        Ok(Taken {
            rate: ended / f64::from(SECONDS),
            lost: 1.0 - ended / began,
            slow_ms: slow,
            cpu_us: used * 1e6 / ended.max(1.0),
        })
    }
}

/// What the figures are called.
#[derive(Clone, Copy)]
struct Words {
    rate: &'static str,
    slow: &'static str,
    cpu: &'static str,
    memory: &'static str,
}

/// The processor time of a process, once it has none to do.
fn idle(pid: u32) -> Result<f64> {
    let mut last = f64::NAN;
    wait::until("a server to have nothing more to do", Duration::from_secs(30), || {
        std::thread::sleep(Duration::from_millis(200));
        let now = cpu_seconds(pid)?;
        let is_idle = now - last < 0.02;
        last = now;
        Ok(is_idle.then_some(now))
    })
}

/// The delays of one kind of answer, of perfdhcp's lines `sent / received: 000000.000047 / 000000.010900`.
fn delays_ms(section: &str) -> Vec<f64> {
    let times = section.lines().filter_map(|line| line.strip_prefix("sent / received: "));
    let both = times.filter_map(|line| line.split_once(" / "));
    both.filter_map(|(sent, received)| {
        let (sent, received): (f64, f64) = (sent.parse().ok()?, received.trim().parse().ok()?);
        Some((received - sent) * 1e3)
    })
    .collect()
}

fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

fn count(values: &[f64]) -> f64 {
    u32::try_from(values.len()).map_or(f64::NAN, f64::from)
}

fn number(text: &str, before: &str) -> Result<f64> {
    let (_, rest) = text.split_once(before).with_context(|| format!("perfdhcp says: {text}"))?;
    rest.lines().next().unwrap_or_default().trim().parse().context("reading perfdhcp's figures")
}

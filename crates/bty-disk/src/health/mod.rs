//! Whether a disk is about to fail, as it says itself: SMART of ATA, the health log of NVMe.
//!
//! Disks behind USB are asked only where a person asks: some adapters hang on the command. What can't be read is unknown, never good.

mod ata;
mod nvme;

use std::{
    fmt,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Disk,
    commands::{Commands, Protocol},
    device::BlockDevice,
};

/// How a disk is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It doesn't say.
    #[default]
    Unknown,
    /// Nothing speaks against it.
    Good,
    /// It is worn, or has lost sectors, and works.
    Warning,
    /// It says that it is about to fail, or no longer keeps what it is given.
    Failing,
}

impl State {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Failing => "failing",
        }
    }
}

/// What is known of a disk's health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Altogether.
    pub state: State,
    /// What was found, a few words each; where the state is unknown, why.
    pub findings: Vec<String>,
    /// Degrees Celsius.
    pub temperature_celsius: Option<i32>,
    /// How much of its life is used, in percent, which may be more than 100.
    pub percentage_used: Option<u32>,
    /// Hours that it was on.
    pub power_on_hours: Option<u64>,
    /// Sectors that went bad and were replaced.
    pub reallocated_sectors: Option<u64>,
    /// Sectors that can't be read, and are replaced when they are written.
    pub pending_sectors: Option<u64>,
    /// Reads that failed for good.
    pub uncorrectable_errors: Option<u64>,
    /// Transfers that came damaged through the cable.
    pub interface_errors: Option<u64>,
}

impl Health {
    /// Unknown, for this reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self { findings: vec![why.into()], ..Self::default() }
    }

    /// Whether it must not be trusted with an image.
    pub fn is_failing(&self) -> bool {
        self.state == State::Failing
    }

    fn find(&mut self, state: State, what: impl Into<String>) {
        self.state = self.state.max(state);
        self.findings.push(what.into());
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state.as_str())?;
        if !self.findings.is_empty() {
            write!(f, ": {}", self.findings.join("; "))?;
        }
        Ok(())
    }
}

/// Asks a disk that speaks this.
pub fn read(device: &dyn Commands, protocol: Protocol) -> Health {
    let read = match protocol {
        Protocol::Nvme => nvme::read(device),
        Protocol::Ata | Protocol::AtaOverUsb => ata::read(device),
        Protocol::None => return Health::unknown("this kind of disk says nothing of its health"),
    };
    read.unwrap_or_else(|problem| Health::unknown(problem.with_source()))
}

/// Opens this disk, to read only, and asks it. It may take as long as the disk likes.
pub fn of(disk: &Disk) -> Health {
    let protocol = Protocol::of(disk);
    if protocol == Protocol::None {
        return Health::unknown("this kind of disk says nothing of its health");
    }
    match BlockDevice::open_to_read(disk.path.as_ref()) {
        Ok(device) => read(&device, protocol),
        Err(problem) => Health::unknown(problem.to_string()),
    }
}

/// The same of several at a time, in their order; those behind USB are not asked. One that doesn't answer within the limit is unknown, and
/// nobody waits for it.
pub fn of_all(disks: &[Disk], limit: Duration) -> Vec<Health> {
    let until = Instant::now() + limit;
    let asked: Vec<_> = disks.iter().map(ask).collect();
    let answers = asked.into_iter().map(|answer| {
        let answer = answer?;
        let left = until.saturating_duration_since(Instant::now());
        Some(answer.recv_timeout(left).unwrap_or_else(|_| {
            Health::unknown(format!("it did not answer within {} s", limit.as_secs()))
        }))
    });
    let by_usb = || Health::unknown("it is not asked through a USB adapter, some of which hang");
    answers.map(|answer| answer.unwrap_or_else(by_usb)).collect()
}

/// Asks in a thread of its own. `None` where that isn't wise.
fn ask(disk: &Disk) -> Option<mpsc::Receiver<Health>> {
    if Protocol::of(disk) == Protocol::AtaOverUsb {
        return None;
    }
    let (tell, answer) = mpsc::sync_channel(1);
    let disk = disk.clone();
    // Where nobody waits any more, the answer is of no use.
    thread::spawn(move || drop(tell.send(of(&disk))));
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_counts() {
        let mut health = Health { state: State::Good, ..Health::default() };
        assert_eq!(health.to_string(), "good");
        health.find(State::Failing, "a");
        health.find(State::Warning, "b");
        assert_eq!(health.to_string(), "failing: a; b");
        assert!(health.is_failing());
    }

    #[test]
    fn disks_that_can_not_be_asked_are_unknown_and_in_order() {
        let disk = |path: &str, transport: &str| Disk {
            path: path.into(),
            transport: transport.into(),
            ..Disk::default()
        };
        let disks =
            [disk("/dev/vda", "virtio"), disk("/dev/sdb", "usb"), disk("/dev/no-such", "sata")];
        let got = of_all(&disks, Duration::from_secs(20));
        assert!(got.iter().all(|health| health.state == State::Unknown), "{got:?}");
        for (health, word) in got.iter().zip(["this kind", "USB", "/dev/no-such"]) {
            assert!(health.to_string().contains(word), "{health}");
        }
    }
}

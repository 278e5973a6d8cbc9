//! The other DHCP servers of the LAN: which there are, what they do, and what of it is news to a person.

use std::{
    collections::HashMap,
    fmt,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bty_types::MacAddr;

use super::{overheard::Overheard, rules::Mode};

/// Servers that are remembered; for one more, the one that was silent for longest goes.
const REMEMBERED: usize = 64;
/// A server that was silent for so long is taken to be gone.
const GONE_AFTER: Duration = Duration::from_hours(24);
/// Trouble with a server is said again after this time.
const SAID_EVERY: Duration = Duration::from_hours(1);
/// News in a window of time: whoever forges servers must not fill the log, nor the record of events.
const NEWS: u32 = 40;
const WINDOW: Duration = Duration::from_hours(1);

/// A server that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherServer {
    /// What it calls itself.
    pub address: Ipv4Addr,
    /// The card that its messages came from, a relay's where there is one; `None` where only clients told of it.
    pub mac: Option<MacAddr>,
    /// The interface by which it was heard last.
    pub interface: Arc<str>,
    /// Whether it gives addresses.
    pub leases: bool,
    /// Whether it says where to boot from.
    pub boots: bool,
    /// The boot file that it named last; empty where none.
    pub boot_file: String,
    /// When it was heard first.
    pub first_seen: SystemTime,
    /// And last.
    pub last_seen: SystemTime,
    /// How often.
    pub messages: u64,
    said_at: Option<SystemTime>,
}

/// What is to be said of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// One sentence.
    pub message: String,
    /// Whether somebody should look after it.
    pub is_trouble: bool,
    /// Whether it was not said before that this server does this; else it is said once more.
    pub is_new: bool,
}

/// The other servers.
#[derive(Debug)]
pub struct Servers {
    mode: Mode,
    all: HashMap<Ipv4Addr, OtherServer>,
    window_began: SystemTime,
    said: u32,
}

impl Servers {
    /// None yet; `mode` says which of them are trouble.
    pub fn new(mode: Mode) -> Self {
        Self { mode, all: HashMap::new(), window_began: SystemTime::UNIX_EPOCH, said: 0 }
    }

    /// The servers that were heard lately, the latest first.
    pub fn list(&self, now: SystemTime) -> Vec<OtherServer> {
        let is_here = |server: &&OtherServer| is_within(now, server.last_seen, GONE_AFTER);
        let mut all: Vec<OtherServer> = self.all.values().filter(is_here).cloned().collect();
        all.sort_by_key(|server| (std::cmp::Reverse(server.last_seen), server.address));
        all
    }

    /// Takes up what was heard; the news in it where there is any.
    pub fn hear(
        &mut self,
        now: SystemTime,
        interface: &Arc<str>,
        mac: Option<MacAddr>,
        heard: Overheard,
    ) -> Option<News> {
        let Overheard { server: address, leases, boots, boot_file } = heard;
        let before = self.all.remove(&address);
        let mut server = before.clone().unwrap_or_else(|| OtherServer {
            address,
            mac: None,
            interface: Arc::clone(interface),
            leases: false,
            boots: false,
            boot_file: String::new(),
            first_seen: now,
            last_seen: now,
            messages: 0,
            said_at: None,
        });
        // What it says itself outweighs what clients say of it: some take a proxy's offer, which gives no address, for a lease.
        let is_hearsay = mac.is_none() && server.mac.is_some();
        if mac.is_some() && server.mac.is_none() {
            (server.leases, server.boots) = (false, false);
        }
        server.mac = mac.or(server.mac);
        server.interface = Arc::clone(interface);
        server.leases |= leases && !is_hearsay;
        server.boots |= boots;
        if !boot_file.is_empty() {
            server.boot_file = boot_file;
        }
        server.last_seen = now;
        server.messages = server.messages.saturating_add(1);
        let is_new = before.is_none_or(|before| {
            (before.leases, before.boots) != (server.leases, server.boots)
                || before.said_at.is_none()
        });
        let trouble = self.trouble(now, &server);
        let is_due = server.said_at.is_none_or(|at| !is_within(now, at, SAID_EVERY));
        let is_said = (is_new || trouble.is_some() && is_due) && self.admits(now);
        if is_said {
            server.said_at = Some(now);
        }
        let news = is_said.then(|| News {
            message: format!("{server}{}", trouble.as_deref().unwrap_or_default()),
            is_trouble: trouble.is_some(),
            is_new,
        });
        self.remember(server);
        news
    }

    /// Why it should not be here, as the end of a sentence.
    fn trouble(&self, now: SystemTime, server: &OtherServer) -> Option<String> {
        let clash = "; machines may follow it and not this server: see `btyctl dhcp servers`";
        match self.mode {
            Mode::Full if server.leases || server.boots => Some(clash.to_owned()),
            Mode::Proxy if server.boots => Some(clash.to_owned()),
            // Beside a proxy there is one that gives addresses. A second one may be meant, or somebody's router.
            Mode::Proxy if server.leases => {
                let is_second = |other: &&OtherServer| {
                    other.leases
                        && other.interface == server.interface
                        && is_within(now, other.last_seen, GONE_AFTER)
                };
                let other = self.all.values().find(is_second)?;
                Some(format!(", and so does {}: is one of them a stranger?", other.address))
            }
            _ => None,
        }
    }

    fn remember(&mut self, server: OtherServer) {
        if self.all.len() >= REMEMBERED {
            let oldest = self.all.values().min_by_key(|server| server.last_seen);
            if let Some(address) = oldest.map(|server| server.address) {
                self.all.remove(&address);
            }
        }
        self.all.insert(server.address, server);
    }

    fn admits(&mut self, now: SystemTime) -> bool {
        if !now.duration_since(self.window_began).is_ok_and(|age| age < WINDOW) {
            self.window_began = now;
            self.said = 0;
        }
        self.said = self.said.saturating_add(1);
        self.said <= NEWS
    }
}

impl OtherServer {
    /// What it does, in words.
    pub const fn does(&self) -> &'static str {
        match (self.leases, self.boots) {
            (true, false) => "gives addresses",
            (false, true) => "says where to boot from",
            (true, true) => "gives addresses and says where to boot from",
            (false, false) => "answers clients",
        }
    }
}

impl fmt::Display for OtherServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another DHCP server, {}", self.address)?;
        if let Some(mac) = self.mac {
            write!(f, " ({mac})")?;
        }
        write!(f, ", {} on {}", self.does(), self.interface)?;
        if !self.boot_file.is_empty() {
            write!(f, " ({})", self.boot_file)?;
        }
        Ok(())
    }
}

/// A clock that was set back makes nothing old.
fn is_within(now: SystemTime, at: SystemTime, age: Duration) -> bool {
    now.duration_since(at).map_or(true, |since| since < age)
}

//! The `[dhcp]` section.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use bty_types::MacAddr;
use serde::{Deserialize, Serialize};

use crate::engine::{
    BootFiles, Directory, MachineFacts, Mode, Reservation, Rules, Subnet, SubnetError, SubnetText,
};

/// The longest name of an interface (`IFNAMSIZ` with its NUL is 16).
const INTERFACE_CHARACTERS: usize = 15;
/// How often other servers may be asked for, in seconds.
const PROBE_SECONDS: RangeInclusive<u64> = 60..=86_400;

/// What an operator can set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `proxy`, beside the LAN's own DHCP server; `full`, as the DHCP server of the subnets below; `off`.
    pub mode: Mode,
    /// The interfaces that are served, such as `["eth0"]`. Empty: all but loopback.
    pub interfaces: Vec<String>,
    /// The port of bty-httpd's plain HTTP, which boot URLs name.
    pub http_port: u16,
    /// Machines that are never told to netboot. In full mode they get a lease all the same.
    pub ignore: Vec<MacAddr>,
    /// How often it is asked which other DHCP servers there are, in seconds: 60 to 86400, or 0 for never. The question is a
    /// DISCOVER that no REQUEST follows.
    pub probe_seconds: u64,
    /// The subnets that full mode leases addresses of.
    pub subnet: Vec<SubnetSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Proxy,
            interfaces: Vec::new(),
            http_port: BootFiles::default().http_port,
            ignore: Vec::new(),
            probe_seconds: 600,
            subnet: Vec::new(),
        }
    }
}

/// A subnet, as an operator writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubnetSettings {
    /// The interface that the subnet is on. Empty: it is behind a relay.
    pub interface: String,
    /// The network, such as `10.77.0.0/24`.
    pub network: String,
    /// The first address for anybody.
    pub range_start: Option<Ipv4Addr>,
    /// The last address for anybody.
    pub range_end: Option<Ipv4Addr>,
    /// The router that clients are told; none where it is left out.
    pub router: Option<Ipv4Addr>,
    /// The name servers that clients are told.
    pub dns: Vec<Ipv4Addr>,
    /// How long a lease lasts, in seconds: 60 to 2592000.
    pub lease_seconds: u64,
    /// Addresses that are kept for single machines.
    pub reservations: Vec<ReservationSettings>,
}

impl Default for SubnetSettings {
    fn default() -> Self {
        Self {
            interface: String::new(),
            network: String::new(),
            range_start: None,
            range_end: None,
            router: None,
            dns: Vec::new(),
            lease_seconds: 3600,
            reservations: Vec::new(),
        }
    }
}

/// A reservation, as an operator writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationSettings {
    /// The machine.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
    /// The name that it is told; none where it is left out.
    #[serde(default)]
    pub hostname: String,
}

/// Settings that can't be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("mode is \"full\", but there is no [[dhcp.subnet]] to lease addresses of; add one")]
    NoSubnet,
    #[error("http_port is 0; write the port of bty-httpd's plain HTTP, usually 80")]
    HttpPort,
    #[error("probe_seconds {0} is neither 0 (never) nor between 60 (a minute) and 86400 (a day)")]
    ProbeSeconds(u64),
    #[error("{0:?} is not the name of an interface; write one that `ip link` shows")]
    Interface(String),
    #[error("the subnet {network} is on {interface}, which is not among interfaces; add it there")]
    NotServed { network: String, interface: String },
    #[error("the subnet {0} has only one of range_start and range_end; write both, or none")]
    HalfRange(String),
    #[error("in [[dhcp.subnet]]: {0}")]
    Subnet(SubnetError),
}

impl Settings {
    /// The engine's task, if the settings make sense.
    pub(crate) fn rules(&self) -> Result<Rules, SettingsError> {
        if self.http_port == 0 {
            return Err(SettingsError::HttpPort);
        }
        if self.probe_seconds != 0 && !PROBE_SECONDS.contains(&self.probe_seconds) {
            return Err(SettingsError::ProbeSeconds(self.probe_seconds));
        }
        if let Some(wrong) = self.interfaces.iter().find(|name| !is_interface(name)) {
            return Err(SettingsError::Interface(wrong.clone()));
        }
        if self.mode == Mode::Full && self.subnet.is_empty() {
            return Err(SettingsError::NoSubnet);
        }
        let subnets: Vec<Subnet> =
            self.subnet.iter().map(|subnet| self.parse(subnet)).collect::<Result<_, _>>()?;
        Subnet::check_together(&subnets).map_err(SettingsError::Subnet)?;
        let files = BootFiles { http_port: self.http_port, ..BootFiles::default() };
        Ok(Rules { mode: self.mode, files, subnets })
    }

    /// What is known of single machines.
    pub(crate) fn directory(&self) -> Directory {
        self.ignore
            .iter()
            .map(|&mac| (mac, MachineFacts { netboot: false, ..MachineFacts::default() }))
            .collect()
    }

    fn parse(&self, subnet: &SubnetSettings) -> Result<Subnet, SettingsError> {
        let network = || subnet.network.clone();
        let interface = &subnet.interface;
        if !interface.is_empty() {
            if !is_interface(interface) {
                return Err(SettingsError::Interface(interface.clone()));
            }
            if !self.interfaces.is_empty() && !self.interfaces.contains(interface) {
                let interface = interface.clone();
                return Err(SettingsError::NotServed { network: network(), interface });
            }
        }
        let range = match (subnet.range_start, subnet.range_end) {
            (Some(start), Some(end)) => Some((start, end)),
            (None, None) => None,
            _ => return Err(SettingsError::HalfRange(network())),
        };
        let reservations = subnet.reservations.iter().map(|reservation| {
            let ReservationSettings { mac, address, hostname } = reservation.clone();
            (mac, Reservation { address, hostname })
        });
        let text = SubnetText {
            interface: interface.clone(),
            network: network(),
            range,
            router: subnet.router,
            dns: subnet.dns.clone(),
            lease_seconds: subnet.lease_seconds,
            reservations: reservations.collect(),
        };
        text.parse().map_err(SettingsError::Subnet)
    }
}

fn is_interface(name: &str) -> bool {
    (1..=INTERFACE_CHARACTERS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_is_the_defaults() {
        let shipped: toml::Table =
            toml::from_str(include_str!("../../../deploy/bty.toml")).unwrap();
        let defaults = toml::Value::try_from(Settings::default()).unwrap();
        assert_eq!(shipped.get("dhcp"), Some(&defaults));
    }

    fn subnet() -> SubnetSettings {
        SubnetSettings {
            interface: "eth1".into(),
            network: "10.77.0.0/24".into(),
            range_start: Some(Ipv4Addr::new(10, 77, 0, 100)),
            range_end: Some(Ipv4Addr::new(10, 77, 0, 199)),
            ..SubnetSettings::default()
        }
    }

    #[test]
    fn the_defaults_are_a_proxy_on_every_interface() {
        let settings = Settings::default();
        assert_eq!((settings.mode, settings.interfaces.is_empty()), (Mode::Proxy, true));
        assert!(settings.rules().is_ok());
    }

    #[test]
    fn full_mode_needs_a_subnet_that_can_be_served() {
        let refusal = |settings: Settings| settings.rules().unwrap_err();
        let full = Settings { mode: Mode::Full, ..Settings::default() };
        assert_eq!(refusal(full.clone()), SettingsError::NoSubnet);
        let with = |subnet| Settings { subnet: vec![subnet], ..full.clone() };
        assert!(with(subnet()).rules().is_ok());
        let half = SubnetSettings { range_end: None, ..subnet() };
        assert_eq!(refusal(with(half)), SettingsError::HalfRange("10.77.0.0/24".into()));
        let small = SubnetSettings { network: "10.77.0.100/31".into(), ..subnet() };
        assert!(matches!(refusal(with(small)), SettingsError::Subnet(SubnetError::Prefix(_))));
        let elsewhere = Settings { interfaces: vec!["eth0".into()], ..with(subnet()) };
        assert_eq!(
            refusal(elsewhere).to_string(),
            "the subnet 10.77.0.0/24 is on eth1, which is not among interfaces; add it there"
        );
    }

    #[test]
    fn names_that_no_interface_has_are_refused() {
        for name in ["", "a/b", "eth0:1", "sixteen-letters-", "two words"] {
            let settings = Settings { interfaces: vec![name.into()], ..Settings::default() };
            assert_eq!(settings.rules().unwrap_err(), SettingsError::Interface(name.into()));
        }
    }
}

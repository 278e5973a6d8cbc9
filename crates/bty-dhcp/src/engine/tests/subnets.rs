//! What a person who configures a subnet is told.

use super::packets::*;
use crate::engine::*;

fn text() -> SubnetText {
    SubnetText {
        interface: "eth1".into(),
        network: "10.77.0.0/24".into(),
        range: Some(("10.77.0.100".parse().unwrap(), "10.77.0.199".parse().unwrap())),
        lease_seconds: 3600,
        ..SubnetText::default()
    }
}

fn network(network: &str) -> String {
    SubnetText { network: network.into(), ..text() }.parse().unwrap_err().to_string()
}

fn range(start: &str, end: &str) -> String {
    let range = Some((start.parse().unwrap(), end.parse().unwrap()));
    SubnetText { range, ..text() }.parse().unwrap_err().to_string()
}

#[test]
fn a_network_that_cannot_be_served_is_refused_with_the_reason() {
    for wrong in ["", "10.77.0.0", "10.77.0/24", "10.77.0.0/33", "10.77.0.0/x", "fe80::/64"] {
        assert_eq!(network(wrong), format!("network {wrong:?} is not of the form 10.77.0.0/24"));
    }
    assert_eq!(
        network("10.77.0.5/24"),
        "network 10.77.0.5/24 has bits beyond its prefix set; the network is 10.77.0.0/24"
    );
    for small in ["10.77.0.0/31", "10.77.0.0/32", "10.0.0.0/7"] {
        assert!(network(small).contains("firmware refuses addresses of smaller networks"));
    }
}

#[test]
fn a_range_that_cannot_be_served_is_refused_with_the_reason() {
    assert_eq!(
        range("10.77.1.5", "10.77.1.9"),
        "range_start 10.77.1.5 is not an address for hosts of 10.77.0.0/24"
    );
    assert!(range("10.77.0.0", "10.77.0.9").starts_with("range_start 10.77.0.0 is not"));
    assert!(range("10.77.0.9", "10.77.0.255").starts_with("range_end 10.77.0.255 is not"));
    assert_eq!(
        range("10.77.0.9", "10.77.0.8"),
        "range_end 10.77.0.8 is before range_start 10.77.0.9"
    );
    let huge = SubnetText {
        network: "10.0.0.0/8".into(),
        range: Some(("10.0.0.1".parse().unwrap(), "10.2.0.0".parse().unwrap())),
        ..text()
    };
    assert!(matches!(huge.parse(), Err(SubnetError::LargeRange(131_072))));
    let router = SubnetText { router: Some("10.77.0.150".parse().unwrap()), ..text() };
    assert!(router.parse().unwrap_err().to_string().contains("is inside the range"));
    let nothing = SubnetText { range: None, ..text() };
    assert!(matches!(nothing.parse(), Err(SubnetError::Nothing(_))));
    for lease_seconds in [0, 59, 2_592_001] {
        let lease = SubnetText { lease_seconds, ..text() };
        assert_eq!(lease.parse().unwrap_err(), SubnetError::Lease(lease_seconds));
    }
}

#[test]
fn reservations_must_be_inside_and_made_once() {
    let with = |reservations: &[(u8, &str, &str)]| {
        let reservations = reservations
            .iter()
            .map(|(last, address, hostname)| {
                let hostname = (*hostname).to_owned();
                (mac(*last), Reservation { address: address.parse().unwrap(), hostname })
            })
            .collect();
        SubnetText { reservations, ..text() }.parse().map(drop)
    };
    assert_eq!(with(&[(1, "10.77.0.5", "node-1.lab"), (2, "10.77.0.100", "")]), Ok(()));
    assert!(matches!(with(&[(1, "10.78.0.5", "")]), Err(SubnetError::Outside { .. })));
    assert_eq!(
        with(&[(1, "10.77.0.5", ""), (2, "10.77.0.5", "")]),
        Err(SubnetError::Twice("10.77.0.5".into()))
    );
    assert_eq!(
        with(&[(1, "10.77.0.5", ""), (1, "10.77.0.6", "")]),
        Err(SubnetError::Twice("52:54:00:77:00:01".into()))
    );
    for name in ["-a", "a-", "a b", "a..b", "ä", &"x".repeat(64)] {
        assert_eq!(with(&[(1, "10.77.0.5", name)]), Err(SubnetError::Hostname(name.into())));
    }
}

#[test]
fn networks_must_not_overlap() {
    let parse = |network: &str, range: Option<_>| {
        let reservations = vec![(
            mac(1),
            Reservation { address: "10.77.0.5".parse().unwrap(), hostname: String::new() },
        )];
        SubnetText { network: network.into(), range, reservations, ..text() }.parse().unwrap()
    };
    let small = parse("10.77.0.0/24", None);
    let large = parse("10.0.0.0/8", None);
    assert_eq!(Subnet::check_together(&subnets()), Ok(()));
    assert_eq!(
        Subnet::check_together(&[small, large]),
        Err(SubnetError::Overlap("10.77.0.0/24".into(), "10.0.0.0/8".into()))
    );
}

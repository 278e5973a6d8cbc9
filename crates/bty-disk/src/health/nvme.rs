//! The SMART / Health Information log page (0x02; NVMe Base 2.0, section 5.16.1.3).

use super::{Health, State};
use crate::{
    commands::{CommandError, Commands},
    nvme::{LOG_BYTES, log_page},
};

pub(super) fn read(device: &dyn Commands) -> Result<Health, CommandError> {
    Ok(parse(&log_page(device, 0x02)?))
}

/// What the bits of the critical warning mean (byte 0).
const WARNINGS: [(u8, State, &str); 6] = [
    (0, State::Failing, "its spare blocks are used up"),
    (1, State::Warning, "it is too hot or too cold"),
    (2, State::Failing, "its reliability is degraded by errors"),
    (3, State::Failing, "it accepts no more writes"),
    (4, State::Warning, "the backup of its volatile memory has failed"),
    (5, State::Warning, "its persistent memory region is read-only or unreliable"),
];

fn parse(page: &[u8; LOG_BYTES]) -> Health {
    let byte = |at: usize| page.get(at).copied().unwrap_or_default();
    // Numbers of 16 bytes; what is beyond 8 is nobody's.
    let number = |at: usize| {
        let low = page.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        low.map_or(0, u64::from_le_bytes)
    };
    let kelvin = i32::from(u16::from_le_bytes([byte(1), byte(2)]));
    let (spare, threshold, used) = (byte(3), byte(4), byte(5));
    let media_errors = number(160);
    let mut health = Health {
        state: State::Good,
        temperature_celsius: (kelvin > 0).then_some(kelvin - 273),
        percentage_used: Some(used.into()),
        power_on_hours: Some(number(128)),
        uncorrectable_errors: Some(media_errors),
        ..Health::default()
    };
    for (bit, state, what) in WARNINGS {
        if byte(0) >> bit & 1 == 1 {
            health.find(state, what);
        }
    }
    if spare < threshold && byte(0) & 1 == 0 {
        health.find(State::Warning, format!("{spare} % of its spare blocks are left"));
    }
    if used >= 100 {
        health.find(State::Warning, format!("{used} % of its rated life is used"));
    }
    if media_errors > 0 {
        health.find(State::Warning, format!("{media_errors} reads have failed for good"));
    }
    health
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A healthy disk's page, with these bytes in it.
    fn page(bytes: &[(usize, u8)]) -> [u8; LOG_BYTES] {
        let mut page = [0; LOG_BYTES];
        // 310 K, 100 % spare of which 10 % are the least, 3 % used, 1000 hours.
        for (at, byte) in [(1, 0x36), (2, 1), (3, 100), (4, 10), (5, 3), (128, 0xe8), (129, 3)] {
            page[at] = byte;
        }
        for (at, byte) in bytes {
            page[*at] = *byte;
        }
        page
    }

    #[test]
    fn a_page_is_read() {
        let health = parse(&page(&[]));
        assert_eq!(health.to_string(), "good");
        assert_eq!((health.temperature_celsius, health.percentage_used), (Some(37), Some(3)));
        assert_eq!((health.power_on_hours, health.uncorrectable_errors), (Some(1000), Some(0)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases: [(&[(usize, u8)], &str); 9] = [
            (&[(0, 1)], "failing: its spare blocks are used up"),
            (&[(0, 2)], "warning: it is too hot or too cold"),
            (&[(0, 4)], "failing: its reliability is degraded by errors"),
            (&[(0, 8)], "failing: it accepts no more writes"),
            (&[(0, 16)], "warning: the backup of its volatile memory has failed"),
            (&[(3, 9)], "warning: 9 % of its spare blocks are left"),
            (&[(3, 9), (0, 1)], "failing: its spare blocks are used up"),
            (&[(5, 255)], "warning: 255 % of its rated life is used"),
            (&[(161, 1)], "warning: 256 reads have failed for good"),
        ];
        for (bytes, says) in cases {
            assert_eq!(parse(&page(bytes)).to_string(), says);
        }
    }

    proptest! {
        #[test]
        fn any_page_is_read(bytes in proptest::collection::vec(any::<u8>(), LOG_BYTES)) {
            let page: [u8; LOG_BYTES] = bytes.try_into().unwrap();
            let health = parse(&page);
            prop_assert_eq!(health.is_failing(), page[0] & 0b1101 != 0);
        }
    }
}

//! SMART (ACS-4, section 7.48; the data's layout is that of SFF-8035i, which every disk still follows).

use std::time::Duration;

use bty_sys::ScsiData;

use super::{Health, State};
use crate::{
    ata::{AtaCommand, BLOCK_BYTES, Registers, identify, send},
    commands::{CommandError, Commands},
};

/// A disk that sleeps takes seconds to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

const READ_DATA: u8 = 0xd0;
const READ_THRESHOLDS: u8 = 0xd1;
const RETURN_STATUS: u8 = 0xda;
/// What SMART commands have in the LBA registers, and SMART RETURN STATUS gives back where all is well.
const KEY: u32 = 0x00c2_4f00;
/// What it gives back where a threshold is exceeded.
const EXCEEDED: u32 = 0x002c_f400;

pub(super) fn read(device: &dyn Commands) -> Result<Health, CommandError> {
    let identity = identify(device, TIMEOUT)?;
    if !identity.has_smart {
        return Ok(Health::unknown("it has no SMART"));
    }
    if !identity.is_smart_on {
        return Ok(Health::unknown("its SMART is turned off"));
    }
    let status = send(device, smart("SMART RETURN STATUS", RETURN_STATUS), ScsiData::None)?;
    let mut data = [0; BLOCK_BYTES];
    let command = smart("SMART READ DATA", READ_DATA);
    send(device, command, ScsiData::FromDevice(&mut data))?;
    // Obsolete, and the only way to learn the state through an adapter that doesn't return registers.
    let mut thresholds = [0; BLOCK_BYTES];
    let command = smart("SMART READ THRESHOLDS", READ_THRESHOLDS);
    let thresholds =
        send(device, command, ScsiData::FromDevice(&mut thresholds)).ok().map(|_| thresholds);
    Ok(parse(status, &data, thresholds.as_ref()))
}

fn smart(name: &'static str, features: u8) -> AtaCommand {
    let wants_registers = features == RETURN_STATUS;
    AtaCommand { name, code: 0xb0, features, lba: KEY, wants_registers, timeout: TIMEOUT }
}

/// One of the 30 places of a table, of 12 bytes each from byte 2.
#[derive(Debug, Clone, Copy)]
struct Attribute {
    id: u8,
    /// Whether the disk is about to fail where the value is not above its threshold.
    is_prefailure: bool,
    value: u8,
    /// The vendor's number, of which the lower 32 bits are a count.
    raw: u32,
}

fn places(block: &[u8; BLOCK_BYTES]) -> impl Iterator<Item = &[u8; 12]> {
    let table = block.get(2..362).unwrap_or_default();
    table.as_chunks::<12>().0.iter().filter(|place| place[0] != 0)
}

fn attributes(data: &[u8; BLOCK_BYTES]) -> Vec<Attribute> {
    let attribute = |place: &[u8; 12]| {
        let [id, flags, _, value, _, a, b, c, d, ..] = *place;
        let raw = u32::from_le_bytes([a, b, c, d]);
        Attribute { id, is_prefailure: flags & 1 == 1, value, raw }
    };
    places(data).map(attribute).collect()
}

/// Whether the bytes add up to zero, as both tables' do.
fn is_whole(block: &[u8; BLOCK_BYTES]) -> bool {
    block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

fn parse(
    status: Option<Registers>,
    data: &[u8; BLOCK_BYTES],
    thresholds: Option<&[u8; BLOCK_BYTES]>,
) -> Health {
    // Adapters give zeros, or something else.
    let is_told = is_whole(data) && data.iter().any(|byte| *byte != 0);
    let attributes = if is_told { attributes(data) } else { Vec::new() };
    let raw = |id: u8| attributes.iter().find(|one| one.id == id).map(|one| u64::from(one.raw));
    let celsius =
        raw(194).or_else(|| raw(190)).map(|raw| i32::from(raw.to_le_bytes()[0].cast_signed()));
    let mut health = Health {
        temperature_celsius: celsius.filter(|degrees| *degrees != 0),
        reallocated_sectors: raw(5),
        uncorrectable_errors: raw(187),
        pending_sectors: raw(197).into_iter().chain(raw(198)).max(),
        interface_errors: raw(199),
        ..Health::default()
    };
    let exceeded = thresholds.filter(|block| is_whole(block)).map(|block| past(&attributes, block));
    // The lowest byte has no meaning.
    match (status.map(|registers| registers.lba & 0x00ff_ff00), exceeded.as_deref()) {
        (Some(EXCEEDED), _) => health.find(State::Failing, "SMART says that it is about to fail"),
        (Some(KEY), _) => health.state = State::Good,
        (_, Some([])) if !attributes.is_empty() => health.state = State::Good,
        (_, Some([first, ..])) => {
            let what = format!("SMART attribute {first} is past its threshold");
            health.find(State::Failing, what);
        }
        _ => return Health::unknown("its SMART status does not get through"),
    }
    for (count, what) in [
        (health.reallocated_sectors, "sectors were replaced"),
        (health.pending_sectors, "sectors can't be read"),
        (health.uncorrectable_errors, "reads have failed for good"),
    ] {
        if let Some(count) = count.filter(|count| *count > 0) {
            health.find(State::Warning, format!("{count} {what}"));
        }
    }
    if let Some(count) = health.interface_errors.filter(|count| *count > 0) {
        // Counted for life, and mostly of a cable that is long gone.
        health.find(State::Good, format!("{count} transfers came damaged: a bad cable, once"));
    }
    health
}

/// The attributes that say that the disk is about to fail.
fn past(attributes: &[Attribute], thresholds: &[u8; BLOCK_BYTES]) -> Vec<u8> {
    let threshold = |id: u8| places(thresholds).find(|place| place[0] == id).map(|place| place[1]);
    let is_past = |one: &&Attribute| {
        one.is_prefailure && threshold(one.id).is_some_and(|least| least > 0 && one.value <= least)
    };
    attributes.iter().filter(is_past).map(|one| one.id).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WELL: Option<Registers> = Some(Registers { status: 0x50, error: 0, lba: KEY });
    const ILL: Option<Registers> = Some(Registers { status: 0x50, error: 0, lba: EXCEEDED });

    fn table<const N: usize>(places: &[[u8; N]]) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[0] = 16;
        for (number, place) in places.iter().enumerate() {
            block[2 + 12 * number..][..N].copy_from_slice(place);
        }
        let sum = block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        block[511] = 0_u8.wrapping_sub(sum);
        block
    }

    /// An attribute: its number, whether it is of prefailure, its value and its count.
    const fn attribute(id: u8, is_prefailure: bool, value: u8, raw: u32) -> [u8; 12] {
        let [a, b, c, d] = raw.to_le_bytes();
        [id, is_prefailure as u8, 0, value, value, a, b, c, d, 0, 0, 0]
    }

    #[test]
    fn a_disk_that_is_well_and_one_that_is_not() {
        // Temperatures have the lowest and the highest of the disk's life beside them.
        let data = table(&[attribute(5, true, 100, 0), attribute(194, false, 60, 0x0028_0022)]);
        let well = parse(WELL, &data, None);
        assert_eq!((well.to_string().as_str(), well.temperature_celsius), ("good", Some(34)));
        assert_eq!((well.reallocated_sectors, well.pending_sectors), (Some(0), None));
        let ill = parse(ILL, &data, None);
        assert_eq!(ill.to_string(), "failing: SMART says that it is about to fail");
    }

    #[test]
    fn counts_are_warnings_and_a_bad_cable_is_none() {
        let cases = [
            (attribute(5, true, 100, 8), "warning: 8 sectors were replaced"),
            (attribute(187, false, 100, 1), "warning: 1 reads have failed for good"),
            (attribute(197, false, 100, 16), "warning: 16 sectors can't be read"),
            (attribute(198, false, 100, 2), "warning: 2 sectors can't be read"),
            (attribute(199, false, 100, 7), "good: 7 transfers came damaged: a bad cable, once"),
            (attribute(9, false, 1, 90_000), "good"),
        ];
        for (attribute, says) in cases {
            assert_eq!(parse(WELL, &table(&[attribute]), None).to_string(), says);
        }
    }

    #[test]
    fn without_registers_the_thresholds_tell() {
        let data = table(&[attribute(5, true, 20, 0), attribute(9, false, 1, 0)]);
        let failing = "failing: SMART attribute 5 is past its threshold";
        for (least, says) in [(20, failing), (36, failing), (19, "good"), (0, "good")] {
            // Number 9 is not of prefailure: it may be past its threshold.
            let thresholds = table(&[[5, least], [9, 50]]);
            assert_eq!(parse(None, &data, Some(&thresholds)).to_string(), says);
        }
        let unknown = "unknown: its SMART status does not get through";
        assert_eq!(parse(None, &data, None).to_string(), unknown);
        // An adapter's zeros are nobody's good health.
        let zeros = [0; BLOCK_BYTES];
        assert_eq!(parse(None, &zeros, Some(&zeros)).to_string(), unknown);
        let mut damaged = data;
        damaged[100] = 1;
        assert_eq!(parse(None, &damaged, Some(&table(&[[5, 36]]))).to_string(), unknown);
    }

    proptest! {
        #[test]
        fn any_tables_are_read(
            data in proptest::collection::vec(any::<u8>(), BLOCK_BYTES - 1),
            thresholds in proptest::collection::vec(any::<u8>(), BLOCK_BYTES - 1),
            lba: u32, is_told: bool,
        ) {
            let whole = |mut bytes: Vec<u8>| -> [u8; BLOCK_BYTES] {
                let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
                bytes.push(0_u8.wrapping_sub(sum));
                bytes.try_into().unwrap()
            };
            let status = is_told.then_some(Registers { status: 0x50, error: 0, lba });
            let _ = parse(status, &whole(data), Some(&whole(thresholds)));
        }
    }
}

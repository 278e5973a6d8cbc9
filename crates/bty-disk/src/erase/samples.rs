//! What a disk held in some places before it was erased: the proof that it did something.

use bty_sys::AlignedBuf;

use crate::device::Target;

/// How many places are looked at.
const PLACES: u64 = 64;
/// How many bytes in each.
const SAMPLE_BYTES: u64 = 4096;

/// What the disk held.
#[derive(Debug)]
pub(super) struct Samples {
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    offset: u64,
    /// `None` where it held one byte over and over, or could not be read: nothing can be told from it.
    held: Option<Vec<u8>>,
}

/// What the places read as afterwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// How many were looked at.
    pub places: usize,
    /// How many read as zeros.
    pub zeros: usize,
    /// How many hold what they held before.
    pub as_before: usize,
    /// How many can't be read.
    pub unreadable: usize,
}

impl Reading {
    /// Whether all that was looked at is zeros.
    pub const fn is_zeros(self) -> bool {
        self.zeros == self.places
    }
}

impl Samples {
    /// Reads them, evenly over the disk but for its edges, which are blanked first.
    pub(super) fn take(device: &dyn Target, edge_bytes: u64) -> Self {
        let between = device.size_bytes().saturating_sub(2 * edge_bytes) / SAMPLE_BYTES;
        let count = between.min(PLACES);
        let offset = |number: u64| {
            let block = u128::from(between) * u128::from(number) / u128::from(count.max(1));
            edge_bytes + u64::try_from(block).unwrap_or_default() * SAMPLE_BYTES
        };
        let mut buffer = AlignedBuf::new(0);
        let places = (0..count).map(|number| {
            let offset = offset(number);
            let held = read(device, &mut buffer, offset).filter(|bytes| !is_uniform(bytes));
            Place { offset, held: held.map(<[u8]>::to_vec) }
        });
        Self { places: places.collect() }
    }

    /// Looks again.
    pub(super) fn compare(&self, device: &dyn Target) -> Reading {
        let mut buffer = AlignedBuf::new(0);
        let mut reading = Reading { places: self.places.len(), ..Reading::default() };
        for place in &self.places {
            match read(device, &mut buffer, place.offset) {
                None => reading.unreadable += 1,
                Some(bytes) if bytes.iter().all(|byte| *byte == 0) => reading.zeros += 1,
                Some(bytes) if place.held.as_deref() == Some(bytes) => reading.as_before += 1,
                Some(_) => {}
            }
        }
        reading
    }
}

fn read<'a>(device: &dyn Target, buffer: &'a mut AlignedBuf, offset: u64) -> Option<&'a [u8]> {
    let room = buffer.get_mut(..usize::try_from(SAMPLE_BYTES).ok()?)?;
    device.read_at(room, offset).ok()?;
    Some(room)
}

fn is_uniform(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| bytes.iter().all(|byte| byte == first))
}

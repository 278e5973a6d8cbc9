//! A container whose first frame was read already, to look at the image's beginning, and is not fetched again.

use bty_image::container::Index;

use super::{Container, Frames, SupplyError};

/// A container, and its first frame, which was proved.
#[derive(Debug)]
pub(super) struct Begun<C> {
    container: C,
    frame_offset: u64,
    frame: Vec<u8>,
}

struct BegunFrames<'a> {
    frames: Box<dyn Frames + 'a>,
    frame_offset: u64,
    frame: &'a [u8],
}

impl<C> Begun<C> {
    pub(super) fn new(container: C, frame_offset: u64, frame: Vec<u8>) -> Self {
        Self { container, frame_offset, frame }
    }
}

impl<C: Container> Container for Begun<C> {
    fn index(&self) -> &Index {
        self.container.index()
    }

    fn is_pinned(&self) -> bool {
        self.container.is_pinned()
    }

    fn frames(&self) -> Result<Box<dyn Frames + '_>, SupplyError> {
        let (frames, frame_offset) = (self.container.frames()?, self.frame_offset);
        Ok(Box::new(BegunFrames { frames, frame_offset, frame: &self.frame }))
    }

    fn lanes(&self, processors: usize) -> usize {
        self.container.lanes(processors)
    }

    fn fetched_bytes(&self) -> u64 {
        self.container.fetched_bytes()
    }

    fn retried_requests(&self) -> u64 {
        self.container.retried_requests()
    }
}

impl Frames for BegunFrames<'_> {
    fn read(&mut self, offset: u64, room: &mut [u8]) -> Result<(), SupplyError> {
        if offset != self.frame_offset {
            return self.frames.read(offset, room);
        }
        let held = room.len().min(self.frame.len());
        let (beginning, rest) = room.split_at_mut(held);
        beginning.copy_from_slice(self.frame.get(..held).unwrap_or_default());
        if rest.is_empty() {
            return Ok(());
        }
        self.frames.read(offset + held as u64, rest)
    }

    fn distrust(&mut self) {
        self.frames.distrust();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that hold their offsets, and note what is asked of them.
    struct Offsets(Vec<(u64, usize)>);

    impl Frames for &mut Offsets {
        fn read(&mut self, offset: u64, room: &mut [u8]) -> Result<(), SupplyError> {
            self.0.push((offset, room.len()));
            for (byte, at) in room.iter_mut().zip(offset..) {
                *byte = u8::try_from(at).unwrap();
            }
            Ok(())
        }

        fn distrust(&mut self) {}
    }

    #[test]
    fn the_first_frame_is_not_fetched_again() {
        let held: Vec<u8> = (10..15).collect();
        for (offset, size, want) in [
            (10, 5, vec![]),
            (10, 3, vec![]),
            (10, 9, vec![(15, 4)]),
            (15, 4, vec![(15, 4)]),
            (0, 20, vec![(0, 20)]),
        ] {
            let (mut asked, mut room) = (Offsets(Vec::new()), vec![0; size]);
            let frames = Box::new(&mut asked);
            let mut begun = BegunFrames { frames, frame_offset: 10, frame: &held };
            begun.read(offset, &mut room).unwrap();
            drop(begun);
            let end = offset + size as u64;
            let expected: Vec<u8> = (offset..end).map(|at| u8::try_from(at).unwrap()).collect();
            assert_eq!((room, asked.0), (expected, want), "{offset} {size}");
        }
    }
}

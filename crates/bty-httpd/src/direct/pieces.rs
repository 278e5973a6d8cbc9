//! What stands in for a file's bytes, and for which.

use std::{
    collections::VecDeque,
    fs::File,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// Bytes in one piece: so much is sent at once, before others have their turn.
pub(super) const PIECE_BYTES: usize = 256 * 1024;

/// Nobody reads it, so it takes no memory but addresses.
static STAND_IN: LazyLock<Bytes> = LazyLock::new(|| vec![0; PIECE_BYTES].into());

/// Bytes that stand in for so many of a file; [`PIECE_BYTES`] at most.
pub(super) fn stand_in(bytes: usize) -> Bytes {
    STAND_IN.slice(..bytes.min(PIECE_BYTES))
}

/// Whether these bytes are, or are the rest of, what [`stand_in`] gave.
pub(super) fn stands_in(bytes: &[u8]) -> bool {
    !bytes.is_empty() && STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

/// The next bytes to be sent of a file.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

/// The pieces that one connection's stand-ins stand for, in the order in which hyper got them. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pieces(Arc<Mutex<VecDeque<Piece>>>);

impl Pieces {
    pub(super) fn push(&self, piece: Piece) {
        self.lock().push_back(piece);
    }

    /// What is to be sent next.
    pub(super) fn next(&self) -> Option<Piece> {
        self.lock().front().cloned()
    }

    /// So many bytes of the next piece have been sent.
    pub(super) fn sent(&self, bytes: usize) {
        let mut pieces = self.lock();
        if let Some(next) = pieces.front_mut() {
            next.offset += bytes as u64;
            next.bytes = next.bytes.saturating_sub(bytes);
            if next.bytes == 0 {
                pieces.pop_front();
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        // Every change is complete when the lock is given back, whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stand_ins_and_their_rests_stand_in() {
        let mut given = stand_in(100);
        assert!(stands_in(&given));
        let rest = given.split_off(99);
        assert!(stands_in(&rest));
        assert_eq!(stand_in(usize::MAX).len(), PIECE_BYTES);
        let copy = given.to_vec();
        assert!(!stands_in(&copy) && !stands_in(&[]));
        let end = stand_in(PIECE_BYTES).slice(PIECE_BYTES..);
        assert!(!stands_in(&end));
    }

    #[test]
    fn pieces_are_sent_in_their_order_and_whole() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let pieces = Pieces::default();
        for offset in [0, 10] {
            pieces.push(Piece { file: Arc::clone(&file), offset, bytes: 10 });
        }
        let next = || pieces.clone().next().map(|piece| (piece.offset, piece.bytes));
        assert_eq!(next(), Some((0, 10)));
        pieces.sent(4);
        assert_eq!(next(), Some((4, 6)));
        pieces.sent(6);
        assert_eq!(next(), Some((10, 10)));
        pieces.sent(10);
        assert!(next().is_none() && pieces.is_empty());
    }
}

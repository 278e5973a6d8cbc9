//! Bytes from the network, read by a thread as if from a file.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Pieces on their way: what bounds the memory of an import from the network.
const PIECES: usize = 4;

/// What is on the way.
enum Piece {
    Bytes(Bytes),
    /// The source is whole.
    End,
}

/// Takes bytes in.
#[derive(Debug, Clone)]
pub(crate) struct Feeder(mpsc::Sender<Piece>);

/// Gives them to a reader. It ends well only after [`Feeder::end`]: a sender that just goes away is an error, so that a
/// source that breaks off is never taken for a whole one.
#[derive(Debug)]
pub(crate) struct Feed {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    has_ended: bool,
    read_bytes: u64,
    size_bytes: Option<u64>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::End => f.write_str("end"),
        }
    }
}

/// A feed, of this size where it is known.
pub(crate) fn feed(size_bytes: Option<u64>) -> (Feeder, Feed) {
    let (feeder, pieces) = mpsc::channel(PIECES);
    let feed = Feed { pieces, piece: Bytes::new(), has_ended: false, read_bytes: 0, size_bytes };
    (Feeder(feeder), feed)
}

impl Feeder {
    /// Passes bytes on, when there is room. False where nobody wants them any more.
    pub(crate) async fn pass(&self, bytes: Bytes) -> bool {
        self.0.send(Piece::Bytes(bytes)).await.is_ok()
    }

    /// Waits until nobody wants them any more.
    pub(super) async fn unwanted(&self) {
        self.0.closed().await;
    }

    /// Says that this was all.
    pub(crate) async fn end(self) {
        let _ = self.0.send(Piece::End).await;
    }
}

impl Feed {
    /// Size of what comes, where it is known.
    pub(crate) fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// Checks the size against what was said, now that there is more or nothing more.
    fn check(&self) -> io::Result<()> {
        let Some(size) = self.size_bytes else { return Ok(()) };
        let read = self.read_bytes;
        if read > size || self.has_ended && read < size {
            let shown = format!("{size} bytes were announced, and {read} came");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, shown));
        }
        Ok(())
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.has_ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => {
                    self.read_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    self.piece = bytes;
                }
                Some(Piece::End) => self.has_ended = true,
                None => {
                    let shown = "the sender broke off";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, shown));
                }
            }
            self.check()?;
        }
        let count = buffer.len().min(self.piece.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), self.piece.get(..count)) {
            to.copy_from_slice(from);
        }
        self.piece.advance(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        size: Option<u64>,
        pieces: &'static [&'static [u8]],
        ends: bool,
    ) -> io::Result<Vec<u8>> {
        let (feeder, mut feed) = feed(size);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            feed.read_to_end(&mut all).map(|_| all)
        });
        runtime.block_on(async {
            for piece in pieces {
                feeder.pass(Bytes::from_static(piece)).await;
            }
            if ends {
                feeder.end().await;
            }
        });
        reader.join().unwrap()
    }

    #[test]
    fn a_whole_source_is_read_whole() {
        assert_eq!(read(None, &[b"ab", b"", b"cde"], true).unwrap(), b"abcde");
        assert_eq!(read(Some(5), &[b"ab", b"cde"], true).unwrap(), b"abcde");
    }

    #[test]
    fn a_source_that_breaks_off_is_an_error() {
        assert_eq!(
            read(None, &[b"ab"], false).unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
    }

    #[test]
    fn a_source_of_another_size_than_announced_is_an_error() {
        assert_eq!(read(Some(3), &[b"ab"], true).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(Some(1), &[b"ab"], true).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

//! Readers around a source: one that counts and hashes what comes out of it, one that names what is wrong with it.

use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bty_types::Checksum;
use sha2::{Digest, Sha256, Sha512};

use super::{FinishError, detect::Format};
use crate::container::FOOTER_BYTES;

/// How many bytes of a source have been read.
#[derive(Debug, Clone, Default)]
pub struct Position(Arc<AtomicU64>);

impl Position {
    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self, bytes: usize) {
        self.0.fetch_add(u64::try_from(bytes).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// The last bytes of what was read.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    most: usize,
}

impl Tail {
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let new = bytes.get(bytes.len().saturating_sub(self.most)..).unwrap_or_default();
        let surplus = (self.bytes.len() + new.len()).saturating_sub(self.most);
        self.bytes.drain(..surplus);
        self.bytes.extend(new);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Computes the checksum that was asked for.
pub(super) enum Hasher {
    /// None was.
    Nothing,
    /// SHA-256.
    Sha256(Sha256, Checksum),
    /// SHA-512.
    Sha512(Sha512, Checksum),
}

impl Hasher {
    pub(super) fn new(wanted: Option<Checksum>) -> Self {
        match wanted {
            None => Self::Nothing,
            Some(wanted @ Checksum::Sha256(_)) => Self::Sha256(Sha256::new(), wanted),
            Some(wanted @ Checksum::Sha512(_)) => Self::Sha512(Sha512::new(), wanted),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::Sha256(hasher, _) => hasher.update(bytes),
            Self::Sha512(hasher, _) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Result<(), FinishError> {
        let (found, wanted) = match self {
            Self::Nothing => return Ok(()),
            Self::Sha256(hasher, wanted) => (Checksum::Sha256(hasher.finalize().into()), wanted),
            Self::Sha512(hasher, wanted) => (Checksum::Sha512(hasher.finalize().into()), wanted),
        };
        if found == wanted {
            return Ok(());
        }
        Err(FinishError::Checksum { wanted: Box::new(wanted), found: Box::new(found) })
    }
}

/// A source's bytes as they are, counted and hashed on the way. Clones share everything: a decoder owns one, and the end of the
/// source is read through the other.
#[derive(Clone)]
pub(super) struct Tap {
    inner: Arc<Mutex<Inner>>,
    position: Position,
}

struct Inner {
    stream: Box<dyn Read + Send>,
    hasher: Hasher,
    tail: Tail,
}

impl Tap {
    pub(super) fn new(stream: impl Read + Send + 'static, checksum: Option<Checksum>) -> Self {
        let inner = Inner {
            stream: Box::new(stream),
            hasher: Hasher::new(checksum),
            tail: Tail::new(FOOTER_BYTES),
        };
        Self { inner: Arc::new(Mutex::new(inner)), position: Position::default() }
    }

    pub(super) fn position(&self) -> Position {
        self.position.clone()
    }

    /// Reads what no decoder wanted, compares the checksum, and gives the source's last bytes.
    pub(super) fn finish(mut self) -> Result<Tail, FinishError> {
        io::copy(&mut self, &mut io::sink())?;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut inner.hasher, Hasher::Nothing).finish()?;
        Ok(inner.tail.clone())
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let read = inner.stream.read(buffer).map_err(|problem| match problem.kind() {
            io::ErrorKind::Interrupted => problem,
            _ => io::Error::other(BrokenSource(problem)),
        })?;
        let bytes = buffer.get(..read).unwrap_or_default();
        inner.hasher.update(bytes);
        inner.tail.push(bytes);
        self.position.advance(read);
        Ok(read)
    }
}

/// The source itself could not be read: nothing is known of its content.
#[derive(Debug, thiserror::Error)]
#[error("reading the source: {0}")]
struct BrokenSource(io::Error);

/// What a decoder gives, with errors that say what is wrong with the source.
pub(super) struct Named<R> {
    format: Format,
    reader: R,
}

impl<R> Named<R> {
    pub(super) fn new(format: Format, reader: R) -> Self {
        Self { format, reader }
    }
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|problem| {
            let format = self.format.as_str();
            let broken =
                problem.get_ref().and_then(|inner| inner.downcast_ref::<BrokenSource>()).is_some();
            if broken || problem.kind() == io::ErrorKind::Interrupted {
                return problem;
            }
            let shown = match problem.kind() {
                _ if is_memory_limit(&problem) => format!(
                    "unpacking the {format} data takes more memory than is allowed here: it was packed with a larger window \
                     (zstd --long, --ultra; xz --lzma2=dict); pack it again with the default"
                ),
                io::ErrorKind::UnexpectedEof => {
                    format!("the {format} data ends too early: the source was cut off")
                }
                _ => format!("the {format} data is damaged: {problem}"),
            };
            io::Error::new(io::ErrorKind::InvalidData, shown)
        })
    }
}

fn is_memory_limit(problem: &io::Error) -> bool {
    let inner = problem.get_ref();
    let is_xz = inner
        .and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>())
        .is_some_and(|error| matches!(error, liblzma::stream::Error::MemLimit));
    // The zstd crate gives the library's text and nothing else.
    is_xz || inner.is_some_and(|inner| inner.to_string().contains("too much memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_last_bytes_however_they_come() {
        let all: Vec<u8> = (0..100).collect();
        for piece in [1, 3, 7, 9, 50, 100] {
            let mut tail = Tail::new(9);
            all.chunks(piece).for_each(|bytes| tail.push(bytes));
            assert_eq!(tail.bytes(), &all[91..]);
        }
        let mut short = Tail::new(9);
        short.push(b"ab");
        assert_eq!(short.bytes(), b"ab");
    }
}

//! Who sees an image's source as it comes by, and says at its end whether its publisher has signed it.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use minisign_verify::{PublicKey, Signature};

use super::{ImportProblem, openpgp::Detached};

/// Pieces that wait for a witness that is slower than the source.
const PIECES: usize = 4;

/// A signature of a source, on its way to being checked.
#[derive(Debug)]
pub(super) struct Witness {
    /// Where the signature is from.
    pub(super) url: String,
    pub(super) sort: Sort,
}

/// By what it was signed.
#[derive(Debug)]
pub(super) enum Sort {
    /// minisign.
    Minisign(Minisign),
    /// OpenPGP.
    OpenPgp(Detached),
}

impl Witness {
    fn see(&mut self, bytes: &[u8]) {
        match &mut self.sort {
            Sort::Minisign(witness) => witness.see(bytes),
            Sort::OpenPgp(witness) => witness.see(bytes),
        }
    }

    fn finish(self) -> Result<(), ImportProblem> {
        let Self { url, sort } = self;
        match sort {
            Sort::Minisign(witness) => {
                witness.finish().map_err(|source| ImportProblem::Signature { url, source })
            }
            Sort::OpenPgp(witness) => {
                witness.finish().map_err(|source| ImportProblem::OpenPgp { url, source })
            }
        }
    }
}

/// A minisign signature. The verifier borrows its key, so that it lives on a thread of its own.
#[derive(Debug)]
pub(super) struct Minisign {
    pieces: mpsc::SyncSender<Vec<u8>>,
    thread: thread::JoinHandle<Result<(), minisign_verify::Error>>,
}

impl Minisign {
    /// Begins; fails at once where the signature is by another key, or in the form that needs the whole file in memory.
    pub(super) fn begin(
        key: PublicKey,
        signature: Signature,
    ) -> Result<Self, minisign_verify::Error> {
        key.verify_stream(&signature)?;
        let (pieces, coming) = mpsc::sync_channel::<Vec<u8>>(PIECES);
        let thread = thread::spawn(move || {
            let mut verifier = key.verify_stream(&signature)?;
            for piece in &coming {
                verifier.update(&piece);
            }
            verifier.finalize()
        });
        Ok(Self { pieces, thread })
    }

    fn see(&mut self, bytes: &[u8]) {
        // It takes pieces until there are no more.
        let _ = self.pieces.send(bytes.to_vec());
    }

    fn finish(self) -> Result<(), minisign_verify::Error> {
        drop(self.pieces);
        self.thread.join().unwrap_or(Err(minisign_verify::Error::InvalidSignature))
    }
}

/// A source that is seen by a witness.
#[derive(Debug)]
pub(super) struct Witnessed<R> {
    reader: R,
    witness: Arc<Mutex<Option<Witness>>>,
}

/// Asks a witness when all was read.
#[derive(Debug, Default)]
pub(super) struct Testimony(Arc<Mutex<Option<Witness>>>);

/// Puts a witness before a reader.
pub(super) fn witnessed<R>(reader: R, witness: Option<Witness>) -> (Witnessed<R>, Testimony) {
    let witness = Arc::new(Mutex::new(witness));
    (Witnessed { reader, witness: Arc::clone(&witness) }, Testimony(witness))
}

impl<R: Read> Read for Witnessed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let mut witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(witness), Some(bytes)) = (witness.as_mut(), buffer.get(..read)) {
            witness.see(bytes);
        }
        Ok(read)
    }
}

impl Testimony {
    /// Whether everything that was read is what was signed; true where there is no witness.
    pub(super) fn give(self) -> Result<(), ImportProblem> {
        let witness = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        witness.map_or(Ok(()), Witness::finish)
    }
}

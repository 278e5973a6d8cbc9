//! What is done to each chunk: is it zeros, what is its value, what is its frame.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use zstd::bulk::Compressor;

use crate::{
    assemble::frame_compressor,
    container::{Entry, chunk_value},
    zeros::is_zero,
};

/// A chunk on its way to a worker.
pub(super) struct Task {
    pub(super) number: u64,
    pub(super) raw: Vec<u8>,
    /// Whether the disk has no other chunk.
    pub(super) is_whole_disk: bool,
}

/// A chunk on its way from a worker.
pub(super) struct Done {
    pub(super) number: u64,
    pub(super) raw: Vec<u8>,
    pub(super) frame: Vec<u8>,
    pub(super) entry: Entry,
}

/// Where workers take chunks from, one at a time.
pub(super) type Tasks = Arc<Mutex<mpsc::Receiver<Task>>>;

/// A worker's tools.
pub(super) struct Worker {
    compressor: Compressor<'static>,
    chunk_bytes: u64,
    /// The frame of a whole chunk of zeros; most images have thousands.
    hole: Option<Vec<u8>>,
}

impl Worker {
    pub(super) fn new(level: i32, chunk_bytes: u32) -> io::Result<Self> {
        let compressor = frame_compressor(level)?;
        Ok(Self { compressor, chunk_bytes: chunk_bytes.into(), hole: None })
    }

    /// Works until there are no more chunks, or nobody wants the results.
    pub(super) fn run(mut self, tasks: &Tasks, results: &mpsc::SyncSender<io::Result<Done>>) {
        loop {
            let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(task) = task else { return };
            if results.send(self.process(task)).is_err() {
                return;
            }
        }
    }

    fn process(&mut self, task: Task) -> io::Result<Done> {
        let Task { number, raw, is_whole_disk } = task;
        let is_hole = is_zero(&raw);
        let value = chunk_value(&raw, number * self.chunk_bytes, is_whole_disk);
        let whole = u64::try_from(raw.len()) == Ok(self.chunk_bytes);
        let frame = match &self.hole {
            Some(frame) if is_hole && whole => frame.clone(),
            _ => self.compressor.compress(&raw)?,
        };
        if is_hole && whole && self.hole.is_none() {
            self.hole = Some(frame.clone());
        }
        let frame_bytes = u32::try_from(frame.len()).map_err(io::Error::other)?;
        Ok(Done { number, raw, frame, entry: Entry { value, frame_bytes, is_hole } })
    }
}

//! From the pieces of a container that come to what is written: each chunk is proved before.

use std::io::{self, Read};

use bty_image::container::{ChunkDecoder, Index};
use bty_types::ErrorKind;
use tokio::sync::mpsc;

use super::{End, sink::Writer};
use crate::{arguments::ExportFormat, failure::Failure};

/// The bytes of a container, as they come.
struct Coming {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    taken: usize,
}

impl Read for Coming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.len() <= self.taken {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            (self.piece, self.taken) = (piece, 0);
        }
        let mut rest = self.piece.get(self.taken..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

/// Writes what comes: the disk in it, or the container as it is.
pub(super) fn unpack(
    index: &Index,
    end: &End,
    format: ExportFormat,
    pieces: mpsc::Receiver<Vec<u8>>,
    mut writer: Writer,
) -> Result<(), Failure> {
    let mut coming = Coming { pieces, piece: Vec::new(), taken: 0 };
    let starting = |problem: io::Error| Failure::io("unpacking the image", &problem);
    let mut decoder = ChunkDecoder::new().map_err(starting)?;
    let mut raw = vec![0; usize::try_from(index.chunk_bytes()).unwrap_or_default()];
    let mut frame = Vec::new();
    for chunk in index.chunks() {
        frame.resize(usize::try_from(chunk.frame_bytes).unwrap_or_default(), 0);
        coming.read_exact(&mut frame).map_err(|_| broken_off())?;
        let raw = decoder.decode(&chunk, &frame, &mut raw).map_err(|problem| {
            Failure::new(ErrorKind::Corrupt, format!("the store's file is damaged: {problem}"))
                .hint("import the image again, which replaces its file")
        })?;
        match format {
            ExportFormat::Raw => writer.write_disk(raw),
            ExportFormat::Zst => writer.write(&frame),
        }
        .map_err(|problem| writing(&problem))?;
    }
    if format == ExportFormat::Zst {
        let mut rest = Vec::new();
        coming.read_to_end(&mut rest).map_err(|_| broken_off())?;
        // What the index was read from; it may begin before the last frame's end, or behind frames that we don't know.
        let known = end.bytes.len().min(rest.len());
        let known = end.bytes.get(end.bytes.len() - known..).unwrap_or_default();
        if rest.is_empty() || !rest.ends_with(known) {
            return Err(broken_off());
        }
        writer.write(&rest).map_err(|problem| writing(&problem))?;
    }
    writer.end().map_err(|problem| writing(&problem))
}

fn writing(problem: &io::Error) -> Failure {
    match problem.kind() {
        // Whoever read us has had enough.
        io::ErrorKind::BrokenPipe => Failure::interrupted(),
        _ => Failure::io("writing the image", problem),
    }
}

fn broken_off() -> Failure {
    let message = "the image's file ended early, or was replaced meanwhile; nothing was kept";
    Failure::new(ErrorKind::Unavailable, message).hint("try again")
}

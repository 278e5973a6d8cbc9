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

#[cfg(test)]
mod tests {
    use std::{fs, io::Cursor, sync::atomic::AtomicBool};

    use bty_image::{
        import::{Options, import},
        source::open_stream,
    };

    use super::{super::Sink, *};

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 5 * 256 * 1024 + 512];
        disk.iter_mut()
            .zip(b"all work and no play ".iter().cycle())
            .take(400_000)
            .for_each(|(to, from)| *to = *from);
        disk
    }

    fn container() -> Vec<u8> {
        let source = open_stream(Cursor::new(disk()), None, None).unwrap();
        let mut out = Vec::new();
        let never = AtomicBool::new(false);
        import(source, &mut out, &Options::default(), &never, |_| {}).unwrap();
        out
    }

    /// Unpacks a container that comes in pieces of this size; gives what was written.
    fn unpacked(
        come: &[u8],
        piece_bytes: usize,
        format: ExportFormat,
    ) -> Result<Vec<u8>, ErrorKind> {
        let whole = container();
        let index = Index::read(whole.as_slice()).unwrap();
        let start = whole.len() - 400;
        let end = End { start: start as u64, bytes: whole[start..].to_vec() };
        let (sender, coming) = mpsc::channel(10_000);
        for piece in come.chunks(piece_bytes) {
            sender.try_send(piece.to_vec()).unwrap();
        }
        drop(sender);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let sink = Sink::open(&path).unwrap();
        unpack(&index, &end, format, coming, sink.writer().unwrap())
            .map_err(|failure| failure.kind())?;
        sink.keep().map_err(|failure| failure.kind())?;
        Ok(fs::read(&path).unwrap())
    }

    #[test]
    fn however_it_comes_it_is_the_disk() {
        let whole = container();
        for piece_bytes in [1, 100, 1000, 1 << 20] {
            let raw = unpacked(&whole, piece_bytes, ExportFormat::Raw);
            assert!(raw == Ok(disk()), "another disk in pieces of {piece_bytes}");
            let packed = unpacked(&whole, piece_bytes, ExportFormat::Zst);
            assert!(packed.as_ref() == Ok(&whole), "another file in pieces of {piece_bytes}");
        }
    }

    #[test]
    fn what_is_damaged_or_cut_off_is_not_kept() {
        let whole = container();
        for format in [ExportFormat::Raw, ExportFormat::Zst] {
            let mut damaged = whole.clone();
            damaged[30] ^= 1;
            assert_eq!(unpacked(&damaged, 1000, format), Err(ErrorKind::Corrupt));
            assert_eq!(unpacked(&whole[..100], 1000, format), Err(ErrorKind::Unavailable));
        }
        let mut other_end = whole.clone();
        *other_end.last_mut().unwrap() ^= 1;
        assert_eq!(unpacked(&other_end, 1000, ExportFormat::Zst), Err(ErrorKind::Unavailable));
        let short = &whole[..whole.len() - 1];
        assert_eq!(unpacked(short, 1000, ExportFormat::Zst), Err(ErrorKind::Unavailable));
    }
}

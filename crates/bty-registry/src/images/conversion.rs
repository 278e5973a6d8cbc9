//! The part of an import that a thread does: from the source's bytes to a whole file.

use std::{
    io::{self, BufWriter, Cursor, Read, Seek as _, SeekFrom, Write as _},
    os::fd::AsRawFd as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use bty_api::registry::v1::ImportProgress;
use bty_image::{
    container::RawDisk,
    import::{ImportError, Options, Progress, Summary, import},
    inspect,
    source::{self, Source},
};
use bty_types::{Checksum, ImageId};

use super::{
    Feed, ImportProblem, Importer,
    contents::Seen,
    files::Unfinished,
    import::{EventSender, ImportEvent, REPORT_EVERY},
    witness::{Testimony, Witness, witnessed},
};

/// What a thread imports.
pub(super) enum Opened {
    /// An open file.
    File(std::fs::File),
    /// Bytes from the network.
    Feed(Feed),
}

/// Bytes as they come, of this size where it is known.
struct Stream {
    reader: Box<dyn Read + Send>,
    size_bytes: Option<u64>,
}

/// What a thread has imported.
pub(super) struct Imported {
    pub(super) unfinished: Unfinished,
    pub(super) summary: Summary,
    pub(super) seen: Seen,
}

/// The part of an import that a thread does.
pub(super) struct Import<'a> {
    pub(super) importer: &'a Importer,
    pub(super) checksum: Option<Checksum>,
    /// Who sees the source's bytes; nobody where its publisher has not signed it.
    pub(super) witness: Option<Witness>,
    pub(super) expect_id: Option<ImageId>,
    pub(super) stop: &'a AtomicBool,
    pub(super) events: EventSender,
}

impl Import<'_> {
    pub(super) fn run(mut self, opened: Opened) -> Result<Imported, ImportProblem> {
        // Dropped last: an import reads from it to its end.
        let mut spool = None;
        let mut reports = Reports { events: self.events.clone(), last: None };
        let (source, testimony) = self.source(opened, &mut spool, &mut reports)?;
        let unfinished = self.importer.folder.begin()?;
        let options = Options {
            max_raw_bytes: self.importer.max_image_bytes,
            expect_id: self.expect_id,
            ..Options::default()
        };
        let mut writer = BufWriter::with_capacity(1 << 20, &unfinished.file);
        let summary =
            import(source, &mut writer, &options, self.stop, |progress| reports.send(progress))?;
        testimony.give()?;
        writer.flush().map_err(ImportError::Write)?;
        drop(writer);
        let disk = RawDisk::new(&unfinished.file, &summary.index).map_err(ImportError::Start)?;
        let seen = inspect::contents(&disk, &summary.inspection).into();
        // Here, where nobody waits for it: to place what the disk has already takes no time.
        unfinished.file.sync_all().map_err(ImportError::Write)?;
        Ok(Imported { unfinished, summary, seen })
    }

    fn source(
        &mut self,
        opened: Opened,
        spool: &mut Option<Unfinished>,
        reports: &mut Reports,
    ) -> Result<(Source, Testimony), ImportProblem> {
        let stream = match opened {
            // The importer opens files by path; this one names what is open already, whatever happens to the folders.
            Opened::File(file) if self.witness.is_none() => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                let source = source::open_file(Path::new(&path), self.checksum)?;
                return Ok((source, Testimony::default()));
            }
            // What a witness sees has to be what is imported, though somebody writes to the file: it is read once, as a stream.
            Opened::File(file) => {
                let size_bytes = file.metadata().ok().map(|metadata| metadata.len());
                Stream { reader: Box::new(file), size_bytes }
            }
            Opened::Feed(feed) => Stream { size_bytes: feed.size_bytes(), reader: Box::new(feed) },
        };
        self.of_stream(stream, spool, reports)
    }

    fn of_stream(
        &mut self,
        stream: Stream,
        spool: &mut Option<Unfinished>,
        reports: &mut Reports,
    ) -> Result<(Source, Testimony), ImportProblem> {
        let Stream { reader, size_bytes } = stream;
        let (mut reader, testimony) = witnessed(reader, self.witness.take());
        let mut head = Vec::new();
        (&mut reader)
            .take(source::TELLING_BYTES)
            .read_to_end(&mut head)
            .map_err(source::SourceError::Head)?;
        let needs_file = source::needs_file(&head);
        let whole = Cursor::new(head).chain(reader);
        if !needs_file {
            return Ok((source::open_stream(whole, size_bytes, self.checksum)?, testimony));
        }
        let spool = spool.insert(self.importer.folder.begin()?);
        self.copy(whole, size_bytes, spool, reports)?;
        Ok((source::open_file(spool.path(), self.checksum)?, testimony))
    }

    /// Keeps a stream in a file first, for formats that are read to and fro.
    fn copy(
        &self,
        mut from: impl Read,
        size_bytes: Option<u64>,
        spool: &mut Unfinished,
        reports: &mut Reports,
    ) -> Result<(), ImportProblem> {
        let most = self.importer.max_image_bytes;
        let mut buffer = vec![0; 256 * 1024];
        let mut copied: u64 = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ImportError::Cancelled.into());
            }
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(ImportError::Read { raw_bytes: 0, source }.into()),
            };
            copied = copied.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            if copied > most {
                return Err(ImportError::TooLarge(most).into());
            }
            let piece = buffer.get(..read).unwrap_or_default();
            spool.file.write_all(piece).map_err(ImportError::Write)?;
            reports.send_kept(copied, size_bytes);
        }
        spool.file.seek(SeekFrom::Start(0)).map_err(ImportError::Write)?;
        Ok(())
    }
}

/// Tells how far an import is, a few times a second.
struct Reports {
    events: EventSender,
    last: Option<Instant>,
}

impl Reports {
    /// So much is imported.
    fn send(&mut self, progress: Progress) {
        self.report(ImportProgress {
            source_bytes: progress.source_bytes,
            source_total_bytes: progress.source_total_bytes,
            raw_bytes: progress.raw_bytes,
            stored_bytes: progress.container_bytes,
            is_kept_first: false,
        });
    }

    /// So much of the source is kept in a file.
    fn send_kept(&mut self, source_bytes: u64, source_total_bytes: Option<u64>) {
        self.report(ImportProgress {
            source_bytes,
            source_total_bytes,
            is_kept_first: true,
            ..ImportProgress::default()
        });
    }

    fn report(&mut self, report: ImportProgress) {
        if self.last.is_some_and(|last| last.elapsed() < REPORT_EVERY) || self.events.capacity() < 2
        {
            return;
        }
        self.last = Some(Instant::now());
        // One place stays free for the end; a watcher that is behind misses reports.
        let _ = self.events.try_send(Ok(ImportEvent::Progress(report)));
    }
}

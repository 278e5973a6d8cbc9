//! One capture: a disk whose reader sends what the base image has not.

use std::{
    io::BufWriter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bty_api::registry::v1::ImportProgress;
use bty_image::{
    assemble::Assembly,
    container::{Index, RawDisk, chunk_bytes_for},
    import::ImportError,
    inspect,
};
use bty_types::{ImageId, ImageName};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Folder, Held, HeldProblem, ImportProblem, Importer, WAITING,
    conversion::Imported,
    import::{REPORT_EVERY, image},
};
use crate::{
    problem::Problem,
    record::{Image, NewEvent},
};

/// Values in one message.
const VALUES: u64 = 1024;

/// A disk that is captured.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The name to give it.
    pub(crate) name: ImageName,
    /// Its size.
    pub(crate) raw_bytes: u64,
    /// What it is likely to be like.
    pub(crate) base: Option<Arc<Base>>,
    /// What the sender calls the disk.
    pub(crate) source: String,
    /// Who asked.
    pub(crate) actor: String,
    /// Is told how many chunks have been taken in.
    pub(crate) taken: watch::Sender<u64>,
}

/// An image whose chunks need not be sent.
#[derive(Debug)]
pub(crate) struct Base {
    held: Held,
    index: Index,
}

/// What comes of a disk.
#[derive(Debug)]
pub(crate) enum Part {
    /// So many chunks are the base's.
    Same(u64),
    /// So many chunks are zeros.
    Zeros(u64),
    /// A chunk: its value and its frame.
    Chunk([u8; 32], Vec<u8>),
    /// There are no more, and the image is this one.
    End(ImageId),
}

/// What there is to say of a capture.
#[derive(Debug)]
pub(crate) enum CaptureEvent {
    /// How far it is.
    Progress(ImportProgress),
    /// It is done.
    Done(Box<Image>, Counts),
}

/// What came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) same_chunks: u64,
    pub(crate) zero_chunks: u64,
    pub(crate) sent_chunks: u64,
    pub(crate) sent_bytes: u64,
}

type Events = mpsc::Sender<Result<CaptureEvent, ImportProblem>>;

impl Base {
    /// Opens an image as a base.
    pub(crate) fn open(folder: &Folder, id: ImageId) -> Result<Self, HeldProblem> {
        let held = Held::open(folder, id)?;
        let index = held.index()?;
        Ok(Self { held, index })
    }

    /// Its id.
    pub(crate) fn id(&self) -> ImageId {
        self.index.id()
    }

    /// Chunks that a disk of this size may have too.
    pub(crate) fn chunks(&self, raw_bytes: u64) -> u64 {
        self.index.len().min(raw_bytes.div_ceil(self.index.chunk_bytes().into()))
    }

    /// The values of the chunks from this one on, as many as go into one message.
    pub(crate) fn values(&self, from: u64, chunks: u64) -> Vec<u8> {
        let numbers = from..chunks.min(from.saturating_add(VALUES));
        numbers
            .filter_map(|number| self.index.chunk(number))
            .flat_map(|chunk| chunk.value)
            .collect()
    }
}

impl Capture {
    /// Size of the chunks.
    pub(crate) fn chunk_bytes(&self) -> u32 {
        match &self.base {
            Some(base) => base.index.chunk_bytes(),
            None => chunk_bytes_for(Some(self.raw_bytes)),
        }
    }
}

impl Importer {
    /// Takes a capture in until it is done, fails or is cancelled.
    pub(crate) async fn capture(
        self: Arc<Self>,
        capture: Capture,
        parts: mpsc::Receiver<Part>,
        events: Events,
        cancelled: CancellationToken,
    ) {
        let (name, actor) = (capture.name.clone(), capture.actor.clone());
        let Ok(_place) = self.places.try_acquire() else {
            let full = Problem::Full(format!("{WAITING} imports wait already: try again later"));
            let _ = events.send(Err(full.into())).await;
            return;
        };
        let outcome = tokio::select! {
            permit = self.permits.acquire() => match permit {
                Ok(_permit) => self.take(capture, parts, events.clone(), &cancelled).await,
                Err(_) => Err(ImportError::Cancelled.into()),
            },
            () = cancelled.cancelled() => Err(ImportError::Cancelled.into()),
        };
        self.metrics.import(outcome.is_ok());
        if let Err(problem) = &outcome {
            let message = format!("capturing {name} failed: {}", bty_api::status::chain(problem));
            let kind = "image.import-failed";
            let event = NewEvent { kind, actor, message, ..NewEvent::default() };
            self.store.write_later(move |transaction| transaction.event(event));
        }
        let last = outcome.map(|(image, counts)| CaptureEvent::Done(Box::new(image), counts));
        // Nobody listens where the caller went away.
        let _ = events.send(last).await;
    }

    async fn take(
        self: &Arc<Self>,
        capture: Capture,
        parts: mpsc::Receiver<Part>,
        events: Events,
        cancelled: &CancellationToken,
    ) -> Result<(Image, Counts), ImportProblem> {
        let (name, actor, source) =
            (capture.name.clone(), capture.actor.clone(), capture.source.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, flag) = (self.folder.clone(), Arc::clone(&stop));
        let most = self.max_image_bytes;
        let thread = tokio::task::spawn_blocking(move || {
            if capture.raw_bytes > most {
                return Err(ImportError::TooLarge(most).into());
            }
            Taking { capture: &capture, parts, events, stop: &flag, last: None }.run(&folder)
        });
        let done = tokio::select! {
            done = thread => done.unwrap_or(Err(ImportProblem::Thread))?,
            () = cancelled.cancelled() => {
                // The thread notices, and its file goes with it.
                stop.store(true, Ordering::Relaxed);
                return Err(ImportError::Cancelled.into());
            }
        };
        // From here on it is not cancelled: the file and its row come together.
        let (Imported { unfinished, summary, seen }, counts) = done;
        let image = self.place(&unfinished, image(&summary, seen, source), name, actor).await?;
        Ok((image, counts))
    }
}

/// The part of a capture that a thread does.
struct Taking<'a> {
    capture: &'a Capture,
    parts: mpsc::Receiver<Part>,
    events: Events,
    stop: &'a AtomicBool,
    last: Option<Instant>,
}

impl Taking<'_> {
    fn run(mut self, folder: &Folder) -> Result<(Imported, Counts), ImportProblem> {
        let unfinished = folder.begin()?;
        let writer = BufWriter::with_capacity(1 << 20, &unfinished.file);
        let Capture { raw_bytes, .. } = *self.capture;
        let mut assembly = Assembly::new(writer, raw_bytes, self.capture.chunk_bytes())?;
        let mut counts = Counts::default();
        let id = loop {
            match self.parts.blocking_recv() {
                None => return Err(self.broken_off()),
                Some(Part::End(id)) => break id,
                Some(part) => self.add(&mut assembly, &mut counts, part)?,
            }
        };
        let summary = assembly.finish(id)?;
        let disk = RawDisk::new(&unfinished.file, &summary.index).map_err(ImportError::Start)?;
        let seen = inspect::contents(&disk, &summary.inspection).into();
        Ok((Imported { unfinished, summary, seen }, counts))
    }

    fn add(
        &mut self,
        assembly: &mut Assembly<BufWriter<&std::fs::File>>,
        counts: &mut Counts,
        part: Part,
    ) -> Result<(), ImportProblem> {
        match part {
            Part::Same(chunks) => {
                let base = self.capture.base.as_deref();
                let base = base.ok_or_else(|| Problem::value("same_chunks", "there is no base"))?;
                for _ in 0..chunks {
                    let chunk = base.index.chunk(assembly.next_number());
                    assembly.same(&*base.held.file, chunk)?;
                    counts.same_chunks += 1;
                    self.look_up(assembly, counts)?;
                }
            }
            Part::Zeros(chunks) => {
                for _ in 0..chunks {
                    assembly.zeros()?;
                    counts.zero_chunks += 1;
                    self.look_up(assembly, counts)?;
                }
            }
            Part::Chunk(value, frame) => {
                assembly.frame(value, &frame)?;
                counts.sent_chunks += 1;
                counts.sent_bytes += u64::try_from(frame.len()).unwrap_or_default();
                self.look_up(assembly, counts)?;
            }
            Part::End(_) => {}
        }
        Ok(())
    }

    /// Whether it was called off; and how far it is, a few times a second.
    fn look_up(
        &mut self,
        assembly: &Assembly<BufWriter<&std::fs::File>>,
        counts: &Counts,
    ) -> Result<(), ImportProblem> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(ImportError::Cancelled.into());
        }
        self.capture.taken.send_replace(assembly.next_number());
        let is_due = self.last.is_none_or(|last| last.elapsed() >= REPORT_EVERY);
        if is_due && self.events.capacity() >= 2 {
            self.last = Some(Instant::now());
            let progress = ImportProgress {
                source_bytes: counts.sent_bytes,
                source_total_bytes: None,
                raw_bytes: assembly.done_bytes(),
                stored_bytes: assembly.container_bytes(),
                is_kept_first: false,
            };
            // One place stays free for the end; a watcher that is behind misses reports.
            let _ = self.events.try_send(Ok(CaptureEvent::Progress(progress)));
        }
        Ok(())
    }

    fn broken_off(&self) -> ImportProblem {
        if self.stop.load(Ordering::Relaxed) {
            return ImportError::Cancelled.into();
        }
        let source = std::io::Error::new(
            std::io::ErrorKind::ConnectionAborted,
            "the sender broke off, or sent what is no part of a capture",
        );
        ImportError::Read { raw_bytes: 0, source }.into()
    }
}

//! One import, from its source to its name.

use std::{
    io::{self, BufWriter, Cursor, Read, Seek as _, SeekFrom, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bty_api::registry::v1::{ImportProgress, Partition};
use bty_image::{
    container::RawDisk,
    import::{ImportError, Options, Progress, Summary, import},
    inspect,
    source::{self, Source},
};
use bty_types::{Checksum, ImageId, ImageName};
use reqwest::Url;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Feed, Feeder, Fetcher, Folder, ImportProblem, Publisher,
    contents::Seen,
    feed::feed,
    fetch::{pump, without_user},
    files::Unfinished,
};
use crate::{
    metrics::Metrics,
    problem::Problem,
    record::{Image, NewEvent},
    store::Store,
};

/// Between two reports of progress.
pub(super) const REPORT_EVERY: Duration = Duration::from_millis(250);
/// Reports that wait for a watcher; more are left out.
const REPORTS: usize = 4;

/// Imports images.
#[derive(Debug)]
pub(crate) struct Importer {
    pub(crate) folder: Folder,
    pub(crate) import_dirs: Vec<PathBuf>,
    pub(crate) max_image_bytes: u64,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) fetcher: Fetcher,
    /// Imports at a time.
    pub(crate) permits: Semaphore,
    /// Imports at a time and those that wait for their turn.
    pub(crate) places: Semaphore,
    /// Verifications: one at a time.
    pub(crate) verify_permit: Semaphore,
    /// Verifications, with those that wait for their turn.
    pub(crate) verify_places: Semaphore,
    /// Held while a file and its row in the database come or go together.
    pub(crate) placing: Mutex<()>,
}

/// What to import.
#[derive(Debug)]
pub(crate) struct Job {
    /// The name to give it.
    pub(crate) name: ImageName,
    /// The publisher's checksum of the source.
    pub(crate) checksum: Option<Checksum>,
    /// Where it is, where it wasn't given.
    pub(crate) publisher: Option<Publisher>,
    /// The id that it must have.
    pub(crate) expect_id: Option<ImageId>,
    /// Where from.
    pub(crate) origin: Origin,
    /// Who asked.
    pub(crate) actor: String,
}

/// Where an image comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A file of this machine.
    File(PathBuf),
    /// A URL.
    Url(Url),
    /// The caller sends it, and calls it so.
    Upload(Feed, String),
}

impl Origin {
    /// The file's name, as publishers list it.
    fn name(&self) -> String {
        let name = match self {
            Self::File(path) => {
                return path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            }
            Self::Url(url) => url.path(),
            Self::Upload(_, called) => called,
        };
        name.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// What there is to say of an import.
#[derive(Debug)]
pub(crate) enum ImportEvent {
    /// How far it is.
    Progress(ImportProgress),
    /// It is done.
    Done(Box<Image>),
}

/// What there is to say, or why it failed: then nothing follows.
pub(crate) type ImportResult = Result<ImportEvent, ImportProblem>;
type EventSender = mpsc::Sender<ImportResult>;

/// Imports that may wait for their turn; each holds a connection and a little memory.
pub(crate) const WAITING: usize = 16;

/// What a thread imports.
enum Opened {
    /// An open file.
    File(std::fs::File),
    /// Bytes from the network.
    Feed(Feed),
}

impl Importer {
    /// Runs an import until it is done, fails or is cancelled.
    pub(crate) async fn run(
        self: Arc<Self>,
        job: Job,
        events: EventSender,
        cancelled: CancellationToken,
    ) {
        let (name, actor) = (job.name.clone(), job.actor.clone());
        let Ok(_place) = self.places.try_acquire() else {
            let full = Problem::Full(format!("{WAITING} imports wait already: try again later"));
            let _ = events.send(Err(full.into())).await;
            return;
        };
        let outcome = tokio::select! {
            permit = self.permits.acquire() => match permit {
                Ok(_permit) => self.import(job, events.clone(), &cancelled).await,
                Err(_) => Err(ImportError::Cancelled.into()),
            },
            () = cancelled.cancelled() => Err(ImportError::Cancelled.into()),
        };
        self.metrics.import(outcome.is_ok());
        if let Err(problem) = &outcome {
            let message = format!("importing {name} failed: {}", bty_api::status::chain(problem));
            let event =
                NewEvent { kind: "image.import-failed", actor, message, ..NewEvent::default() };
            self.store.write_later(move |transaction| transaction.event(event));
        }
        let last = outcome.map(|image| ImportEvent::Done(Box::new(image)));
        // Nobody listens where the caller went away.
        let _ = events.send(last).await;
    }

    async fn import(
        self: &Arc<Self>,
        job: Job,
        events: EventSender,
        cancelled: &CancellationToken,
    ) -> Result<Image, ImportProblem> {
        let Job { name, checksum, publisher, expect_id, origin, actor } = job;
        let stop = Arc::new(AtomicBool::new(false));
        let importer = Arc::clone(self);
        let flag = Arc::clone(&stop);
        let working = async {
            let checksum = match publisher {
                Some(publisher) => Some(publisher.checksum(&origin.name(), &self.fetcher).await?),
                None => checksum,
            };
            let (opened, source, pumping) = self.open(origin).await?;
            let thread = tokio::task::spawn_blocking(move || {
                let import =
                    Import { importer: &importer, checksum, expect_id, stop: &flag, events };
                import.run(opened)
            });
            // Side by side: the thread reads what is pumped. Where the network broke off, that is the reason that counts.
            let (broken, done) = tokio::join!(pumping.run(), thread);
            match broken {
                Some(problem) => Err(problem),
                None => done.unwrap_or(Err(ImportProblem::Thread)).map(|done| (done, source)),
            }
        };
        let (whole, source) = tokio::select! {
            done = working => done?,
            () = cancelled.cancelled() => {
                // The thread notices, or the end of what it reads from; its file goes with it.
                stop.store(true, Ordering::Relaxed);
                return Err(ImportError::Cancelled.into());
            }
        };
        // From here on it is not cancelled: the file and its row come together.
        let Imported { unfinished, summary, seen } = whole;
        self.place(&unfinished, image(&summary, seen, source), name, actor).await
    }

    async fn open(&self, origin: Origin) -> Result<(Opened, String, Pumping), ImportProblem> {
        let name = origin.name();
        match origin {
            Origin::File(path) => {
                let file = open_below(&self.import_dirs, &path)?;
                Ok((Opened::File(file), name, Pumping::Nothing))
            }
            Origin::Url(url) => {
                let response = self.fetcher.get(&url).await?;
                let (feeder, feed) = feed(response.content_length());
                let recorded = without_user(&url);
                Ok((Opened::Feed(feed), recorded, Pumping::Url(Box::new(response), url, feeder)))
            }
            Origin::Upload(feed, name) => Ok((Opened::Feed(feed), name, Pumping::Nothing)),
        }
    }

    /// Gives the file its name and the image its row.
    pub(super) async fn place(
        &self,
        unfinished: &Unfinished,
        image: Image,
        name: ImageName,
        actor: String,
    ) -> Result<Image, ImportProblem> {
        let id = image.id;
        let _placing = self.placing.lock().await;
        let known = self.store.read(move |snapshot| Ok::<_, Problem>(snapshot.image(id)?)).await?;
        let is_new = known.is_none();
        // A file that is gone or was found to be damaged is replaced. Whoever reads it goes on reading the old one.
        let is_replaced =
            known.as_ref().is_some_and(|known| known.wrong_chunks > 0 || !self.folder.has(id));
        if is_new || is_replaced {
            self.folder.place(unfinished, id)?;
        }
        let recording = self.store.write(move |transaction| {
            if is_new {
                transaction.insert_image(&image)?;
            } else if is_replaced {
                transaction.replace_image_file(&image)?;
            }
            transaction.point_name(&name, id)?;
            transaction.event(NewEvent {
                kind: "image.imported",
                actor,
                image_id: Some(id),
                message: format!("imported {name} from {}", image.source),
                ..NewEvent::default()
            })?;
            transaction.image(id)?.ok_or_else(|| Problem::NoImage(id.to_string()))
        });
        let recorded = recording.await;
        if recorded.is_err()
            && is_new
            && let Err(problem) = self.folder.remove(id)
        {
            tracing::warn!(err = %problem, image = %id, "the file of an image that is not on record stays until the next start");
        }
        Ok(recorded?)
    }
}

/// What brings the bytes.
enum Pumping {
    Nothing,
    Url(Box<reqwest::Response>, Url, Feeder),
}

impl Pumping {
    async fn run(self) -> Option<ImportProblem> {
        match self {
            Self::Nothing => None,
            Self::Url(response, url, feeder) => pump(*response, &url, feeder).await,
        }
    }
}

/// What a thread has imported.
pub(super) struct Imported {
    pub(super) unfinished: Unfinished,
    pub(super) summary: Summary,
    pub(super) seen: Seen,
}

/// The part of an import that a thread does.
struct Import<'a> {
    importer: &'a Importer,
    checksum: Option<Checksum>,
    expect_id: Option<ImageId>,
    stop: &'a AtomicBool,
    events: EventSender,
}

impl Import<'_> {
    fn run(self, opened: Opened) -> Result<Imported, ImportProblem> {
        // Dropped last: an import reads from it to its end.
        let mut spool = None;
        let source = self.source(opened, &mut spool)?;
        let unfinished = self.importer.folder.begin()?;
        let options = Options {
            max_raw_bytes: self.importer.max_image_bytes,
            expect_id: self.expect_id,
            ..Options::default()
        };
        let mut reports = Reports { events: &self.events, last: None };
        let mut writer = BufWriter::with_capacity(1 << 20, &unfinished.file);
        let summary =
            import(source, &mut writer, &options, self.stop, |progress| reports.send(progress))?;
        writer.flush().map_err(ImportError::Write)?;
        drop(writer);
        let disk = RawDisk::new(&unfinished.file, &summary.index).map_err(ImportError::Start)?;
        let seen = inspect::contents(&disk, &summary.inspection).into();
        Ok(Imported { unfinished, summary, seen })
    }

    fn source(
        &self,
        opened: Opened,
        spool: &mut Option<Unfinished>,
    ) -> Result<Source, ImportProblem> {
        match opened {
            // The importer opens files by path; this one names what is open already, whatever happens to the folders.
            Opened::File(file) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                Ok(source::open_file(Path::new(&path), self.checksum)?)
            }
            Opened::Feed(mut feed) => {
                let size = feed.size_bytes();
                let mut head = Vec::new();
                (&mut feed)
                    .take(source::TELLING_BYTES)
                    .read_to_end(&mut head)
                    .map_err(source::SourceError::Head)?;
                let needs_file = source::needs_file(&head);
                let whole = Cursor::new(head).chain(feed);
                if !needs_file {
                    return Ok(source::open_stream(whole, size, self.checksum)?);
                }
                let spool = spool.insert(self.importer.folder.begin()?);
                self.copy(whole, spool)?;
                Ok(source::open_file(spool.path(), self.checksum)?)
            }
        }
    }

    /// Keeps a stream in a file first, for formats that are read to and fro.
    fn copy(&self, mut from: impl Read, spool: &mut Unfinished) -> Result<(), ImportProblem> {
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
        }
        spool.file.seek(SeekFrom::Start(0)).map_err(ImportError::Write)?;
        Ok(())
    }
}

/// Tells how far an import is, a few times a second.
struct Reports<'a> {
    events: &'a EventSender,
    last: Option<Instant>,
}

impl Reports<'_> {
    fn send(&mut self, progress: Progress) {
        if self.last.is_some_and(|last| last.elapsed() < REPORT_EVERY) || self.events.capacity() < 2
        {
            return;
        }
        self.last = Some(Instant::now());
        let report = ImportProgress {
            source_bytes: progress.source_bytes,
            source_total_bytes: progress.source_total_bytes,
            raw_bytes: progress.raw_bytes,
            stored_bytes: progress.container_bytes,
        };
        // One place stays free for the end; a watcher that is behind misses reports.
        let _ = self.events.try_send(Ok(ImportEvent::Progress(report)));
    }
}

/// The channel for what there is to say of an import.
pub(crate) fn events() -> (EventSender, mpsc::Receiver<ImportResult>) {
    mpsc::channel(REPORTS)
}

/// Opens a file that lies below one of these folders, whatever `..` and links it is reached by.
fn open_below(folders: &[PathBuf], path: &Path) -> Result<std::fs::File, ImportProblem> {
    let outside = || {
        let allowed: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let allowed =
            if allowed.is_empty() { "none is set".to_owned() } else { allowed.join(", ") };
        ImportProblem::Outside { path: path.to_owned(), allowed }
    };
    let failed = |errno: rustix::io::Errno| ImportProblem::Open {
        path: path.to_owned(),
        source: errno.into(),
    };
    let below = folders.iter().find_map(|folder| Some((folder, path.strip_prefix(folder).ok()?)));
    let (folder, rest) =
        below.filter(|(_, rest)| !rest.as_os_str().is_empty()).ok_or_else(outside)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty()).map_err(failed)?;
    // NONBLOCK: opening a pipe must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(&folder, rest, flags, Mode::empty(), resolve);
    let file =
        opened.map_err(
            |errno| if errno == rustix::io::Errno::XDEV { outside() } else { failed(errno) },
        )?;
    let file = std::fs::File::from(file);
    let metadata =
        file.metadata().map_err(|source| ImportProblem::Open { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(ImportProblem::NotAFile { path: path.to_owned() });
    }
    Ok(file)
}

/// What an import made, as it is recorded.
pub(super) fn image(summary: &Summary, seen: Seen, source: String) -> Image {
    let Summary { index, container_bytes, format, inspection } = summary;
    let Seen { contents, file_systems } = seen;
    let file_systems = file_systems.into_iter().chain(std::iter::repeat(None));
    let partitions = inspection.partitions.iter().zip(file_systems);
    let partitions = partitions.map(|(partition, file_system)| Partition {
        number: partition.number,
        start_bytes: partition.start_bytes,
        size_bytes: partition.size_bytes,
        r#type: partition.kind.clone(),
        name: partition.name.clone(),
        file_system,
    });
    Image {
        id: index.id(),
        names: Vec::new(),
        raw_bytes: index.raw_bytes(),
        stored_bytes: *container_bytes,
        mapped_bytes: index.mapped_bytes(),
        chunk_bytes: index.chunk_bytes(),
        index_digest: index.digest().to_string(),
        source,
        source_format: format.as_str().to_owned(),
        imported_at: SystemTime::now(),
        partition_table: inspection.table.as_str().to_owned(),
        partitions: partitions.collect(),
        boots_bios: inspection.boots_bios,
        boots_uefi: inspection.boots_uefi,
        sector_bytes: inspection.sector_bytes,
        contents: Some(contents),
        verified_at: None,
        wrong_chunks: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use bty_types::ErrorKind;

    use super::*;

    #[test]
    fn neither_dots_nor_links_lead_out_of_the_folders() {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("images");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(at.path().join("secret"), "x").unwrap();
        fs::write(folder.join("sub/a.img"), "a").unwrap();
        symlink("../secret", folder.join("out")).unwrap();
        symlink(at.path(), folder.join("up")).unwrap();
        symlink("sub/a.img", folder.join("in")).unwrap();
        let folders = [folder.clone()];
        let open = |path: &str| {
            open_below(&folders, &folder.join(path)).map(drop).map_err(|problem| problem.kind())
        };
        assert_eq!(open("sub/a.img"), Ok(()));
        assert_eq!(open("in"), Ok(()));
        assert_eq!(open("sub/../sub/a.img"), Ok(()));
        for path in ["../secret", "sub/../../secret", "out", "up/secret", "/etc/passwd", ""] {
            assert_eq!(open(path), Err(ErrorKind::Denied), "{path}");
        }
        assert_eq!(open("absent"), Err(ErrorKind::NotFound));
        assert_eq!(open("sub"), Err(ErrorKind::InvalidInput));
        assert_eq!(open_below(&[], &folder.join("in")).unwrap_err().kind(), ErrorKind::Denied);
    }
}

//! One import, from its source to its name.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bty_api::registry::v1::{ImportProgress, Partition};
use bty_fetch::without_secrets;
use bty_image::import::{ImportError, Summary};
use bty_types::{Checksum, ImageId, ImageName};
use reqwest::Url;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Feed, Feeder, Fetcher, Folder, ImportProblem, Publisher,
    below::open_below,
    contents::Seen,
    conversion::{Import, Imported, Opened},
    feed::feed,
    fetch::{Download, Place, failed},
    files::Unfinished,
    oci::{Artifact, Resolved},
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
    /// An artifact in an OCI registry.
    Artifact(Artifact),
    /// The same, when it was found.
    Layer(Box<Resolved>),
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
            Self::Artifact(artifact) => artifact.name(),
            Self::Layer(found) => found.name(),
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
pub(super) type EventSender = mpsc::Sender<ImportResult>;

/// Imports that may wait for their turn; each holds a connection and a little memory.
pub(crate) const WAITING: usize = 16;

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
            let origin = self.find(origin).await?;
            let (mut checksum, mut witness) = (checksum, None);
            if let Some(publisher) = publisher {
                let listed = publisher.checksum(&origin.name(), &self.fetcher).await?;
                (checksum, witness) =
                    (listed.or(checksum), publisher.witness(&self.fetcher).await?);
            }
            let (opened, source, pumping) = self.open(origin).await?;
            let thread = tokio::task::spawn_blocking(move || {
                let (importer, stop) = (&importer, &*flag);
                Import { importer, checksum, witness, expect_id, stop, events }.run(opened)
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

    /// Looks up what a name in an OCI registry means.
    async fn find(&self, origin: Origin) -> Result<Origin, ImportProblem> {
        Ok(match origin {
            Origin::Artifact(artifact) => {
                Origin::Layer(Box::new(artifact.resolve(&self.fetcher).await?))
            }
            origin => origin,
        })
    }

    async fn open(&self, origin: Origin) -> Result<(Opened, String, Pumping), ImportProblem> {
        let name = origin.name();
        match origin {
            Origin::File(path) => {
                let file = open_below(&self.import_dirs, &path)?;
                Ok((Opened::File(file), name, Pumping::Nothing))
            }
            Origin::Url(url) => {
                let recorded = without_secrets(&url);
                let client = self.fetcher.client().map_err(failed(&url))?;
                self.download(Place::Web(client, url), recorded).await
            }
            Origin::Layer(found) => {
                let recorded = found.reference.to_string();
                self.download(Place::Blob(Box::new(found.blob)), recorded).await
            }
            Origin::Artifact(_) => Err(Problem::Missing("source").into()),
            Origin::Upload(feed, name) => Ok((Opened::Feed(feed), name, Pumping::Nothing)),
        }
    }

    async fn download(
        &self,
        place: Place,
        recorded: String,
    ) -> Result<(Opened, String, Pumping), ImportProblem> {
        let download = Download::begin(place, &self.fetcher).await?;
        let (feeder, feed) = feed(download.size_bytes());
        Ok((Opened::Feed(feed), recorded, Pumping::Download(Box::new(download), feeder)))
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
        // Nor does a new file stay below a record of the old one, whose index it need not have.
        if recorded.is_err()
            && (is_new || is_replaced)
            && let Err(problem) = self.folder.remove(id)
        {
            tracing::warn!(err = %problem, image = %id, "the file of an image that could not be recorded stays");
        }
        Ok(recorded?)
    }
}

/// What brings the bytes.
enum Pumping {
    Nothing,
    Download(Box<Download>, Feeder),
}

impl Pumping {
    async fn run(self) -> Option<ImportProblem> {
        match self {
            Self::Nothing => None,
            Self::Download(download, feeder) => download.run(feeder).await,
        }
    }
}

/// The channel for what there is to say of an import.
pub(crate) fn events() -> (EventSender, mpsc::Receiver<ImportResult>) {
    mpsc::channel(REPORTS)
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

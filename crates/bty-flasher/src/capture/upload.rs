//! Straight into a registry, which tells what its base image has and is sent the rest (`ImageService.CaptureImage`).

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bty_api::{
    connect,
    registry::v1::{
        CaptureHeader, CaptureImageRequest, CaptureResult, CaptureStart,
        capture_image_request::Part, capture_image_response::Event,
        image_service_client::ImageServiceClient,
    },
    status,
};
use bty_types::{ErrorKind, ImageId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::chunks::ChunksError;

/// Parts on their way.
const PARTS: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing comes is asked so often whether it is there, and has as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Where the registry is.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// Its unix socket.
    Socket(PathBuf),
    /// Its URL, and the token for it.
    Url(String, MetadataValue<Ascii>),
}

/// What to say first.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) base: String,
    pub(crate) source: String,
    pub(crate) raw_bytes: u64,
}

/// Why a disk did not become an image in the registry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The URL is none, or the token has characters that no token has.
    #[error("{0}")]
    Door(String),
    /// The token can't be read.
    #[error("reading the token in {}", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Threads can't be had.
    #[error("starting the capture")]
    Start(#[source] std::io::Error),
    /// The disk.
    #[error("capturing the disk")]
    Disk(#[from] ChunksError),
    /// The registry refuses, or is gone.
    #[error("the registry: {}", status::shown(.0))]
    Registry(Box<Status>),
    /// It ended without a result.
    #[error("the registry ended the capture without an image; see: btyctl event list")]
    BrokenOff,
    /// The registry takes nothing, and file systems wait for it.
    #[error(
        "nothing went on for {} s while file systems stood still, so they were let go on; is the registry busy, or does it keep its images \
         on the disk that is captured? Try again later, or capture into a file",
        .0.as_secs()
    )]
    Stalled(Duration),
    /// What was read is no image of one moment.
    #[error("{1}")]
    Unsteady(ErrorKind, String),
}

impl UploadError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Door(_) => ErrorKind::InvalidInput,
            Self::Token { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Denied,
            },
            Self::Start(_) | Self::Disk(ChunksError::Compress(_)) => ErrorKind::Internal,
            Self::Disk(_) | Self::BrokenOff | Self::Stalled(_) => ErrorKind::Unavailable,
            // What has a cause on this side is a connection that was not to be had, or was lost.
            Self::Registry(status) if std::error::Error::source(&**status).is_some() => {
                ErrorKind::Unavailable
            }
            Self::Registry(status) => status::kind(status.code()),
            Self::Unsteady(kind, _) => *kind,
        }
    }
}

impl From<Status> for UploadError {
    fn from(status: Status) -> Self {
        Self::Registry(Box::new(status))
    }
}

impl Door {
    /// A socket's path, or a URL with the file that has its token.
    pub(crate) fn parse(text: &str, token_file: Option<&Path>) -> Result<Self, UploadError> {
        if !text.contains("://") {
            return Ok(Self::Socket(text.into()));
        }
        let path = token_file.ok_or_else(|| {
            UploadError::Door(format!(
                "--into {text} needs --token-file FILE; make a token with: btyctl token create NAME"
            ))
        })?;
        let token = std::fs::read_to_string(path)
            .map_err(|source| UploadError::Token { path: path.to_owned(), source })?;
        let bearer = format!("Bearer {}", token.trim()).parse::<MetadataValue<Ascii>>();
        let mut bearer = bearer.map_err(|_| {
            UploadError::Door(format!("{} has characters that no token has", path.display()))
        })?;
        // So that nothing that shows the request shows it.
        bearer.set_sensitive(true);
        Ok(Self::Url(text.to_owned(), bearer))
    }

    fn channel(&self) -> Result<Channel, UploadError> {
        match self {
            Self::Socket(path) => Ok(connect::unix(path)),
            Self::Url(url, _) => {
                let endpoint = Endpoint::from_shared(url.clone())
                    .map_err(|problem| UploadError::Door(format!("--into {url}: {problem}")))?;
                let endpoint = endpoint
                    .connect_timeout(CONNECT_TIMEOUT)
                    // Else a cable that is pulled is never noticed, and what is frozen stays so.
                    .http2_keep_alive_interval(KEEPALIVE)
                    .keep_alive_timeout(KEEPALIVE)
                    .keep_alive_while_idle(true);
                Ok(endpoint.connect_lazy())
            }
        }
    }
}

/// The values of the base's chunks, one after the other.
#[derive(Debug)]
pub(crate) struct Values {
    come: mpsc::UnboundedReceiver<Vec<u8>>,
    held: VecDeque<[u8; 32]>,
    went_on: Arc<WentOn>,
}

/// When something went on last.
#[derive(Debug)]
struct WentOn(Mutex<Instant>);

impl WentOn {
    fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until nothing has gone on for so long.
    async fn no_more_for(&self, patience: Duration) {
        loop {
            let quiet = self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            let Some(left) = patience.checked_sub(quiet) else { return };
            tokio::time::sleep(left).await;
        }
    }
}

impl Values {
    /// The next one; `None` where no more come.
    pub(crate) fn next(&mut self) -> Option<[u8; 32]> {
        while self.held.is_empty() {
            let come = self.come.blocking_recv()?;
            let (values, _) = come.as_chunks::<32>();
            self.held.extend(values);
        }
        self.went_on.note();
        self.held.pop_front()
    }
}

/// Reads the disk and passes on what there is to say of it, until there is no more or nobody takes it.
pub(crate) trait Produce:
    FnOnce(CaptureStart, Values, &mut dyn FnMut(Part) -> bool) -> Result<ImageId, UploadError>
    + Send
    + 'static
{
}

impl<F> Produce for F where
    F: FnOnce(CaptureStart, Values, &mut dyn FnMut(Part) -> bool) -> Result<ImageId, UploadError>
        + Send
        + 'static
{
}

/// Captures into a registry. `produce` is given what the registry wants, the base's values, and where to pass parts on; it gives the id.
/// Where there is an end to the `patience`, it is given up when nothing goes on for so long.
pub(crate) fn upload<P: Produce>(
    door: &Door,
    wanted: Wanted,
    patience: Option<Duration>,
    produce: P,
) -> Result<CaptureResult, UploadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(UploadError::Start)?;
    runtime.block_on(run(door, wanted, patience, produce))
}

async fn run<P: Produce>(
    door: &Door,
    wanted: Wanted,
    patience: Option<Duration>,
    produce: P,
) -> Result<CaptureResult, UploadError> {
    let mut client = ImageServiceClient::new(door.channel()?);
    let Wanted { name, base, source, raw_bytes } = wanted;
    let header = CaptureHeader { name, base, raw_bytes, source };
    let (parts, sending) = mpsc::channel(PARTS);
    let first = CaptureImageRequest { part: Some(Part::Header(header)) };
    // There is room for one.
    let _ = parts.try_send(first);
    let mut request = Request::new(ReceiverStream::new(sending));
    if let Door::Url(_, bearer) = door {
        request.metadata_mut().insert("authorization", bearer.clone());
    }
    let mut events = client.capture_image(request).await?.into_inner();
    let Some(Event::Start(start)) = events.message().await?.and_then(|first| first.event) else {
        return Err(UploadError::BrokenOff);
    };
    let (values, come) = mpsc::unbounded_channel();
    let went_on = Arc::new(WentOn::now());
    let noted = Arc::clone(&went_on);
    let producing = tokio::task::spawn_blocking(move || {
        let values = Values { come, held: VecDeque::new(), went_on: Arc::clone(&noted) };
        let mut pass = |part| {
            let is_taken = parts.blocking_send(CaptureImageRequest { part: Some(part) }).is_ok();
            noted.note();
            is_taken
        };
        let id = produce(start, values, &mut pass)?;
        pass(Part::EndId(id.to_string()));
        Ok::<_, UploadError>(())
    });
    let outcome = loop {
        // What was passed on completely is waited for by nobody.
        let patience = patience.filter(|_| !producing.is_finished());
        let event = tokio::select! {
            event = events.message() => event,
            () = went_on.no_more_for(patience.unwrap_or_default()), if patience.is_some() => {
                if producing.is_finished() {
                    continue;
                }
                break Err(UploadError::Stalled(patience.unwrap_or_default()));
            }
        };
        match event {
            Ok(Some(response)) => match response.event {
                // The registry sends as many as are wanted soon.
                Some(Event::BaseValues(more)) => drop(values.send(more)),
                Some(Event::Result(result)) => break Ok(result),
                Some(Event::Start(_) | Event::Progress(_)) | None => {}
            },
            Ok(None) => break Err(UploadError::BrokenOff),
            Err(status) => break Err(status.into()),
        }
    };
    // Ends the other thread, where it has not ended.
    drop((events, values, client));
    let produced = producing.await.unwrap_or(Err(UploadError::BrokenOff));
    match (outcome, produced) {
        // What this side found is the reason why the registry got no whole disk; else it is the registry that knows.
        (Err(_), Err(problem)) if !matches!(problem, UploadError::Disk(ChunksError::Ended)) => {
            Err(problem)
        }
        (outcome, _) => outcome,
    }
}

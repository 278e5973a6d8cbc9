//! A container at a server: by ranges, over several connections.

mod place;
mod range;

use std::sync::atomic::{AtomicU64, Ordering};

use bty_image::container::Index;
use bty_types::ImageId;
use reqwest::Client;
use tokio::runtime::Runtime;

use super::{Container, Frames, SupplyError};
pub(super) use place::named;
use place::{Place, TRIES, Trouble, Version, pause};

/// Requests at a time: while one waits for the server, others are on their way, are unpacked or written.
const LANES: usize = 4;

/// A container at a server.
#[derive(Debug)]
pub struct ContainerHttp {
    place: Place,
    index: Index,
    version: Version,
    is_pinned: bool,
    fetched_bytes: AtomicU64,
    retried_requests: AtomicU64,
}

/// One connection's worth of requests.
struct HttpFrames<'a> {
    container: &'a ContainerHttp,
    runtime: Runtime,
    client: Client,
}

impl ContainerHttp {
    /// Reads the index of the container at this http or https URL. With a digest the index must have it.
    pub fn open(url: &str, index_digest: Option<ImageId>) -> Result<Self, SupplyError> {
        let place = Place::parse(url)?;
        let (client, runtime) = (place.client()?, place.runtime()?);
        let (index, version, fetched_bytes) = runtime.block_on(place.index(&client))?;
        if let Some(wanted) = index_digest.filter(|&wanted| wanted != index.digest()) {
            return Err(SupplyError::WrongIndex { wanted, found: index.digest() });
        }
        let (is_pinned, fetched_bytes) = (index_digest.is_some(), AtomicU64::new(fetched_bytes));
        let retried_requests = AtomicU64::new(0);
        Ok(Self { place, index, version, is_pinned, fetched_bytes, retried_requests })
    }
}

impl Container for ContainerHttp {
    fn index(&self) -> &Index {
        &self.index
    }

    fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    fn frames(&self) -> Result<Box<dyn Frames + '_>, SupplyError> {
        let (runtime, client) = (self.place.runtime()?, self.place.client()?);
        Ok(Box::new(HttpFrames { container: self, runtime, client }))
    }

    fn lanes(&self, processors: usize) -> usize {
        LANES.max(processors + 1)
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    fn retried_requests(&self) -> u64 {
        self.retried_requests.load(Ordering::Relaxed)
    }
}

impl HttpFrames<'_> {
    /// Leaves the connection.
    fn begin_anew(&mut self) -> Result<(), SupplyError> {
        self.client = self.container.place.client()?;
        Ok(())
    }
}

impl Frames for HttpFrames<'_> {
    fn read(&mut self, offset: u64, room: &mut [u8]) -> Result<(), SupplyError> {
        let container = self.container;
        let place = &container.place;
        let (mut filled, mut tries) = (0, 0);
        while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let from = offset + filled as u64;
            let mut came = 0;
            let part = place.fill(&self.client, from, rest, &container.version, &mut came);
            let outcome = self.runtime.block_on(part);
            container.fetched_bytes.fetch_add(came as u64, Ordering::Relaxed);
            filled += came;
            match outcome {
                Ok(()) => {}
                Err(Trouble::Fatal(fatal)) => return Err(place.failed(fatal)),
                Err(Trouble::Passing(problem)) => {
                    self.begin_anew()?;
                    tries = if came > 0 { 1 } else { tries + 1 };
                    if tries >= TRIES {
                        return Err(place.failed(format!("{problem} ({TRIES} tries)")));
                    }
                    container.retried_requests.fetch_add(1, Ordering::Relaxed);
                    // A connection that was kept may have been given up by the server: at first no time is lost on it.
                    if tries > 1 {
                        self.runtime.block_on(async { tokio::time::sleep(pause(tries)).await });
                    }
                }
            }
        }
        Ok(())
    }

    fn distrust(&mut self) {
        // Without another connection it is the same one that is asked.
        let _ = self.begin_anew();
    }
}

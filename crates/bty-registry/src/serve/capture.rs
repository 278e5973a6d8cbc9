//! `ImageService.CaptureImage`.

use std::sync::Arc;

use bty_api::registry::v1::{
    CaptureHeader, CaptureImageRequest, CaptureImageResponse, CaptureResult, CaptureStart,
    capture_image_request::Part as WirePart, capture_image_response::Event,
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use super::{
    images::{Images, SOURCE_CHARS, told},
    watch::Responses,
};
use crate::{
    images::{Base, Capture, CaptureEvent, Counts, HeldProblem, Part},
    problem::Problem,
    view,
};

/// Parts on their way: what bounds the memory of a capture, with the largest frame.
const PARTS: usize = 8;
/// Answers on their way.
const ANSWERS: usize = 4;
/// How many chunks' values the caller is told ahead of what it has sent. It sends what it knows of 4096 chunks at the latest, so it never
/// waits for values that wait for it.
const AHEAD: u64 = 1 << 16;

impl Images {
    /// Begins a capture: what its first message says, and the answers.
    pub(super) async fn capture(
        &self,
        actor: String,
        mut requests: Streaming<CaptureImageRequest>,
    ) -> Result<Response<Responses<CaptureImageResponse>>, Status> {
        let Some(WirePart::Header(header)) = requests.message().await?.and_then(|first| first.part)
        else {
            return Err(Problem::value("part", "the first message is the header").into());
        };
        let (taken, watched) = watch::channel(0);
        let capture = self.begin_capture(header, actor, taken).await?;
        let cancelled = self.shared.shutdown.child_token();
        let guard = cancelled.clone().drop_guard();
        let base = capture.base.clone();
        let base_chunks = base.as_ref().map_or(0, |base| base.chunks(capture.raw_bytes));
        let start = CaptureStart {
            chunk_bytes: capture.chunk_bytes(),
            base_chunks,
            base_id: base.as_ref().map(|base| base.id().to_string()).unwrap_or_default(),
        };
        let (events, told_events) = mpsc::channel(ANSWERS);
        let (parts, taken) = mpsc::channel(PARTS);
        let importer = Arc::clone(&self.importer);
        self.context
            .spawn_session("capture", importer.capture(capture, taken, events, cancelled.clone()));
        self.context.spawn_session("capture parts", take_in(requests, parts, cancelled));
        let first = stream::once(async move { Ok(response(Event::Start(start))) });
        let values =
            stream::unfold((base, watched, 0), move |(base, mut watched, from)| async move {
                let held = base.as_ref().filter(|_| from < base_chunks)?;
                // Where the capture has ended, nobody needs them.
                watched.wait_for(|taken| from < taken.saturating_add(AHEAD)).await.ok()?;
                let values = held.values(from, base_chunks);
                let next = from + u64::try_from(values.len() / 32).unwrap_or_default().max(1);
                Some((Ok(response(Event::BaseValues(values))), (base, watched, next)))
            });
        let events = told(told_events, guard).map(|event| {
            Ok(response(match event? {
                CaptureEvent::Progress(progress) => Event::Progress(progress),
                CaptureEvent::Done(image, counts) => {
                    let Counts { same_chunks, zero_chunks, sent_chunks, sent_bytes } = counts;
                    let image = Some(view::image(*image));
                    Event::Result(CaptureResult {
                        image,
                        same_chunks,
                        zero_chunks,
                        sent_chunks,
                        sent_bytes,
                    })
                }
            }))
        });
        let answers = first.chain(stream::select(values, events));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn begin_capture(
        &self,
        header: CaptureHeader,
        actor: String,
        taken: watch::Sender<u64>,
    ) -> Result<Capture, Status> {
        let CaptureHeader { name, base, raw_bytes, source } = header;
        if name.is_empty() {
            return Err(Problem::Missing("header.name").into());
        }
        let name = name.parse().map_err(Problem::field("header.name"))?;
        let base = if base.is_empty() {
            None
        } else {
            let id = self.image_of("header.base", &base).await?.id;
            let folder = self.importer.folder.clone();
            let opening = tokio::task::spawn_blocking(move || Base::open(&folder, id));
            Some(Arc::new(opening.await.unwrap_or(Err(HeldProblem::Thread))?))
        };
        let source = source.chars().filter(|c| !c.is_control()).take(SOURCE_CHARS).collect();
        Ok(Capture { name, raw_bytes, base, source, actor, taken })
    }
}

fn response(event: Event) -> CaptureImageResponse {
    CaptureImageResponse { event: Some(event) }
}

/// Passes what comes on. Where the sender breaks off there is no end, which the taker notices.
async fn take_in(
    mut requests: Streaming<CaptureImageRequest>,
    parts: mpsc::Sender<Part>,
    cancelled: CancellationToken,
) {
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            () = cancelled.cancelled() => return,
        };
        let part = match request {
            Ok(Some(request)) => request.part.and_then(part),
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(err = status.message(), "a capture broke off");
                return;
            }
        };
        let Some(part) = part else {
            tracing::debug!("a capture sent what is no part of one");
            return;
        };
        if parts.send(part).await.is_err() {
            return;
        }
    }
}

fn part(wire: WirePart) -> Option<Part> {
    match wire {
        WirePart::Header(_) => None,
        WirePart::SameChunks(chunks) => Some(Part::Same(chunks)),
        WirePart::ZeroChunks(chunks) => Some(Part::Zeros(chunks)),
        WirePart::Chunk(chunk) => Some(Part::Chunk(chunk.value.try_into().ok()?, chunk.frame)),
        WirePart::EndId(id) => id.parse().ok().map(Part::End),
    }
}

//! A disk that is captured into the store: what the base image has is not sent, and what is wrong leaves nothing.

use bty_api::{
    registry::v1::{
        CaptureHeader, CaptureImageRequest, CaptureResult, CaptureStart, CapturedChunk,
        ListImagesRequest, capture_image_request::Part, capture_image_response::Event,
    },
    status,
};
use bty_image::{assemble::compress, container::chunk_value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    harness::{Registry, eventually},
    images::{disk, id, upload},
};

/// A capture under way.
struct Capturing {
    parts: mpsc::Sender<CaptureImageRequest>,
    events: Streaming<bty_api::registry::v1::CaptureImageResponse>,
    start: CaptureStart,
    /// The values of the base's chunks that were told so far.
    values: Vec<u8>,
}

impl Capturing {
    async fn begin(registry: &Registry, base: &str, raw_bytes: u64) -> Result<Self, Status> {
        let (parts, sending) = mpsc::channel(64);
        let header = CaptureHeader {
            name: "captured:1".into(),
            base: base.into(),
            raw_bytes,
            source: "/dev/sdb".into(),
        };
        parts.send(request(Part::Header(header))).await.unwrap();
        let call = registry.images().capture_image(ReceiverStream::new(sending)).await;
        let mut events = call?.into_inner();
        let Some(Event::Start(start)) = events.message().await?.unwrap().event else {
            panic!("it begins with something else");
        };
        let mut values = Vec::new();
        while (values.len() as u64) < start.base_chunks * 32 {
            if let Some(Event::BaseValues(more)) = events.message().await?.unwrap().event {
                values.extend(more);
            }
        }
        Ok(Self { parts, events, start, values })
    }

    async fn send(&self, part: Part) {
        // It may have had enough; then its answer says why.
        let _ = self.parts.send(request(part)).await;
    }

    async fn result(mut self) -> Result<CaptureResult, Status> {
        drop(self.parts);
        while let Some(response) = self.events.message().await? {
            if let Some(Event::Result(result)) = response.event {
                return Ok(result);
            }
        }
        panic!("it ended without a result");
    }
}

fn request(part: Part) -> CaptureImageRequest {
    CaptureImageRequest { part: Some(part) }
}

fn chunk(raw: &[u8], value: [u8; 32]) -> Part {
    Part::Chunk(CapturedChunk { value: value.to_vec(), frame: compress(raw).unwrap() })
}

/// Captures a disk as bty-flasher does.
async fn capture(registry: &Registry, base: &str, raw: &[u8]) -> Result<CaptureResult, Status> {
    let capturing = Capturing::begin(registry, base, raw.len() as u64).await?;
    let size = capturing.start.chunk_bytes as usize;
    for (number, part) in raw.chunks(size).enumerate() {
        let value = chunk_value(part, (number * size) as u64, raw.len() <= size);
        let known = capturing.values.get(number * 32..number * 32 + 32);
        let part = if part.iter().all(|&byte| byte == 0) {
            Part::ZeroChunks(1)
        } else if known == Some(&value[..]) {
            Part::SameChunks(1)
        } else {
            chunk(part, value)
        };
        capturing.send(part).await;
    }
    capturing.send(Part::EndId(id(raw))).await;
    capturing.result().await
}

#[tokio::test]
async fn only_what_the_base_lacks_is_sent() {
    let registry = Registry::start("");
    let base = disk(3);
    upload(&registry, &base, "base:1", None).await.unwrap();
    let mut raw = base.clone();
    raw[300_000] ^= 1;
    raw.extend([7; 4096]);
    let result = capture(&registry, "base:1", &raw).await.unwrap();
    let image = result.image.unwrap();
    assert_eq!((image.id, image.raw_bytes), (id(&raw), raw.len() as u64));
    assert_eq!((image.names, image.source), (vec!["captured:1".to_owned()], "/dev/sdb".into()));
    let counts = (result.same_chunks, result.sent_chunks, result.zero_chunks);
    assert_eq!(counts, (3, 2, 12), "of 17 chunks");
    assert!(result.sent_bytes < 10_000, "{} bytes were sent", result.sent_bytes);
    let stored =
        registry.store().join(format!("{}.img.zst", id(&raw).trim_start_matches("blake3:")));
    let unpacked = std::process::Command::new("zstd").arg("-dqc").arg(stored).output().unwrap();
    assert!(unpacked.stdout == raw, "the file in the store is another disk");
    // Without a base everything is sent, and it is the same image.
    let again = capture(&registry, "", &raw).await.unwrap();
    assert_eq!((again.same_chunks, again.sent_chunks), (0, 5));
    assert_eq!(again.image.unwrap().id, id(&raw));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_leaves_nothing() {
    let registry = Registry::start("");
    let raw = disk(4);
    let size = raw.len() as u64;
    let first = &raw[..256 * 1024];
    let value = chunk_value(first, 0, false);
    // What is sent, and the word for it.
    let rows: [(Vec<Part>, Code, &str); 7] = [
        (vec![chunk(first, [0; 32])], Code::DataLoss, "SOURCE_DAMAGED"),
        (vec![chunk(&first[1..], value)], Code::InvalidArgument, "SOURCE_DAMAGED"),
        (vec![Part::SameChunks(1)], Code::InvalidArgument, "INVALID_ARGUMENT"),
        (vec![Part::ZeroChunks(1 << 60)], Code::InvalidArgument, "SOURCE_DAMAGED"),
        (vec![chunk(first, value), Part::EndId(id(&raw))], Code::InvalidArgument, "SOURCE_DAMAGED"),
        (vec![Part::ZeroChunks(17), Part::EndId(id(&raw))], Code::DataLoss, "ID_MISMATCH"),
        (vec![chunk(first, value)], Code::Unavailable, "SOURCE_DAMAGED"),
    ];
    for (number, (parts, code, reason)) in rows.into_iter().enumerate() {
        let capturing = Capturing::begin(&registry, "", size).await.unwrap();
        for part in parts {
            capturing.send(part).await;
        }
        let refusal = capturing.result().await.unwrap_err();
        let found = (refusal.code(), status::reason(&refusal));
        assert_eq!(found, (code, reason.to_owned()), "row {number}: {refusal:?}");
    }
    assert_eq!(registry.files(), Vec::<String>::new());
    let absent = Capturing::begin(&registry, "absent:1", size).await.map(|_| ()).unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    let listed = registry.images().list_images(ListImagesRequest {}).await.unwrap();
    assert_eq!(listed.into_inner().images, []);
}

#[tokio::test]
async fn a_capture_that_is_cut_off_leaves_nothing() {
    let mut registry = Registry::start("");
    let raw = disk(5);
    let capturing = Capturing::begin(&registry, "", raw.len() as u64).await.unwrap();
    capturing.send(Part::ZeroChunks(3)).await;
    eventually("a file is begun", async || registry.files().len() == 1).await;
    drop(capturing);
    eventually("the file is gone", async || registry.files().is_empty()).await;
    let _capturing = Capturing::begin(&registry, "", raw.len() as u64).await.unwrap();
    eventually("a file is begun", async || registry.files().len() == 1).await;
    registry.kill_and_restart();
    assert_eq!(registry.files(), Vec::<String>::new());
    capture(&registry, "", &raw).await.unwrap();
}

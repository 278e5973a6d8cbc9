//! `btyctl image export`: the store's file of an image comes over the connection that every verb uses; each chunk is proved here before
//! it is written, and the file gets its name when it is whole.

mod sink;
mod unpack;

use bty_api::registry::v1::{DownloadImageRequest, GetImageRequest, GetImageResponse, Image};
use bty_image::{
    ReadAt,
    container::{Index, IndexError, TAIL_BYTES, locate},
};
use bty_types::{ErrorKind, ImageId};
use tokio::sync::mpsc;

use self::{sink::Sink, unpack::unpack};
use super::Client;
use crate::{
    arguments::{Export, ExportFormat},
    failure::Failure,
    output::{Output, bytes},
    progress::Progress,
};

/// Pieces of a file that wait to be unpacked.
const PIECES_WAITING: usize = 8;

/// The end of an image's file, which has the index.
struct End {
    start: u64,
    bytes: Vec<u8>,
}

pub(super) async fn export(
    wanted: Export,
    mut client: Client,
    output: Output,
) -> Result<(), Failure> {
    let format = format(&wanted);
    let sink = Sink::open(&wanted.file)?;
    let request = GetImageRequest { image: wanted.image.to_string() };
    let response = client.get_image(request).await?.into_inner();
    let image = response.image.clone().unwrap_or_default();
    let (index, end) = index(&mut client, &image).await?;
    let raw_bytes = index.raw_bytes();
    // For a raw disk the frames are enough.
    let total = match format {
        ExportFormat::Raw => frames_bytes(&index),
        ExportFormat::Zst => image.stored_bytes,
    };
    let request = DownloadImageRequest { image: image.id.clone(), offset: 0, bytes: total };
    let mut download = client.download_image(request).await?.into_inner();
    let (pieces, coming) = mpsc::channel(PIECES_WAITING);
    let writing = sink.writer()?;
    let thread = tokio::task::spawn_blocking(move || unpack(&index, &end, format, coming, writing));
    let mut progress = Progress::new(output);
    let mut come = 0;
    while let Some(piece) = download.message().await? {
        come += u64::try_from(piece.data.len()).unwrap_or_default();
        progress.update("exporting", come, Some(total));
        if pieces.send(piece.data).await.is_err() {
            // The thread has failed, and says why.
            break;
        }
    }
    drop(pieces);
    thread.await.unwrap_or_else(|_| {
        Err(Failure::new(ErrorKind::Internal, "unpacking the image ended without a result"))
    })?;
    progress.end();
    if sink.is_stdout() {
        eprintln!("proved {}", image.id);
        return Ok(());
    }
    sink.keep()?;
    let shown = format!(
        "wrote {}: a disk of {}, proved to be {}",
        wanted.file.display(),
        bytes(raw_bytes),
        image.id
    );
    output.show(&GetImageResponse { image: Some(image) }, |_| shown)
}

fn format(wanted: &Export) -> ExportFormat {
    let is_packed = wanted.file.extension().is_some_and(|ending| ending == "zst");
    let told = if is_packed { ExportFormat::Zst } else { ExportFormat::Raw };
    wanted.format.unwrap_or(told)
}

/// Reads the index, which proves itself against the id, from the file's end.
async fn index(client: &mut Client, image: &Image) -> Result<(Index, End), Failure> {
    let damaged = |problem: IndexError| {
        let kind = match problem.kind() {
            ErrorKind::InvalidInput => ErrorKind::Corrupt,
            kind => kind,
        };
        let message = format!("the store's file of {} can't be read: {problem}", image.id);
        Failure::new(kind, message).hint("see: btyctl image verify")
    };
    let length = image.stored_bytes;
    let mut end = part(client, image, length.saturating_sub(TAIL_BYTES)).await?;
    let place = locate(&end.bytes, length).map_err(damaged)?;
    // The magic and the size of a skippable frame are before its content.
    let start = place.start.saturating_sub(8);
    if start < end.start {
        end = part(client, image, start).await?;
    }
    let index = Index::read(&end).map_err(damaged)?;
    if image.id.parse() != Ok::<ImageId, _>(index.id()) {
        let message = format!("the store's file of {} holds {}", image.id, index.id());
        return Err(Failure::new(ErrorKind::Corrupt, message).hint("see: btyctl image verify"));
    }
    Ok((index, end))
}

/// The file from this offset to its end.
async fn part(client: &mut Client, image: &Image, start: u64) -> Result<End, Failure> {
    let request = DownloadImageRequest { image: image.id.clone(), offset: start, bytes: 0 };
    let mut download = client.download_image(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = download.message().await? {
        bytes.extend(piece.data);
    }
    Ok(End { start, bytes })
}

/// Where the last frame ends.
fn frames_bytes(index: &Index) -> u64 {
    let last = index.chunk(index.len().saturating_sub(1));
    last.map_or(0, |last| last.frame_offset + u64::from(last.frame_bytes))
}

impl ReadAt for End {
    fn length(&self) -> std::io::Result<u64> {
        Ok(self.start + self.bytes.as_slice().length()?)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        // A reader of the index asks for nothing before it.
        let at = offset.checked_sub(self.start).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        self.bytes.as_slice().read_exact_at(buffer, at)
    }
}

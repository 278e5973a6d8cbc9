//! Sending the file of an image.

use std::io::{self, SeekFrom};

use bty_api::registry::v1::DownloadImageResponse;
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::{io::ReaderStream, sync::CancellationToken};
use tonic::Status;

use super::{Held, HeldProblem};
use crate::{problem::Problem, serve::Responses};

/// Bytes in one message: large enough to be cheap, far below what a gRPC client takes.
const PIECE_BYTES: usize = 256 * 1024;

impl Held {
    /// These bytes of the file, in pieces; all to its end where `bytes` is 0.
    pub(crate) async fn send(
        self,
        offset: u64,
        bytes: u64,
        shutdown: CancellationToken,
    ) -> Result<Responses<DownloadImageResponse>, HeldProblem> {
        let id = self.id;
        let failed = move |source| HeldProblem::Read { id, source };
        // An own position; the file is shared with nobody who minds one.
        let file = self.file.try_clone().map_err(failed)?;
        let mut file = tokio::fs::File::from_std(file);
        let length = file.metadata().await.map_err(failed)?.len();
        let rest = length.checked_sub(offset).filter(|&rest| bytes <= rest).ok_or_else(|| {
            Problem::value("offset", format!("the file has {length} bytes, not so many"))
        })?;
        file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
        let wanted = if bytes == 0 { rest } else { bytes };
        let pieces = ReaderStream::with_capacity(file.take(wanted), PIECE_BYTES);
        let responses = pieces.map(move |piece: io::Result<_>| {
            let piece = piece.map_err(|source| Status::from(failed(source)))?;
            Ok(DownloadImageResponse { data: piece.into() })
        });
        Ok(Box::pin(responses.take_until(shutdown.cancelled_owned())))
    }
}

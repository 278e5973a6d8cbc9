//! `btyctl image verify`.

use bty_api::registry::v1::{
    VerifyImageRequest, VerifyResult, WrongChunk, verify_image_response::Event,
};
use bty_types::{ErrorKind, ImageSelector};

use super::Client;
use crate::{
    failure::Failure,
    output::{Output, table},
    progress::Progress,
};

pub(super) async fn verify(
    image: &ImageSelector,
    mut client: Client,
    output: Output,
) -> Result<(), Failure> {
    let request = VerifyImageRequest { image: image.to_string() };
    let mut events = client.verify_image(request).await?.into_inner();
    let mut progress = Progress::new(output);
    let result = loop {
        match events.message().await?.map(|response| response.event) {
            Some(Some(Event::Progress(now))) => {
                progress.update("verifying", now.raw_bytes, Some(now.raw_total_bytes));
            }
            Some(Some(Event::Result(result))) => break result,
            Some(None) => {}
            None => return Err(broken_off()),
        }
    };
    progress.end();
    output.show(&result, show)?;
    if result.wrong_chunks == 0 {
        return Ok(());
    }
    let message = format!(
        "the store's file of {image} is damaged: {} of {} chunks are wrong",
        result.wrong_chunks, result.chunks
    );
    Err(Failure::new(ErrorKind::Corrupt, message)
        .hint("import the image again, which replaces its file; and look after the server's disk"))
}

fn show(result: &VerifyResult) -> String {
    if result.wrong_chunks == 0 {
        return format!("proved {}: all {} chunks are right", result.id, result.chunks);
    }
    let rows = result.first_wrong.iter().map(|wrong| {
        let WrongChunk { number, raw_offset, raw_bytes, file_offset, problem } = wrong;
        [
            number.to_string(),
            raw_offset.to_string(),
            raw_bytes.to_string(),
            file_offset.to_string(),
            problem.clone(),
        ]
    });
    table(["CHUNK", "DISK OFFSET", "BYTES", "FILE OFFSET", "PROBLEM"], rows)
}

fn broken_off() -> Failure {
    let message = "the registry ended the verification without a result";
    Failure::new(ErrorKind::Unavailable, message).hint("see: btyctl event list")
}

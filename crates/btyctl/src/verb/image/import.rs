//! `btyctl image import`: a file that is sent, or a source that the server reads itself.

use std::{
    error::Error as _,
    io::{IsTerminal, Read as _},
    path::Path,
};

use bty_api::{
    registry::v1::{
        Image, ImportImageRequest, ImportOptions, ImportProgress, UploadHeader, UploadImageRequest,
        import_image_request::Source, import_image_response, upload_image_request::Part,
        upload_image_response,
    },
    status,
};
use bty_types::{Checksum, ErrorKind, ImageName};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    Client,
    login::{self, Login},
    table::show,
};
use crate::{arguments::Import, failure::Failure, output::Output, progress::Progress};

/// Bytes in one message of an upload: the most that the contract allows.
const PART_BYTES: usize = 1 << 20;
/// Parts that wait to be sent.
const PARTS_WAITING: usize = 4;
/// More than the server takes of a publisher's keys.
const MAX_KEY_BYTES: u64 = 2 << 20;

pub(super) async fn import(wanted: Import, client: Client, output: Output) -> Result<(), Failure> {
    let options = options(&wanted)?;
    let is_url = FETCHED.iter().any(|scheme| wanted.source.starts_with(scheme));
    let image = if is_url {
        fetch(Source::Url(wanted.source), options, client, output).await?
    } else if wanted.on_server {
        fetch(Source::File(wanted.source), options, client, output).await?
    } else {
        upload(&wanted.source, options, client, output).await?
    };
    output.show(&image, show)
}

/// What a source begins with that the server fetches.
const FETCHED: [&str; 3] = ["http://", "https://", OCI];
const OCI: &str = "oras://";

fn options(wanted: &Import) -> Result<ImportOptions, Failure> {
    let openpgp_key = match &wanted.openpgp_key {
        Some(file) => read_key(file)?,
        None => Vec::new(),
    };
    let login = match &wanted.registry_auth {
        Some(file) => login::read(file, &wanted.source)?,
        None => Login::default(),
    };
    Ok(ImportOptions {
        name: name_of(wanted)?.to_string(),
        checksum: checksum_of(wanted)?,
        checksums_url: wanted.checksums.clone().unwrap_or_default(),
        minisign_key: wanted.minisign_key.clone().unwrap_or_default(),
        minisign_url: wanted.minisign_url.clone().unwrap_or_default(),
        openpgp_key,
        openpgp_url: wanted.openpgp_url.clone().unwrap_or_default(),
        expect_id: wanted.expect_id.map(|id| id.to_string()).unwrap_or_default(),
        registry_user: login.user,
        registry_password: login.password,
        registry_plain_http: wanted.plain_http,
    })
}

fn read_key(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut key = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(MAX_KEY_BYTES).read_to_end(&mut key))
        .map_err(|problem| Failure::io(&format!("reading {}", file.display()), &problem))?;
    if key.is_empty() {
        let message = format!("{} is empty, and no OpenPGP key", file.display());
        return Err(Failure::new(ErrorKind::InvalidInput, message));
    }
    Ok(key)
}

/// What the names of images end with, the outermost first.
const ENDINGS: [&str; 17] = [
    ".zip", ".zst", ".xz", ".gz", ".bz2", ".lz4", ".tgz", ".tar", ".qcow2", ".vhdx", ".vhd",
    ".vmdk", ".vdi", ".img", ".raw", ".iso", ".wic",
];

fn name_of(wanted: &Import) -> Result<ImageName, Failure> {
    if let Some(name) = &wanted.name {
        return Ok(name.clone());
    }
    if let Some(name) = wanted.source.strip_prefix(OCI).and_then(artifact_name) {
        return Ok(name);
    }
    let path = wanted.source.split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let mut stem = file.as_str();
    for ending in ENDINGS {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    stem.parse().map_err(|_| {
        Failure::new(
            ErrorKind::InvalidInput,
            format!("{:?} gives no name for the image", wanted.source),
        )
        .hint("name it: --name NAME[:TAG]")
    })
}

/// An artifact's own name and tag.
fn artifact_name(reference: &str) -> Option<ImageName> {
    let (_registry, path) = reference.split_once('/')?;
    let (path, _digest) = path.split_once('@').unwrap_or((path, ""));
    path.rsplit('/').next()?.parse().ok()
}

fn checksum_of(wanted: &Import) -> Result<String, Failure> {
    let given = match (&wanted.sha256, &wanted.sha512) {
        (Some(digits), _) => format!("sha256:{digits}"),
        (None, Some(digits)) => format!("sha512:{digits}"),
        (None, None) => return Ok(String::new()),
    };
    let checksum: Checksum = given
        .to_ascii_lowercase()
        .parse()
        .map_err(|problem| Failure::new(ErrorKind::InvalidInput, format!("{problem}")))?;
    Ok(checksum.to_string())
}

async fn fetch(
    source: Source,
    options: ImportOptions,
    mut client: Client,
    output: Output,
) -> Result<Image, Failure> {
    let request = ImportImageRequest { source: Some(source), options: Some(options) };
    let mut events = client.import_image(request).await?.into_inner();
    let mut progress = Progress::new(output);
    while let Some(event) = events.message().await.map_err(ended)? {
        match event.event {
            Some(import_image_response::Event::Progress(now)) => advance(&mut progress, &now),
            Some(import_image_response::Event::Image(image)) => {
                progress.end();
                return Ok(image);
            }
            None => {}
        }
    }
    Err(broken_off())
}

async fn upload(
    source: &str,
    options: ImportOptions,
    mut client: Client,
    output: Output,
) -> Result<Image, Failure> {
    let (input, size_bytes): (Box<dyn AsyncRead + Send + Unpin>, _) = if source == "-" {
        if std::io::stdin().is_terminal() {
            let message = "standard input is a terminal, not an image";
            return Err(Failure::new(ErrorKind::InvalidInput, message));
        }
        (Box::new(tokio::io::stdin()), None)
    } else {
        let reading = |problem| Failure::io(&format!("reading {source}"), &problem);
        let file = File::open(source).await.map_err(reading)?;
        let metadata = file.metadata().await.map_err(reading)?;
        if metadata.is_dir() {
            return Err(Failure::new(
                ErrorKind::InvalidInput,
                format!("{source} is a folder, not an image"),
            ));
        }
        (Box::new(file), metadata.is_file().then_some(metadata.len()))
    };
    let file_name =
        Path::new(source).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let header = UploadHeader { options: Some(options), source: file_name, size_bytes };

    let (parts, sending) = mpsc::channel(PARTS_WAITING);
    let reading = tokio::spawn(read_parts(input, header, parts));
    tokio::select! {
        image = taken_in(&mut client, sending, output) => image,
        problem = broken(reading) => Err(Failure::io(&format!("reading {source}"), &problem)),
    }
}

/// What becomes of the parts at the server.
async fn taken_in(
    client: &mut Client,
    parts: mpsc::Receiver<UploadImageRequest>,
    output: Output,
) -> Result<Image, Failure> {
    let mut events = client.upload_image(ReceiverStream::new(parts)).await?.into_inner();
    let mut progress = Progress::new(output);
    while let Some(event) = events.message().await.map_err(ended)? {
        match event.event {
            Some(upload_image_response::Event::Progress(now)) => advance(&mut progress, &now),
            Some(upload_image_response::Event::Image(image)) => {
                progress.end();
                return Ok(image);
            }
            None => {}
        }
    }
    Err(broken_off())
}

/// Why the source could not be read; never where it could.
async fn broken(reading: JoinHandle<std::io::Result<()>>) -> std::io::Error {
    match reading.await {
        Ok(Err(problem)) => problem,
        Err(ended) => std::io::Error::other(ended),
        Ok(Ok(())) => std::future::pending().await,
    }
}

async fn read_parts(
    mut input: Box<dyn AsyncRead + Send + Unpin>,
    header: UploadHeader,
    parts: mpsc::Sender<UploadImageRequest>,
) -> std::io::Result<()> {
    let mut part = Part::Header(header);
    // The server ends the call when it has had enough; then nobody takes parts any more.
    while parts.send(UploadImageRequest { part: Some(part) }).await.is_ok() {
        let mut data = Vec::with_capacity(PART_BYTES);
        let limit = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
        match (&mut input).take(limit).read_to_end(&mut data).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(problem) => {
                // Their end would tell the server that this was the whole source. Not ended, they break off with this program.
                std::mem::forget(parts);
                return Err(problem);
            }
        }
        part = Part::Data(data);
    }
    Ok(())
}

fn advance(progress: &mut Progress, now: &ImportProgress) {
    let what = if now.is_kept_first { "fetching" } else { "importing" };
    progress.update(what, now.source_bytes, now.source_total_bytes);
}

fn broken_off() -> Failure {
    Failure::new(ErrorKind::Unavailable, "the registry ended the import without an image")
        .hint("see: btyctl event list")
}

/// Why an import ended that had begun. Nobody here calls one off and still listens: what is called off or breaks off without a reason
/// was so by the registry's own end.
fn ended(status: Status) -> Failure {
    // What has a cause was made on this side, of a broken connection.
    let is_broken = status.code() == Code::Unavailable || status.source().is_some();
    let is_lost = is_broken && status::reason(&status).is_empty();
    if !is_lost && status.code() != Code::Cancelled {
        return status.into();
    }
    Failure::new(ErrorKind::Unavailable, "the registry was ended or restarted while it imported")
        .hint(
            "nothing of this import is left; when the registry is back, run the same command again",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_gives_its_name_and_tag() {
        let name = |reference: &str| artifact_name(reference).map(|name| name.to_string());
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(name("r.lab/images/debian:13"), named("debian:13"));
        assert_eq!(name("r.lab:5000/debian:13@sha256:00"), named("debian:13"));
        assert_eq!(name("r.lab/debian@sha256:00"), named("debian:latest"));
        assert_eq!(name("r.lab"), None);
    }

    /// Some bytes, and then an error.
    struct BadDisk(bool);

    impl AsyncRead for BadDisk {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if std::mem::replace(&mut self.0, true) {
                return std::task::Poll::Ready(Err(std::io::Error::other("a bad sector")));
            }
            buffer.put_slice(b"some");
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_source_that_can_not_be_read_to_its_end_is_not_ended() {
        let (parts, mut sent) = mpsc::channel(PARTS_WAITING);
        let header = UploadHeader::default();
        let problem = read_parts(Box::new(BadDisk(false)), header, parts).await.unwrap_err();
        assert_eq!(problem.to_string(), "a bad sector");
        assert!(matches!(sent.try_recv().unwrap().part, Some(Part::Header(_))));
        assert_eq!(sent.try_recv(), Err(mpsc::error::TryRecvError::Empty), "it was ended");
    }

    #[test]
    fn the_end_of_the_registry_is_not_taken_for_ctrl_c() {
        for (status, kind) in [
            (Status::cancelled("the import was cancelled"), ErrorKind::Unavailable),
            (Status::unavailable("broken pipe"), ErrorKind::Unavailable),
            (Status::data_loss("damaged"), ErrorKind::Corrupt),
        ] {
            assert_eq!(ended(status).kind(), kind);
        }
    }
}

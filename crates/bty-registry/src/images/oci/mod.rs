//! Disk images in OCI registries: `oras://`, by the distribution specification.
//!
//! A tag is resolved once; from then on everything is asked for by digest. The manifest's is checked here, the layer's while it is
//! downloaded. (docs/adr/0025)

mod challenge;
mod login;
mod manifest;
mod problem;
mod reference;

use bty_fetch::without_secrets;
use bty_types::Checksum;
use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{self, HeaderValue},
};
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    Fetcher, ImportProblem,
    fetch::{SMALL_TIMEOUT, failed, read_all},
};
use challenge::Challenge;
pub(crate) use login::Login;
use manifest::disk_layer;
pub(crate) use problem::OciProblem;
pub(crate) use reference::{Reference, SCHEME};

/// What the specification lets a manifest have.
const MAX_MANIFEST_BYTES: usize = 4 << 20;
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
/// What the registry says of the manifest that it sends.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// An artifact that is to be imported.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    /// Where it is.
    pub(crate) reference: Reference,
    /// Who asks; anybody where nobody is given.
    pub(crate) login: Option<Login>,
    /// Whether the registry has no encryption.
    pub(crate) is_plain: bool,
}

/// An artifact that was found.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// What it is, by its manifest's digest.
    pub(super) reference: Reference,
    /// The name of the disk's file, where the manifest gives one.
    title: Option<String>,
    /// The disk.
    pub(super) blob: Blob,
}

impl Resolved {
    /// The name of the disk's file.
    pub(super) fn name(&self) -> &str {
        self.title.as_deref().unwrap_or_else(|| self.reference.name())
    }
}

/// A layer in a registry, which can be asked for again and again.
#[derive(Debug)]
pub(super) struct Blob {
    door: Door,
    url: Url,
    /// Of which artifact it is.
    shown: String,
    digest: Checksum,
    bytes: u64,
}

/// A registry, with what proves who asks.
#[derive(Debug)]
struct Door {
    client: Client,
    login: Option<Login>,
    authorization: Option<HeaderValue>,
}

impl Artifact {
    /// The name of its file, before it is known.
    pub(super) fn name(&self) -> &str {
        self.reference.name()
    }

    /// Asks the registry which disk it is.
    pub(super) async fn resolve(self, fetcher: &Fetcher) -> Result<Resolved, ImportProblem> {
        let Self { reference, login, is_plain } = self;
        let shown = reference.to_string();
        resolve(reference, login, is_plain, fetcher).await.map_err(named(&shown))
    }
}

/// Says of which artifact something is wrong.
fn named(reference: &str) -> impl Fn(ImportProblem) -> ImportProblem {
    move |problem| match problem {
        ImportProblem::Oci { source, .. } => {
            ImportProblem::Oci { reference: reference.to_owned(), source }
        }
        problem => problem,
    }
}

async fn resolve(
    reference: Reference,
    login: Option<Login>,
    is_plain: bool,
    fetcher: &Fetcher,
) -> Result<Resolved, ImportProblem> {
    let url = |kind: &str, name: &str| {
        let why = "its name is no part of a URL".to_owned();
        reference.url(kind, name, is_plain).ok_or(OciProblem::Manifest { why })
    };
    let at = url("manifests", &reference.manifest())?;
    let client = fetcher.client().map_err(failed(&at))?;
    let mut door = Door { client, login, authorization: None };
    let small =
        |request: RequestBuilder| request.header(header::ACCEPT, MANIFESTS).timeout(SMALL_TIMEOUT);
    let response = door.ask(&at, small).await?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(ImportProblem::Answer { url: without_secrets(&at), status });
    }
    let announced = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
    let announced: Option<Checksum> = announced.and_then(|value| value.parse().ok());
    let content = read_all(response, &at, MAX_MANIFEST_BYTES).await?;
    for wanted in [reference.digest, announced].into_iter().flatten() {
        check(&content, wanted)?;
    }
    let digest = reference.digest.unwrap_or_else(|| sha256(&content));
    let name = reference.without_version();
    let layer = disk_layer(&content, &name)?;
    let url = url("blobs", &layer.digest.to_string())?;
    let reference = reference.pinned(digest);
    let blob =
        Blob { door, url, shown: reference.to_string(), digest: layer.digest, bytes: layer.bytes };
    Ok(Resolved { reference, title: layer.title, blob })
}

fn sha256(content: &[u8]) -> Checksum {
    Checksum::Sha256(Sha256::digest(content).into())
}

fn check(content: &[u8], wanted: Checksum) -> Result<(), OciProblem> {
    let found = match wanted {
        Checksum::Sha256(_) => sha256(content),
        Checksum::Sha512(_) => Checksum::Sha512(Sha512::digest(content).into()),
    };
    if found == wanted {
        return Ok(());
    }
    Err(OciProblem::Digest { wanted: Box::new(wanted), found: Box::new(found) })
}

impl Blob {
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn digest(&self) -> Checksum {
        self.digest
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.bytes
    }

    /// Asks for it, with what `ranged` puts to the request.
    pub(super) async fn ask(
        &mut self,
        ranged: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ImportProblem> {
        self.door.ask(&self.url, ranged).await.map_err(named(&self.shown))
    }
}

impl Door {
    /// Asks for something; where the registry wants to know who asks, tells it. A token that has expired is replaced.
    async fn ask(
        &mut self,
        url: &Url,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ImportProblem> {
        let response = self.send(url, &with).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // Where the registry sends on to, nobody may ask for its password.
        let is_registry = response.url().origin() == url.origin();
        let challenge = Challenge::of(response.headers()).filter(|_| is_registry);
        let Some(challenge) = challenge else { return Ok(response) };
        let answer = login::answer(challenge, self.login.as_ref(), url, &self.client).await?;
        self.authorization = Some(answer);
        let response = self.send(url, &with).await?;
        match response.status() {
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(OciProblem::Refused { status }.into())
            }
            _ => Ok(response),
        }
    }

    async fn send(
        &self,
        url: &Url,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ImportProblem> {
        let request = self.client.get(url.clone());
        let request = request.headers(login::headers(self.authorization.as_ref()));
        with(request).send().await.map_err(failed(url))
    }
}

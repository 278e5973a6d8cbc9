//! `ImageService`.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bty_api::registry::v1::{
    CaptureImageRequest, CaptureImageResponse, DeleteImageRequest, DeleteImageResponse,
    DiffImagesRequest, DiffImagesResponse, DownloadImageRequest, DownloadImageResponse,
    GetImageRequest, GetImageResponse, GetUsageRequest, GetUsageResponse, ImportImageRequest,
    ImportImageResponse, ImportOptions, ListImagesRequest, ListImagesResponse, PruneImagesRequest,
    PruneImagesResponse, PrunedImage, TagImageRequest, TagImageResponse, UploadImageRequest,
    UploadImageResponse, VerifyImageRequest, VerifyImageResponse,
    image_service_server::ImageService, import_image_request::Source, import_image_response,
    upload_image_request::Part, upload_image_response, verify_image_response,
};
use bty_service::Context;
use bty_types::{ImageId, ImageName, ImageSelector};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

use super::{Shared, watch::Responses};
use crate::{
    images::{
        Aged, Artifact, Feeder, Held, HeldProblem, ImportEvent, ImportProblem, Importer, Job,
        Login, OCI_SCHEME, Origin, Policy, Publisher, Reference, VerifyEvent, compare, events,
        feed, url, verify_events,
    },
    problem::Problem,
    record::{Image, NewEvent},
    settings::Settings,
    view,
    work::{delete_image, find_image, prunable_images, prune_images},
};

/// Bytes in one message of an upload.
const PIECE_BYTES: usize = 1 << 20;
/// Characters of what an upload calls its source.
pub(super) const SOURCE_CHARS: usize = 1024;

/// The service.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) shared: Shared,
    pub(crate) importer: Arc<Importer>,
    pub(crate) context: Context<Settings>,
}

#[tonic::async_trait]
impl ImageService for Images {
    type ImportImageStream = Responses<ImportImageResponse>;

    async fn import_image(
        &self,
        request: Request<ImportImageRequest>,
    ) -> Result<Response<Self::ImportImageStream>, Status> {
        let actor = self.shared.actor(&request)?;
        let ImportImageRequest { source, options } = request.into_inner();
        let origin = match source.ok_or(Problem::Missing("source"))? {
            Source::File(path) if path.starts_with('/') => Origin::File(PathBuf::from(path)),
            Source::File(_) => {
                return Err(Problem::value("source.file", "it is no absolute path").into());
            }
            Source::Url(text) if text.starts_with(OCI_SCHEME) => {
                Origin::Artifact(artifact(&text, options.as_ref())?)
            }
            Source::Url(text) => Origin::Url(url("source.url", &text)?),
        };
        let events = self.start(job(options, origin, actor)?);
        let responses = events.map(|event| {
            let event = match event? {
                ImportEvent::Progress(progress) => import_image_response::Event::Progress(progress),
                ImportEvent::Done(image) => {
                    import_image_response::Event::Image(view::image(*image))
                }
            };
            Ok(ImportImageResponse { event: Some(event) })
        });
        Ok(Response::new(Box::pin(responses)))
    }

    type UploadImageStream = Responses<UploadImageResponse>;

    async fn upload_image(
        &self,
        request: Request<Streaming<UploadImageRequest>>,
    ) -> Result<Response<Self::UploadImageStream>, Status> {
        let actor = self.shared.actor(&request)?;
        let mut parts = request.into_inner();
        let header = match parts.message().await?.and_then(|first| first.part) {
            Some(Part::Header(header)) => header,
            Some(Part::Data(_)) | None => {
                return Err(Problem::value("part", "the first message is the header").into());
            }
        };
        let (feeder, feed) = feed(header.size_bytes);
        let called = header.source.chars().filter(|c| !c.is_control()).take(SOURCE_CHARS).collect();
        let job = job(header.options, Origin::Upload(feed, called), actor)?;
        let events = self.start(job);
        self.context.spawn_session("upload", take_in(parts, feeder, self.shared.shutdown.clone()));
        let responses = events.map(|event| {
            let event = match event? {
                ImportEvent::Progress(progress) => upload_image_response::Event::Progress(progress),
                ImportEvent::Done(image) => {
                    upload_image_response::Event::Image(view::image(*image))
                }
            };
            Ok(UploadImageResponse { event: Some(event) })
        });
        Ok(Response::new(Box::pin(responses)))
    }

    type CaptureImageStream = Responses<CaptureImageResponse>;

    async fn capture_image(
        &self,
        request: Request<Streaming<CaptureImageRequest>>,
    ) -> Result<Response<Self::CaptureImageStream>, Status> {
        let actor = self.shared.actor(&request)?;
        self.capture(actor, request.into_inner()).await
    }

    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let images =
            self.shared.store.read(|snapshot| Ok::<_, Problem>(snapshot.images()?)).await?;
        Ok(Response::new(ListImagesResponse {
            images: images.into_iter().map(view::image).collect(),
        }))
    }

    async fn get_image(
        &self,
        request: Request<GetImageRequest>,
    ) -> Result<Response<GetImageResponse>, Status> {
        let image = self.image(&request.into_inner().image).await?;
        Ok(Response::new(GetImageResponse { image: Some(view::image(image)) }))
    }

    async fn tag_image(
        &self,
        request: Request<TagImageRequest>,
    ) -> Result<Response<TagImageResponse>, Status> {
        let actor = self.shared.actor(&request)?;
        let TagImageRequest { image, name } = request.into_inner();
        let selector = selector("image", &image)?;
        let name = name.parse().map_err(Problem::field("name"))?;
        let image = self.shared.store.write(move |transaction| {
            let id = find_image(transaction, &selector)?;
            transaction.point_name(&name, id)?;
            let message = format!("pointed {name} at {id}");
            let image_id = Some(id);
            transaction.event(NewEvent {
                kind: "image.named",
                actor,
                image_id,
                message,
                ..NewEvent::default()
            })?;
            transaction.image(id)?.ok_or_else(|| Problem::NoImage(id.to_string()))
        });
        Ok(Response::new(TagImageResponse { image: Some(view::image(image.await?)) }))
    }

    async fn delete_image(
        &self,
        request: Request<DeleteImageRequest>,
    ) -> Result<Response<DeleteImageResponse>, Status> {
        let actor = self.shared.actor(&request)?;
        let selector = selector("image", &request.into_inner().image)?;
        let _placing = self.importer.placing.lock().await;
        let removed = self
            .shared
            .store
            .write(move |transaction| delete_image(transaction, &selector, actor))
            .await?;
        self.remove_files(removed);
        let removed_id = removed.map(|id| id.to_string()).unwrap_or_default();
        Ok(Response::new(DeleteImageResponse { removed_id }))
    }

    type VerifyImageStream = Responses<VerifyImageResponse>;

    async fn verify_image(
        &self,
        request: Request<VerifyImageRequest>,
    ) -> Result<Response<Self::VerifyImageStream>, Status> {
        let actor = self.shared.actor(&request)?;
        let id = self.image(&request.into_inner().image).await?.id;
        let (sender, receiver) = verify_events();
        let cancelled = self.shared.shutdown.child_token();
        let guard = cancelled.clone().drop_guard();
        let verifying = Arc::clone(&self.importer).verify(id, actor, sender, cancelled);
        self.context.spawn_session("verification", verifying);
        let responses = told(receiver, guard).map(|event| {
            let event = match event? {
                VerifyEvent::Progress(progress) => verify_image_response::Event::Progress(progress),
                VerifyEvent::Done(result) => verify_image_response::Event::Result(result),
            };
            Ok(VerifyImageResponse { event: Some(event) })
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn diff_images(
        &self,
        request: Request<DiffImagesRequest>,
    ) -> Result<Response<DiffImagesResponse>, Status> {
        let DiffImagesRequest { from, to } = request.into_inner();
        let from = self.image_of("from", &from).await?;
        let to = self.image_of("to", &to).await?;
        let folder = self.importer.folder.clone();
        let comparing = tokio::task::spawn_blocking(move || {
            let (from, held) = (Held::open(&folder, from.id)?, Held::open(&folder, to.id)?);
            compare(&from, &held, to.partitions)
        });
        let compared = comparing.await.unwrap_or(Err(HeldProblem::Thread));
        Ok(Response::new(compared?))
    }

    type DownloadImageStream = Responses<DownloadImageResponse>;

    async fn download_image(
        &self,
        request: Request<DownloadImageRequest>,
    ) -> Result<Response<Self::DownloadImageStream>, Status> {
        let DownloadImageRequest { image, offset, bytes } = request.into_inner();
        let id = self.image(&image).await?.id;
        let held = Held::open(&self.importer.folder, id)?;
        Ok(Response::new(held.send(offset, bytes, self.shared.shutdown.clone()).await?))
    }

    async fn prune_images(
        &self,
        request: Request<PruneImagesRequest>,
    ) -> Result<Response<PruneImagesResponse>, Status> {
        let actor = self.shared.actor(&request)?;
        let request = request.into_inner();
        let policy = policy(&request)?;
        let store = &self.shared.store;
        let pruning = if request.dry_run {
            store
                .read(move |snapshot| prunable_images(snapshot, &policy, SystemTime::now()))
                .await?
        } else {
            let _placing = self.importer.placing.lock().await;
            let pruned =
                store.write(move |transaction| prune_images(transaction, &policy, &actor)).await?;
            let removed = pruned.going.iter().filter(|aged| aged.is_removed);
            self.remove_files(removed.map(|aged| aged.id));
            pruned
        };
        let freed = pruning.going.iter().filter(|aged| aged.is_removed);
        Ok(Response::new(PruneImagesResponse {
            freed_bytes: freed.map(|aged| aged.stored_bytes).sum(),
            images: pruning.going.into_iter().map(|aged| pruned(aged, String::new())).collect(),
            kept: pruning.kept.into_iter().map(|(aged, need)| pruned(aged, need)).collect(),
        }))
    }

    async fn get_usage(
        &self,
        _: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        let images =
            self.shared.store.read(|snapshot| Ok::<_, Problem>(snapshot.images()?)).await?;
        let folder = self.importer.folder.clone();
        let counting = tokio::task::spawn_blocking(move || folder.usage(&images));
        let usage = counting.await.unwrap_or(Err(ImportProblem::Thread));
        Ok(Response::new(usage?))
    }
}

impl Images {
    /// The image that is meant.
    async fn image(&self, text: &str) -> Result<Image, Problem> {
        self.image_of("image", text).await
    }

    /// The image that a field means.
    pub(super) async fn image_of(&self, field: &'static str, text: &str) -> Result<Image, Problem> {
        let selector = selector(field, text)?;
        let image = self.shared.store.read(move |snapshot| {
            let id = find_image(snapshot, &selector)?;
            snapshot.image(id)?.ok_or_else(|| Problem::NoImage(id.to_string()))
        });
        image.await
    }

    /// Removes the files of images that are off the record.
    fn remove_files(&self, ids: impl IntoIterator<Item = ImageId>) {
        for id in ids {
            if let Err(problem) = self.importer.folder.remove(id) {
                tracing::warn!(err = %problem, image = %id, "the file of a deleted image stays until the next start");
            }
        }
    }

    /// Starts an import. Dropping the stream cancels it.
    fn start(&self, job: Job) -> Responses<ImportEvent> {
        let cancelled = self.shared.shutdown.child_token();
        let (sender, receiver) = events();
        let guard = cancelled.clone().drop_guard();
        self.context
            .spawn_session("import", Arc::clone(&self.importer).run(job, sender, cancelled));
        told(receiver, guard)
    }
}

/// What comes by a channel. Dropping it cancels what sends.
pub(super) fn told<T: Send + 'static, E: Send + 'static>(
    receiver: mpsc::Receiver<Result<T, E>>,
    guard: DropGuard,
) -> Responses<T>
where
    Status: From<E>,
{
    Box::pin(stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
        let event = receiver.recv().await?;
        Some((event.map_err(Status::from), (receiver, guard)))
    }))
}

/// What stays of a pruning.
fn policy(request: &PruneImagesRequest) -> Result<Policy, Problem> {
    let keep = usize::try_from(request.keep).unwrap_or(usize::MAX);
    if keep == 0 {
        return Err(Problem::value("keep", "at least 1 image of each name stays"));
    }
    let older_than = request.older_than.unwrap_or_default();
    let older_than = Duration::try_from(older_than)
        .map_err(|_| Problem::value("older_than", "it is no length of time"))?;
    let name = Some(request.name.clone()).filter(|name| !name.is_empty());
    if name.as_deref().is_some_and(|name| name.contains(':')) {
        return Err(Problem::value("name", "it is a name without a tag"));
    }
    if let Some(name) = &name {
        name.parse::<ImageName>().map_err(Problem::field("name"))?;
    }
    Ok(Policy { keep, older_than, name })
}

fn pruned(aged: Aged, kept_because: String) -> PrunedImage {
    let Aged { id, names, is_removed, stored_bytes } = aged;
    let names = names.iter().map(ToString::to_string).collect();
    let is_removed = is_removed && kept_because.is_empty();
    PrunedImage { id: id.to_string(), names, is_removed, stored_bytes, kept_because }
}

/// What is asked for.
fn job(options: Option<ImportOptions>, origin: Origin, actor: String) -> Result<Job, Problem> {
    let options = options.ok_or(Problem::Missing("options"))?;
    let source = match &origin {
        Origin::Url(url) => Some(url),
        _ => None,
    };
    if !matches!(origin, Origin::Artifact(_)) {
        let is_login = !options.registry_user.is_empty() || !options.registry_password.is_empty();
        for (is_given, field) in [
            (is_login, "options.registry_user"),
            (options.registry_plain_http, "options.registry_plain_http"),
        ] {
            if is_given {
                return Err(Problem::value(field, "it is for oras:// sources only"));
            }
        }
    }
    let publisher = Publisher::parse(&options, source)?;
    let ImportOptions { name, checksum, expect_id, .. } = options;
    if name.is_empty() {
        return Err(Problem::Missing("options.name"));
    }
    if publisher.as_ref().is_some_and(Publisher::lists) && !checksum.is_empty() {
        return Err(Problem::value(
            "options.checksums_url",
            "a checksum is given too; give the one or the other",
        ));
    }
    let given = |text: &str| !text.is_empty();
    Ok(Job {
        name: name.parse().map_err(Problem::field("options.name"))?,
        checksum: Some(checksum)
            .filter(|text| given(text))
            .map(|text| text.parse())
            .transpose()
            .map_err(Problem::field("options.checksum"))?,
        publisher,
        expect_id: Some(expect_id)
            .filter(|text| given(text))
            .map(|text| text.parse())
            .transpose()
            .map_err(Problem::field("options.expect_id"))?,
        origin,
        actor,
    })
}

/// An artifact in an OCI registry, and who asks for it.
fn artifact(text: &str, options: Option<&ImportOptions>) -> Result<Artifact, Problem> {
    let reference: Reference =
        text.parse().map_err(|why: &str| Problem::value("source.url", why))?;
    let ImportOptions { registry_user, registry_password, registry_plain_http, .. } =
        options.cloned().unwrap_or_default();
    let login = Login::new(registry_user, registry_password);
    Ok(Artifact { reference, login, is_plain: registry_plain_http })
}

/// Passes an upload's bytes on. A sender that breaks off drops the feeder, which the reader takes for what it is.
async fn take_in(
    mut parts: Streaming<UploadImageRequest>,
    feeder: Feeder,
    shutdown: CancellationToken,
) {
    loop {
        let part = tokio::select! {
            part = parts.message() => part,
            () = shutdown.cancelled() => return,
        };
        match part {
            Ok(Some(UploadImageRequest { part: Some(Part::Data(data)) }))
                if data.len() <= PIECE_BYTES =>
            {
                if !feeder.pass(data.into()).await {
                    return;
                }
            }
            Ok(Some(_)) => {
                tracing::debug!(
                    "an upload sent a second header, an empty message or too large a piece"
                );
                return;
            }
            Ok(None) => return feeder.end().await,
            Err(status) => {
                tracing::debug!(err = status.message(), "an upload broke off");
                return;
            }
        }
    }
}

fn selector(field: &'static str, text: &str) -> Result<ImageSelector, Problem> {
    if text.is_empty() {
        return Err(Problem::Missing(field));
    }
    text.parse().map_err(Problem::field(field))
}

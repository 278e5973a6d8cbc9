//! `ImageService`.

use std::{path::PathBuf, sync::Arc};

use bty_api::registry::v1::{
    DeleteImageRequest, DeleteImageResponse, GetImageRequest, GetImageResponse, ImportImageRequest,
    ImportImageResponse, ImportOptions, ListImagesRequest, ListImagesResponse, TagImageRequest,
    TagImageResponse, UploadImageRequest, UploadImageResponse, image_service_server::ImageService,
    import_image_request::Source, import_image_response, upload_image_request::Part,
    upload_image_response,
};
use bty_service::Context;
use bty_types::{ImageId, ImageSelector};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Shared, watch::Responses};
use crate::{
    images::{Feeder, ImportEvent, Importer, Job, Origin, Publisher, events, feed, url},
    problem::Problem,
    record::NewEvent,
    settings::Settings,
    store::{Snapshot, Transaction},
    view,
};

/// Bytes in one message of an upload.
const PIECE_BYTES: usize = 1 << 20;
/// Characters of what an upload calls its source.
const SOURCE_CHARS: usize = 1024;

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

    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let images =
            self.shared.store.read(|snapshot| Ok::<_, Problem>(snapshot.images()?)).await?;
        Ok(Response::new(ListImagesResponse {
            images: images.into_iter().map(view::image).collect(),
            free_bytes: self.importer.folder.free_bytes(),
        }))
    }

    async fn get_image(
        &self,
        request: Request<GetImageRequest>,
    ) -> Result<Response<GetImageResponse>, Status> {
        let selector = selector(&request.into_inner().image)?;
        let image = self.shared.store.read(move |snapshot| {
            let id = find(snapshot, &selector)?;
            snapshot.image(id)?.ok_or_else(|| Problem::NoImage(id.to_string()))
        });
        Ok(Response::new(GetImageResponse { image: Some(view::image(image.await?)) }))
    }

    async fn tag_image(
        &self,
        request: Request<TagImageRequest>,
    ) -> Result<Response<TagImageResponse>, Status> {
        let actor = self.shared.actor(&request)?;
        let TagImageRequest { image, name } = request.into_inner();
        let selector = selector(&image)?;
        let name = name.parse().map_err(Problem::field("name"))?;
        let image = self.shared.store.write(move |transaction| {
            let id = find(transaction, &selector)?;
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
        let selector = selector(&request.into_inner().image)?;
        let _placing = self.importer.placing.lock().await;
        let removed = self
            .shared
            .store
            .write(move |transaction| delete(transaction, &selector, actor))
            .await?;
        if let Some(id) = removed
            && let Err(problem) = self.importer.folder.remove(id)
        {
            tracing::warn!(err = %problem, image = %id, "the file of a deleted image stays until the next start");
        }
        let removed_id = removed.map(|id| id.to_string()).unwrap_or_default();
        Ok(Response::new(DeleteImageResponse { removed_id }))
    }
}

impl Images {
    /// Starts an import. Dropping the stream cancels it.
    fn start(&self, job: Job) -> Responses<ImportEvent> {
        let cancelled = self.shared.shutdown.child_token();
        let (sender, receiver) = events();
        let guard = cancelled.clone().drop_guard();
        self.context
            .spawn_session("import", Arc::clone(&self.importer).run(job, sender, cancelled));
        Box::pin(stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
            let event = receiver.recv().await?;
            Some((event.map_err(Status::from), (receiver, guard)))
        }))
    }
}

/// What is asked for.
fn job(options: Option<ImportOptions>, origin: Origin, actor: String) -> Result<Job, Problem> {
    let ImportOptions { name, checksum, expect_id, checksums_url, minisign_key, minisign_url } =
        options.ok_or(Problem::Missing("options"))?;
    if name.is_empty() {
        return Err(Problem::Missing("options.name"));
    }
    let publisher = Publisher::parse(&checksums_url, &minisign_key, &minisign_url)?;
    if publisher.is_some() && !checksum.is_empty() {
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

fn selector(text: &str) -> Result<ImageSelector, Problem> {
    if text.is_empty() {
        return Err(Problem::Missing("image"));
    }
    text.parse().map_err(Problem::field("image"))
}

fn find(snapshot: &Snapshot<'_>, selector: &ImageSelector) -> Result<ImageId, Problem> {
    snapshot.image_id(selector)?.ok_or_else(|| Problem::NoImage(selector.to_string()))
}

/// Takes a name away, and the image too where an id was given or the name was its last. Returns the image that went.
fn delete(
    transaction: &mut Transaction<'_>,
    selector: &ImageSelector,
    actor: String,
) -> Result<Option<ImageId>, Problem> {
    let id = find(transaction, selector)?;
    let names = transaction.names_of(id)?;
    let removes_image = matches!(selector, ImageSelector::Id(_)) || names.len() <= 1;
    let mut users = transaction.machines_assigned(selector)?;
    if removes_image {
        for name in &names {
            let name = name.parse().map_err(Problem::field("name"))?;
            users.extend(transaction.machines_assigned(&ImageSelector::Name(name))?);
        }
        users.extend(transaction.machines_assigned(&ImageSelector::Id(id))?);
        if transaction.is_image_in_use(id)? {
            return Err(Problem::ImageInUse(format!(
                "a run under way writes {id}: wait for its end"
            )));
        }
    }
    users.sort_unstable();
    users.dedup();
    if let Some(first) = users.first() {
        let count = users.len();
        return Err(Problem::ImageInUse(format!(
            "{selector} is assigned to {count} machine(s), {first} for one: assign another image first"
        )));
    }
    match selector {
        ImageSelector::Name(name) if !removes_image => transaction.delete_name(name)?,
        ImageSelector::Name(_) | ImageSelector::Id(_) => transaction.delete_image(id)?,
    }
    let message = if removes_image {
        format!("deleted {selector} and its image")
    } else {
        format!("took the name {selector} away")
    };
    transaction.event(NewEvent {
        kind: "image.deleted",
        actor,
        image_id: Some(id),
        message,
        ..NewEvent::default()
    })?;
    Ok(removes_image.then_some(id))
}

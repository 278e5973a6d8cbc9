//! `btyctl image`.

mod diff;
mod export;
mod import;
mod login;
mod prune;
mod table;
mod verify;

use bty_api::registry::v1::{
    DeleteImageRequest, GetImageRequest, GetUsageRequest, GetUsageResponse, ListImagesRequest,
    TagImageRequest, image_service_client::ImageServiceClient,
};

use crate::{
    arguments::Image,
    connection::{Connection, Registry},
    failure::Failure,
    output::{Output, bytes, facts, short},
};

type Client = ImageServiceClient<Registry>;

pub(crate) async fn run(
    verb: Image,
    connection: &Connection,
    output: Output,
) -> Result<(), Failure> {
    let mut client = ImageServiceClient::new(connection.registry());
    match verb {
        Image::Import(wanted) => import::import(*wanted, client, output).await,
        Image::List => {
            let images = client.list_images(ListImagesRequest {}).await?.into_inner();
            output.show(&images, |images| table::list(&images.images))
        }
        Image::Show { image } => {
            let request = GetImageRequest { image: image.to_string() };
            let image = client.get_image(request).await?.into_inner();
            output.show(&image, |image| table::show(&image.image.clone().unwrap_or_default()))
        }
        Image::Tag { image, name } => {
            let request = TagImageRequest { image: image.to_string(), name: name.to_string() };
            let tagged = client.tag_image(request).await?.into_inner();
            output.show(&tagged, |tagged| {
                format!("{name} is {}", short(&tagged.image.clone().unwrap_or_default().id))
            })
        }
        Image::Rm { image } => {
            let request = DeleteImageRequest { image: image.to_string() };
            let removed = client.delete_image(request).await?.into_inner();
            output.show(&removed, |removed| match removed.removed_id.as_str() {
                "" => format!("the name {image} is gone; its image has other names"),
                id => format!("removed {}", short(id)),
            })
        }
        Image::Verify { image } => verify::verify(&image, client, output).await,
        Image::Diff { from, to } => diff::diff(&from, &to, client, output).await,
        Image::Export(wanted) => export::export(wanted, client, output).await,
        Image::Prune(wanted) => prune::prune(&wanted, client, output).await,
        Image::Usage => {
            let usage = client.get_usage(GetUsageRequest {}).await?.into_inner();
            output.show(&usage, used)
        }
    }
}

fn used(usage: &GetUsageResponse) -> String {
    let gone = |ids: &[String]| match ids {
        [] => String::new(),
        ids => format!("{}: import them again", ids.join("\n            ")),
    };
    let unless_none = |count| if count == 0 { String::new() } else { bytes(count) };
    facts(&[
        ("images", format!("{}, {}", usage.images, bytes(usage.stored_bytes))),
        ("nameless", unless_none(usage.unnamed_bytes)),
        ("unfinished", unless_none(usage.unfinished_bytes)),
        ("free", format!("{} of {}", bytes(usage.free_bytes), bytes(usage.capacity_bytes))),
        ("files gone", gone(&usage.missing_ids)),
    ])
}

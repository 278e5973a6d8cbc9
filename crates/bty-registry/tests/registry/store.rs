//! The care of the store: images are proved, compared, sent, pruned and counted.

use std::{fs, path::PathBuf, time::Duration};

use bty_api::{
    registry::v1::{
        DiffImagesRequest, DownloadImageRequest, GetImageRequest, GetUsageRequest, Image,
        ImageDiff, ListEventsRequest, MachineIntent, PruneImagesRequest, PruneImagesResponse,
        TagImageRequest, VerifyImageRequest, VerifyResult, verify_image_response::Event,
    },
    status,
    types::v1::Policy,
};
use tonic::{Code, Status};

use crate::{
    harness::{MAC, Registry, eventually},
    images::{disk, put, upload},
};

const CHUNK: usize = 256 * 1024;

async fn verify(registry: &Registry, image: &str) -> Result<VerifyResult, Status> {
    let request = VerifyImageRequest { image: image.into() };
    let mut events = registry.images().verify_image(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        if let Some(Event::Result(result)) = event.event {
            return Ok(result);
        }
    }
    panic!("a verification ended without a result")
}

async fn image(registry: &Registry, image: &str) -> Image {
    let request = GetImageRequest { image: image.into() };
    registry.images().get_image(request).await.unwrap().into_inner().image.unwrap()
}

async fn kinds(registry: &Registry, prefix: &str) -> Vec<String> {
    let request = ListEventsRequest { kind_prefix: prefix.into(), ..ListEventsRequest::default() };
    let listed = registry.events().list_events(request).await.unwrap().into_inner();
    listed.events.into_iter().map(|event| event.kind).collect()
}

fn file(registry: &Registry, id: &str) -> PathBuf {
    registry.store().join(format!("{}.img.zst", id.trim_start_matches("blake3:")))
}

/// Changes a byte of an image's file.
fn spoil(registry: &Registry, id: &str, at: u64) {
    let path = file(registry, id);
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x40;
    fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn a_whole_image_is_proved_and_that_is_recorded() {
    let registry = Registry::start("");
    let id = put(&registry, 1, "a:1").await;
    assert_eq!(image(&registry, "a:1").await.verified_at, None);
    let result = verify(&registry, "a:1").await.unwrap();
    assert_eq!(result, VerifyResult { id, chunks: 17, wrong_chunks: 0, first_wrong: vec![] });
    let found = image(&registry, "a:1").await;
    assert!(found.verified_at.is_some() && found.wrong_chunks == 0, "{found:?}");
    assert_eq!(kinds(&registry, "image.verified").await.len(), 1);
    assert_eq!(verify(&registry, "b:1").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn damage_is_named_with_its_place_and_the_next_import_repairs_it() {
    let registry = Registry::start("");
    let id = put(&registry, 2, "a:1").await;
    let whole = fs::read(file(&registry, &id)).unwrap();
    // The first chunk holds data, so its frame is more than ten bytes long.
    spoil(&registry, &id, 10);
    let result = verify(&registry, "a:1").await.unwrap();
    assert_eq!((result.chunks, result.wrong_chunks), (17, 1));
    let wrong = &result.first_wrong[0];
    assert_eq!((wrong.number, wrong.raw_offset, wrong.file_offset), (0, 0, 0));
    assert_eq!(wrong.raw_bytes, u32::try_from(CHUNK).unwrap());
    assert!(wrong.problem.contains("zstd frame"), "{}", wrong.problem);
    assert_eq!(image(&registry, "a:1").await.wrong_chunks, 1);
    assert_eq!(kinds(&registry, "image.damaged").await.len(), 1);

    let again = upload(&registry, &disk(2), "a:2", None).await.unwrap();
    assert_eq!((again.id.as_str(), again.wrong_chunks), (id.as_str(), 0));
    assert_eq!(again.names, ["a:1", "a:2"]);
    assert_eq!(fs::read(file(&registry, &id)).unwrap(), whole);
    assert_eq!(verify(&registry, "a:1").await.unwrap().wrong_chunks, 0);
}

#[tokio::test]
async fn an_image_whose_index_is_damaged_or_whose_file_is_gone_is_data_loss() {
    let registry = Registry::start("");
    let id = put(&registry, 3, "a:1").await;
    let length = fs::metadata(file(&registry, &id)).unwrap().len();
    spoil(&registry, &id, length - 4);
    let refusal = verify(&registry, "a:1").await.unwrap_err();
    assert_eq!(
        (refusal.code(), status::reason(&refusal).as_str()),
        (Code::DataLoss, "IMAGE_DAMAGED")
    );
    assert!(refusal.message().contains("import the image again"), "{}", refusal.message());
    assert_eq!(image(&registry, "a:1").await.wrong_chunks, 17, "nothing can be told of any");

    fs::remove_file(file(&registry, &id)).unwrap();
    let refusal = verify(&registry, "a:1").await.unwrap_err();
    assert_eq!((refusal.code(), status::reason(&refusal).as_str()), (Code::DataLoss, "IMAGE_GONE"));
    put(&registry, 3, "a:1").await;
    assert_eq!(verify(&registry, "a:1").await.unwrap().wrong_chunks, 0);
}

#[tokio::test]
async fn another_images_file_is_no_proof() {
    let registry = Registry::start("");
    let (first, second) = (put(&registry, 4, "a:1").await, put(&registry, 5, "b:1").await);
    fs::copy(file(&registry, &second), file(&registry, &first)).unwrap();
    let refusal = verify(&registry, "a:1").await.unwrap_err();
    assert_eq!(refusal.code(), Code::DataLoss);
    assert!(refusal.message().contains(&second), "{}", refusal.message());
}

#[tokio::test]
async fn who_goes_away_ends_the_verification_and_the_next_one_has_its_turn() {
    let registry = Registry::start("");
    put(&registry, 6, "a:1").await;
    for _ in 0..8 {
        let request = VerifyImageRequest { image: "a:1".into() };
        drop(registry.images().verify_image(request).await.unwrap());
    }
    assert_eq!(verify(&registry, "a:1").await.unwrap().wrong_chunks, 0);
}

#[tokio::test]
async fn a_diff_says_what_has_to_be_moved() {
    let registry = Registry::start("");
    let from = put(&registry, 7, "a:1").await;
    let mut bytes = disk(7);
    // Chunk 1 differs, chunk 2 becomes zeros, chunk 9 was zeros and is data.
    bytes[CHUNK] ^= 1;
    bytes[2 * CHUNK..3 * CHUNK].fill(0);
    bytes[9 * CHUNK + 5] = 1;
    let to = upload(&registry, &bytes, "a:2", None).await.unwrap();
    let diff = async |from: &str, to: &str| {
        let request = DiffImagesRequest { from: from.into(), to: to.into() };
        registry.images().diff_images(request).await.map(tonic::Response::into_inner)
    };
    let found = diff("a:1", "a:2").await.unwrap();
    assert_eq!((found.from_id, found.to_id), (from.clone(), to.id));
    let total = found.total.unwrap();
    let chunk = CHUNK as u64;
    assert_eq!((total.written_bytes, total.zeroed_bytes), (2 * chunk, chunk));
    assert_eq!(total.same_bytes, to.raw_bytes - 3 * chunk);
    assert!(total.fetched_bytes > 0 && total.fetched_bytes < 2 * chunk, "{total:?}");
    // There is no partition table, so all is outside of partitions.
    assert_eq!(found.partitions.len(), 1);
    assert_eq!(found.partitions[0].diff, Some(total));
    let same = diff("a:2", "a:2").await.unwrap().total.unwrap();
    assert_eq!(same, ImageDiff { same_bytes: to.raw_bytes, ..ImageDiff::default() });
    assert_eq!(diff("a:1", "a:9").await.unwrap_err().code(), Code::NotFound);
    let refusal = diff("", "a:1").await.unwrap_err();
    assert!(refusal.message().contains("from"), "{}", refusal.message());
}

#[tokio::test]
async fn a_file_is_sent_whole_and_in_parts() {
    let registry = Registry::start("");
    let id = put(&registry, 8, "a:1").await;
    let whole = fs::read(file(&registry, &id)).unwrap();
    let download = async |offset: u64, bytes: u64| {
        let request = DownloadImageRequest { image: id.clone(), offset, bytes };
        let mut pieces = registry.images().download_image(request).await?.into_inner();
        let mut got = Vec::new();
        while let Some(piece) = pieces.message().await? {
            got.extend(piece.data);
        }
        Ok::<_, Status>(got)
    };
    let length = whole.len() as u64;
    assert_eq!(download(0, 0).await.unwrap(), whole);
    assert_eq!(download(100, 50).await.unwrap(), whole[100..150]);
    assert_eq!(download(length - 17, 0).await.unwrap(), whole[whole.len() - 17..]);
    assert_eq!(download(length, 0).await.unwrap(), Vec::<u8>::new());
    for (offset, bytes) in [(length + 1, 0), (length - 1, 2), (u64::MAX, 1), (1, u64::MAX)] {
        let refusal = download(offset, bytes).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{offset} {bytes}");
    }
}

async fn prune(registry: &Registry, request: PruneImagesRequest) -> PruneImagesResponse {
    registry.images().prune_images(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn pruning_removes_what_is_old_and_not_what_is_needed() {
    let registry = Registry::start("");
    let mut ids = Vec::new();
    for number in 1..=4 {
        ids.push(put(&registry, 10 + number, &format!("a:{number}")).await);
    }
    let wish = MachineIntent {
        policy: Policy::FlashOnce.into(),
        image: "a:2".into(),
        ..MachineIntent::default()
    };
    registry.set(MAC, wish).await.unwrap();
    // 3 loses its name, and so has none.
    let tag = TagImageRequest { image: ids[3].clone(), name: "a:3".into() };
    registry.images().tag_image(tag).await.unwrap();

    let request = PruneImagesRequest { keep: 1, dry_run: true, ..PruneImagesRequest::default() };
    let would = prune(&registry, request.clone()).await;
    let going: Vec<_> = would.images.iter().map(|image| image.id.clone()).collect();
    assert_eq!(going, [ids[0].clone(), ids[2].clone()]);
    assert_eq!((would.kept.len(), would.kept[0].id.as_str()), (1, ids[1].as_str()));
    assert!(would.kept[0].kept_because.contains(MAC), "{would:?}");
    assert_eq!(registry.files().len(), 4, "nothing was removed");

    let young = prost_types::Duration { seconds: 3600, nanos: 0 };
    let old_only =
        PruneImagesRequest { older_than: Some(young), dry_run: false, ..request.clone() };
    assert_eq!(prune(&registry, old_only).await.images, []);
    let did = prune(&registry, PruneImagesRequest { dry_run: false, ..request }).await;
    assert_eq!(did, would, "what was said is what was done");
    assert_eq!(registry.files().len(), 2);
    assert_eq!(image(&registry, "a:4").await.names, ["a:3", "a:4"]);
    assert_eq!(kinds(&registry, "image.deleted").await.len(), 2);
}

#[tokio::test]
async fn a_pruning_that_would_keep_nothing_is_refused() {
    let registry = Registry::start("");
    let rows = [
        PruneImagesRequest::default(),
        PruneImagesRequest { keep: 1, name: "a:1".into(), ..PruneImagesRequest::default() },
        PruneImagesRequest { keep: 1, name: "No".into(), ..PruneImagesRequest::default() },
        PruneImagesRequest {
            keep: 1,
            older_than: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            ..PruneImagesRequest::default()
        },
    ];
    for request in rows {
        let refusal = registry.images().prune_images(request.clone()).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{request:?}");
    }
}

#[tokio::test]
async fn the_store_says_how_full_it_is() {
    let registry = Registry::start("");
    let first = put(&registry, 20, "a:1").await;
    let second = put(&registry, 21, "a:1").await;
    let length = |id: &str| fs::metadata(file(&registry, id)).unwrap().len();
    let usage =
        async || registry.images().get_usage(GetUsageRequest {}).await.unwrap().into_inner();
    let found = usage().await;
    assert_eq!((found.images, found.unnamed_bytes), (2, length(&first)));
    assert_eq!(found.stored_bytes, length(&first) + length(&second));
    assert!(found.free_bytes > 0 && found.free_bytes <= found.capacity_bytes, "{found:?}");
    assert_eq!((found.unfinished_bytes, found.missing_ids.len()), (0, 0));
    fs::remove_file(file(&registry, &second)).unwrap();
    assert_eq!(usage().await.missing_ids, [second]);
    fs::write(registry.store().join(".import-1"), [0; 77]).unwrap();
    eventually("the unfinished file to count", async || usage().await.unfinished_bytes == 77).await;
}

/// A disk with an MBR whose one partition, of Linux's type, is swap space of 100 pages.
fn swap_disk() -> Vec<u8> {
    let mut disk = vec![0; 3 << 20];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(446 + 4, &[0x82]);
    put(446 + 8, &2048_u32.to_le_bytes());
    put(446 + 12, &2048_u32.to_le_bytes());
    put(510, &[0x55, 0xaa]);
    let start = 1 << 20;
    put(start + 1024, &1_u32.to_le_bytes());
    put(start + 1028, &99_u32.to_le_bytes());
    put(start + 1052, b"nvme-swap");
    put(start + 4086, b"SWAPSPACE2");
    disk
}

#[tokio::test]
async fn what_is_in_an_image_is_recorded() {
    let registry = Registry::start("");
    let found = upload(&registry, &swap_disk(), "a:1", None).await.unwrap();
    let contents = found.contents.unwrap();
    assert_eq!((contents.os.as_str(), contents.used_bytes), ("linux", Some(0)));
    assert!(contents.hints.iter().any(|hint| hint.contains("Linux swap")), "{contents:?}");
    let file_system = found.partitions[0].file_system.clone().unwrap();
    assert_eq!(
        (file_system.kind.as_str(), file_system.label.as_str(), file_system.size_bytes),
        ("swap", "nvme-swap", 100 * 4096)
    );
}

#[tokio::test]
async fn what_an_older_registry_imported_is_looked_into_at_the_start() {
    let mut registry = Registry::start("");
    let before = upload(&registry, &swap_disk(), "a:1", None).await.unwrap();
    registry.kill();
    let database = rusqlite::Connection::open(registry.database()).unwrap();
    database
        .execute_batch(
            "UPDATE images SET contents = NULL; UPDATE image_partitions SET file_system = NULL;",
        )
        .unwrap();
    drop(database);
    registry.start_again();
    eventually("the look into the image", async || image(&registry, "a:1").await == before).await;
}

#[tokio::test]
async fn what_was_verified_survives_a_restart() {
    let mut registry = Registry::start("");
    put(&registry, 30, "a:1").await;
    verify(&registry, "a:1").await.unwrap();
    let before = image(&registry, "a:1").await;
    registry.kill_and_restart();
    assert_eq!(image(&registry, "a:1").await, before);
    let age = std::time::SystemTime::now()
        .duration_since(bty_api::convert::system_time(before.verified_at.as_ref()).unwrap());
    assert!(age.unwrap() < Duration::from_mins(5));
}

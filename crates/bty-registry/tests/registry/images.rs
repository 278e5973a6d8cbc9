//! Images come in every way, whole or not at all.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    thread,
};

use bty_api::{
    registry::v1::{
        DeleteImageRequest, GetImageRequest, Image, ImportImageRequest, ImportOptions,
        ListEventsRequest, ListImagesRequest, MachineIntent, TagImageRequest, UploadHeader,
        UploadImageRequest, import_image_request::Source, import_image_response,
        upload_image_request::Part, upload_image_response,
    },
    status,
    types::v1::{Action, Policy},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::harness::{MAC, Registry, eventually};

/// A disk of four chunks and a bit, of which some are zeros.
pub(crate) fn disk(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0_u8; (4 << 20) + 512];
    for (at, byte) in bytes.iter_mut().enumerate().take(1 << 20) {
        *byte = seed.wrapping_add(u8::try_from(at % 251).unwrap());
    }
    bytes
}

pub(crate) fn id(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A qcow2 of version 2 with one cluster of data (docs/interop/qcow2.txt of QEMU).
fn qcow2(data: &[u8]) -> Vec<u8> {
    let cluster = 65536_u64;
    let mut file = vec![0; 6 * 65536];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &2_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(2 * cluster).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(3 * cluster).to_be_bytes());
    put(48, &cluster.to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(65536, &(2 * cluster).to_be_bytes());
    for number in 0..6 {
        put(2 * 65536 + 2 * number, &1_u16.to_be_bytes());
    }
    put(3 * 65536, &((4 * cluster) | (1 << 63)).to_be_bytes());
    put(4 * 65536, &((5 * cluster) | (1 << 63)).to_be_bytes());
    put(5 * 65536, data);
    file
}

pub(crate) fn options(name: &str) -> ImportOptions {
    ImportOptions { name: name.into(), ..ImportOptions::default() }
}

/// An image in the store, under this name: its id.
pub(crate) async fn put(registry: &Registry, seed: u8, name: &str) -> String {
    upload(registry, &disk(seed), name, None).await.unwrap().id
}

pub(crate) async fn import(
    registry: &Registry,
    source: Source,
    options: ImportOptions,
) -> Result<Image, Status> {
    let request = ImportImageRequest { source: Some(source), options: Some(options) };
    let mut responses = registry.images().import_image(request).await?.into_inner();
    while let Some(response) = responses.message().await? {
        if let Some(import_image_response::Event::Image(image)) = response.event {
            return Ok(image);
        }
    }
    panic!("an import ended without a result")
}

pub(crate) async fn upload(
    registry: &Registry,
    bytes: &[u8],
    name: &str,
    size: Option<u64>,
) -> Result<Image, Status> {
    let header =
        UploadHeader { options: Some(options(name)), source: "disk.img".into(), size_bytes: size };
    let mut parts = vec![UploadImageRequest { part: Some(Part::Header(header)) }];
    parts.extend(
        bytes
            .chunks(1 << 20)
            .map(|piece| UploadImageRequest { part: Some(Part::Data(piece.to_vec())) }),
    );
    let mut responses =
        registry.images().upload_image(tokio_stream::iter(parts)).await?.into_inner();
    while let Some(response) = responses.message().await? {
        if let Some(upload_image_response::Event::Image(image)) = response.event {
            return Ok(image);
        }
    }
    panic!("an upload ended without a result")
}

/// A web server for one test: what it answers by the path that is asked for. It ends with the test's process.
pub(crate) fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1)
            {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split_whitespace().nth(1).unwrap_or_default();
            let _ = stream.write_all(&answer(path));
        }
    });
    address
}

pub(crate) fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test]
async fn a_file_is_imported_and_can_be_read_by_all() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.img.gz"), gzip(&disk(1))).unwrap();
    let registry = Registry::start(&format!("import_dirs = [{:?}]", folder.path()));
    let path = folder.path().join("a.img.gz").display().to_string();
    let image = import(&registry, Source::File(path), options("debian:13")).await.unwrap();
    assert_eq!(image.id, id(&disk(1)), "the id is what b3sum prints of the raw disk");
    assert_eq!((image.names, image.source.as_str()), (vec!["debian:13".to_owned()], "a.img.gz"));
    assert_eq!((image.source_format.as_str(), image.raw_bytes), ("gzip", (4 << 20) + 512));
    let name = format!("{}.img.zst", image.id.trim_start_matches("blake3:"));
    assert_eq!(registry.files(), std::slice::from_ref(&name));
    let mode = fs::metadata(registry.store().join(name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[tokio::test]
async fn uploads_of_virtual_machines_disks_and_archives_are_imported() {
    let registry = Registry::start("");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let ways = [
        ("vhdx", "qemu-img", &["convert", "-O", "vhdx", "disk.raw", "out"][..]),
        (
            "vmdk",
            "qemu-img",
            &["convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.raw", "out"],
        ),
        ("vdi", "qemu-img", &["convert", "-O", "vdi", "disk.raw", "out"]),
        ("vhd", "qemu-img", &["convert", "-O", "vpc", "-o", "force_size=on", "disk.raw", "out"]),
        (
            "vhd",
            "qemu-img",
            &["convert", "-O", "vpc", "-o", "subformat=fixed,force_size=on", "disk.raw", "out"],
        ),
        ("tar", "tar", &["-czSf", "out", "disk.raw"]),
        ("zip", "zip", &["-q", "out.zip", "disk.raw"]),
    ];
    for (seed, (format, tool, arguments)) in (1..).zip(ways) {
        fs::write(at("disk.raw"), disk(seed)).unwrap();
        let _ = fs::remove_file(at("out.zip"));
        let status = Command::new(tool).args(arguments).current_dir(folder.path()).status();
        assert!(status.unwrap().success(), "{tool} {arguments:?}");
        let out = fs::read(at(if format == "zip" { "out.zip" } else { "out" })).unwrap();
        let image = upload(&registry, &out, "vm:1", None).await;
        let image = image.unwrap_or_else(|problem| panic!("{arguments:?}: {problem}"));
        assert_eq!((image.id, image.source_format.as_str()), (id(&disk(seed)), format));
    }
    assert_eq!(registry.files().len(), ways.len(), "nothing else is left: {:?}", registry.files());
}

#[tokio::test]
async fn uploads_are_imported_streams_and_qcow2_alike() {
    let registry = Registry::start("");
    let raw = disk(2);
    let size = u64::try_from(raw.len()).unwrap();
    let image = upload(&registry, &raw, "raw:1", Some(size)).await.unwrap();
    assert_eq!((image.id, image.source.as_str()), (id(&raw), "disk.img"));
    let data = vec![7_u8; 65536];
    let mut whole = data.clone();
    whole.resize(2 * 65536, 0);
    let image = upload(&registry, &qcow2(&data), "cow:1", None).await.unwrap();
    assert_eq!((image.id, image.source_format.as_str()), (id(&whole), "qcow2"));
    assert_eq!(registry.files().len(), 2, "nothing else is left: {:?}", registry.files());
}

#[tokio::test]
async fn the_same_image_again_is_another_name() {
    let registry = Registry::start("");
    let first = upload(&registry, &disk(3), "a:1", None).await.unwrap();
    let again = upload(&registry, &gzip(&disk(3)), "b:1", None).await.unwrap();
    assert_eq!(again.id, first.id);
    assert_eq!(again.names, ["a:1", "b:1"]);
    assert_eq!(again.imported_at, first.imported_at, "it is the same image");
    assert_eq!(registry.files().len(), 1);
}

#[tokio::test]
async fn urls_are_fetched_through_redirects_without_recording_secrets() {
    let registry = Registry::start("");
    let body = disk(4);
    let length = format!("content-length: {}\r\n", body.len());
    let server = serve(move |path| match path {
        "/moved" => response("302 Found", "location: /disk.img?v=1\r\ncontent-length: 0\r\n", b""),
        _ => response("200 OK", &length, &body),
    });
    let url = format!("http://me:secret@{server}/moved");
    let image = import(&registry, Source::Url(url), options("web:1")).await.unwrap();
    assert_eq!(image.id, id(&disk(4)));
    assert_eq!(image.source, format!("http://{server}/moved"));
}

#[tokio::test]
async fn what_fails_leaves_nothing_behind_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| Source::File(folder.path().join(name).display().to_string());
    let packed = gzip(&disk(5));
    fs::write(folder.path().join("good.gz"), &packed).unwrap();
    fs::write(folder.path().join("cut.gz"), &packed[..packed.len() / 2]).unwrap();
    fs::write(
        folder.path().join("bad.gz"),
        [&packed[..1000], &[0xff; 64], &packed[1064..]].concat(),
    )
    .unwrap();
    fs::write(folder.path().join("empty"), b"").unwrap();
    fs::write(folder.path().join("odd"), [1; 700]).unwrap();
    fs::write(folder.path().join("zip"), b"PK\x03\x04and so on, and on, and on").unwrap();
    let body = disk(5);
    let server = serve(move |path| match path {
        "/cut" => {
            response("200 OK", &format!("content-length: {}\r\n", body.len()), &body[..1 << 20])
        }
        "/loop" => response("302 Found", "location: /loop\r\ncontent-length: 0\r\n", b""),
        _ => response("404 Not Found", "content-length: 0\r\n", b""),
    });
    let web = |path: &str| Source::Url(format!("http://{server}{path}"));
    let wrong_sum =
        ImportOptions { checksum: format!("sha256:{}", "0".repeat(64)), ..options("x:1") };
    let wrong_id = ImportOptions { expect_id: id(b"other"), ..options("x:1") };
    let registry = Registry::start(&format!(
        "import_dirs = [{:?}]\nmax_image_bytes = 5000000\nfetch_patience_seconds = 1",
        folder.path()
    ));
    let large = vec![3; 6 << 20];
    fs::write(folder.path().join("large"), large).unwrap();
    let plain = || options("x:1");
    let rows = [
        (at("cut.gz"), plain(), Code::InvalidArgument, "cut off"),
        (at("bad.gz"), plain(), Code::InvalidArgument, "damaged"),
        (at("empty"), plain(), Code::InvalidArgument, "empty"),
        (at("odd"), plain(), Code::InvalidArgument, "no disk image"),
        (at("zip"), plain(), Code::InvalidArgument, "zip archive"),
        (at("large"), plain(), Code::InvalidArgument, "most that is allowed"),
        (at("good.gz"), wrong_sum, Code::DataLoss, "was asked for"),
        (at("good.gz"), wrong_id, Code::DataLoss, "was asked for"),
        (at("absent"), plain(), Code::NotFound, "absent"),
        (at("../../etc/passwd"), plain(), Code::PermissionDenied, "import_dirs"),
        (Source::File("/etc/passwd".into()), plain(), Code::PermissionDenied, "import_dirs"),
        (Source::File("good.gz".into()), plain(), Code::InvalidArgument, "absolute"),
        (at("good.gz"), options("No Such Name"), Code::InvalidArgument, "name"),
        (at("good.gz"), options(""), Code::InvalidArgument, "missing"),
        (web("/cut"), plain(), Code::Unavailable, "fetching"),
        (web("/loop"), plain(), Code::Unavailable, "redirect"),
        (web("/none"), plain(), Code::NotFound, "404"),
        (Source::Url("http://127.0.0.1:1/".into()), plain(), Code::Unavailable, "fetching"),
        (Source::Url("ftp://127.0.0.1/".into()), plain(), Code::InvalidArgument, "http"),
    ];
    for (source, options, code, words) in rows {
        let shown = format!("{source:?}");
        let refusal = import(&registry, source, options).await.unwrap_err();
        assert_eq!(refusal.code(), code, "{shown}: {refusal:?}");
        assert!(refusal.message().contains(words), "{shown}: {}", refusal.message());
        assert!(!status::reason(&refusal).is_empty(), "{shown} has no reason for programs");
        assert_eq!(registry.files(), Vec::<String>::new(), "{shown} left something");
    }
    let listed = registry.images().list_images(ListImagesRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.images, []);
}

#[tokio::test]
async fn an_upload_of_another_size_than_announced_is_refused() {
    let registry = Registry::start("");
    for size in [disk(6).len() - 1, disk(6).len() + 1] {
        let size = Some(u64::try_from(size).unwrap());
        let refusal = upload(&registry, &disk(6), "x:1", size).await.unwrap_err();
        assert!(refusal.message().contains("announced"), "{}", refusal.message());
    }
    assert_eq!(registry.files(), Vec::<String>::new());
}

/// An upload that has sent a few pieces and goes on when the sender is fed.
async fn begin_upload(
    registry: &Registry,
) -> (tokio::sync::mpsc::Sender<UploadImageRequest>, impl Sized + use<>) {
    let (parts, stream) = tokio::sync::mpsc::channel(4);
    let header =
        UploadHeader { options: Some(options("x:1")), source: "x".into(), size_bytes: None };
    parts.send(UploadImageRequest { part: Some(Part::Header(header)) }).await.unwrap();
    let responses =
        registry.images().upload_image(ReceiverStream::new(stream)).await.unwrap().into_inner();
    for _ in 0..4 {
        parts.send(UploadImageRequest { part: Some(Part::Data(vec![9; 1 << 20])) }).await.unwrap();
    }
    eventually("an unfinished file", async || registry.files().len() == 1).await;
    (parts, responses)
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_import() {
    let registry = Registry::start("");
    let (parts, responses) = begin_upload(&registry).await;
    drop((parts, responses));
    eventually("the removal of the unfinished file", async || registry.files().is_empty()).await;
}

#[tokio::test]
async fn a_kill_during_an_import_leaves_nothing_after_the_next_start() {
    let mut registry = Registry::start("");
    let _upload = begin_upload(&registry).await;
    registry.kill();
    assert_eq!(registry.files().len(), 1, "the unfinished file is still there");
    fs::write(registry.store().join(format!("{}.img.zst", "ab".repeat(32))), "not on record")
        .unwrap();
    registry.start_again();
    assert_eq!(registry.files(), Vec::<String>::new());
}

#[tokio::test]
async fn names_move_and_images_go_only_when_nobody_needs_them() {
    let registry = Registry::start("");
    let mut images = registry.images();
    let first = upload(&registry, &disk(7), "lab:stable", None).await.unwrap();
    let second = upload(&registry, &disk(8), "lab:testing", None).await.unwrap();
    let wish = MachineIntent {
        policy: Policy::FlashOnce.into(),
        image: "lab:stable".into(),
        disk: "only".into(),
        ..MachineIntent::default()
    };
    registry.set(MAC, wish).await.unwrap();
    assert_eq!(registry.next(MAC).await.0, Action::Flash);

    let delete = |image: &str| DeleteImageRequest { image: image.into() };
    for image in ["lab:stable", first.id.as_str()] {
        let refusal = images.delete_image(delete(image)).await.unwrap_err();
        assert_eq!(
            (refusal.code(), status::reason(&refusal).as_str()),
            (Code::FailedPrecondition, "IMAGE_IN_USE")
        );
    }
    let tag = TagImageRequest { image: second.id.clone(), name: "lab:stable".into() };
    let tagged = images.tag_image(tag).await.unwrap().into_inner().image.unwrap();
    assert_eq!(tagged.names, ["lab:stable", "lab:testing"]);
    let gone = images.delete_image(delete(&first.id)).await.unwrap().into_inner();
    assert_eq!(gone.removed_id, first.id);
    let gone = images.delete_image(delete("lab:testing")).await.unwrap().into_inner();
    assert_eq!(gone.removed_id, "", "it has another name");
    assert_eq!(registry.files().len(), 1);
    let get = GetImageRequest { image: first.id };
    assert_eq!(images.get_image(get).await.unwrap_err().code(), Code::NotFound);
    let request =
        ListEventsRequest { kind_prefix: "image.".into(), ..ListEventsRequest::default() };
    let listed = registry.events().list_events(request).await.unwrap();
    let kinds: Vec<String> =
        listed.into_inner().events.into_iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        ["image.deleted", "image.deleted", "image.named", "image.imported", "image.imported"]
    );
}

//! Downloads that break off and go on.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bty_api::{
    registry::v1::{ImportImageRequest, ImportOptions, import_image_request::Source},
    status,
};
use tonic::Code;

use crate::{
    harness::{Registry, eventually},
    images::{disk, id, import, options},
    web::{Request, send, serve_by, stall},
};

const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const NOW: &str = "Sun, 06 Nov 2005 08:49:37 GMT";
const TAG: (&str, &str) = ("etag", "\"one\"");
/// What a server sends before it breaks off.
const PIECE: usize = 1_500_000;
const PATIENCE: &str = "fetch_patience_seconds = 2";

/// What a server has sent, in requests and bytes of the file.
#[derive(Default)]
struct Sent {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Sent {
    /// The number of this request, from 0.
    fn next(&self) -> usize {
        self.requests.fetch_add(1, Ordering::SeqCst)
    }

    /// The file from here on, but no more of it than this.
    fn file(
        &self,
        stream: &mut TcpStream,
        (status, headers): (&str, &[(&str, &str)]),
        file: &[u8],
        (from, most): (usize, usize),
    ) {
        let rest = &file[from..];
        let part = &rest[..most.min(rest.len())];
        self.bytes.fetch_add(part.len(), Ordering::SeqCst);
        let length = rest.len().to_string();
        let range = format!("bytes {from}-{}/{}", file.len() - 1, file.len());
        let mut all = vec![("content-length", length.as_str())];
        if status.starts_with("206") {
            all.push(("content-range", &range));
        }
        all.extend(headers);
        send(stream, status, &all, part);
    }
}

fn site(
    answer: impl Fn(&Sent, usize, &Request, &mut TcpStream) + Send + Sync + 'static,
) -> (SocketAddr, Arc<Sent>) {
    let sent = Arc::new(Sent::default());
    let counted = Arc::clone(&sent);
    let address = serve_by(move |request, stream| {
        answer(&counted, counted.next(), request, stream);
    });
    (address, sent)
}

fn url(address: SocketAddr) -> Source {
    Source::Url(format!("http://{address}/disk.img"))
}

#[tokio::test]
async fn the_rest_is_fetched_where_the_server_says_what_it_is_of() {
    let registry = Registry::start(PATIENCE);
    let times = &[("last-modified", OLD), ("date", NOW)][..];
    for (seed, headers, validator) in [(1, &[TAG][..], TAG.1), (2, times, OLD)] {
        let file = disk(seed);
        let headers: Vec<_> = headers.to_vec();
        let (address, sent) = site(move |sent, number, request, stream| {
            let file = disk(seed);
            let (from, status) = match request.from() {
                Some(from) if number > 0 => (from, "206 Partial Content"),
                _ => (0, "200 OK"),
            };
            assert_eq!(request.header("if-range"), (number > 0).then_some(validator));
            // Each part breaks off, but the last; one of them before its first byte.
            let most = if number == 1 { 0 } else { PIECE };
            sent.file(stream, (status, &headers), &file, (from, most));
        });
        let image = import(&registry, url(address), options("x:1")).await.unwrap();
        assert_eq!(image.id, id(&file), "{validator}");
        assert_eq!(sent.bytes.load(Ordering::SeqCst), file.len(), "nothing is fetched twice");
    }
}

#[tokio::test]
async fn a_server_without_ranges_or_versions_begins_anew_and_nothing_is_lost() {
    let registry = Registry::start(PATIENCE);
    for (seed, headers) in [(3, vec![]), (4, vec![TAG]), (5, vec![("etag", "W/\"weak\"")])] {
        let (address, sent) = site(move |sent, number, _, stream| {
            let most = [PIECE, 100, PIECE / 2, usize::MAX].get(number).copied();
            let most = most.unwrap_or_default();
            sent.file(stream, ("200 OK", &headers), &disk(seed), (0, most));
        });
        let image = import(&registry, url(address), options("x:1")).await.unwrap();
        assert_eq!(image.id, id(&disk(seed)));
        assert_eq!(sent.requests.load(Ordering::SeqCst), 4);
    }
}

#[tokio::test]
async fn a_part_that_ends_early_is_no_end_though_the_size_came_late() {
    let registry = Registry::start(PATIENCE);
    let (address, sent) = site(|sent, number, request, stream| {
        let file = disk(13);
        if number == 0 {
            let body = [format!("{PIECE:x}\r\n").as_bytes(), &file[..PIECE]].concat();
            send(stream, "200 OK", &[TAG, ("transfer-encoding", "chunked")], &body);
            return;
        }
        // A server may send less of the rest than was asked for (RFC 9110, section 14.2).
        let from = request.from().unwrap();
        let end = if number == 1 { from + 512 } else { file.len() };
        let range = format!("bytes {from}-{}/{}", end - 1, file.len());
        let length = (end - from).to_string();
        let headers = [TAG, ("content-range", &range), ("content-length", &length)];
        sent.bytes.fetch_add(end - from, Ordering::SeqCst);
        send(stream, "206 Partial Content", &headers, &file[from..end]);
    });
    let image = import(&registry, url(address), options("x:1")).await.unwrap();
    assert_eq!(image.id, id(&disk(13)));
    assert_eq!(sent.requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_server_that_stalls_or_is_busy_is_asked_again() {
    let registry = Registry::start(PATIENCE);
    let (address, sent) = site(|sent, number, request, stream| match number {
        0 => {
            sent.file(stream, ("200 OK", &[TAG]), &disk(6), (0, PIECE));
            stall(stream);
        }
        1 => send(stream, "503 Service Unavailable", &[("content-length", "0")], b""),
        2 => send(stream, "429 Too Many Requests", &[("content-length", "0")], b""),
        _ => {
            let from = request.from().unwrap();
            sent.file(stream, ("206 Partial Content", &[TAG]), &disk(6), (from, usize::MAX));
        }
    });
    let image = import(&registry, url(address), options("x:1")).await.unwrap();
    assert_eq!(image.id, id(&disk(6)));
    assert_eq!(sent.requests.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_format_that_is_read_to_and_fro_goes_on_too() {
    let registry = Registry::start(PATIENCE);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("raw"), disk(7)).unwrap();
    let status = std::process::Command::new("qemu-img")
        .args(["convert", "-O", "qcow2"])
        .args([at("raw"), at("qcow2")])
        .status();
    assert!(status.unwrap().success());
    let file = std::fs::read(at("qcow2")).unwrap();
    let (address, _) = site(move |sent, number, request, stream| {
        let from = request.from().unwrap_or_default();
        let status = if number == 0 { "200 OK" } else { "206 Partial Content" };
        sent.file(stream, (status, &[TAG]), &file, (from, 500_000));
    });
    let image = import(&registry, url(address), options("x:1")).await.unwrap();
    assert_eq!((image.id, image.source_format.as_str()), (id(&disk(7)), "qcow2"));
    assert_eq!(registry.files().len(), 1, "nothing else is left: {:?}", registry.files());
}

#[tokio::test]
async fn what_can_not_go_on_says_why_and_leaves_nothing() {
    type Answer = fn(&Sent, usize, &Request, &mut TcpStream);
    let registry = Registry::start(PATIENCE);
    let rows: [(&str, Answer, &str, &str); 7] = [
        (
            "another tag",
            |sent, number, _, stream| {
                let tag = [TAG, ("etag", "\"two\"")][number.min(1)];
                sent.file(stream, ("200 OK", &[tag]), &disk(8), (0, PIECE));
            },
            "SOURCE_CHANGED",
            "replaced",
        ),
        (
            "another file without a tag",
            |sent, number, _, stream| {
                let file = disk(if number == 0 { 8 } else { 9 });
                sent.file(stream, ("200 OK", &[]), &file, (0, PIECE));
            },
            "SOURCE_CHANGED",
            "replaced",
        ),
        (
            "another size",
            |sent, number, _, stream| {
                let file = disk(8);
                let file = if number == 0 { &file[..] } else { &file[512..] };
                sent.file(stream, ("200 OK", &[]), file, (0, PIECE));
            },
            "SOURCE_CHANGED",
            "replaced",
        ),
        (
            "a shorter file",
            |sent, number, _, stream| match number {
                0 => sent.file(stream, ("200 OK", &[TAG]), &disk(8), (0, PIECE)),
                _ => send(stream, "416 Range Not Satisfiable", &[("content-length", "0")], b""),
            },
            "SOURCE_CHANGED",
            "replaced",
        ),
        (
            "another part",
            |sent, number, _, stream| {
                let status = ["200 OK", "206 Partial Content"][number.min(1)];
                sent.file(stream, (status, &[TAG]), &disk(8), (0, PIECE));
            },
            "SOURCE_UNREACHABLE",
            "another part",
        ),
        (
            "gone",
            |sent, number, _, stream| match number {
                0 => sent.file(stream, ("200 OK", &[TAG]), &disk(8), (0, PIECE)),
                _ => send(stream, "404 Not Found", &[("content-length", "0")], b""),
            },
            "SOURCE_UNREACHABLE",
            "404",
        ),
        (
            "never more",
            |sent, _, _, stream| sent.file(stream, ("200 OK", &[TAG]), &disk(8), (0, PIECE)),
            "SOURCE_UNREACHABLE",
            "after 1500000 bytes, and 5 tries",
        ),
    ];
    for (what, answer, reason, words) in rows {
        let (address, _) = site(answer);
        let refusal = import(&registry, url(address), options("x:1")).await.unwrap_err();
        assert_eq!(status::reason(&refusal), reason, "{what}: {refusal:?}");
        let code = if words == "404" { Code::NotFound } else { Code::Unavailable };
        assert_eq!(refusal.code(), code, "{what}");
        assert!(refusal.message().contains(words), "{what}: {}", refusal.message());
        assert_eq!(registry.files(), Vec::<String>::new(), "{what} left something");
    }
}

#[tokio::test]
async fn a_checksum_is_of_the_whole_of_a_download_that_broke_off() {
    let registry = Registry::start(PATIENCE);
    let sum = |file: &[u8]| {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(file);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        ImportOptions { checksum: format!("sha256:{digits}"), ..options("x:1") }
    };
    let (address, _) = site(|sent, number, request, stream| {
        let from = request.from().unwrap_or_default();
        let status = if number % 3 == 0 { "200 OK" } else { "206 Partial Content" };
        sent.file(stream, (status, &[TAG]), &disk(10), (from, PIECE));
    });
    let image = import(&registry, url(address), sum(&disk(10))).await.unwrap();
    assert_eq!(image.id, id(&disk(10)));
    let refusal = import(&registry, url(address), sum(&disk(11))).await.unwrap_err();
    assert_eq!(status::reason(&refusal), "CHECKSUM_MISMATCH");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_download() {
    let registry = Registry::start("");
    let (address, sent) = site(|sent, _, _, stream| {
        sent.file(stream, ("200 OK", &[TAG]), &disk(12), (0, PIECE));
        stall(stream);
        // The connection has ended.
        sent.next();
    });
    let request = ImportImageRequest { source: Some(url(address)), options: Some(options("x:1")) };
    let responses = registry.images().import_image(request).await.unwrap().into_inner();
    eventually("an unfinished file", async || registry.files().len() == 1).await;
    drop(responses);
    eventually("the removal of the unfinished file", async || registry.files().is_empty()).await;
    let ended = async || sent.requests.load(Ordering::SeqCst) == 2;
    eventually("the end of the connection", ended).await;
}

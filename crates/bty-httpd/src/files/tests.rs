//! What firmware, iPXE, the flasher and curl rely on.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

use axum::{
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Folder, body::CHUNK_BYTES, serve, serve_joined};

struct Served {
    dir: TempDir,
    folder: Folder,
}

impl Served {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let served = Self { folder: Folder::new(root), dir };
        for (name, content) in files {
            served.write(name, content);
        }
        served
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    /// Writes a file that was last changed an hour ago.
    fn write(&self, name: &str, content: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(1)).unwrap();
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        serve(&self.folder, path, &method, &headers).await
    }

    async fn get(&self, path: &str, headers: &[(HeaderName, &str)]) -> Answer {
        Answer::from(self.ask(Method::GET, path, headers).await).await
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn from(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Self { status: head.status, headers: head.headers, body }
    }

    fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_whole_file_has_its_exact_length_and_type() {
    let served =
        Served::new(&[("x64/snponly.efi", b"MZ"), ("autoexec.ipxe", b"#!ipxe"), ("empty", b"")]);
    for (path, kind, body) in [
        ("x64/snponly.efi", "application/efi", b"MZ".as_slice()),
        ("autoexec.ipxe", "text/plain; charset=utf-8", b"#!ipxe"),
        ("empty", "application/octet-stream", b""),
    ] {
        let answer = served.get(path, &[(header::ACCEPT_ENCODING, "gzip, zstd")]).await;
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, body));
        assert_eq!(answer.header(header::CONTENT_LENGTH), body.len().to_string());
        assert_eq!(answer.header(header::CONTENT_TYPE), kind);
        assert_eq!(answer.header(header::ACCEPT_RANGES), "bytes");
        assert!(!answer.headers.contains_key(header::CONTENT_ENCODING));
    }
}

#[tokio::test]
async fn head_says_what_get_would_and_ignores_ranges() {
    let served = Served::new(&[("vmlinuz", &content(5000))]);
    let headers = [(header::RANGE, "bytes=0-9")];
    let head = Answer::from(served.ask(Method::HEAD, "vmlinuz", &headers).await).await;
    let get = served.get("vmlinuz", &[]).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.headers, get.headers);
    assert_eq!(head.header(header::CONTENT_LENGTH), "5000");
}

#[tokio::test]
async fn large_files_come_whole_in_bounded_chunks() {
    let chunk_bytes = usize::try_from(CHUNK_BYTES).unwrap();
    let want = content(3 * chunk_bytes + 17);
    let served = Served::new(&[("big.img.zst", &want)]);
    let mut body = served.ask(Method::GET, "big.img.zst", &[]).await.into_body();
    let mut got = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() <= chunk_bytes);
        got.extend_from_slice(&data);
    }
    assert!(got == want, "other bytes than the file has");
    let last = served.get("big.img.zst", &[(header::RANGE, "bytes=-18")]).await;
    assert_eq!(last.body, want[want.len() - 18..]);
}

#[tokio::test]
async fn ranges_are_answered_with_206_or_416() {
    let want = content(1000);
    let served = Served::new(&[("a.img.zst", &want)]);
    let part = served.get("a.img.zst", &[(header::RANGE, "bytes=100-199")]).await;
    assert_eq!((part.status, part.body.as_slice()), (StatusCode::PARTIAL_CONTENT, &want[100..200]));
    assert_eq!(part.header(header::CONTENT_RANGE), "bytes 100-199/1000");
    assert_eq!(part.header(header::CONTENT_LENGTH), "100");
    let beyond = served.get("a.img.zst", &[(header::RANGE, "bytes=1000-")]).await;
    assert_eq!((beyond.status, beyond.body.len()), (StatusCode::RANGE_NOT_SATISFIABLE, 0));
    assert_eq!(beyond.header(header::CONTENT_RANGE), "bytes */1000");
    let several = served.get("a.img.zst", &[(header::RANGE, "bytes=0-1,5-6")]).await;
    assert_eq!((several.status, several.body.len()), (StatusCode::OK, 1000));
}

#[tokio::test]
async fn a_resumed_download_of_a_replaced_file_starts_again() {
    let served = Served::new(&[("a", &content(1000))]);
    let first = served.get("a", &[]).await;
    let tag = first.header(header::ETAG).to_owned();
    let date = first.header(header::LAST_MODIFIED).to_owned();
    let resume = |validator: String| {
        let served = &served;
        async move {
            served
                .get("a", &[(header::RANGE, "bytes=500-"), (header::IF_RANGE, &validator)])
                .await
                .status
        }
    };
    assert_eq!(resume(tag.clone()).await, StatusCode::PARTIAL_CONTENT);
    assert_eq!(resume(date).await, StatusCode::PARTIAL_CONTENT);
    assert_eq!(resume(format!("W/{tag}")).await, StatusCode::OK);
    assert_eq!(resume("Thu, 01 Jan 2015 00:00:00 GMT".into()).await, StatusCode::OK);
    assert_eq!(resume("nonsense".into()).await, StatusCode::OK);
    // Same name, size and time, another file.
    fs::rename(served.root().join("a"), served.root().join("old")).unwrap();
    served.write("a", &content(1000));
    assert_eq!(resume(tag).await, StatusCode::OK);
}

#[tokio::test]
async fn a_date_is_no_validator_for_a_file_that_just_changed() {
    let served = Served::new(&[]);
    fs::write(served.root().join("new"), content(1000)).unwrap();
    let date = served.get("new", &[]).await.header(header::LAST_MODIFIED).to_owned();
    let headers = [(header::RANGE, "bytes=500-"), (header::IF_RANGE, date.as_str())];
    assert_eq!(served.get("new", &headers).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_has_the_file_gets_304() {
    let served = Served::new(&[("a", b"x")]);
    let first = served.get("a", &[]).await;
    let tag = first.header(header::ETAG).to_owned();
    let date = first.header(header::LAST_MODIFIED).to_owned();
    let list = format!("\"other\", W/{tag}");
    for (name, value, status) in [
        (header::IF_NONE_MATCH, tag.as_str(), StatusCode::NOT_MODIFIED),
        (header::IF_NONE_MATCH, &list, StatusCode::NOT_MODIFIED),
        (header::IF_NONE_MATCH, "*", StatusCode::NOT_MODIFIED),
        (header::IF_NONE_MATCH, "\"other\"", StatusCode::OK),
        (header::IF_MODIFIED_SINCE, &date, StatusCode::NOT_MODIFIED),
        (header::IF_MODIFIED_SINCE, "Thu, 01 Jan 2015 00:00:00 GMT", StatusCode::OK),
        (header::IF_MODIFIED_SINCE, "soon", StatusCode::OK),
        (header::IF_MATCH, &tag, StatusCode::OK),
        (header::IF_MATCH, "\"other\"", StatusCode::PRECONDITION_FAILED),
    ] {
        let answer = served.get("a", &[(name.clone(), value)]).await;
        assert_eq!(answer.status, status, "{name}: {value}");
        assert_eq!(answer.header(header::ETAG), tag);
        assert_eq!(answer.body.is_empty(), status != StatusCode::OK);
    }
}

#[tokio::test]
async fn nothing_leads_out_of_the_folder() {
    let served = Served::new(&[("in/file", b"in"), (".hidden", b"no")]);
    fs::write(served.dir.path().join("secret"), "secret").unwrap();
    symlink("../secret", served.root().join("link")).unwrap();
    symlink("file", served.root().join("in/inner-link")).unwrap();
    symlink("/etc", served.root().join("etc")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, served.root().join("fifo"), 0o644.into()).unwrap();
    for path in [
        "",
        "/",
        ".",
        "..",
        "../secret",
        "in/../../secret",
        "/etc/passwd",
        "//etc/passwd",
        "link",
        "in/inner-link",
        "etc/passwd",
        "in",
        "in/",
        "in//file",
        "in/./file",
        "in/file/",
        "in/file/x",
        ".hidden",
        "fifo",
        "absent",
        "in/file\0",
        "in\\file",
        "a\nb",
    ] {
        assert_eq!(served.get(path, &[]).await.status, StatusCode::NOT_FOUND, "{path:?}");
    }
    let long = "x".repeat(100_000);
    assert_eq!(served.get(&long, &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(served.get("in/file", &[]).await.body, b"in");
}

#[tokio::test]
async fn a_folder_may_come_later() {
    let served = Served::new(&[]);
    let absent = Folder::new(served.root().join("later"));
    let ask = || async { serve(&absent, "a", &Method::GET, &HeaderMap::new()).await.status() };
    assert_eq!(ask().await, StatusCode::NOT_FOUND);
    served.write("later/a", b"x");
    assert_eq!(ask().await, StatusCode::OK);
}

#[tokio::test]
async fn a_file_that_shrinks_breaks_the_body_off() {
    let chunk_bytes = usize::try_from(CHUNK_BYTES).unwrap();
    let served = Served::new(&[("a", &content(3 * chunk_bytes))]);
    let mut body = served.ask(Method::GET, "a", &[]).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let file = fs::File::options().write(true).open(Path::new(&served.root()).join("a")).unwrap();
    file.set_len(0).unwrap();
    let mut broken = false;
    while let Some(frame) = body.frame().await {
        broken = frame.is_err();
        if broken {
            break;
        }
    }
    assert!(broken, "a short body must not look complete");
}

#[tokio::test]
async fn other_methods_are_refused() {
    let served = Served::new(&[("a", b"x")]);
    let answer = Answer::from(served.ask(Method::PUT, "a", &[]).await).await;
    assert_eq!(
        (answer.status, answer.header(header::ALLOW)),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_path_and_range_is_answered_without_harm(path in "[a./\\\\\0]{0,12}|.{0,40}", range in "(bytes=)?[0-9,-]{0,9}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let served = Served::new(&[("a", b"in")]);
            fs::write(served.dir.path().join("secret"), "secret").unwrap();
            let answer = served.get(&path, &[(header::RANGE, &range)]).await;
            assert!(b"in".windows(answer.body.len().max(1)).any(|part| part == answer.body) || answer.body.is_empty()
                || answer.body == b"no such file\n");
        });
    }
}

#[tokio::test]
async fn several_files_are_one_with_its_exact_length() {
    let base = content(2 * usize::try_from(CHUNK_BYTES).unwrap() + 5);
    let served = Served::new(&[("modules/igc.img", b"igc "), ("empty", b""), ("base.img", &base)]);
    let names = || ["modules/igc.img", "empty", "base.img"].map(str::to_owned).to_vec();
    let want = [b"igc ", &base[..]].concat();
    let got = serve_joined(&served.folder, names(), &Method::GET).await.unwrap();
    let got = Answer::from(got).await;
    assert_eq!(got.header(header::CONTENT_LENGTH), want.len().to_string());
    assert!(got.body == want, "other bytes than the files have");
    let head = serve_joined(&served.folder, names(), &Method::HEAD).await.unwrap();
    let head = Answer::from(head).await;
    assert_eq!(head.header(header::CONTENT_LENGTH), want.len().to_string());
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn without_one_of_them_nothing_is_joined() {
    let served = Served::new(&[("base.img", b"base")]);
    for absent in ["modules/igc.img", "../secret", "modules"] {
        let names = [absent, "base.img"].map(str::to_owned).to_vec();
        let got = serve_joined(&served.folder, names, &Method::GET).await;
        assert!(got.is_none(), "{absent}");
    }
}

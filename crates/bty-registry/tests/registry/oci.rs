//! Images from OCI registries: a real one, and one that does what registries do elsewhere, or should not do.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bty_api::{
    registry::v1::{ImportOptions, import_image_request::Source},
    status,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tonic::Code;

use crate::{
    harness::{Registry, eventually},
    images::{disk, gzip, id, import, options},
    web::{Request, send, serve_by},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// "me" and "secret", as htpasswd writes them.
const LOGINS: &str = "me:$2b$05$rWOt5DdFOfgQEVHhRXTihekE4bE6AtzLQL/RTDFv5w2BH9yubThny\n";

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// A layer as a manifest names it.
fn layer(media_type: &str, title: &str, content: &[u8]) -> Value {
    let annotations = match title {
        "" => json!({}),
        title => json!({ "org.opencontainers.image.title": title }),
    };
    json!({
        "mediaType": media_type, "digest": digest(content), "size": content.len(),
        "annotations": annotations
    })
}

fn manifest(layers: &[Value]) -> Vec<u8> {
    let empty = json!({
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": layers
    });
    manifest.to_string().into_bytes()
}

/// Docker's registry, from the package docker-registry.
struct Real {
    child: Child,
    address: String,
    client: reqwest::Client,
    with_login: bool,
    _folder: TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Real {
    async fn start(with_login: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let logins = folder.path().join("logins");
        fs::write(&logins, LOGINS).unwrap();
        let auth = if with_login {
            format!("auth: {{htpasswd: {{realm: lab, path: {}}}}}\n", logins.display())
        } else {
            String::new()
        };
        let root = folder.path().join("root");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\"}}\n{auth}",
            root.display()
        );
        let file = folder.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is needed for this test: apt install docker-registry");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        let real = Self { child, address, client, with_login, _folder: folder };
        eventually("an answer of docker-registry", async || {
            real.client.get(real.url("")).send().await.is_ok()
        })
        .await;
        real
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.address)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let login = "Basic bWU6c2VjcmV0";
        let request =
            if self.with_login { request.header("authorization", login) } else { request };
        request.send().await.unwrap().error_for_status().unwrap()
    }

    async fn push_blob(&self, content: &[u8]) {
        let begun = self.send(self.client.post(self.url("lab/debian/blobs/uploads/"))).await;
        let place = begun.headers().get("location").unwrap().to_str().unwrap();
        let place = format!("{place}&digest={}", digest(content));
        self.send(self.client.put(place).body(content.to_vec())).await;
    }

    async fn push(&self, tag: &str, media_type: &str, content: &[u8]) {
        let place = self.url(&format!("lab/debian/manifests/{tag}"));
        let put = self.client.put(place).header("content-type", media_type);
        self.send(put.body(content.to_vec())).await;
    }

    /// An artifact with these layers, of which each has its content; gives the manifest's digest.
    async fn push_artifact(&self, tag: &str, layers: &[(&str, &str, &[u8])]) -> String {
        self.push_blob(b"{}").await;
        let mut all = Vec::new();
        for (media_type, title, content) in layers {
            self.push_blob(content).await;
            all.push(layer(media_type, title, content));
        }
        let content = manifest(&all);
        self.push(tag, MANIFEST, &content).await;
        digest(&content)
    }

    fn source(&self, version: &str) -> Source {
        Source::Url(format!("oras://{}/lab/debian{version}", self.address))
    }
}

fn login(user: &str, password: &str) -> ImportOptions {
    ImportOptions {
        registry_user: user.into(),
        registry_password: password.into(),
        ..options("x:1")
    }
}

#[tokio::test]
async fn a_real_registry_s_artifacts_are_imported_or_refused_by_name() {
    let real = Real::start(false).await;
    let registry = Registry::start("");
    let packed = gzip(&disk(1));
    let layers: &[(&str, &str, &[u8])] =
        &[(LAYER, "README.md", b"read me"), (LAYER, "debian.img.gz", &packed)];
    let manifest = real.push_artifact("13", layers).await;
    let raw = disk(2);
    real.push_artifact("latest", &[("application/octet-stream", "", &raw)]).await;
    let pinned = format!("oras://{}/lab/debian:13@{manifest}", real.address);
    for (version, want, recorded) in [
        (":13".to_owned(), disk(1), Some(pinned.as_str())),
        (format!("@{manifest}"), disk(1), None),
        (format!(":13@{manifest}"), disk(1), Some(pinned.as_str())),
        (String::new(), disk(2), None),
    ] {
        let image = import(&registry, real.source(&version), options("x:1")).await;
        let image = image.unwrap_or_else(|problem| panic!("{version}: {problem}"));
        assert_eq!(image.id, id(&want), "{version}");
        if let Some(recorded) = recorded.filter(|_| version == ":13") {
            assert_eq!(image.source, recorded, "the manifest is recorded by its digest");
        }
    }

    real.push_artifact("two", &[(LAYER, "a.img", &raw), (LAYER, "b.qcow2", b"x")]).await;
    let container = "application/vnd.oci.image.layer.v1.tar+gzip";
    real.push_artifact("container", &[(container, "", &packed)]).await;
    let one = json!({
        "mediaType": MANIFEST, "digest": manifest, "size": 700,
        "platform": { "os": "linux", "architecture": "arm64" }
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [one] }).to_string();
    // Its size must fit, and is easier looked up than computed.
    let stored = real.client.get(real.url(&format!("lab/debian/manifests/{manifest}")));
    let stored = real.send(stored.header("accept", MANIFEST)).await.bytes().await.unwrap();
    let index = index.replace("700", &stored.len().to_string());
    real.push("index", INDEX, index.as_bytes()).await;
    let other = format!("@sha256:{}", "0".repeat(64));
    for (version, code, words) in [
        (":two", Code::InvalidArgument, "a.img (application/vnd.oci.image.layer.v1.tar), b.qcow2"),
        (":container", Code::InvalidArgument, container),
        (":index", Code::InvalidArgument, &format!("@{manifest} for linux/arm64")[..]),
        (":none", Code::NotFound, "404"),
        (other.as_str(), Code::NotFound, "404"),
        (":_!", Code::InvalidArgument, "tag"),
    ] {
        let refusal = import(&registry, real.source(version), options("y:1")).await.unwrap_err();
        assert_eq!(refusal.code(), code, "{version}: {refusal:?}");
        assert!(refusal.message().contains(words), "{version}: {}", refusal.message());
    }
    assert_eq!(registry.files().len(), 2, "nothing else is left: {:?}", registry.files());
}

#[tokio::test]
async fn a_real_registry_with_a_password_is_read_with_it_and_it_is_told_nowhere() {
    let real = Real::start(true).await;
    let registry = Registry::start("");
    real.push_artifact("13", &[(LAYER, "debian.img", &disk(3))]).await;
    for (options, words) in
        [(options("x:1"), "--registry-auth"), (login("me", "wrong-one"), "refuses it (401")]
    {
        let refusal = import(&registry, real.source(":13"), options).await.unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal:?}");
        assert!(refusal.message().contains(words), "{}", refusal.message());
    }
    let image = import(&registry, real.source(":13"), login("me", "secret")).await.unwrap();
    assert_eq!(image.id, id(&disk(3)));
    let log = registry.log();
    assert!(!log.contains("secret") && !log.contains("wrong-one"), "{log}");
    assert!(!log.contains("bWU6c2VjcmV0"), "{log}");
}

/// A registry as large ones are: tokens from a server of its own, layers from a third.
struct Large {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What a large registry does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// The manifest's bytes are not those of its digest.
    Manifest,
    /// One bit of the layer is another one.
    Layer,
    /// The layer has more bytes than the manifest says.
    Size,
    /// Tokens are good for one request, and each connection breaks off.
    Cuts,
    /// The token server gives nothing.
    NoToken,
    /// Who keeps the layers asks for a token of its own.
    Stranger,
}

impl Large {
    fn start(fault: Fault) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (content, tokens) = (disk(4), Arc::new(AtomicUsize::new(0)));
        let manifest = manifest(&[layer(LAYER, "disk.img", &content)]);
        // Layers are elsewhere, by addresses that are good for everybody who knows them.
        let noted = Arc::clone(&requests);
        let store = serve_by(move |request, stream| {
            note(&noted, "store", request);
            assert_eq!(request.header("authorization"), None, "a token went to another server");
            if fault == Fault::Stranger {
                let host = request.header("host").unwrap_or_default();
                let challenge = format!("Bearer realm=\"http://{host}/token\"");
                reply(stream, "401 Unauthorized", &[("www-authenticate", &challenge)], b"{}");
                return;
            }
            let mut content = content.clone();
            if fault == Fault::Layer {
                content[5000] ^= 1;
            }
            if fault == Fault::Size {
                content.extend([0; 512]);
            }
            let from = request.from().unwrap_or_default();
            let rest = &content[from..];
            let most = if fault == Fault::Cuts { 1_500_000 } else { usize::MAX };
            let (length, total) = (rest.len().to_string(), content.len());
            let range = format!("bytes {from}-{}/{total}", total - 1);
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let headers =
                [("content-length", &length[..]), ("content-range", &range), ("etag", "\"a\"")];
            send(stream, status, &headers, &rest[..most.min(rest.len())]);
        });
        let (noted, given) = (Arc::clone(&requests), Arc::clone(&tokens));
        let realm = serve_by(move |request, stream| {
            note(&noted, "token", request);
            let body = if fault == Fault::NoToken {
                "{}".to_owned()
            } else {
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                json!({ "token": format!("t{number}"), "expires_in": 300 }).to_string()
            };
            reply(stream, "200 OK", &[], body.as_bytes());
        });
        let noted = Arc::clone(&requests);
        let address = serve_by(move |request, stream| {
            note(&noted, "registry", request);
            let current = format!("Bearer t{}", tokens.load(Ordering::SeqCst));
            if request.header("authorization") != Some(&current) {
                let challenge = format!(
                    "Bearer realm=\"http://{realm}/token\",service=\"lab\",scope=\"repository:a:pull\""
                );
                reply(stream, "401 Unauthorized", &[("www-authenticate", &challenge)], b"{}");
                return;
            }
            if fault == Fault::Cuts {
                // From now on it is no longer good.
                tokens.fetch_add(1, Ordering::SeqCst);
            }
            if request.path.contains("/manifests/") {
                assert!(request.header("accept").is_some_and(|accept| accept.contains(INDEX)));
                let mut manifest = manifest.clone();
                let digest = digest(&manifest);
                if fault == Fault::Manifest {
                    manifest.push(b'\n');
                }
                let headers = [("content-type", MANIFEST), ("docker-content-digest", &digest)];
                reply(stream, "200 OK", &headers, &manifest);
            } else {
                let place = format!("http://localhost:{}/blob", store.port());
                reply(stream, "307 Temporary Redirect", &[("location", &place)], b"");
            }
        });
        Self { address, requests }
    }

    fn source(&self) -> Source {
        Source::Url(format!("oras://{}/a", self.address))
    }

    fn asked(&self, who: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|line| line.starts_with(who)).cloned().collect()
    }
}

fn note(requests: &Mutex<Vec<String>>, who: &str, request: &Request) {
    let login = request.header("authorization").unwrap_or_default();
    let line = format!("{who} {} {login}", request.path);
    requests.lock().unwrap().push(line.trim_end().to_owned());
}

fn reply(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    let length = body.len().to_string();
    let headers = [&[("content-length", length.as_str())], headers].concat();
    send(stream, status, &headers, body);
}

#[tokio::test]
async fn tokens_are_fetched_for_anybody_and_for_a_user_and_go_nowhere_else() {
    let registry = Registry::start("");
    let asked = "token /token?service=lab&scope=repository%3Aa%3Apull";
    for (options, asked) in [
        (options("x:1"), asked.to_owned()),
        (login("me", "secret"), format!("{asked} Basic bWU6c2VjcmV0")),
    ] {
        let large = Large::start(Fault::Nothing);
        let image = import(&registry, large.source(), options).await.unwrap();
        assert_eq!(image.id, id(&disk(4)));
        assert_eq!(large.asked("token"), [asked], "one token is enough");
        let with_password = large.asked("registry").into_iter().any(|line| line.contains("Basic"));
        assert!(!with_password, "the password goes to the token server only");
    }
}

#[tokio::test]
async fn whoever_a_registry_sends_on_to_gets_no_password() {
    let registry = Registry::start("");
    let large = Large::start(Fault::Stranger);
    let refusal = import(&registry, large.source(), login("me", "secret")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal:?}");
    assert!(refusal.message().contains("401"), "{}", refusal.message());
    assert_eq!(large.asked("store"), ["store /blob"]);
}

#[tokio::test]
async fn a_login_is_for_registries_only() {
    let registry = Registry::start("");
    let plain = ImportOptions { registry_plain_http: true, ..options("x:1") };
    for options in [login("me", "secret"), plain] {
        let source = Source::Url("http://127.0.0.1:9/disk.img".into());
        let refusal = import(&registry, source, options).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
        assert!(refusal.message().contains("oras://"), "{}", refusal.message());
    }
}

#[tokio::test]
async fn a_layer_goes_on_after_cuts_with_new_tokens() {
    let registry = Registry::start("fetch_patience_seconds = 2");
    let large = Large::start(Fault::Cuts);
    let image = import(&registry, large.source(), options("x:1")).await.unwrap();
    assert_eq!(image.id, id(&disk(4)));
    assert_eq!(large.asked("store").len(), 3, "{:?}", large.requests);
    assert!(large.asked("token").len() > 1, "{:?}", large.requests);
}

#[tokio::test]
async fn what_a_registry_sends_wrong_is_refused_and_leaves_nothing() {
    let registry = Registry::start("");
    for (fault, code, reason, words) in [
        (Fault::Manifest, Code::DataLoss, "CHECKSUM_MISMATCH", "its manifest has sha256:"),
        (Fault::Layer, Code::DataLoss, "CHECKSUM_MISMATCH", "its manifest says sha256:"),
        (Fault::Size, Code::DataLoss, "CHECKSUM_MISMATCH", "its manifest says that there are"),
        (Fault::NoToken, Code::Unavailable, "SOURCE_UNREACHABLE", "gives no token"),
    ] {
        let large = Large::start(fault);
        let refusal = import(&registry, large.source(), options("x:1")).await.unwrap_err();
        assert_eq!(refusal.code(), code, "{fault:?}: {refusal:?}");
        assert_eq!(status::reason(&refusal), reason, "{fault:?}");
        assert!(refusal.message().contains(words), "{fault:?}: {}", refusal.message());
        assert_eq!(registry.files(), Vec::<String>::new(), "{fault:?} left something");
    }
}

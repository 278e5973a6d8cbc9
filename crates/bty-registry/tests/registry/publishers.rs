//! What a publisher says of a file: lists of checksums made by sha256sum and sha512sum, and signatures of those and of the file itself,
//! made by minisign and gpg.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use bty_api::{
    registry::v1::{ImportOptions, import_image_request::Source},
    status,
};
use tempfile::TempDir;
use tonic::Code;

use crate::{
    harness::Registry,
    images::{disk, id, import, options, response, serve},
};

/// Runs a tool in a folder; gives what it printed.
fn run(folder: &Path, tool: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(tool)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|problem| panic!("{tool} is needed for this test: {problem}"));
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A publisher's folder: two images, their lists, and the signatures of those. Gives the key.
fn publish(folder: &Path) -> String {
    fs::write(folder.join("a.img"), disk(1)).unwrap();
    fs::write(folder.join("b.img"), disk(2)).unwrap();
    for (list, tool, arguments) in [
        ("SHA256SUMS", "sha256sum", &["a.img", "b.img"][..]),
        ("SHA512SUMS", "sha512sum", &["--tag", "a.img", "b.img"]),
        ("OLD", "sha256sum", &["-b", "./a.img"]),
        ("MD5SUMS", "md5sum", &["a.img"]),
    ] {
        fs::write(folder.join(list), run(folder, tool, arguments)).unwrap();
    }
    run(folder, "minisign", &["-G", "-W", "-p", "key.pub", "-s", "key"]);
    run(folder, "minisign", &["-S", "-s", "key", "-m", "SHA256SUMS"]);
    run(folder, "minisign", &["-S", "-l", "-s", "key", "-m", "OLD"]);
    run(folder, "minisign", &["-S", "-s", "key", "-m", "a.img"]);
    run(folder, "minisign", &["-S", "-l", "-s", "key", "-m", "a.img", "-x", "a.old.minisig"]);
    // A list that was changed after it was signed.
    let list = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    fs::write(folder.join("FORGED"), list.replace("a.img", "c.img")).unwrap();
    fs::copy(folder.join("SHA256SUMS.minisig"), folder.join("FORGED.minisig")).unwrap();
    fs::write(folder.join("LARGE"), vec![b'a'; 2 << 20]).unwrap();
    let key = fs::read_to_string(folder.join("key.pub")).unwrap();
    key.lines().nth(1).unwrap().to_owned()
}

/// A home of gpg with keys in it, and the agent that gpg starts there, which ends with this.
struct Gpg(TempDir);

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.0.path())
            .args(["--kill", "all"])
            .status();
    }
}

impl Gpg {
    /// Makes the keys "good", "other", and "old", which has expired.
    fn new() -> Self {
        let gpg = Self(tempfile::tempdir().unwrap());
        let past = ["--faked-system-time", "20200101T000000"];
        for (name, expires, when) in
            [("good", "never", &[][..]), ("other", "never", &[]), ("old", "1d", &past)]
        {
            let key = ["--passphrase", "", "--quick-gen-key", name, "ed25519", "sign", expires];
            gpg.run(&[when, &key].concat());
        }
        gpg
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let home = self.0.path().display().to_string();
        let common = ["--homedir", &home, "--batch", "--yes", "--quiet", "--no-permission-warning"];
        run(self.0.path(), "gpg", &[&common, arguments].concat())
    }

    fn key(&self, name: &str) -> Vec<u8> {
        self.run(&["--armor", "--export", name])
    }

    /// Signs what a publisher has: lists apart and around, and an image.
    fn sign(&self, folder: &Path) {
        let at = |name: &str| folder.join(name).display().to_string();
        let detach = |by: &str, what: &str, to: &str, more: &[&str]| {
            let (what, to) = (at(what), at(to));
            let signing = ["-u", by, "--output", &to, "--detach-sign", &what];
            self.run(&[more, &signing].concat());
        };
        let past = ["--faked-system-time", "20200101T010000"];
        detach("good", "SHA256SUMS", "SHA256SUMS.gpg", &[]);
        detach("good", "SHA256SUMS", "SHA256SUMS.asc", &["--armor"]);
        detach("other", "SHA256SUMS", "SHA256SUMS.other", &[]);
        detach("old", "SHA256SUMS", "SHA256SUMS.old", &past);
        detach("other", "SHA256SUMS", "SHA256SUMS.both", &["-u", "good"]);
        detach("good", "SHA256SUMS", "SHA256SUMS.sha1", &["--digest-algo", "SHA1"]);
        detach("good", "a.img", "a.img.gpg", &[]);
        let (list, clear) = (at("SHA256SUMS"), at("CHECKSUM"));
        self.run(&["-u", "good", "--output", &clear, "--clearsign", &list]);
        let signed = fs::read_to_string(&clear).unwrap();
        fs::write(at("CHECKSUM-FORGED"), signed.replace("a.img", "c.img")).unwrap();
        // What stands behind a signature is not signed.
        let (forged, list) = (at("CHECKSUM-MORE"), fs::read_to_string(&list).unwrap());
        let more =
            list.replace("b.img", "x.img").replace("a.img", "b.img").replace("x.img", "a.img");
        fs::write(forged, format!("{signed}\n{more}")).unwrap();
    }
}

/// A publisher's server, a mirror with another file under a name, and a registry that may read both folders.
struct Site {
    registry: Registry,
    server: SocketAddr,
    folder: TempDir,
    mirror: TempDir,
    key: String,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = publish(folder.path());
        let at = folder.path().to_owned();
        let server = serve(move |path| match fs::read(at.join(path.trim_start_matches('/'))) {
            Ok(body) => response("200 OK", &format!("content-length: {}\r\n", body.len()), &body),
            Err(_) => response("404 Not Found", "content-length: 0\r\n", b""),
        });
        let mirror = tempfile::tempdir().unwrap();
        fs::write(mirror.path().join("a.img"), disk(2)).unwrap();
        let folders = [folder.path(), mirror.path()];
        let registry = Registry::start(&format!("import_dirs = {folders:?}"));
        Self { registry, server, folder, mirror, key }
    }

    fn web(&self, name: &str) -> Source {
        Source::Url(self.url(name))
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.server)
    }

    fn wanted(&self, list: &str, key: &str, signature: &str) -> ImportOptions {
        ImportOptions {
            checksums_url: self.url(list),
            minisign_key: key.into(),
            minisign_url: if signature.is_empty() { String::new() } else { self.url(signature) },
            ..options("x:1")
        }
    }
}

fn file(folder: &TempDir) -> Source {
    Source::File(folder.path().join("a.img").display().to_string())
}

#[tokio::test]
async fn what_a_publisher_lists_and_signs_is_imported() {
    let site = Site::new();
    let key = site.key.as_str();
    for (source, wanted) in [
        (site.web("a.img"), site.wanted("SHA256SUMS", "", "")),
        (site.web("a.img#x"), site.wanted("SHA512SUMS", "", "")),
        (file(&site.folder), site.wanted("SHA256SUMS", key, "")),
        (site.web("a.img"), site.wanted("OLD", key, "")),
        (site.web("a.img"), site.wanted("SHA256SUMS", key, "FORGED.minisig")),
    ] {
        let shown = format!("{source:?} {wanted:?}");
        let image = import(&site.registry, source, wanted).await;
        assert_eq!(image.unwrap_or_else(|problem| panic!("{shown}: {problem}")).id, id(&disk(1)));
    }
}

#[tokio::test]
async fn what_a_publisher_has_not_listed_or_signed_is_refused() {
    const BAD: Code = Code::InvalidArgument;
    const UNKNOWN: &str = "CHECKSUM_UNKNOWN";
    const UNSIGNED: &str = "SIGNATURE_MISMATCH";
    const AWAY: &str = "SOURCE_UNREACHABLE";
    let site = Site::new();
    let other = tempfile::tempdir().unwrap();
    let (key, other_key) = (site.key.as_str(), publish(other.path()));
    let signed = |list| site.wanted(list, key, "");
    let plain = |list| site.wanted(list, "", "");
    let both =
        ImportOptions { checksum: format!("sha256:{}", "0".repeat(64)), ..plain("SHA256SUMS") };
    let by_other = site.wanted("SHA256SUMS", &other_key, "");
    let no_signature = site.wanted("SHA256SUMS", key, "a.img");
    let no_key = site.wanted("SHA256SUMS", "RWQ", "");
    let rows = [
        (signed("FORGED"), Code::DataLoss, UNSIGNED, "not the publisher's"),
        (by_other, Code::DataLoss, UNSIGNED, "another's"),
        (no_signature, BAD, UNKNOWN, "over 16384 bytes"),
        (signed("SHA512SUMS"), Code::NotFound, AWAY, "SHA512SUMS.minisig"),
        (plain("NONE"), Code::NotFound, AWAY, "NONE"),
        (plain("FORGED"), BAD, UNKNOWN, "\"a.img\""),
        (plain("MD5SUMS"), BAD, UNKNOWN, "no SHA-256"),
        (plain("LARGE"), BAD, UNKNOWN, "over 1048576 bytes"),
        (no_key, BAD, "INVALID_ARGUMENT", "minisign_key"),
        (both, BAD, "INVALID_ARGUMENT", "the one or the other"),
    ];
    let rows = rows
        .into_iter()
        .map(|(wanted, code, reason, words)| (site.web("a.img"), wanted, code, reason, words));
    let mirrored = (
        file(&site.mirror),
        signed("SHA256SUMS"),
        Code::DataLoss,
        "CHECKSUM_MISMATCH",
        "was asked for",
    );
    for (source, wanted, code, reason, words) in rows.chain([mirrored]) {
        let shown = format!("{source:?} {wanted:?}");
        let refusal = import(&site.registry, source, wanted).await.unwrap_err();
        assert_eq!(refusal.code(), code, "{shown}: {refusal:?}");
        assert_eq!(status::reason(&refusal), reason, "{shown}");
        assert!(refusal.message().contains(words), "{shown}: {}", refusal.message());
        assert_eq!(site.registry.files(), Vec::<String>::new(), "{shown} left something");
    }
}

#[tokio::test]
async fn what_a_publisher_signs_by_openpgp_is_imported_or_refused() {
    const MISMATCH: &str = "SIGNATURE_MISMATCH";
    const BAD: Code = Code::InvalidArgument;
    let (site, gpg) = (Site::new(), Gpg::new());
    gpg.sign(site.folder.path());
    let good = gpg.key("good");
    let binary = gpg.run(&["--export", "good"]);
    let signed = |list: &str, key: &[u8], signature: &str| ImportOptions {
        openpgp_key: key.to_vec(),
        openpgp_url: if signature.is_empty() { String::new() } else { site.url(signature) },
        checksums_url: if list.is_empty() { String::new() } else { site.url(list) },
        ..options("x:1")
    };
    for wanted in [
        signed("SHA256SUMS", &good, "SHA256SUMS.gpg"),
        signed("SHA256SUMS", &good, "SHA256SUMS.asc"),
        signed("SHA256SUMS", &binary, "SHA256SUMS.gpg"),
        // Two have signed, of whom one is known.
        signed("SHA256SUMS", &good, "SHA256SUMS.both"),
        signed("CHECKSUM", &good, ""),
        // The signature of the image itself.
        signed("", &good, "a.img.gpg"),
    ] {
        let shown = format!("{wanted:?}");
        let image = import(&site.registry, site.web("a.img"), wanted).await;
        assert_eq!(image.unwrap_or_else(|problem| panic!("{shown}: {problem}")).id, id(&disk(1)));
    }
    let image = import(&site.registry, file(&site.folder), signed("", &good, "a.img.gpg")).await;
    assert_eq!(image.unwrap().id, id(&disk(1)), "a file on the server");

    for (source, wanted, code, reason, words) in [
        (
            "a.img",
            signed("SHA512SUMS", &good, "SHA256SUMS.gpg"),
            Code::DataLoss,
            MISMATCH,
            "changed",
        ),
        (
            "a.img",
            signed("SHA256SUMS", &good, "SHA256SUMS.other"),
            Code::DataLoss,
            MISMATCH,
            "not among",
        ),
        (
            "a.img",
            signed("SHA256SUMS", &gpg.key("old"), "SHA256SUMS.old"),
            Code::DataLoss,
            MISMATCH,
            "expired",
        ),
        ("a.img", signed("SHA256SUMS", &good, "SHA256SUMS.sha1"), BAD, MISMATCH, "does not take"),
        ("a.img", signed("SHA256SUMS", &good, "SHA256SUMS"), BAD, MISMATCH, "no OpenPGP signature"),
        ("a.img", signed("SHA256SUMS", &good, ""), BAD, "MISSING_FIELD", "openpgp_url"),
        ("a.img", signed("CHECKSUM-FORGED", &good, ""), Code::DataLoss, MISMATCH, "changed"),
        ("b.img", signed("", &good, "a.img.gpg"), Code::DataLoss, MISMATCH, "changed"),
        (
            "b.img",
            signed("", &gpg.key("other"), "a.img.gpg"),
            Code::DataLoss,
            MISMATCH,
            "not among",
        ),
        ("a.img", signed("", b"no key", "a.img.gpg"), BAD, "INVALID_ARGUMENT", "gpg --export"),
    ] {
        let shown = format!("{source} {} {}", wanted.checksums_url, wanted.openpgp_url);
        let refusal = import(
            &site.registry,
            site.web(source),
            ImportOptions { name: "y:1".into(), ..wanted },
        );
        let refusal = refusal.await.unwrap_err();
        assert_eq!(refusal.code(), code, "{shown}: {refusal:?}");
        assert_eq!(status::reason(&refusal), reason, "{shown}");
        assert!(refusal.message().contains(words), "{shown}: {}", refusal.message());
    }
    // Nothing that stands around what is signed is believed.
    let around = signed("CHECKSUM-MORE", &good, "");
    let outcome = import(&site.registry, site.web("a.img"), around).await;
    assert!(outcome.is_err() || outcome.is_ok_and(|image| image.id == id(&disk(1))));
    assert_eq!(site.registry.files().len(), 1, "{:?}", site.registry.files());
}

#[tokio::test]
async fn a_minisign_signature_of_the_image_itself_is_checked() {
    let site = Site::new();
    let other = tempfile::tempdir().unwrap();
    let other_key = publish(other.path());
    let signed = |key: &str, signature: &str| ImportOptions {
        checksums_url: String::new(),
        ..site.wanted("", key, signature)
    };
    for (source, wanted) in [
        (site.web("a.img"), signed(&site.key, "")),
        (file(&site.folder), signed(&site.key, "a.img.minisig")),
    ] {
        let image = import(&site.registry, source, wanted).await.unwrap();
        assert_eq!(image.id, id(&disk(1)));
    }
    for (source, wanted, code, words) in [
        (
            site.web("b.img"),
            signed(&site.key, "a.img.minisig"),
            Code::DataLoss,
            "not the publisher's",
        ),
        (site.web("a.img"), signed(&other_key, ""), Code::DataLoss, "different key"),
        (site.web("a.img"), signed(&site.key, "a.old.minisig"), Code::DataLoss, "non-legacy"),
        (file(&site.folder), signed(&site.key, ""), Code::InvalidArgument, "minisign_url"),
    ] {
        let shown = format!("{source:?} {}", wanted.minisign_url);
        let refusal = import(&site.registry, source, wanted).await.unwrap_err();
        assert_eq!(refusal.code(), code, "{shown}: {refusal:?}");
        assert!(refusal.message().contains(words), "{shown}: {}", refusal.message());
    }
    assert_eq!(site.registry.files().len(), 1, "{:?}", site.registry.files());
}

//! What a LAN may send by mistake or on purpose: each gets an answer or none, nothing outside the served folders, and the
//! daemons go on as before.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    appliance::{Appliance, DhcpMode},
    child::Program,
};
use bty_tests::{appliance, appliance_with, live, with_logs};

/// What all daemons may have resident together after all that.
const BOUND_BYTES: u64 = 128 << 20;
/// What lies outside of every served folder.
const SECRET: &str = "nobody outside may read this";

/// Runs curl on the server's host and gives its exit code, its output, and what it said.
fn curl(appliance: &Appliance, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = appliance
        .server()
        .program("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--path-as-is"])
        .args(arguments)
        .output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The status code of an HTTP request, and the body.
fn http(appliance: &Appliance, path: &str, more: &[&str]) -> Result<(String, String)> {
    let url = format!("http://10.77.0.1{path}");
    let (code, text) = curl(appliance, &[&["--write-out", "\n%{http_code}", &url], more].concat())?;
    ensure!(code == Some(0), "curl {path} ended with {code:?}: {text}");
    let (body, status) = text.rsplit_once('\n').context("curl says nothing")?;
    Ok((status.to_owned(), body.to_owned()))
}

/// A live system with links out of the served folders, in `folder`.
fn with_links(folder: &Path) -> Result<()> {
    Program::new("cp").args(["-r"]).arg(format!("{}/.", live()?.display())).arg(folder).run()?;
    let boot = folder.join("boot");
    fs::write(folder.join("secret"), SECRET).context("writing the secret")?;
    symlink("../secret", boot.join("link")).context("linking a file")?;
    symlink(folder, boot.join("folder")).context("linking a folder")?;
    symlink("/etc", boot.join("etc")).context("linking /etc")
}

/// An error where a daemon ended or grew beyond the bound.
fn ensure_well(appliance: &Appliance) -> Result<()> {
    let resident = appliance.resident_bytes()?;
    ensure!(resident <= BOUND_BYTES, "the daemons have {resident} bytes resident");
    appliance.btyctl(&["machine", "list"])?;
    ensure!(http(appliance, "/boot/x64/snponly.efi", &["--head"])?.0 == "200");
    Ok(())
}

#[test]
fn nothing_outside_the_served_folders_is_served() -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    with_links(folder.path())?;
    with_logs(appliance_with(DhcpMode::Full, folder.path().to_owned())?, |appliance| {
        for path in [
            "/boot/../secret",
            "/boot/x64/../../secret",
            "/boot/%2e%2e/secret",
            "/boot/..%2fsecret",
            "/boot/%2e%2e%2f%2e%2e%2fsecret",
            "/boot//etc/passwd",
            "/boot/etc/passwd",
            "/boot/link",
            "/boot/folder/secret",
            "/boot/x64/",
            "/boot/x64",
            "/boot/",
            "/boot/snponly.efi%00.txt",
            "/live/../secret",
            "/live/secret",
            "/live/live.json",
            "/images/../bty.db",
            "/images/..%2f..%2fregistry.db",
            "/images/",
            "/secret",
            "/../secret",
            "//etc/passwd",
        ] {
            let (status, body) = http(appliance, path, &[])?;
            ensure!(["400", "404"].contains(&status.as_str()), "{path}: {status} {body}");
            ensure!(!body.contains(SECRET) && !body.contains("root:"), "{path} leads out: {body}");
        }
        for path in [
            "../secret",
            "x64/../../secret",
            "link",
            "folder/secret",
            "etc/passwd",
            "/etc/passwd",
            "x64",
        ] {
            let url = format!("tftp://10.77.0.1/{path}");
            let (code, text) = curl(appliance, &[&url])?;
            // 68: not found; 69: no permission; 71: an illegal operation.
            ensure!(matches!(code, Some(68 | 69 | 71)), "{path}: {code:?} {text}");
            ensure!(text.is_empty(), "{path} leads out: {text}");
        }
        ensure_well(appliance)
    })
}

#[test]
fn requests_that_make_no_sense_are_refused_in_words() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let long = format!("/boot/{}", "a".repeat(5000));
        let header = format!("X-Long: {}", "a".repeat(100_000));
        let mac = "mac=52-54-00-77-00-01";
        let cases: [(&str, &[&str], &[&str]); 11] = [
            ("/boot/script", &[], &["400"]),
            ("/boot/script?mac=rubbish", &[], &["400"]),
            ("/boot/script?mac=ff-ff-ff-ff-ff-ff", &[], &["400"]),
            (&long, &[], &["404", "400", "414"]),
            (&format!("/boot/script?{mac}"), &["--request", "DELETE"], &["405"]),
            (&format!("/boot/script?{mac}"), &["--header", &header], &["431", "400"]),
            ("/boot/x64/snponly.efi", &["--data", "x"], &["405"]),
            ("/boot/x64/snponly.efi", &["--range", "999999999-"], &["416"]),
            ("/boot/x64/snponly.efi", &["--header", "Range: bytes=rubbish"], &["200"]),
            ("/images/blake3:zz", &[], &["404"]),
            ("/no/such/page", &[], &["404"]),
        ];
        for (path, more, wanted) in cases {
            let (status, body) = http(appliance, path, more)?;
            let short: String = path.chars().take(80).collect();
            ensure!(wanted.contains(&status.as_str()), "{short} {more:.60?}: {status} {body}");
        }
        ensure_well(appliance)
    })
}

#[test]
fn bytes_of_any_kind_at_any_port_do_no_harm() -> Result<()> {
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let send = "head -c 60000 /dev/urandom | busybox nc -w 1 10.77.0.1 $1 >/dev/null; :";
        for port in ["80", "443"] {
            for _ in 0..10 {
                appliance.server().program("sh").args(["-c", send, "sh", port]).run()?;
            }
        }
        let flood =
            "for i in $(seq 300); do head -c $((i * 5)) /dev/urandom > /dev/udp/10.77.0.1/$1; done";
        for port in ["67", "69", "4011"] {
            appliance.server().program("bash").args(["-c", flood, "bash", port]).run()?;
        }
        ensure_well(appliance)
    })
}

#[test]
fn imports_that_fail_say_why_and_leave_nothing() -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let write = |name: &str, bytes: &[u8]| -> Result<String> {
        let path = folder.path().join(name);
        fs::write(&path, bytes).context("writing an image")?;
        Ok(path.display().to_string())
    };
    let page = write("page.img.gz", b"<!DOCTYPE html><html>moved</html>")?;
    let cut = write("cut.img.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xed\xc1\x01")?;
    let empty = write("empty.img", b"")?;
    let sectors = write("odd.img", &[0x5a; 1000])?;
    let good = write("good.img", &vec![0x5a; 1 << 20])?;
    let zeros = "0".repeat(64);
    with_logs(appliance(DhcpMode::Full)?, |appliance| {
        let store = appliance.folder().join("state/registry/images");
        let cases: [(&[&str], &str); 8] = [
            (&[&page], "web page"),
            (&[&cut], "cut"),
            (&[&empty], "empty"),
            (&[&sectors], "1000"),
            (&[&good, "--sha256", &zeros], "not the publisher's file"),
            (&[&good, "--sha256", "zz"], "hex"),
            (&["/no/such/file.img"], "/no/such/file.img"),
            (&["http://127.0.0.1:9/image.img"], "127.0.0.1:9"),
        ];
        for (arguments, because) in cases {
            let refused = appliance.btyctl(&[&["image", "import"], arguments].concat());
            let words = refused.err().context("a bad image was taken")?.to_string();
            ensure!(
                words.to_lowercase().contains(&because.to_lowercase()),
                "{arguments:?} should say {because:?}: {words}"
            );
            let left: Vec<_> = fs::read_dir(&store)
                .context("listing the store")?
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .filter(|name| !name.starts_with('.'))
                .collect();
            ensure!(left.is_empty(), "{arguments:?} left {left:?}");
        }
        ensure!(appliance.btyctl(&["image", "list"])?.to_string().len() < 40, "an image is listed");
        appliance.btyctl(&["image", "import", &good, "--name", "good"])?;
        ensure_well(appliance)
    })
}

//! Clients that nobody here wrote.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::server::Server;

/// Around every length that matters; the last two are read as they are sent.
const SIZES: [usize; 10] = [0, 1, 511, 512, 513, 1468, 1468 * 16, 100_000, 5 << 20, (5 << 20) + 7];

fn run(tool: &str, arguments: &[&str], dir: &Path) -> Output {
    let started = Command::new(tool).args(arguments).current_dir(dir).output();
    started.unwrap_or_else(|problem| {
        panic!("{tool}: {problem}; install it with: apt-get install curl busybox tftp-hpa atftp")
    })
}

/// Fetches files of every size with a tool, and compares them.
fn fetches_every_size(tool: &str, arguments: impl Fn(&Server, &str) -> Vec<String>) {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    for size in SIZES {
        let name = format!("file{size}");
        let want = server.write_bytes(&name, size);
        let arguments = arguments(&server, &name);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = run(tool, &arguments, dir.path());
        let got = fs::read(dir.path().join(&name)).unwrap_or_default();
        assert!(got == want, "{tool} {arguments:?}: {} of {size} bytes, {output:?}", got.len());
    }
}

#[test]
fn curl_fetches_files_of_every_size() {
    for block_bytes in ["512", "1428", "8"] {
        fetches_every_size("curl", |server, name| {
            // Small blocks are slow: with them only what is small.
            let small = name.len() < "file1000000".len();
            let block_bytes = if small { block_bytes } else { "1468" };
            let url = format!("tftp://{}/{name}", server.address);
            ["-s", "--tftp-blksize", block_bytes, "-o", name, &url].map(str::to_owned).to_vec()
        });
    }
}

#[test]
fn curl_fetches_without_options() {
    fetches_every_size("curl", |server, name| {
        let url = format!("tftp://{}/{name}", server.address);
        ["-s", "--tftp-no-options", "-o", name, &url].map(str::to_owned).to_vec()
    });
}

#[test]
fn busybox_fetches_files_of_every_size() {
    fetches_every_size("busybox", |server, name| {
        let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
        ["tftp", "-g", "-b", "1468", "-r", name, &host, &port].map(str::to_owned).to_vec()
    });
}

#[test]
fn tftp_hpa_fetches_files_of_every_size() {
    fetches_every_size("tftp", |server, name| {
        let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
        ["-m", "binary", &host, &port, "-c", "get", name].map(str::to_owned).to_vec()
    });
}

#[test]
fn atftp_fetches_files_of_every_size() {
    for window in ["windowsize 1", "windowsize 4", "windowsize 16"] {
        fetches_every_size("atftp", |server, name| {
            let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
            ["--option", "blksize 1468", "--option", window, "-g", "-r", name, &host, &port]
                .map(str::to_owned)
                .to_vec()
        });
    }
}

#[test]
fn curl_is_told_at_once_that_a_file_is_absent() {
    let server = Server::start();
    let url = format!("tftp://{}/absent", server.address);
    let output = run("curl", &["-sS", "-m", "5", &url], &server.root());
    // curl(1): 68 is "File not found on TFTP server".
    assert_eq!(output.status.code(), Some(68), "{output:?}");
}

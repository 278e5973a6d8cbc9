//! TFTP: curl, tftp-hpa, atftp and busybox, with every option that they have, files of 0 to 100 MiB, and more blocks than 16 bits
//! can count.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bty_testkit::{
    Host,
    appliance::{Appliance, ApplianceSpec, DhcpMode},
    daemon,
};
use bty_tests::{content, with_logs};
use tempfile::TempDir;

const SERVER: &str = "10.77.0.1";
/// None, one byte, around a block of 512 and one of 1468, and several of each.
const SMALL: [usize; 9] = [0, 1, 511, 512, 513, 1468, 2 * 1468, 65_536, 300_001];
/// More than 65,535 blocks of 512 bytes.
const WRAPPING: usize = 34 << 20;
const LARGE: usize = 100 << 20;

/// How a client is told to fetch `name` into `into`.
struct Client {
    what: &'static str,
    command: fn(name: &str, into: &str) -> Vec<String>,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Each with blocks of 512 bytes, and with each option that it can ask for.
const CLIENTS: [Client; 10] = [
    Client {
        what: "curl without options",
        command: |name, into| {
            words(&format!("curl -sS --tftp-no-options tftp://{SERVER}/{name} -o {into}"))
        },
    },
    Client {
        what: "curl",
        command: |name, into| words(&format!("curl -sS tftp://{SERVER}/{name} -o {into}")),
    },
    Client {
        what: "curl, blksize 1468",
        command: |name, into| {
            words(&format!("curl -sS --tftp-blksize 1468 tftp://{SERVER}/{name} -o {into}"))
        },
    },
    Client {
        what: "tftp-hpa",
        command: |name, into| words(&format!("tftp -m binary {SERVER} -c get {name} {into}")),
    },
    Client {
        what: "atftp",
        command: |name, into| words(&format!("atftp -g -r {name} -l {into} {SERVER}")),
    },
    Client {
        what: "atftp, tsize, timeout, blksize 1428",
        command: |name, into| {
            [
                words("atftp --option tsize --option"),
                vec!["timeout 3".into(), "--option".into(), "blksize 1428".into()],
                words(&format!("-g -r {name} -l {into} {SERVER}")),
            ]
            .concat()
        },
    },
    Client {
        what: "atftp, windowsize 8",
        command: |name, into| {
            [
                words("atftp --option"),
                vec!["windowsize 8".into(), "--option".into(), "blksize 1468".into()],
                words(&format!("-g -r {name} -l {into} {SERVER}")),
            ]
            .concat()
        },
    },
    Client {
        what: "atftp, windowsize 64, more than is given",
        command: |name, into| {
            [
                words("atftp --option"),
                vec!["windowsize 64".into()],
                words(&format!("-g -r {name} -l {into} {SERVER}")),
            ]
            .concat()
        },
    },
    Client {
        what: "busybox",
        command: |name, into| words(&format!("busybox tftp -g -r {name} -l {into} {SERVER}")),
    },
    Client {
        what: "busybox, blksize 1468",
        command: |name, into| {
            words(&format!("busybox tftp -g -b 1468 -r {name} -l {into} {SERVER}"))
        },
    },
];

#[test]
fn every_client_gets_every_file_whole() -> Result<()> {
    let live = files()?;
    with_logs(appliance(live.path())?, |appliance| {
        let host = appliance.lan().add_host("tftp", "10.77.0.20/24")?;
        let into = appliance.folder().join("fetched");
        for client in CLIENTS {
            // curl with options fails at an empty file, from any server: "getpeername() failed".
            let fails_at_none = client.what == "curl" || client.what.starts_with("curl, ");
            let sizes = SMALL.into_iter().chain([WRAPPING]);
            for size in sizes.filter(|&size| size > 0 || !fails_at_none) {
                fetch(&host, &client, live.path(), size, &into)?;
            }
        }
        for client in CLIENTS.iter().filter(|client| client.what.contains("14")) {
            fetch(&host, client, live.path(), LARGE, &into)?;
        }
        Ok(())
    })
}

#[test]
fn what_is_not_there_is_refused_and_nothing_can_be_written() -> Result<()> {
    let live = files()?;
    with_logs(appliance(live.path())?, |appliance| {
        let host = appliance.lan().add_host("tftp", "10.77.0.20/24")?;
        let into = appliance.folder().join("fetched");
        let refused = |arguments: &str, because: &str| -> Result<()> {
            let arguments = words(arguments);
            let (program, rest) = arguments.split_first().context("no program")?;
            let output =
                host.program(program).args(rest).current_dir(appliance.folder()).output()?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).to_lowercase();
            ensure!(said.contains(because), "{arguments:?} should say {because:?}: {said}");
            Ok(())
        };
        let into = into.display();
        refused(&format!("curl -sS tftp://{SERVER}/absent -o {into}"), "curl: (68)")?;
        refused(&format!("tftp -m binary {SERVER} -c get absent {into}"), "no such file")?;
        refused(&format!("atftp -g -r absent -l {into} {SERVER}"), "no such file")?;
        refused(&format!("busybox tftp -g -r absent -l {into} {SERVER}"), "no such file")?;
        fs::write(appliance.folder().join("mine"), "mine")?;
        refused(&format!("tftp -m binary {SERVER} -c put mine mine"), "read-only")?;
        refused(&format!("atftp -p -l mine -r mine {SERVER}"), "read-only")?;
        ensure!(!live.path().join("boot/mine").exists(), "a client wrote a file");
        Ok(())
    })
}

fn fetch(host: &Host, client: &Client, live: &Path, size: usize, into: &Path) -> Result<()> {
    // Some clients go on in what is there.
    let _ = fs::remove_file(into);
    let arguments = (client.command)(&size.to_string(), into.to_str().context("a path")?);
    let (program, rest) = arguments.split_first().context("no program")?;
    let what = || format!("{} fetching {size} bytes", client.what);
    host.program(program).args(rest).run().with_context(what)?;
    let got = match fs::read(into) {
        // curl makes no file where there is nothing to write.
        Err(_) if size == 0 => Vec::new(),
        got => got.with_context(what)?,
    };
    let wanted = fs::read(live.join("boot").join(size.to_string()))?;
    ensure!(got == wanted, "{}: {} bytes came, or others", what(), got.len());
    Ok(())
}

/// A live system's folder with a file of each size, named by it.
fn files() -> Result<TempDir> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let boot: PathBuf = folder.path().join("boot");
    fs::create_dir(&boot)?;
    fs::write(folder.path().join("initramfs.img"), "none")?;
    for size in SMALL.into_iter().chain([WRAPPING, LARGE]) {
        fs::write(boot.join(size.to_string()), content(size))?;
    }
    Ok(folder)
}

fn appliance(live: &Path) -> Result<Appliance> {
    let usual = ApplianceSpec::new(daemon::binaries()?, live.to_owned(), DhcpMode::Proxy);
    let settings = vec![("tftp", format!("max_file_bytes = {}", 2 * LARGE))];
    Appliance::start(ApplianceSpec { settings, ..usual })
}

//! Fetching a container from servers as they are: cut connections are taken up again, and lies are found out.

use std::{
    fs,
    process::Output,
    time::{Duration, Instant},
};

use bty_testkit::Program;

use crate::{
    disk::{FLASHER, LoopDisk, failure, record, write},
    image::Image,
    server::{Fault, Server},
    tls::Publisher,
};

const MIB: usize = 1 << 20;

fn served(image: &Image) -> Vec<u8> {
    fs::read(image.container().0).unwrap()
}

#[test]
fn an_image_is_fetched_with_few_requests() {
    // So many chunks that their index does not fit into the tail that is fetched first.
    let mut image = Image::new(3 * MIB);
    image.raw.resize(128 * MIB, 0);
    let container = served(&image);
    let server = Server::new(container.clone(), Vec::new());
    let disk = LoopDisk::sparse(128 << 20);
    let record = record(&write(&server.url(), &disk));
    assert_eq!(record["id"], image.id());
    assert!(disk.content().starts_with(&image.raw));
    // Tail, index, twice the first chunk, and what is between holes.
    assert!(server.requests() <= 10, "{} requests", server.requests());
    let fetched = record["fetched_bytes"].as_u64().unwrap();
    assert!(fetched <= u64::try_from(container.len() + 128 * 1024).unwrap(), "{fetched}");
}

#[test]
fn broken_connections_and_a_server_that_restarts_are_survived() {
    let image = Image::new(9 * MIB);
    let faults = vec![
        Fault::Unavailable,
        Fault::Cut(100),
        Fault::None,
        Fault::HangUp,
        Fault::Cut(700_001),
        Fault::Cut(0),
        Fault::Unavailable,
        Fault::Cut(900_000),
    ];
    let server = Server::new(served(&image), faults);
    let disk = LoopDisk::new(16 * MIB, 512);
    let record = record(&write(&server.url(), &disk));
    assert_eq!(record["id"], image.id());
    assert!(disk.content().starts_with(&image.raw));
    assert!(server.requests() > 8, "the faults were not met");
}

#[test]
fn servers_that_can_not_be_used_are_refused_before_anything_is_written() {
    let container = served(&Image::new(2 * MIB));
    for (fault, shown) in [(Fault::NotFound, "404"), (Fault::NoRanges, "does not serve ranges")] {
        let server = Server::new(container.clone(), vec![fault]);
        let disk = LoopDisk::new(4 * MIB, 512);
        let (code, complaint) = failure(&write(&server.url(), &disk));
        assert_eq!(code, Some(7), "{complaint}");
        assert!(complaint.contains(shown) && complaint.contains(&server.url()), "{complaint}");
        disk.assert_untouched();
    }
}

#[test]
fn a_file_that_is_no_container_is_refused_before_anything_is_written() {
    let server = Server::new(Image::new(2 * MIB).raw, Vec::new());
    let disk = LoopDisk::new(4 * MIB, 512);
    let (code, complaint) = failure(&write(&server.url(), &disk));
    assert!(matches!(code, Some(2 | 8)), "{complaint}");
    disk.assert_untouched();
}

#[test]
fn a_server_that_sends_another_range_is_not_believed() {
    let image = Image::new(9 * MIB);
    // The tail holds the whole index, and twice the first chunk is fetched.
    let faults = [Fault::None, Fault::None, Fault::None, Fault::None, Fault::OtherRange];
    let server = Server::new(served(&image), faults.to_vec());
    let disk = LoopDisk::new(16 * MIB, 512);
    let (code, complaint) = failure(&write(&server.url(), &disk));
    assert_eq!(code, Some(7), "{complaint}");
    assert!(complaint.contains("was asked for"), "{complaint}");
    let beginning = disk.content()[..512].to_vec();
    assert!(beginning != image.raw[..512], "it boots");
}

#[test]
fn an_image_that_is_replaced_meanwhile_is_noticed() {
    let (one, other) = (Image::new(9 * MIB), Image::new(10 * MIB));
    for tags in [[Some("\"a\""), Some("\"b\"")], [None, None], [Some("W/\"a\""), Some("W/\"a\"")]] {
        let server = Server::replacing(served(&one), 1, served(&other), tags);
        let disk = LoopDisk::new(16 * MIB, 512);
        let (code, complaint) = failure(&write(&server.url(), &disk));
        assert_eq!(code, Some(7), "{complaint}");
        assert!(complaint.contains("was replaced while it was fetched"), "{complaint}");
        disk.assert_untouched();
    }
}

#[test]
fn a_server_without_strong_tags_is_good_enough() {
    let image = Image::new(3 * MIB);
    let container = served(&image);
    for tags in [[None, None], [Some("W/\"a\""), Some("W/\"a\"")]] {
        let server = Server::replacing(container.clone(), 1, container.clone(), tags);
        let disk = LoopDisk::new(4 * MIB, 512);
        assert_eq!(record(&write(&server.url(), &disk))["id"], image.id());
    }
}

#[test]
fn an_image_comes_by_https_from_where_its_publisher_sends_on_to() {
    let mut image = Image::new(3 * MIB);
    // Data in many places, so that there are many requests.
    for at in (4..24).map(|at| 2 * at * MIB) {
        image.raw.resize(at, 0);
        let start = image.raw[..100_000].to_vec();
        image.raw.extend(start);
    }
    image.raw.resize(64 * MIB, 0);
    let server = Server::new(served(&image), Vec::new());
    let publisher = Publisher::new(server.address());
    let disk = LoopDisk::sparse(64 << 20);
    let output = write_trusting(&publisher, &publisher.url(), &disk);
    let record = record(&output);
    assert_eq!((&record["id"], &record["proved"]), (&image.id().into(), &true.into()));
    assert!(disk.content() == image.raw, "the disk is not the image");
    // The address was found out anew whenever it was good no more, and not for each request.
    let (sent_on, refused) = publisher.counts();
    assert!(refused > 0 && sent_on > 1, "sent on {sent_on} times, refused {refused} times");
    assert!(sent_on < server.requests(), "{sent_on} of {}", server.requests());
    assert_eq!(publisher.told(), 0, "the other address was told the first one's token");

    // A certificate that this machine doesn't take is no reason to ask again and again.
    let asked = Instant::now();
    let other = LoopDisk::new(4 * MIB, 512);
    let (code, complaint) = failure(&write(&publisher.url(), &other));
    assert_eq!(code, Some(7), "{complaint}");
    assert!(complaint.contains("localhost: invalid peer certificate"), "{complaint}");
    assert!(!complaint.contains("tries") && !complaint.contains("secret"), "{complaint}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    other.assert_untouched();
}

#[test]
fn a_server_gets_the_password_with_each_request_and_nobody_is_shown_it() {
    let image = Image::new(9 * MIB);
    let server = Server::new(served(&image), Vec::new());
    let publisher = Publisher::new(server.address());
    let disk = LoopDisk::new(16 * MIB, 512);
    let receipt = tempfile::NamedTempFile::new().unwrap();
    let output = Program::new(FLASHER)
        .args(["write", &publisher.private_url(), disk.node(), "--yes", "--output", "json"])
        .args(["--receipt", receipt.path().to_str().unwrap()])
        .env("SSL_CERT_FILE", publisher.certificate())
        .output()
        .unwrap();
    assert_eq!(record(&output)["id"], image.id());
    assert_eq!(publisher.counts(), (0, 0));
    let receipt = fs::read_to_string(receipt.path()).unwrap();
    let shown = publisher.private_url().replace("me:secret@", "");
    assert!(receipt.contains(&shown) && !receipt.contains("secret"), "{receipt}");

    for url in ["http://me:secret@ADDRESS/x", "ftp://me:secret@ADDRESS/x"] {
        let missing = Server::new(Vec::new(), vec![Fault::NotFound; 4]);
        let disk = LoopDisk::new(4 * MIB, 512);
        let (code, complaint) = failure(&write(&url.replace("ADDRESS", missing.address()), &disk));
        assert!(matches!(code, Some(2 | 7)) && !complaint.contains("secret"), "{complaint}");
        disk.assert_untouched();
    }
}

#[test]
fn a_machine_without_certificates_fetches_by_http() {
    let image = Image::new(2 * MIB);
    let server = Server::new(served(&image), Vec::new());
    let disk = LoopDisk::new(4 * MIB, 512);
    let output = Program::new(FLASHER)
        .args(["write", &server.url(), disk.node(), "--yes", "--output", "json"])
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(record(&output)["id"], image.id());
}

fn write_trusting(publisher: &Publisher, url: &str, disk: &LoopDisk) -> Output {
    Program::new(FLASHER)
        .args(["write", url, disk.node(), "--yes", "--output", "json"])
        .env("SSL_CERT_FILE", publisher.certificate())
        .output()
        .unwrap()
}

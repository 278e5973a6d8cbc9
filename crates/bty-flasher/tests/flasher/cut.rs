//! A flash that is cut off anywhere: what was fetched is not fetched again, and in between the disk doesn't boot.

use std::time::Duration;

use bty_testkit::{child::Program, wait};
use nix::sys::signal::Signal;

use crate::{
    disk::{FLASHER, LoopDisk, record, write},
    image::Image,
    server::Server,
};

const MIB: usize = 1 << 20;
const CUTS: usize = 20;

#[test]
fn a_flash_that_is_killed_anywhere_goes_on_where_it_was() {
    let image = Image::new(100 * MIB);
    let container = std::fs::read(image.container().0).unwrap();
    let whole = LoopDisk::new(104 * MIB, 512);
    let single = record(&write(&Server::new(container.clone(), Vec::new()).url(), &whole));
    let single = usize::try_from(single["fetched_bytes"].as_u64().unwrap()).unwrap();
    for cut in 0..CUTS {
        // Spread over all of it, and at no round place.
        let until = single * (2 * cut + 1) / (2 * CUTS) + cut * 7919;
        let server = Server::new(container.clone(), Vec::new());
        let disk = LoopDisk::new(104 * MIB, 512);
        let log = tempfile::NamedTempFile::new().unwrap();
        let url = server.url();
        let mut writer = Program::new(FLASHER)
            .args(["write", &url, disk.node(), "--yes"])
            .spawn(log.path())
            .unwrap();
        wait::until_true("so many bytes", Duration::from_mins(1), || Ok(server.sent() >= until))
            .unwrap();
        writer.signal(Signal::SIGKILL).unwrap();
        assert!(!writer.wait(Duration::from_mins(1)).unwrap().success(), "it ended too early");
        assert!(disk.content()[..512] != image.raw[..512], "cut {cut}: it boots");
        let again = record(&write(&url, &disk));
        assert_eq!(again["id"], image.id());
        assert_eq!(again["proved"], true);
        assert!(disk.content().starts_with(&image.raw), "cut {cut}");
        let sent = server.sent();
        assert!(
            sent * 10 <= single * 11,
            "cut {cut} at {until}: {sent} sent, {single} are enough; {again}"
        );
    }
}

//! The daemon for docked disks, called over its socket.

use bty_api::{
    connect,
    flasher::v1::{
        ListDisksRequest, WriteDiskRequest, flasher_service_client::FlasherServiceClient,
        write_disk_response::Event,
    },
    status,
};
use bty_testkit::daemon::{Daemon, DaemonSpec};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

use crate::{
    disk::{FLASHER, LoopDisk, text},
    image::Image,
};

const MIB: usize = 1 << 20;

fn start(folder: &TempDir, more: &[&str]) -> Daemon {
    let spec = DaemonSpec::new(FLASHER, folder.path())
        .arg("serve")
        .arg("--state-dir")
        .arg(text(&folder.path().join("state")))
        .arg("--run-dir")
        .arg(text(&folder.path().join("run")));
    more.iter().fold(spec, |spec, word| spec.arg(*word)).start().unwrap()
}

fn client(folder: &TempDir) -> FlasherServiceClient<Channel> {
    FlasherServiceClient::new(connect::unix(connect::socket_path(
        &folder.path().join("run"),
        "flasher",
    )))
}

#[tokio::test]
async fn a_docked_disk_is_written_and_a_wrong_one_refused() {
    let (folder, image) = (tempfile::tempdir().unwrap(), Image::with_table(3 * MIB, 512));
    let daemon = start(&folder, &[]);
    let mut client = client(&folder);
    client.list_disks(ListDisksRequest {}).await.unwrap();

    let disk = LoopDisk::new(8 * MIB, 512);
    let path = image.container().0;
    let request = |disk: &LoopDisk, image_id: String| WriteDiskRequest {
        failing_disk_ok: false,
        image: text(&path).to_owned(),
        image_id,
        disk: format!("path:{}", disk.node()),
        fix_ups: None,
    };
    let mut events = client.write_disk(request(&disk, image.id())).await.unwrap().into_inner();
    let mut record = None;
    while let Some(message) = events.message().await.unwrap() {
        if let Some(Event::Record(last)) = message.event {
            record = Some(last);
        }
    }
    assert_eq!(record.unwrap().proved_id, image.id());
    assert!(disk.content().starts_with(&image.raw));

    let other = Image::new(MIB).id();
    for (disk, id, code, reason) in [
        (LoopDisk::new(2 * MIB, 512), image.id(), Code::FailedPrecondition, "DISK_TOO_SMALL"),
        (LoopDisk::new(4 * MIB, 4096), image.id(), Code::FailedPrecondition, "DISK_SECTOR_SIZE"),
        (LoopDisk::new(4 * MIB, 512), other, Code::DataLoss, "IMAGE_CORRUPT"),
    ] {
        let mut events = client.write_disk(request(&disk, id)).await.unwrap().into_inner();
        let problem = loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was not refused"),
                Err(problem) => break problem,
            }
        };
        assert_eq!((problem.code(), status::reason(&problem).as_str()), (code, reason));
        disk.assert_untouched();
    }
    daemon.stop().unwrap();
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_the_write_and_frees_its_place() {
    let (folder, image) = (tempfile::tempdir().unwrap(), Image::new(3 * MIB));
    let daemon = start(&folder, &["--set", "flasher.max_writes=1"]);
    let mut client = client(&folder);
    // Long enough that it is still being written when the caller is gone.
    let large = folder.path().join("large.img");
    let file = std::fs::File::create(&large).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &image.raw, 0).unwrap();
    file.set_len(8 << 30).unwrap();
    let disk = LoopDisk::sparse(8 << 30);
    let request = |image: &std::path::Path| WriteDiskRequest {
        failing_disk_ok: false,
        image: text(image).to_owned(),
        image_id: String::new(),
        disk: format!("path:{}", disk.node()),
        fix_ups: None,
    };
    let mut events = client.write_disk(request(&large)).await.unwrap().into_inner();
    let writes =
        |event: Option<Event>| matches!(event, Some(Event::Step(step)) if step.name == "write");
    while !writes(events.message().await.unwrap().unwrap().event) {}
    drop(events);
    // With one place, the next write begins when the first has ended; and the disk is free again.
    let path = image.container().0;
    let mut events = client.write_disk(request(&path)).await.unwrap().into_inner();
    let mut is_written = false;
    while let Some(message) = events.message().await.unwrap() {
        is_written = matches!(message.event, Some(Event::Record(_)));
    }
    assert!(is_written);
    daemon.stop().unwrap();
}

//! The agent as the live system starts it: a kernel's command line, a server of plans, a server of images, a disk.

use std::{fs, path::Path, time::Duration};

use bty_api::{
    agent::v1::{
        BootDiskPlan, FlashPlan, HoldPlan, InventoryPlan, check_in_response::Plan,
        finish_request::Outcome,
    },
    types::v1::BootEntry,
};
use bty_testkit::child::{Child, Program};
use tempfile::TempDir;
use tonic::Status;

use crate::{
    disk::{FLASHER, LoopDisk, text},
    image::Image,
    plans::{OVER, Plans},
    server::{Fault, Server},
};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_mins(1);

/// An agent whose kernel was started with this command line. It has no consoles but its standard error.
fn agent(folder: &TempDir, command_line: &str) -> Child {
    let (line, consoles) = (folder.path().join("cmdline"), folder.path().join("consoles"));
    fs::write(&line, command_line).unwrap();
    fs::write(&consoles, "").unwrap();
    let script = "mount --bind \"$1\" /proc/cmdline; for list in /sys/class/tty/console/active /proc/tty/driver/serial; do \
                  [ -e $list ] && mount --bind \"$2\" $list; done; exec \"$3\" agent";
    Program::new("unshare")
        .args(["--mount", "--", "sh", "-c", script, "sh", text(&line), text(&consoles), FLASHER])
        .spawn(&folder.path().join("log"))
        .expect("this test needs unshare (package util-linux) and root")
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap()
}

fn flash_plan(image: &Image, disk: &str) -> FlashPlan {
    FlashPlan {
        run_id: "r1".into(),
        disk: disk.into(),
        image_id: image.id(),
        index_digest: image.container().1.digest().to_string(),
        image_url: "/images/x.img.zst".into(),
        raw_bytes: image.raw.len() as u64,
        sector_bytes: 0,
        image_name: "debian:13".into(),
        // The machine that runs the tests keeps its boot entries.
        boot_entry: BootEntry::Off.into(),
        failing_disk_ok: false,
        fix_ups: None,
    }
}

fn boot_disk() -> Plan {
    Plan::BootDisk(BootDiskPlan { reason: "done".into() })
}

#[test]
fn an_unknown_machine_reports_its_hardware_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let plans = Plans::new(vec![Ok(Plan::Inventory(InventoryPlan { run_id: "r1".into() }))]);
    let mut agent = agent(&folder, &plans.command_line("127.0.0.1"));
    assert!(agent.wait(PATIENCE).unwrap().success(), "{}", log(folder.path()));
    let told = plans.told.lock().unwrap();
    let hardware = told.check_ins[0].hardware.clone().unwrap();
    assert!(hardware.memory_bytes > 0 && hardware.cpu.unwrap().threads > 0);
    assert!(matches!(told.ends[0].outcome, Some(Outcome::Inventoried(_))));
}

#[test]
fn a_machine_is_flashed_though_servers_fail_for_a_while() {
    let (folder, image) = (tempfile::tempdir().unwrap(), Image::new(3 * MIB));
    let disk = LoopDisk::new(8 * MIB, 512);
    let container = fs::read(image.container().0).unwrap();
    let images = Server::new(container, vec![Fault::Unavailable, Fault::None, Fault::Cut(200_000)]);
    let plan = flash_plan(&image, &format!("path:{}", disk.node()));
    let plans = Plans::new(vec![Err(Status::unavailable("starting")), Ok(Plan::Flash(plan))]);
    let mut agent = agent(&folder, &plans.command_line(images.address()));
    assert!(agent.wait(PATIENCE).unwrap().success(), "{}", log(folder.path()));
    assert!(disk.content().starts_with(&image.raw));
    let told = plans.told.lock().unwrap();
    assert_eq!(told.check_ins.len(), 2);
    let Some(Outcome::Flashed(record)) = &told.ends[0].outcome else {
        panic!("{:?}", told.ends[0]);
    };
    assert_eq!(record.proved_id, image.id());
    assert_eq!(told.ends[0].run_id, "r1");
    let last = told.reports.last().unwrap();
    assert_eq!(last.step, "first-chunk");
    assert_eq!(last.disk.as_ref().unwrap().path, disk.node());
    assert!(last.progress.unwrap().percent >= 99, "{last:?}");
    let work = record.work.as_ref().unwrap();
    assert_eq!((work.raw_bytes, work.compare.as_str()), (3 << 20, "auto"));
    assert!(work.retried_requests > 0, "the server cut a connection: {work:?}");
    assert_eq!(work.steps.last().unwrap().name, "first-chunk");
}

#[test]
fn a_wrong_disk_is_reported_with_the_disks_there_are_and_the_machine_waits() {
    let (folder, image) = (tempfile::tempdir().unwrap(), Image::new(3 * MIB));
    let disk = LoopDisk::new(2 * MIB, 512);
    let images = Server::new(fs::read(image.container().0).unwrap(), Vec::new());
    let wait = HoldPlan { reason: "failed; waiting for you".into(), retry_after: None };
    let plans = Plans::new(vec![
        Ok(Plan::Flash(flash_plan(&image, "serial:bty-no-such-serial"))),
        Ok(Plan::Hold(wait)),
        Ok(Plan::Flash(flash_plan(&image, &format!("path:{}", disk.node())))),
        Ok(boot_disk()),
    ]);
    let mut agent = agent(&folder, &plans.command_line(images.address()));
    assert!(agent.wait(PATIENCE).unwrap().success(), "{}", log(folder.path()));
    disk.assert_untouched();
    let told = plans.told.lock().unwrap();
    let failures: Vec<_> = told
        .ends
        .iter()
        .map(|end| match &end.outcome {
            Some(Outcome::Failed(failure)) => failure.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(failures[0].reason, "DISK_ABSENT");
    assert!(failures[0].message.contains("serial:bty-no-such-serial"), "{}", failures[0].message);
    assert!(failures[0].message.contains("this machine"), "{}", failures[0].message);
    assert_eq!(failures[1].reason, "DISK_TOO_SMALL");
    assert!(failures[1].message.contains(disk.node()), "{}", failures[1].message);
    assert!(failures[0].agent_log.contains("debian:13"), "{}", failures[0].agent_log);
    assert!(!failures[0].agent_log.contains(crate::plans::BOOT_TOKEN));
    assert!(log(folder.path()).contains("waiting: failed; waiting for you"));
}

#[test]
fn another_image_than_the_plan_names_is_refused_before_anything_is_written() {
    let (folder, image) = (tempfile::tempdir().unwrap(), Image::new(MIB));
    let disk = LoopDisk::new(2 * MIB, 512);
    let images = Server::new(fs::read(image.container().0).unwrap(), Vec::new());
    let mut plan = flash_plan(&image, &format!("path:{}", disk.node()));
    plan.index_digest = Image::new(MIB + 512).container().1.digest().to_string();
    let plans = Plans::new(vec![Ok(Plan::Flash(plan)), Ok(boot_disk())]);
    let mut agent = agent(&folder, &plans.command_line(images.address()));
    assert!(agent.wait(PATIENCE).unwrap().success(), "{}", log(folder.path()));
    disk.assert_untouched();
    let told = plans.told.lock().unwrap();
    let Some(Outcome::Failed(failure)) = &told.ends[0].outcome else {
        panic!("{:?}", told.ends[0]);
    };
    assert_eq!(failure.reason, "IMAGE_CORRUPT", "{}", failure.message);
}

#[test]
fn a_server_with_another_certificate_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plans = Plans::new(vec![Ok(boot_disk())]);
    let line = plans.command_line_with_pin("127.0.0.1", &"00".repeat(32));
    let mut agent = agent(&folder, &line);
    agent.wait_for_log("another certificate", PATIENCE).unwrap();
    assert_eq!(plans.told.lock().unwrap().check_ins, []);
}

#[test]
fn a_run_that_is_over_when_its_end_is_told_leads_to_another_check_in() {
    let folder = tempfile::tempdir().unwrap();
    let plans = Plans::new(vec![
        Ok(Plan::Inventory(InventoryPlan { run_id: OVER.into() })),
        Ok(boot_disk()),
    ]);
    let mut agent = agent(&folder, &plans.command_line("127.0.0.1"));
    assert!(agent.wait(PATIENCE).unwrap().success(), "{}", log(folder.path()));
    let told = plans.told.lock().unwrap();
    assert_eq!((told.check_ins.len(), told.ends.len()), (2, 1));
}

#[test]
fn a_token_that_is_not_taken_ends_the_agent_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let plans = Plans::new(vec![Err(Status::unauthenticated("the token is too old"))]);
    let mut agent = agent(&folder, &plans.command_line("127.0.0.1"));
    assert!(!agent.wait(PATIENCE).unwrap().success());
    assert!(log(folder.path()).contains("the token is too old"));
}

#[test]
fn a_command_line_without_a_server_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = agent(&folder, "quiet\n");
    assert!(!agent.wait(PATIENCE).unwrap().success());
    assert!(log(folder.path()).contains("bty.server is missing"), "{}", log(folder.path()));
}

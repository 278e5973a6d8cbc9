//! Receipts of flashes: what they say, and that a program that nobody here wrote believes their signatures.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use bty_api::{
    agent::v1::{
        FinishRequest, InventoryDone, ReportProgressRequest, check_in_response::Plan,
        finish_request::Outcome,
    },
    connect,
    registry::v1::{
        FlashRecord, FlashWork, GetReceiptKeyRequest, GetReceiptRequest, GetReceiptResponse,
        GetRunRequest, MachineIntent, RunFailure, RunProgress, StepWork,
        receipt_service_client::ReceiptServiceClient,
    },
    status,
    types::v1::{Action, Disk, Policy},
};
use bty_types::receipt::Receipt;
use tonic::{Code, transport::Channel};

use crate::{
    harness::{MAC, Registry, speaking_for},
    images,
};

fn receipts(registry: &Registry) -> ReceiptServiceClient<Channel> {
    ReceiptServiceClient::new(connect::unix(registry.socket()))
}

async fn receipt(registry: &Registry, run_id: &str) -> Result<GetReceiptResponse, tonic::Status> {
    let request = GetReceiptRequest { run_id: run_id.into() };
    Ok(receipts(registry).get_receipt(request).await?.into_inner())
}

async fn key(registry: &Registry) -> String {
    receipts(registry)
        .get_receipt_key(GetReceiptKeyRequest {})
        .await
        .unwrap()
        .into_inner()
        .public_key
}

fn work() -> FlashWork {
    FlashWork {
        raw_bytes: 1 << 20,
        compared_bytes: 5000,
        right_bytes: 4000,
        refetched_chunks: 1,
        retried_requests: 2,
        compare: "auto".into(),
        verify: "readback".into(),
        holes: "zero".into(),
        choice: "half\u{1b}[2J of it".into(),
        steps: vec![
            StepWork { name: "write".into(), elapsed_ms: 500, bytes: 1_000_000 },
            StepWork { name: "flush".into(), elapsed_ms: 7, bytes: 0 },
        ],
    }
}

fn disk() -> Disk {
    Disk {
        path: "/dev/vda".into(),
        serial: "S1".into(),
        wwn: "0x5000".into(),
        model: "A \"disk\"".into(),
        size_bytes: 1 << 30,
        logical_sector_bytes: 512,
        ..Disk::default()
    }
}

/// A power-on that does its work; gives the run.
async fn power_on(registry: &mut Registry, boot: &str, outcome: Outcome) -> String {
    registry.power_on(MAC, boot).await;
    let run_id = match registry.check_in(MAC, boot).await.unwrap() {
        Plan::Flash(plan) => plan.run_id,
        Plan::Inventory(plan) => plan.run_id,
        other => panic!("no work: {other:?}"),
    };
    let report = ReportProgressRequest {
        run_id: run_id.clone(),
        step: "write".into(),
        done_bytes: 1,
        total_bytes: 2,
        disk: Some(disk()),
        progress: Some(RunProgress { percent: 37, left_ms: Some(9000), ..RunProgress::default() }),
    };
    let reports = tokio_stream::iter([report]);
    registry.agents().report_progress(speaking_for(reports, MAC, boot)).await.unwrap();
    let told = run(registry, &run_id).await.progress.unwrap();
    assert_eq!((told.percent, told.left_ms), (37, Some(9000)));
    let request = FinishRequest { run_id: run_id.clone(), outcome: Some(outcome) };
    registry.agents().finish(speaking_for(request, MAC, boot)).await.unwrap();
    run_id
}

async fn run(registry: &Registry, id: &str) -> bty_api::registry::v1::Run {
    let request = GetRunRequest { id: id.into() };
    registry.runs().get_run(request).await.unwrap().into_inner().run.unwrap()
}

/// A registry with an image and a machine that is to get it at every boot; and the image's id.
async fn lab() -> (Registry, String) {
    let registry = Registry::start("");
    let id = images::put(&registry, 1, "debian:13").await;
    let wish = MachineIntent {
        name: "m1".into(),
        policy: Policy::FlashOnce.into(),
        image: "debian:13".into(),
        disk: "serial:S1".into(),
        ..MachineIntent::default()
    };
    registry.set(MAC, wish).await.unwrap();
    (registry, id.clone())
}

fn flashed(image: &str, work: Option<FlashWork>) -> Outcome {
    Outcome::Flashed(FlashRecord {
        proved_id: image.into(),
        fetched_bytes: 300,
        written_bytes: 600,
        zeroed_bytes: 700,
        elapsed_ms: 1234,
        next_boot: None,
        work,
        fix_ups: Vec::new(),
    })
}

/// Whether minisign takes this receipt; what it says of it.
fn minisign(folder: &Path, receipt: &GetReceiptResponse, key: &str) -> (bool, String) {
    let file = folder.join("receipt.json");
    fs::write(&file, &receipt.document).unwrap();
    fs::write(folder.join("receipt.json.minisig"), &receipt.signature).unwrap();
    fs::write(folder.join("bty.pub"), key).unwrap();
    let output = Command::new("minisign")
        .arg("-Vm")
        .arg(&file)
        .arg("-p")
        .arg(folder.join("bty.pub"))
        .output()
        .unwrap_or_else(|problem| panic!("minisign is needed for this test: {problem}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn a_flash_has_a_receipt_that_says_what_was_done() {
    let (mut registry, image) = lab().await;
    let id = power_on(&mut registry, "b1", flashed(&image, Some(work()))).await;
    let response = receipt(&registry, &id[..id.len() - 1]).await.unwrap();
    assert_eq!(response.run_id, id);
    let body = Receipt::parse(response.document.as_bytes()).unwrap().body;
    assert_eq!(body.run, Some(id.clone()));
    let machine = body.machine.unwrap();
    assert_eq!((machine.mac.to_string().as_str(), machine.name.as_deref()), (MAC, Some("m1")));
    assert_eq!((body.asked.image.as_str(), body.asked.disk.as_str()), ("debian:13", "serial:S1"));
    assert_eq!(body.asked.image_id, body.proved_id);
    assert_eq!(body.proved_id.unwrap().to_string(), image);
    assert!(body.asked.index_digest.unwrap().starts_with("blake3:"));
    assert_eq!(
        [body.asked.compare, body.asked.verify, body.asked.holes],
        ["auto", "readback", "zero"]
    );
    assert_eq!((body.disk.serial.as_str(), body.disk.model.as_str()), ("S1", "A \"disk\""));
    assert_eq!((body.disk.size_bytes, body.disk.sector_bytes), (1 << 30, 512));
    let bytes = body.bytes;
    let moved =
        [bytes.raw, bytes.compared, bytes.right, bytes.fetched, bytes.written, bytes.zeroed];
    assert_eq!(moved, [1 << 20, 5000, 4000, 300, 600, 700]);
    assert_eq!((body.repeated.chunks, body.repeated.requests), (1, 2));
    assert_eq!((body.agent_version.as_str(), body.elapsed_ms), ("0.1.0", 1234));
    assert_eq!(body.steps[0].bytes_per_second, Some(2_000_000));
    assert_eq!((body.steps[1].name.as_str(), body.steps[1].bytes_per_second), ("flush", None));
    assert_eq!(body.choice, "half [2J of it", "nothing in it moves a terminal");
    assert!(body.started_at <= body.ended_at && body.ended_at.ends_with('Z'), "{}", body.ended_at);

    let run = run(&registry, &id).await;
    assert_eq!(run.progress, None, "it is over");
    let kept = run.record.unwrap().work.unwrap();
    assert_eq!((kept.right_bytes, kept.steps.len()), (4000, 2));
}

#[tokio::test]
async fn minisign_takes_a_receipt_and_none_that_was_changed() {
    let (mut registry, image) = lab().await;
    let id = power_on(&mut registry, "b1", flashed(&image, Some(work()))).await;
    let (signed, key) = (receipt(&registry, &id).await.unwrap(), key(&registry).await);
    let folder = tempfile::tempdir().unwrap();
    let (good, said) = minisign(folder.path(), &signed, &key);
    assert!(good && said.contains(&id), "{said}");

    let lie = signed.document.replace("\"serial\": \"S1\"", "\"serial\": \"S2\"");
    assert_ne!(lie, signed.document);
    let of = |document: String, signature: String| GetReceiptResponse {
        document,
        signature,
        ..GetReceiptResponse::default()
    };
    let another = signed.signature.replace(&id, "0000");
    for changed in [of(lie, signed.signature.clone()), of(signed.document.clone(), another)] {
        let (good, said) = minisign(folder.path(), &changed, &key);
        assert!(!good, "{said}");
    }
}

#[tokio::test]
async fn the_key_is_private_and_stays_over_power_cuts() {
    let (mut registry, image) = lab().await;
    let id = power_on(&mut registry, "b1", flashed(&image, Some(work()))).await;
    let before = (receipt(&registry, &id).await.unwrap(), key(&registry).await);
    let file = registry.folder.path().join("state/registry/receipt.key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    registry.kill_and_restart();
    assert_eq!((receipt(&registry, &id).await.unwrap(), key(&registry).await), before);
    registry.rearm(MAC).await;
    let second = power_on(&mut registry, "b2", flashed(&image, Some(work()))).await;
    let folder = tempfile::tempdir().unwrap();
    let signed = receipt(&registry, &second).await.unwrap();
    let (good, said) = minisign(folder.path(), &signed, &before.1);
    assert!(good, "{said}");
    let secret = fs::read_to_string(&file).unwrap();
    let secret = secret.lines().nth(1).unwrap();
    assert!(!registry.log().contains(secret), "the log has the secret key");
}

#[tokio::test]
async fn what_did_not_flash_has_no_receipt() {
    let (mut registry, image) = lab().await;
    let failed = RunFailure { reason: "DISK_ABSENT".into(), ..RunFailure::default() };
    let mut runs = vec![power_on(&mut registry, "b1", Outcome::Failed(failed)).await];
    registry.rearm(MAC).await;
    // As an agent tells it that is older than receipts.
    runs.push(power_on(&mut registry, "b2", flashed(&image, None)).await);
    let wish = MachineIntent { policy: Policy::Inventory.into(), ..MachineIntent::default() };
    registry.set(MAC, wish).await.unwrap();
    assert_eq!(registry.machine(MAC).await.decision.unwrap().action(), Action::Inventory);
    let inventoried = Outcome::Inventoried(InventoryDone {});
    runs.push(power_on(&mut registry, "b3", inventoried).await);
    for id in runs {
        let refused = receipt(&registry, &id).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
        assert_eq!(status::reason(&refused), "NO_RECEIPT");
    }
    assert_eq!(status::reason(&receipt(&registry, "0192").await.unwrap_err()), "RUN_UNKNOWN");
}

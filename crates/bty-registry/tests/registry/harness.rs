//! A registry of its own for each test, in a folder of its own.

use std::{
    fs::{self, File},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use bty_api::{
    agent::v1::{
        CheckInRequest, agent_service_client::AgentServiceClient, check_in_response::Plan,
    },
    connect,
    registry::v1::{
        Contact, GetMachineRequest, Machine, MachineBoot, MachineIntent, ReportContactsRequest,
        UpdateMachineRequest, WatchBootRequest, boot_service_client::BootServiceClient,
        event_service_client::EventServiceClient, image_service_client::ImageServiceClient,
        machine_service_client::MachineServiceClient, run_service_client::RunServiceClient,
        token_service_client::TokenServiceClient,
    },
    types::v1::{Action, BootPath, Disk, Hardware, Stage},
};
use tempfile::TempDir;
use tonic::{Request, Status, transport::Channel};

/// How long anything may take on a machine that does much else.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often it is looked whether something holds.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The machine that most tests are about.
pub(crate) const MAC: &str = "52:54:00:77:00:01";

/// A running registry. Dropping it kills it.
pub(crate) struct Registry {
    pub(crate) folder: TempDir,
    arguments: Vec<String>,
    child: Child,
    pub(crate) ready_after: Duration,
    sequence: u64,
}

impl Registry {
    /// Starts one with an empty database, these settings, and no TCP door but where they open one.
    pub(crate) fn start(settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    /// Starts one in a folder that may hold a database.
    pub(crate) fn start_in(folder: TempDir, settings: &str) -> Self {
        let config = folder.path().join("bty.toml");
        let tcp = if settings.contains("listen_tcp") { "" } else { "listen_tcp = ''\n" };
        fs::write(&config, format!("[registry]\n{tcp}{settings}\n")).unwrap();
        let arguments = vec![
            "--config".to_owned(),
            config.display().to_string(),
            "--state-dir".to_owned(),
            folder.path().join("state").display().to_string(),
            "--run-dir".to_owned(),
            folder.path().join("run").display().to_string(),
        ];
        let (child, ready_after) = spawn(folder.path(), &arguments);
        Self { folder, arguments, child, ready_after, sequence: 0 }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("state/registry/registry.db")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("state/registry/images")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/registry/api.sock")
    }

    /// Kills it as a power cut would, and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Starts it again after it ended.
    pub(crate) fn start_again(&mut self) {
        let (child, ready_after) = spawn(self.folder.path(), &self.arguments);
        self.child = child;
        self.ready_after = ready_after;
    }

    /// Starts it again where it ends by itself.
    pub(crate) fn run_to_its_end(&self) -> ExitStatus {
        let log = File::options().append(true).open(self.folder.path().join("log")).unwrap();
        Command::new(env!("CARGO_BIN_EXE_bty-registry"))
            .args(&self.arguments)
            .env("BTY_LOG__FORMAT", "text")
            .stderr(log)
            .status()
            .unwrap()
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it with SIGTERM. Its clients have a say in that: they must learn that it ends.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let deadline = Instant::now() + DEADLINE;
        loop {
            looks.tick().await;
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the registry does not end: {}", self.log());
        }
    }

    /// Memory that it has resident, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What is in the image store.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn channel(&self) -> Channel {
        connect::unix(self.socket())
    }

    pub(crate) fn machines(&self) -> MachineServiceClient<Channel> {
        MachineServiceClient::new(self.channel())
    }

    pub(crate) fn runs(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel())
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel())
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel())
    }

    pub(crate) fn boots(&self) -> BootServiceClient<Channel> {
        BootServiceClient::new(self.channel())
    }

    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel())
    }

    pub(crate) fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel())
    }

    /// The machine, as it is now.
    pub(crate) async fn machine(&self, called: &str) -> Machine {
        let request = GetMachineRequest { machine: called.into() };
        self.machines().get_machine(request).await.unwrap().into_inner().machine.unwrap()
    }

    /// What the machine does next.
    pub(crate) async fn next(&self, called: &str) -> (Action, String) {
        let decision = self.machine(called).await.decision.unwrap();
        (decision.action(), decision.reason)
    }

    /// What the daemons on the boot path are told of the machine; nothing where the registry doesn't know it.
    pub(crate) async fn boot_of(&self, mac: &str) -> MachineBoot {
        let mut watch = self.boots().watch_boot(WatchBootRequest {}).await.unwrap().into_inner();
        loop {
            let told = watch.message().await.unwrap().unwrap();
            match told.machine {
                Some(machine) if machine.mac == mac => return machine,
                _ if told.snapshot_complete => return MachineBoot::default(),
                _ => {}
            }
        }
    }

    /// Sets what is given of the wish.
    pub(crate) async fn set(&self, called: &str, intent: MachineIntent) -> Result<Machine, Status> {
        let fields = [
            ("name", !intent.name.is_empty()),
            ("policy", intent.policy != 0),
            ("image", !intent.image.is_empty()),
            ("disk", !intent.disk.is_empty()),
            ("boot_entry", intent.boot_entry != 0),
            ("failing_disk_ok", intent.failing_disk_ok),
        ];
        let paths =
            fields.iter().filter(|(_, given)| *given).map(|(name, _)| (*name).to_owned()).collect();
        let request = UpdateMachineRequest {
            machine: called.into(),
            intent: Some(intent),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..UpdateMachineRequest::default()
        };
        let response = self.machines().update_machine(request).await?;
        Ok(response.into_inner().machine.unwrap())
    }

    pub(crate) async fn rearm(&self, called: &str) {
        let request = UpdateMachineRequest {
            machine: called.into(),
            rearm: true,
            ..UpdateMachineRequest::default()
        };
        self.machines().update_machine(request).await.unwrap();
    }

    pub(crate) async fn reset_way(&self, called: &str) {
        let request = UpdateMachineRequest {
            machine: called.into(),
            reset_way: true,
            ..UpdateMachineRequest::default()
        };
        self.machines().update_machine(request).await.unwrap();
    }

    /// The firmware asks the network, as bty-dhcp sees it.
    pub(crate) async fn firmware(&mut self, mac: &str) {
        self.sequence += 1;
        let contact = Contact {
            mac: mac.into(),
            sequence: self.sequence,
            stage: Stage::Firmware.into(),
            path: BootPath::Pxe.into(),
            ..Contact::default()
        };
        let request =
            ReportContactsRequest { reporter: "bty-httpd/1".into(), contacts: vec![contact] };
        self.boots().report_contacts(request).await.unwrap();
    }

    /// A power-on is given a boot script, as bty-httpd does it: what the machine is told.
    pub(crate) async fn power_on(&mut self, mac: &str, boot_id: &str) -> Action {
        let unknown = Action::Inventory;
        let request = GetMachineRequest { machine: mac.into() };
        let action = match self.machines().get_machine(request).await {
            Ok(response) => response.into_inner().machine.unwrap().decision.unwrap().action(),
            Err(_) => unknown,
        };
        self.sequence += 1;
        let contact = Contact {
            mac: mac.into(),
            sequence: self.sequence,
            stage: Stage::Script.into(),
            address: "192.0.2.7".into(),
            path: BootPath::Pxe.into(),
            action: action.into(),
            new_attempt: true,
            boot_id: boot_id.into(),
            ..Contact::default()
        };
        let request =
            ReportContactsRequest { reporter: "bty-httpd/1".into(), contacts: vec![contact] };
        self.boots().report_contacts(request).await.unwrap();
        action
    }

    /// The agent of this boot checks in: its plan.
    pub(crate) async fn check_in(&self, mac: &str, boot_id: &str) -> Result<Plan, Status> {
        self.check_in_with(mac, boot_id, hardware()).await
    }

    /// The same, of a machine with this hardware.
    pub(crate) async fn check_in_with(
        &self,
        mac: &str,
        boot_id: &str,
        hardware: Hardware,
    ) -> Result<Plan, Status> {
        let request = CheckInRequest {
            hardware: Some(hardware),
            agent_version: "0.1.0".into(),
            uptime_seconds: 3.5,
        };
        let response = self.agents().check_in(speaking_for(request, mac, boot_id)).await?;
        Ok(response.into_inner().plan.unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the registry's log:\n{}", self.log());
        }
    }
}

/// A call in the name of a machine, as bty-httpd makes it.
pub(crate) fn speaking_for<T>(message: T, mac: &str, boot_id: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-bty-mac", mac.parse().unwrap());
    request.metadata_mut().insert("x-bty-boot", boot_id.parse().unwrap());
    request
}

/// A machine's hardware.
pub(crate) fn hardware() -> Hardware {
    let disk = Disk {
        path: "/dev/vda".into(),
        serial: "S1".into(),
        size_bytes: 1 << 30,
        logical_sector_bytes: 512,
        ..Disk::default()
    };
    Hardware { disks: vec![disk], memory_bytes: 512 << 20, ..Hardware::default() }
}

fn spawn(folder: &Path, arguments: &[String]) -> (Child, Duration) {
    let notify = folder.join("notify");
    let _ = fs::remove_file(&notify);
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let log = File::options().append(true).create(true).open(folder.join("log")).unwrap();
    let started = Instant::now();
    // Waited for where it ends: by `kill`, `stop`, or when its owner is dropped.
    #[allow(
        clippy::zombie_processes,
        reason = "the caller's drop waits; a panic here ends the test's process"
    )]
    let child = Command::new(env!("CARGO_BIN_EXE_bty-registry"))
        .args(arguments)
        .env("NOTIFY_SOCKET", &notify)
        .env("BTY_LOG__FORMAT", "text")
        .stderr(log)
        .spawn()
        .unwrap();
    let mut message = [0; 4096];
    loop {
        let read = socket.recv(&mut message).unwrap_or_else(|problem| {
            panic!(
                "not ready: {problem}; {}",
                fs::read_to_string(folder.join("log")).unwrap_or_default()
            )
        });
        if String::from_utf8_lossy(&message[..read]).contains("READY=1") {
            return (child, started.elapsed());
        }
    }
}

/// Waits until this holds, and says what did not.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let waiting = async {
        while !holds().await {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "{what} did not come true");
}

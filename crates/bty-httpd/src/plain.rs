//! What is served on port 80.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use axum::{
    Extension, Router,
    extract::{Path, Query as UrlQuery, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bty_api::{
    convert::timestamp,
    registry::v1::{Contact, MachineBoot},
    types::v1::{Action, BootPath, Stage},
};
use bty_service::{BootLink, SteadyClock};
use bty_types::MacAddr;
use uuid::Uuid;

use crate::{
    boot::{
        attempt::{self, Answer, Question},
        grub,
        query::{self, Query, printable},
        script::{self, Live, Target},
        token::{Claims, Key, Purpose},
    },
    files::{self, Folder},
    machines::Machines,
    metrics::{Counters, FileLabels, ScriptLabels, Sockets},
    page,
    serve::Connection,
    settings::Settings,
};

/// What every request can use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) link: BootLink,
    pub(crate) machines: Machines,
    pub(crate) folders: Folders,
    pub(crate) key: Key,
    /// What tokens last by.
    pub(crate) clock: SteadyClock,
    pub(crate) pin: String,
    pub(crate) api_port: u16,
    pub(crate) metrics_from: Vec<IpAddr>,
    pub(crate) sockets: Sockets,
    pub(crate) counters: Counters,
}

/// The folders that files are served from.
#[derive(Debug)]
pub(crate) struct Folders {
    boot: Folder,
    live: Folder,
    images: Folder,
}

impl Folders {
    /// Opens them. One that is absent serves nothing until it is there.
    pub(crate) fn open(settings: &Settings) -> Self {
        Self {
            boot: Folder::new(settings.live_dir.join("boot")),
            live: Folder::new(settings.live_dir.clone()),
            images: Folder::new(settings.image_dir.clone()),
        }
    }
}

/// The routes of port 80.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::machines))
        .route("/api/machines", get(page::machines_json))
        .route("/boot.ipxe", get(first_script))
        .route("/boot/script", get(boot_script))
        .route("/boot/grub", get(grub_script))
        .route("/boot/failed", get(boot_failed))
        .route("/grub/{*path}", get(grub_folder))
        .route("/autoexec.ipxe", get(autoexec))
        .route("/boot/{*path}", get(boot_file))
        .route("/live/{*path}", get(live_file))
        .route("/images/{file}", get(image_file))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

type Asked = Extension<Connection>;

/// The script that is the same for every machine. `via` is bty-dhcp's word for how the firmware came.
async fn first_script(Extension(connection): Asked, UrlQuery(query): UrlQuery<Query>) -> Response {
    script_response(script::first(connection.local, query::via(query.path())))
}

/// What iPXE looks for beside itself when it was loaded over HTTP: nothing else can have loaded it from here.
async fn autoexec(Extension(connection): Asked) -> Response {
    script_response(script::first(connection.local, query::via(BootPath::Http)))
}

/// Where GRUB looks for its configuration and its modules; it has no need of the latter.
async fn grub_folder(
    Extension(connection): Asked,
    Path(path): Path<String>,
    UrlQuery(query): UrlQuery<Query>,
) -> Response {
    if is_named(&path, "grub.cfg") {
        grub_first(&connection, &query)
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// GRUB's first configuration. That which GRUB fetches by TFTP says so; else HTTP Boot has loaded it.
fn grub_first(connection: &Connection, query: &Query) -> Response {
    let path = if query.via.is_empty() { BootPath::Http } else { query.path() };
    script_response(grub::first(connection.local, query::via(path)))
}

fn is_named(path: &str, name: &str) -> bool {
    path.rsplit('/').next() == Some(name)
}

async fn boot_script(shared: State<Arc<Shared>>, asked: Asked, query: UrlQuery<Query>) -> Response {
    answer(&shared, &asked, &query, Program::Ipxe)
}

async fn grub_script(shared: State<Arc<Shared>>, asked: Asked, query: UrlQuery<Query>) -> Response {
    answer(&shared, &asked, &query, Program::Grub)
}

/// The program that asks for a machine's script, and so its language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Ipxe,
    Grub,
}

fn answer(shared: &Shared, connection: &Connection, query: &Query, program: Program) -> Response {
    let mac = match query.mac() {
        Ok(mac) => mac,
        Err(problem) => return refuse(&problem.to_string()),
    };
    let now = SystemTime::now();
    let path = query.path();
    let asked = shared.decide(mac, Question { path, is_first: query.is_first() }, now);
    let boot_id = Uuid::now_v7();
    let claims = Claims::new(Purpose::Boot, mac, boot_id, connection.peer.ip(), shared.clock.now());
    let boot_id = boot_id.to_string();
    let token = claims.seal(&shared.key);
    let target = Target {
        mac,
        via: query::via(path),
        platform: query.platform(),
        cpu: query.cpu(),
        server: connection.local,
        other_exit: shared.link.way(mac).other_exit,
    };
    let live = shared.live(token, boot_id.clone(), &asked);
    let text = script(program, &target, &asked.answer, &live);
    shared.record(mac, path, &asked, connection.peer.ip(), boot_id, now);
    script_response(text)
}

/// The script for what was decided.
pub(crate) fn script(program: Program, target: &Target, answer: &Answer, live: &Live) -> String {
    let reason = &answer.reason;
    match (answer.action, program) {
        (Action::Local, Program::Ipxe) => script::local(target, reason),
        (Action::Local, Program::Grub) => grub::local(target, reason),
        (Action::Flash | Action::Inventory, Program::Ipxe) => script::live(target, reason, live),
        (Action::Flash | Action::Inventory, Program::Grub) => grub::live(target, reason, live),
        (Action::Hold | Action::Unspecified, Program::Ipxe) => script::hold(target, reason),
        (Action::Hold | Action::Unspecified, Program::Grub) => grub::hold(target, reason),
    }
}

/// What is told to one request.
pub(crate) struct Decided {
    pub(crate) answer: Answer,
    /// What was known of the machine; absent while the registry has not been heard of.
    known: Option<MachineBoot>,
}

impl Shared {
    /// What a machine that asks now is told.
    pub(crate) fn decide(&self, mac: MacAddr, question: Question, now: SystemTime) -> Decided {
        let known = self.link.machine(mac).map(|machine| (*machine).clone()).or_else(|| {
            let action = self.link.unknown_action()?;
            let reason = "the machine is new".to_owned();
            Some(MachineBoot {
                mac: mac.to_string(),
                action: action.into(),
                reason,
                ..Default::default()
            })
        });
        let answer = if let Some(machine) = &known {
            attempt::answer(machine, question, now)
        } else {
            let starting = MachineBoot {
                action: Action::Hold.into(),
                reason: "the registry has not been heard of since this server started".into(),
                ..Default::default()
            };
            attempt::answer(&starting, question, now)
        };
        Decided { answer, known }
    }

    /// What the live system of one boot needs to know.
    pub(crate) fn live(&self, token: String, boot_id: String, decided: &Decided) -> Live {
        let known = decided.known.as_ref();
        let modules = known.map(|known| known.live_modules.clone()).unwrap_or_default();
        Live { api_port: self.api_port, pin: self.pin.clone(), token, boot_id, modules }
    }

    fn record(
        &self,
        mac: MacAddr,
        path: BootPath,
        decided: &Decided,
        peer: IpAddr,
        boot_id: String,
        now: SystemTime,
    ) {
        let answer = &decided.answer;
        let action = answer.action;
        let label = word(action);
        self.counters.scripts.get_or_create(&ScriptLabels { action: label }).inc();
        if let Some(known) = &decided.known {
            let remembered = MachineBoot { attempt: Some(answer.attempt.clone()), ..known.clone() };
            self.link.remember(mac, remembered);
        }
        tracing::info!(%mac, %peer, action = label, reason = answer.reason, "a boot script was served");
        self.link.report(Contact {
            mac: mac.to_string(),
            at: Some(timestamp(now)),
            stage: Stage::Script.into(),
            address: peer.to_canonical().to_string(),
            path: path.into(),
            action: action.into(),
            new_attempt: answer.new_attempt,
            boot_id,
            detail: answer.reason.clone(),
            ..Default::default()
        });
    }

    /// Reports that a machine fetched something; a URL without a MAC address is somebody else's request.
    fn seen(&self, query: &Query, stage: Stage, peer: IpAddr) {
        let Ok(mac) = query.mac() else { return };
        self.link.report(Contact {
            mac: mac.to_string(),
            at: Some(timestamp(SystemTime::now())),
            stage: stage.into(),
            address: peer.to_canonical().to_string(),
            boot_id: printable(&query.boot, 64),
            ..Default::default()
        });
    }
}

/// An action as logs and metrics call it.
const fn word(action: Action) -> &'static str {
    match action {
        Action::Local => "local",
        Action::Flash => "flash",
        Action::Inventory => "inventory",
        Action::Hold => "hold",
        Action::Unspecified => "unknown",
    }
}

/// The live system could not start its agent and says why, by the only means it has.
async fn boot_failed(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Asked,
    UrlQuery(query): UrlQuery<Query>,
) -> Response {
    let mac = match query.mac() {
        Ok(mac) => mac,
        Err(problem) => return refuse(&problem.to_string()),
    };
    let detail = format!("{}: {}", printable(&query.stage, 64), printable(&query.reason, 500));
    tracing::warn!(%mac, detail, "a live system failed before its agent started");
    shared.link.report(Contact {
        mac: mac.to_string(),
        at: Some(timestamp(SystemTime::now())),
        stage: Stage::Initramfs.into(),
        address: connection.peer.ip().to_canonical().to_string(),
        boot_id: printable(&query.boot, 64),
        detail,
        failed: true,
        ..Default::default()
    });
    StatusCode::NO_CONTENT.into_response()
}

async fn boot_file(
    State(shared): State<Arc<Shared>>,
    connection: Asked,
    Path(path): Path<String>,
    UrlQuery(query): UrlQuery<Query>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if is_named(&path, "autoexec.ipxe") {
        return autoexec(connection).await;
    }
    if is_named(&path, "grub.cfg") {
        return grub_first(&connection, &query);
    }
    shared.counters.files.get_or_create(&FileLabels { folder: "boot" }).inc();
    files::serve(&shared.folders.boot, &by_slashes(&path), &method, &headers).await
}

/// A path as a boot program may ask for it: shim of 2025 puts what it is to start, `/grubx64.efi`, behind the folder that it came from.
fn by_slashes(path: &str) -> String {
    let parts: Vec<&str> = path.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

async fn live_file(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Asked,
    Path(path): Path<String>,
    UrlQuery(query): UrlQuery<Query>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let stage = match path.as_str() {
        "vmlinuz" | "arm64/vmlinuz" => Stage::Kernel,
        "initramfs.img" | "arm64/initramfs.img" => Stage::Initramfs,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    if method == Method::GET {
        shared.seen(&query, stage, connection.peer.ip());
    }
    shared.counters.files.get_or_create(&FileLabels { folder: "live" }).inc();
    let folder = &shared.folders.live;
    if stage == Stage::Initramfs
        && let Some(modules) = query.modules()
    {
        let parts = initramfs_parts(&path, &modules);
        // A live system that was replaced meanwhile may have others: then all go along.
        if let Some(response) = files::serve_joined(folder, parts, &method).await {
            return response;
        }
    }
    files::serve(folder, &path, &method, &headers).await
}

/// What an initramfs with these modules is made of: archives that the kernel unpacks one after the other.
fn initramfs_parts(path: &str, modules: &[&str]) -> Vec<String> {
    let folder = path.strip_suffix("initramfs.img").unwrap_or_default();
    // The unpacked ones first: behind a packed one the kernel takes no other.
    let drivers = modules.iter().map(|name| format!("{folder}modules/{name}.img"));
    drivers.chain([format!("{folder}base.img")]).collect()
}

async fn image_file(
    State(shared): State<Arc<Shared>>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // What the store is still writing has another ending.
    if !file.ends_with(".img.zst") {
        return StatusCode::NOT_FOUND.into_response();
    }
    shared.counters.files.get_or_create(&FileLabels { folder: "images" }).inc();
    files::serve(&shared.folders.images, &file, &method, &headers).await
}

async fn metrics(State(shared): State<Arc<Shared>>, Extension(connection): Asked) -> Response {
    let peer = connection.peer.ip().to_canonical();
    if !shared.metrics_from.contains(&peer) {
        let why =
            format!("metrics are not for {peer}; add it to metrics_from in the section [httpd]\n");
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.sockets.gather().await).into_response()
}

fn script_response(script: String) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (headers, script).into_response()
}

fn refuse(problem: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shim_asks_for_is_found() {
        for (asked, want) in [
            ("x64//grubx64.efi", "x64/grubx64.efi"),
            ("x64/\\grubx64.efi", "x64/grubx64.efi"),
            ("x64/snponly.efi", "x64/snponly.efi"),
            ("x64//../../etc/passwd", "x64/../../etc/passwd"),
        ] {
            assert_eq!(by_slashes(asked), want);
        }
    }
}

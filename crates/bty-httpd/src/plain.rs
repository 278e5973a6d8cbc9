//! What is served on port 80.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

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
use bty_service::BootLink;
use bty_types::MacAddr;
use uuid::Uuid;

use crate::{
    boot::{
        attempt::{self, Answer, Question},
        query::{self, Platform, Query, printable},
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
        .route("/boot/failed", get(boot_failed))
        .route("/autoexec.ipxe", get(autoexec))
        .route("/boot/{*path}", get(boot_file))
        .route("/live/{file}", get(live_file))
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

async fn boot_script(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Asked,
    UrlQuery(query): UrlQuery<Query>,
) -> Response {
    let mac = match query.mac() {
        Ok(mac) => mac,
        Err(problem) => return refuse(&problem.to_string()),
    };
    let now = SystemTime::now();
    let path = query.path();
    let asked = shared.decide(mac, Question { path, is_first: query.is_first() }, now);
    let boot_id = Uuid::now_v7();
    let claims = Claims::new(Purpose::Boot, mac, boot_id, connection.peer.ip(), now);
    let boot_id = boot_id.to_string();
    let token = claims.seal(&shared.key);
    let text =
        shared.script(mac, path, query.platform(), connection.local, &asked, &token, &boot_id);
    shared.record(mac, path, &asked, connection.peer.ip(), boot_id, now);
    script_response(text)
}

/// What is told to one request.
pub(crate) struct Decided {
    answer: Answer,
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

    /// The script for what was decided.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is one fact of the request; a struct would name them once more"
    )]
    pub(crate) fn script(
        &self,
        mac: MacAddr,
        path: BootPath,
        platform: Platform,
        server: SocketAddr,
        decided: &Decided,
        token: &str,
        boot_id: &str,
    ) -> String {
        let target = Target { mac, via: query::via(path), platform, server };
        let reason = &decided.answer.reason;
        match decided.answer.action {
            Action::Local => script::local(&target, reason),
            Action::Flash | Action::Inventory => {
                let live = Live {
                    api_port: self.api_port,
                    pin: self.pin.clone(),
                    token: token.to_owned(),
                    boot_id: boot_id.to_owned(),
                };
                script::live(&target, reason, &live)
            }
            Action::Hold | Action::Unspecified => script::hold(&target, reason),
        }
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
    method: Method,
    headers: HeaderMap,
) -> Response {
    if path.rsplit('/').next() == Some("autoexec.ipxe") {
        return autoexec(connection).await;
    }
    shared.counters.files.get_or_create(&FileLabels { folder: "boot" }).inc();
    files::serve(&shared.folders.boot, &path, &method, &headers).await
}

async fn live_file(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Asked,
    Path(file): Path<String>,
    UrlQuery(query): UrlQuery<Query>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let stage = match file.as_str() {
        "vmlinuz" => Stage::Kernel,
        "initramfs.img" => Stage::Initramfs,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    if method == Method::GET {
        shared.seen(&query, stage, connection.peer.ip());
    }
    shared.counters.files.get_or_create(&FileLabels { folder: "live" }).inc();
    files::serve(&shared.folders.live, &file, &method, &headers).await
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

//! One plain page with the machines and how they do, and the JSON it reads.

use std::{sync::Arc, time::SystemTime};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bty_api::{
    convert::system_time,
    registry::v1::Machine,
    types::v1::{Action, Policy, Stage},
};
use serde::Serialize;

use crate::plain::Shared;

const PAGE: &str = include_str!("../assets/machines.html");
/// Nothing but what the page brings itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(crate) async fn machines() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, PAGE).into_response()
}

/// What the page shows.
#[derive(Debug, Serialize)]
struct Shown {
    /// Whether the registry is there, so that this is now and not some time ago.
    current: bool,
    machines: Vec<Row>,
}

/// One machine.
#[derive(Debug, Serialize)]
struct Row {
    mac: String,
    name: String,
    address: String,
    policy: String,
    image: String,
    disk: String,
    next: String,
    reason: String,
    stage: String,
    /// Seconds since it came to this stage.
    stage_age: Option<u64>,
    progress: Option<u32>,
    held: String,
    flashed: String,
}

/// The machines as JSON.
pub(crate) async fn machines_json(State(shared): State<Arc<Shared>>) -> Response {
    let (machines, current) = shared.machines.all();
    let now = SystemTime::now();
    let shown =
        Shown { current, machines: machines.iter().map(|machine| row(machine, now)).collect() };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    match serde_json::to_vec(&shown) {
        Ok(json) => (headers, json).into_response(),
        Err(problem) => {
            tracing::error!(err = %problem, "writing the machines as JSON failed");
            http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn row(machine: &Machine, now: SystemTime) -> Row {
    let intent = machine.intent.clone().unwrap_or_default();
    let observed = machine.observed.clone().unwrap_or_default();
    let decision = machine.decision.clone().unwrap_or_default();
    let since = system_time(observed.stage_at.as_ref()).and_then(|at| now.duration_since(at).ok());
    Row {
        mac: machine.mac.clone(),
        policy: word::<Policy>(intent.policy, "POLICY_"),
        name: intent.name,
        address: observed.address.clone(),
        image: intent.image,
        disk: intent.disk,
        next: word::<Action>(decision.action, "ACTION_"),
        reason: decision.reason,
        stage: word::<Stage>(observed.stage, "STAGE_"),
        stage_age: since.map(|since| since.as_secs()),
        progress: observed.progress_percent,
        held: observed.held_reason,
        flashed: observed.flashed_image.trim_start_matches("blake3:").chars().take(12).collect(),
    }
}

/// A contract enum's name as people read it: `FLASH_ONCE` becomes `flash-once`; empty where it isn't given.
fn word<E: TryFrom<i32> + Named>(value: i32, prefix: &str) -> String {
    let name = E::try_from(value).map_or("", |value| value.name());
    match name.trim_start_matches(prefix) {
        "UNSPECIFIED" => String::new(),
        word => word.to_ascii_lowercase().replace('_', "-"),
    }
}

trait Named {
    fn name(&self) -> &'static str;
}

macro_rules! named {
    ($($kind:ty),*) => { $(impl Named for $kind { fn name(&self) -> &'static str { self.as_str_name() } })* };
}
named!(Action, Policy, Stage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_what_people_type() {
        assert_eq!(word::<Policy>(Policy::FlashOnce.into(), "POLICY_"), "flash-once");
        assert_eq!(word::<Stage>(Stage::Unspecified.into(), "STAGE_"), "");
        assert_eq!(word::<Stage>(999, "STAGE_"), "");
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for foreign in ["http://", "https://", "//cdn", "@import", "<link", "<img"] {
            assert!(!PAGE.contains(foreign), "the page has {foreign:?}");
        }
    }
}

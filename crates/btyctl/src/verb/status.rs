//! `btyctl status`.

use bty_api::admin::v1::{
    GetStatusRequest, GetStatusResponse, admin_service_client::AdminServiceClient,
};
use bty_types::ErrorKind;

use crate::{
    connection::Connection,
    failure::Failure,
    output::{Output, ago, bytes, table},
};

/// The daemons of an appliance; bty-flasher and bty-runner run only where they are wanted.
const DAEMONS: [&str; 4] = ["registry", "dhcp", "tftp", "httpd"];
const EXTRAS: [&str; 1] = ["flasher"];

pub(crate) async fn run(connection: &Connection, output: Output) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut missing = Vec::new();
    for daemon in DAEMONS.iter().chain(&EXTRAS) {
        let mut client = AdminServiceClient::new(connection.local(daemon)?);
        match client.get_status(GetStatusRequest {}).await {
            Ok(status) => answers.push(status.into_inner()),
            Err(_) if EXTRAS.contains(daemon) => {}
            Err(problem) => missing.push((*daemon, Failure::from(problem))),
        }
    }
    if output.is_json() {
        answers.iter().try_for_each(|status| output.show_next(status, |_| String::new()))?;
    } else {
        let shown =
            table(["DAEMON", "VERSION", "SINCE", "MEMORY", "STATUS"], answers.iter().map(row));
        output.show_next(&GetStatusResponse::default(), |_| shown)?;
    }
    let Some((_, first)) = missing.first() else { return Ok(()) };
    for (daemon, failure) in &missing {
        eprint!("bty-{daemon}: ");
        failure.show();
    }
    let names: Vec<&str> = missing.iter().map(|(daemon, _)| *daemon).collect();
    let kind =
        if first.kind() == ErrorKind::Denied { ErrorKind::Denied } else { ErrorKind::Unavailable };
    Err(Failure::new(kind, format!("not every daemon answers: {}", names.join(", "))))
}

fn row(status: &GetStatusResponse) -> [String; 5] {
    [
        status.daemon.clone(),
        status.version.clone(),
        ago(status.started_at.as_ref()),
        bytes(status.resident_bytes),
        if status.ready { status.status.clone() } else { format!("not ready: {}", status.status) },
    ]
}

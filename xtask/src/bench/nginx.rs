//! nginx, the peer of everything that goes over HTTP.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use bty_testkit::{Host, child::Child, wait};

/// Starts one worker on a server's host that serves `folder` at this port, with more lines for its server; on this core alone,
/// where one is named.
pub(super) fn start(
    server: &Host,
    folder: &Path,
    port: u16,
    lines: &str,
    core: Option<&str>,
) -> Result<Child> {
    let at = folder.display();
    let configuration = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx-error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; sendfile on; tcp_nopush on;\n\
         client_body_temp_path {at}; proxy_temp_path {at}; fastcgi_temp_path {at}; uwsgi_temp_path {at};\n\
         scgi_temp_path {at}; server {{ listen 10.77.0.1:{port}; root {at}; {lines} }} }}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration).context("writing nginx.conf")?;
    let program = match core {
        Some(core) => server.program("taskset").args(["-c", core, "nginx"]),
        None => server.program("nginx"),
    };
    let nginx = program.arg("-c").arg(&file).spawn(&folder.join("nginx.log"))?;
    let url = format!("http://10.77.0.1:{port}/nginx.conf");
    wait::until_true("nginx to answer", Duration::from_secs(10), || {
        Ok(server.program("curl").args(["-sf", &url]).output()?.status.success())
    })?;
    Ok(nginx)
}

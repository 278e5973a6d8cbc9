//! A gRPC client in another language that was never told the contract.

use std::{env, path::Path};

use anyhow::{Context, Result};
use bty_testkit::appliance::{DhcpMode, text};
use bty_tests::{appliance, with_logs};

#[test]
fn pythons_grpc_does_everything_by_reflection() -> Result<()> {
    let python = env::var_os("BTY_PYTHON")
        .context("BTY_PYTHON names no Python with grpcio: run this by cargo xtask test")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("system/foreign_client.py");
    with_logs(appliance(DhcpMode::Proxy)?, |appliance| {
        let made = appliance.btyctl(&["token", "create", "foreign", "--role", "operator"])?;
        let token = text(&made, "/secret")?;
        let said = appliance
            .server()
            .program(&python)
            .arg(&script)
            .args(["127.0.0.1:7600", &token])
            .run()?;
        anyhow::ensure!(said.contains("the foreign client is content"), "it said: {said}");
        // Bytes that are no HTTP/2 close their own connection, and nothing else.
        for _ in 0..20 {
            appliance
                .server()
                .program("sh")
                .args(["-c", "head -c 100000 /dev/urandom | busybox nc -w 1 127.0.0.1 7600 || :"])
                .run()?;
        }
        appliance.btyctl(&["machine", "show", "foreign"]).map(drop)
    })
}

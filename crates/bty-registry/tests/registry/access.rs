//! Who may call what, at both doors.

use std::{
    net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
    time::Duration,
};

use bty_api::{
    connect,
    registry::v1::{
        CreateTokenRequest, ListMachinesRequest, ListTokensRequest, RevokeTokenRequest, Role,
        UpdateMachineRequest, WatchBootRequest, boot_service_client::BootServiceClient,
        machine_service_client::MachineServiceClient, token_service_client::TokenServiceClient,
    },
};
use tonic::{Code, Request, transport::Endpoint};

use crate::harness::{MAC, Registry, eventually};

fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn tokens_open_the_tcp_door_as_far_as_their_role() {
    let port = free_port();
    let mut registry = Registry::start(&format!("listen_tcp = '127.0.0.1:{port}'"));
    let create = |name: &str, role: Role, lifetime: Option<Duration>| CreateTokenRequest {
        name: name.into(),
        role: role.into(),
        lifetime: lifetime.map(|lifetime| lifetime.try_into().unwrap()),
    };
    let mut tokens = registry.tokens();
    let mut secret = async |name: &str, role, lifetime| {
        tokens.create_token(create(name, role, lifetime)).await.unwrap().into_inner().secret
    };
    let viewer = secret("viewer", Role::Viewer, None).await;
    let operator = secret("operator", Role::Operator, Some(Duration::from_hours(1))).await;
    let admin = secret("admin", Role::Admin, None).await;
    let brief = secret("brief", Role::Viewer, Some(Duration::from_millis(1))).await;

    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let channel = endpoint.connect_lazy();
    let mut machines = MachineServiceClient::new(channel.clone());
    let list = ListMachinesRequest::default;
    let refusal = machines.list_machines(list()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    let refusal = machines.list_machines(bearing(list(), "bty_0123")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    for token in [&viewer, &operator, &admin] {
        machines.list_machines(bearing(list(), token)).await.unwrap();
    }
    eventually("the end of a brief token", async || {
        let mut machines = MachineServiceClient::new(channel.clone());
        machines.list_machines(bearing(list(), &brief)).await.is_err()
    })
    .await;
    let update = || UpdateMachineRequest { machine: MAC.into(), ..UpdateMachineRequest::default() };
    let refusal = machines.update_machine(bearing(update(), &viewer)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    machines.update_machine(bearing(update(), &operator)).await.unwrap();

    let mut by_tcp = TokenServiceClient::new(channel.clone());
    let refusal = by_tcp.list_tokens(bearing(ListTokensRequest {}, &operator)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    let listed =
        by_tcp.list_tokens(bearing(ListTokensRequest {}, &admin)).await.unwrap().into_inner();
    let names: Vec<_> = listed.tokens.iter().map(|token| token.name.as_str()).collect();
    assert_eq!(names, ["admin", "brief", "operator", "viewer"]);
    assert!(listed.tokens.iter().any(|token| token.last_used_at.is_some()));
    let again =
        registry.tokens().create_token(create("admin", Role::Admin, None)).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);

    by_tcp
        .revoke_token(bearing(RevokeTokenRequest { name: "viewer".into() }, &admin))
        .await
        .unwrap();
    let refusal = machines.list_machines(bearing(list(), &viewer)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated, "revoked at once");
    registry.kill_and_restart();
    eventually("an answer after the restart", async || {
        let mut machines = MachineServiceClient::new(channel.clone());
        machines.list_machines(bearing(list(), &admin)).await.is_ok()
    })
    .await;
    let database = std::fs::read(registry.database()).unwrap();
    let hex = admin.trim_start_matches("bty_").as_bytes();
    assert!(!database.windows(hex.len()).any(|window| window == hex), "secrets are not stored");
}

/// This test's program once more, as another user: `acts_as_another_user` in it.
fn as_user(user: &str, socket: &Path, wants: &str) {
    let user = nix::unistd::User::from_name(user).unwrap().unwrap();
    // The folder of the target may not be another user's to enter: it runs from a copy.
    let program = socket.parent().unwrap().join("client");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    std::os::unix::process::CommandExt::uid(&mut command, user.uid.as_raw())
        .args(["--exact", "access::callers_get_what_they_want_of_the_socket_in_their_environment"])
        .env("BTY_TEST_SOCKET", socket)
        .env("BTY_TEST_WANTS", wants);
    // A program that another test starts at this moment has the copy open for writing until it runs (ETXTBSY).
    let status = loop {
        match command.status() {
            Err(problem) if problem.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            ended => break ended.unwrap(),
        }
    };
    assert!(status.success(), "{}: {status}", user.name);
}

/// Run by [`as_user`] as another user; by itself it asks for nothing at a socket of its own, and gets nothing.
#[tokio::test]
async fn callers_get_what_they_want_of_the_socket_in_their_environment() {
    let socket =
        std::env::var("BTY_TEST_SOCKET").unwrap_or_else(|_| "/nonexistent/bty.sock".into());
    let wants =
        std::env::var("BTY_TEST_WANTS").unwrap_or_else(|_| "Unavailable Unavailable".into());
    let channel = connect::unix(&socket);
    let boot = BootServiceClient::new(channel.clone()).watch_boot(WatchBootRequest {}).await;
    let machines =
        MachineServiceClient::new(channel).list_machines(ListMachinesRequest::default()).await;
    let code =
        |code: Option<Code>| code.map_or_else(|| "Ok".to_owned(), |code| format!("{code:?}"));
    let got = format!(
        "{} {}",
        code(boot.err().map(|status| status.code())),
        code(machines.err().map(|status| status.code()))
    );
    assert_eq!(got, wants);
}

#[tokio::test]
async fn the_kernel_says_who_calls_at_the_unix_door() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "this test acts as other users: run it as root"
    );
    // Users of every Debian stand for the daemons'.
    let registry = Registry::start(
        "operators_group = 'games'\nusers = { dhcp = 'daemon', httpd = 'www-data' }",
    );
    let socket = registry.socket();
    for folder in
        [registry.folder.path(), &registry.folder.path().join("run"), socket.parent().unwrap()]
    {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    as_user("daemon", &socket, "Ok PermissionDenied");
    as_user("www-data", &socket, "Ok Ok");
    as_user("games", &socket, "PermissionDenied Ok");
    as_user("nobody", &socket, "PermissionDenied PermissionDenied");
}

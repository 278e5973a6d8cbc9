//! What a client gets over a real connection: the file's bytes, whatever happens to the file, the client or the server meanwhile.

use std::{
    cell::RefCell,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, Method},
    routing::any,
};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{cached::is_cached, pieces::PIECE_BYTES};
use crate::{
    files::{Folder, serve, serve_joined},
    serve::session,
};

/// Nothing here takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than a connection has under way, so that a server must wait for its client.
const LARGE_BYTES: u64 = 64 << 20;

/// The server's loop over a folder, on loopback.
struct Server {
    dir: TempDir,
    address: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        // On a disk: what lies in a file system in memory is never read in.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let folder = Folder::new(dir.path().to_owned());
        let answer = move |Path(path): Path<String>, method: Method, headers: HeaderMap| {
            let folder = folder.clone();
            async move {
                if path.contains('+') {
                    let parts = path.split('+').map(str::to_owned).collect();
                    return serve_joined(&folder, parts, &method).await.expect("all parts");
                }
                serve(&folder, &path, &method, &headers).await
            }
        };
        let router = Router::new().route("/{file}", any(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, peer) = accepted.unwrap();
                        sessions.spawn(session(stream, peer, None, router.clone(), stop.clone()));
                    }
                    () = stop.cancelled() => break,
                }
            }
            while sessions.join_next().await.is_some() {}
        });
        Self { dir, address, shutdown, running }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A large file without content.
    fn write_large(&self, name: &str) -> File {
        let file = File::create(self.path(name)).unwrap();
        file.set_len(LARGE_BYTES).unwrap();
        file
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap() }
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn send(&mut self, method: &str, file: &str, headers: &str) {
        let request = format!("{method} /{file} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// A response's head.
    async fn head(&mut self) -> Head {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(timeout(PATIENCE, self.stream.read_u8()).await.expect("a head").unwrap());
        }
        Head(String::from_utf8(text).unwrap())
    }

    async fn read(&mut self, bytes: u64) -> Vec<u8> {
        let mut body = vec![0; usize::try_from(bytes).unwrap()];
        timeout(PATIENCE, self.stream.read_exact(&mut body)).await.expect("a body").unwrap();
        body
    }

    /// What comes until the server ends the connection.
    async fn rest(&mut self) -> u64 {
        let mut buffer = vec![0; 1 << 16];
        let mut came = 0;
        loop {
            match timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("an end") {
                Ok(0) | Err(_) => return came,
                Ok(read) => came += read as u64,
            }
        }
    }

    async fn get(&mut self, file: &str, headers: &str) -> (Head, Vec<u8>) {
        self.send("GET", file, headers).await;
        let head = self.head().await;
        let body = self.read(head.length()).await;
        (head, body)
    }
}

#[derive(Debug)]
struct Head(String);

impl Head {
    fn status(&self) -> &str {
        self.0.split(' ').nth(1).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    fn length(&self) -> u64 {
        self.header("Content-Length").parse().unwrap()
    }
}

fn content(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from((at + seed) * 31 % 251).unwrap()).collect()
}

#[test]
fn any_range_gives_the_files_bytes() {
    let want = content(3 * PIECE_BYTES + 17, 0);
    let size = want.len();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (server, client) = runtime.block_on(async {
        let server = Server::start().await;
        server.write("a", &want);
        let client = RefCell::new(server.connect().await);
        (server, client)
    });
    let config = ProptestConfig::with_cases(256);
    proptest!(config, |(first in 0..size, length in prop_oneof![1..3000_usize, 1..=size])| {
        let end = size.min(first + length);
        let range = format!("Range: bytes={first}-{}\r\n", first + length - 1);
        let (head, body) = runtime.block_on(client.borrow_mut().get("a", &range));
        prop_assert_eq!(head.status(), "206");
        prop_assert_eq!(head.header("Content-Range"), format!("bytes {first}-{}/{size}", end - 1));
        prop_assert!(body == want[first..end], "other bytes than the file has");
    });
    drop(server);
}

#[tokio::test]
async fn one_connection_carries_files_heads_and_errors_in_their_order() {
    let server = Server::start().await;
    let (large, small) = (content(2 * PIECE_BYTES + 5, 0), content(600, 7));
    server.write("large", &large);
    server.write("small", &small);
    server.write("empty", b"");
    let mut client = server.connect().await;
    // All asked before the first is answered.
    for (method, file) in
        [("GET", "large"), ("HEAD", "large"), ("GET", "none"), ("GET", "empty"), ("GET", "small")]
    {
        client.send(method, file, "").await;
    }
    let head = client.head().await;
    assert_eq!((head.status(), head.length()), ("200", large.len() as u64));
    assert!(client.read(head.length()).await == large, "other bytes than the file has");
    let head = client.head().await;
    assert_eq!((head.status(), head.length()), ("200", large.len() as u64));
    let head = client.head().await;
    assert_eq!(
        (head.status(), client.read(head.length()).await),
        ("404", b"no such file\n".into())
    );
    let head = client.head().await;
    assert_eq!((head.status(), head.length()), ("200", 0));
    let head = client.head().await;
    assert_eq!((head.status(), client.read(head.length()).await), ("200", small));
}

#[tokio::test]
async fn http2_gets_the_same_bytes() {
    let server = Server::start().await;
    let want = content(3 * PIECE_BYTES + 17, 0);
    server.write("a", &want);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://x/a").body(Empty::<bytes::Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    let body = timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
    assert!(body.to_bytes() == want, "other bytes than the file has");
    drop(sender);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_that_becomes_shorter_ends_its_connection_early() {
    let server = Server::start().await;
    let file = server.write_large("a");
    let mut client = server.connect().await;
    client.send("GET", "a", "").await;
    let head = client.head().await;
    assert_eq!(head.length(), LARGE_BYTES);
    client.read(PIECE_BYTES as u64).await;
    file.set_len(1).unwrap();
    let came = client.rest().await;
    assert!(came < LARGE_BYTES - PIECE_BYTES as u64, "a short body must not look complete");
    // The others are served as ever.
    let (head, body) = server.connect().await.get("a", "").await;
    assert_eq!((head.status(), body), ("200", vec![0]));
}

#[tokio::test]
async fn a_replaced_file_ends_as_it_began_and_is_not_resumed() {
    let server = Server::start().await;
    let (old, new) = (content(40 << 20, 0), content(40 << 20, 1));
    server.write("a", &old);
    let mut client = server.connect().await;
    client.send("GET", "a", "").await;
    let head = client.head().await;
    let began = client.read(100).await;
    server.write("new", &new);
    fs::rename(server.path("new"), server.path("a")).unwrap();
    let ended = client.read(head.length() - 100).await;
    assert!(began == old[..100] && ended == old[100..], "bytes of another file");
    let resume = format!("Range: bytes=100-\r\nIf-Range: {}\r\n", head.header("Etag"));
    let (head, body) = client.get("a", &resume).await;
    assert_eq!(head.status(), "200");
    assert!(body == new, "not the new file from its start");
    let resume = format!("Range: bytes=100-\r\nIf-Range: {}\r\n", head.header("Etag"));
    let (head, body) = client.get("a", &resume).await;
    assert_eq!(head.status(), "206");
    assert!(body == new[100..], "not the new file's rest");
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_nobody_up_and_gets_all_in_the_end() {
    // All on one thread: whoever waits there lets everybody wait.
    let server = Server::start().await;
    server.write_large("a");
    let mut slow = server.connect().await;
    slow.send("GET", "a", "").await;
    let head = slow.head().await;
    let mut quick = server.connect().await;
    quick.send("GET", "a", "Connection: close\r\n").await;
    quick.head().await;
    assert_eq!(quick.rest().await, LARGE_BYTES);
    slow.read(head.length()).await;
    let (again, _) = slow.get("a", "Range: bytes=0-9\r\n").await;
    assert_eq!(again.status(), "206");
}

#[tokio::test]
async fn a_shutdown_lets_a_transfer_end() {
    let server = Server::start().await;
    server.write_large("a");
    let mut client = server.connect().await;
    client.send("GET", "a", "").await;
    client.head().await;
    server.shutdown.cancel();
    assert_eq!(client.rest().await, LARGE_BYTES);
    timeout(PATIENCE, server.running).await.expect("all sessions to end").unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_in_memory_is_sent_as_well() {
    let server = Server::start().await;
    let want = content(5 * PIECE_BYTES + 17, 0);
    server.write("a", &want);
    let file = File::options().write(true).open(server.path("a")).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let file = File::open(server.path("a")).unwrap();
    assert!(!is_cached(&file, 0..want.len() as u64), "it is in memory still");
    let (_, body) = server.connect().await.get("a", "").await;
    assert!(body == want, "other bytes than the file has");
}

#[tokio::test]
async fn several_files_are_sent_as_one() {
    let server = Server::start().await;
    let (a, b) = (content(2 * PIECE_BYTES + 17, 0), content(5, 3));
    server.write("a", &a);
    server.write("empty", b"");
    server.write("b", &b);
    let mut client = server.connect().await;
    for _ in 0..2 {
        let (_, body) = client.get("empty+b+a+empty+b", "").await;
        assert!(body == [&b[..], &a, &b].concat(), "other bytes than the files have");
    }
}

#[test]
fn a_thousand_clients_that_take_nothing_cost_little_memory() {
    // In a process of its own: beside others, it would measure theirs.
    const ALONE: &str = "BTY_TEST_ALONE";
    let name = "direct::tests::a_thousand_clients_that_take_nothing_cost_little_memory";
    if std::env::var_os(ALONE).is_none() {
        let test = std::env::current_exe().unwrap();
        let alone = Command::new(test).args(["--exact", name]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        take_nothing("a").await;
        take_nothing("b+a").await;
    });
}

async fn take_nothing(file: &str) {
    const CLIENTS: usize = 1000;
    // For each: both ends, the server's second handle of its end, and the file.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let server = Server::start().await;
    server.write_large("a");
    server.write("b", b"");
    let before = resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.connect().await;
        client.send("GET", file, "").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.head().await.length(), LARGE_BYTES);
    }
    let each = resident_bytes().saturating_sub(before) / CLIENTS as u64;
    assert!(each < PIECE_BYTES as u64 / 2, "{each} bytes for each client");
    let last = clients.last_mut().unwrap();
    assert!(last.read(LARGE_BYTES).await.iter().all(|&byte| byte == 0));
}

#[tokio::test]
async fn little_is_under_way_to_ipxe() {
    let server = Server::start().await;
    server.write_large("a");
    let mut under_way = Vec::new();
    for agent in ["iPXE/1.21.1+", "curl/8.14.1"] {
        let mut client = server.connect().await;
        client.send("GET", "a", &format!("User-Agent: {agent}\r\n")).await;
        let head = client.head().await;
        client.read(PIECE_BYTES as u64).await;
        under_way.push(settled_queue(&client).await);
        client.read(head.length() - PIECE_BYTES as u64).await;
    }
    let [ipxe, curl] = under_way[..] else { panic!("two clients") };
    assert!(ipxe <= 2 * 64 * 1024, "{ipxe} bytes are under way to iPXE");
    assert!(curl > ipxe, "{curl} bytes are under way to a client with much memory");
}

/// Bytes that the server has given to the kernel and the client has no place for, when that doesn't change any more.
async fn settled_queue(client: &Client) -> u64 {
    let port = client.stream.local_addr().unwrap().port();
    let (mut last, mut looks) = (0, 0);
    timeout(PATIENCE, async {
        while looks < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = send_queue(port);
            looks = if now == last && now > 0 { looks + 1 } else { 0 };
            last = now;
        }
    })
    .await
    .expect("a queue that fills");
    last
}

/// The queue of the socket whose other end has this port (`tx_queue` of proc(5)'s /proc/net/tcp).
fn send_queue(port: u16) -> u64 {
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = sockets.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let mut ours = rows.filter(|row| row[2].ends_with(&format!(":{port:04X}")) && row[3] == "01");
    let queues = ours.next().expect("the server's socket")[4];
    u64::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

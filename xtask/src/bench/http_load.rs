//! An HTTP client that only counts: what the servers are compared by. The kernel throws the bodies away for it (`MSG_TRUNC`, tcp(7)),
//! so that the server is what is measured.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::net::{RecvFlags, recv};

/// A server that sends nothing for so long has hung.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_HEAD_BYTES: usize = 16 * 1024;

/// `cargo xtask http-load`: what the benchmark runs on a host of its own.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LoadArgs {
    /// The server and its port.
    server: SocketAddr,
    /// The file, from its slash.
    path: String,
    /// Clients at the same time, each with one connection.
    #[arg(long, default_value_t = 1)]
    clients: u64,
    /// What each client fetches, in bytes.
    #[arg(long)]
    bytes: u64,
    /// Fetch it in parts of so many bytes, each client its own share of the
    /// file, and not as a whole file.
    #[arg(long)]
    part_bytes: Option<u64>,
}

/// Prints bytes that came to all clients together, and the seconds that it took.
pub(crate) fn run(args: &LoadArgs) -> Result<()> {
    let started = Instant::now();
    let clients: Vec<_> = (0..args.clients)
        .map(|number| (number, args.clone()))
        .map(|(number, args)| thread::spawn(move || fetch(&args, number)))
        .collect();
    let mut bytes = 0;
    for client in clients {
        bytes += client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    println!("{bytes} {}", started.elapsed().as_secs_f64());
    Ok(())
}

fn fetch(args: &LoadArgs, number: u64) -> Result<u64> {
    let mut stream = TcpStream::connect(args.server).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 1 << 20];
    let Some(part_bytes) = args.part_bytes else {
        return body(&mut stream, args, "", &mut buffer);
    };
    let first = number * args.bytes;
    let mut fetched = 0;
    while fetched < args.bytes {
        let at = first + fetched;
        let last = at + part_bytes.min(args.bytes - fetched) - 1;
        let range = format!("Range: bytes={at}-{last}\r\n");
        let came = body(&mut stream, args, &range, &mut buffer)?;
        ensure!(came == last + 1 - at, "{came} bytes came for {range}");
        fetched += came;
    }
    Ok(fetched)
}

/// Asks, and counts what comes.
fn body(stream: &mut TcpStream, args: &LoadArgs, range: &str, buffer: &mut [u8]) -> Result<u64> {
    let (path, server) = (&args.path, args.server);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n{range}\r\n").as_bytes())?;
    let mut filled = 0;
    let (head, body_start) = loop {
        let room = buffer.get_mut(filled..MOST_HEAD_BYTES).unwrap_or_default();
        let read = stream.read(room).context("reading a head")?;
        ensure!(read > 0, "{server} ended a response's head");
        filled += read;
        let text = buffer.get(..filled).unwrap_or_default();
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = text.get(..end).unwrap_or_default();
            break (String::from_utf8_lossy(head).to_lowercase(), end + 4);
        }
    };
    let status = if range.is_empty() { "http/1.1 200" } else { "http/1.1 206" };
    ensure!(head.starts_with(status), "{server} says: {head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: u64 = length.context("no content-length")?.trim().parse()?;
    let mut came = (filled - body_start) as u64;
    while came < length {
        let most = usize::try_from(length - came)?.min(buffer.len());
        let room = buffer.get_mut(..most).unwrap_or_default();
        let (_, read) = recv(&*stream, room, RecvFlags::TRUNC).context("reading a body")?;
        ensure!(read > 0, "{server} ended a body after {came} of {length} bytes");
        came += read as u64;
    }
    Ok(came)
}

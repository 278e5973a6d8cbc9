//! A TFTP client that only counts: what the servers are compared by.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// Before a client says again what it has.
const PATIENCE: Duration = Duration::from_millis(500);
const MOST_SILENCES: u32 = 20;

/// `cargo xtask tftp-load`: what the benchmark runs on a host of its own.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LoadArgs {
    /// The server and its port.
    server: SocketAddr,
    /// The file.
    file: String,
    /// Clients at the same time.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Bytes in a block (RFC 2348).
    #[arg(long, default_value_t = 1468)]
    blksize: u16,
    /// Blocks in a window (RFC 7440).
    #[arg(long, default_value_t = 1)]
    windowsize: u16,
}

/// Prints bytes that came to all clients together, and the seconds that it took.
pub(crate) fn run(args: &LoadArgs) -> Result<()> {
    let started = Instant::now();
    let clients: Vec<_> = (0..args.clients)
        .map(|_| args.clone())
        .map(|args| thread::spawn(move || fetch(&args)))
        .collect();
    let mut bytes = 0;
    for client in clients {
        bytes += client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    println!("{bytes} {}", started.elapsed().as_secs_f64());
    Ok(())
}

fn fetch(args: &LoadArgs) -> Result<u64> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("opening a socket")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = b"\0\x01".to_vec();
    let (blksize, windowsize) = (args.blksize.to_string(), args.windowsize.to_string());
    let options = ["blksize", &blksize, "windowsize", &windowsize];
    let fields = [args.file.as_str(), "octet"].into_iter();
    let asked =
        if args.windowsize > 1 { &options[..] } else { options.get(..2).unwrap_or_default() };
    for field in fields.chain(asked.iter().copied()) {
        request.extend(field.as_bytes());
        request.push(0);
    }
    let mut last_said = request;
    let mut peer = args.server;
    socket.send_to(&last_said, peer)?;
    let mut datagram = vec![0; usize::from(args.blksize) + 4];
    let (mut bytes, mut have, mut in_window, mut silences) = (0_u64, 0_u16, 0_u16, 0);
    let mut window = 1;
    loop {
        let Ok((size, from)) = socket.recv_from(&mut datagram) else {
            silences += 1;
            ensure!(silences < MOST_SILENCES, "{} says nothing any more", args.server);
            socket.send_to(&last_said, peer)?;
            continue;
        };
        silences = 0;
        peer = from;
        let [_, code, high, low, data @ ..] = datagram.get(..size).unwrap_or_default() else {
            bail!("{from} sent {size} bytes")
        };
        let mut is_last = false;
        match code {
            3 if u16::from_be_bytes([*high, *low]) == have.wrapping_add(1) => {
                have = have.wrapping_add(1);
                bytes += data.len() as u64;
                in_window += 1;
                is_last = data.len() < usize::from(args.blksize);
                if in_window < window && !is_last {
                    continue;
                }
            }
            // A server need not know of windows.
            6 => window = if names(data, *high, *low, "windowsize") { args.windowsize } else { 1 },
            // A block that was lost before, or one that came twice.
            3 => {}
            _ => bail!("{from} refuses: {}", String::from_utf8_lossy(data)),
        }
        in_window = 0;
        let [high, low] = have.to_be_bytes();
        last_said = vec![0, 4, high, low];
        socket.send_to(&last_said, peer)?;
        if is_last {
            return Ok(bytes);
        }
    }
}

/// Whether an option is among those that the server agreed to; of their bytes, two were taken off already.
fn names(rest: &[u8], first: u8, second: u8, option: &str) -> bool {
    let text = [&[first, second], rest].concat();
    text.split(|byte| *byte == 0).any(|part| part.eq_ignore_ascii_case(option.as_bytes()))
}

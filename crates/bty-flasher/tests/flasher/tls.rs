//! A server as many publishers have one: a name, https, and an address that sends on to another, which is good for a few requests only.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use tempfile::TempDir;

/// For how many requests an address is good that one was sent to.
const GOOD_FOR: usize = 3;

/// https before a [`crate::server::Server`].
pub(crate) struct Publisher {
    port: u16,
    folder: TempDir,
    state: Arc<State>,
}

struct State {
    backend: String,
    port: u16,
    config: Arc<ServerConfig>,
    sent_on: AtomicUsize,
    /// Requests for which the other address is still good.
    left: AtomicUsize,
    refused: AtomicUsize,
    /// Requests that said where they came from.
    told: AtomicUsize,
}

impl Publisher {
    /// Of what the server at this address has.
    pub(crate) fn new(backend: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        fs::write(folder.path().join("cert.pem"), own.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let state = Arc::new(State {
            backend: backend.to_owned(),
            port,
            config: Arc::new(config),
            sent_on: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.answer(stream));
            }
        });
        Self { port, folder, state }
    }

    /// Where the file is published.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/latest/x.img.zst?token=secret", self.port)
    }

    /// Where it is for user `me` with the password `secret`.
    pub(crate) fn private_url(&self) -> String {
        format!("https://me:secret@localhost:{}/private/x.img.zst", self.port)
    }

    /// How many requests said where they came from.
    pub(crate) fn told(&self) -> usize {
        self.state.told.load(Ordering::Relaxed)
    }

    /// The file with the certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// How often it sent on to another address, and how often that one refused since it was good no more.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.state.sent_on), count(&self.state.refused))
    }
}

impl State {
    fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let session = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(session, stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let mut stream = stream.into_inner();
        let head = head.to_ascii_lowercase();
        self.told.fetch_add(usize::from(head.contains("referer:")), Ordering::Relaxed);
        let is_private = head.starts_with("get /private/");
        if is_private && !head.contains("authorization: basic bwu6c2vjcmv0") {
            self.refused.fetch_add(1, Ordering::Relaxed);
            write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )?;
        } else if head.starts_with("get /latest/") {
            self.sent_on.fetch_add(1, Ordering::Relaxed);
            self.left.store(GOOD_FOR, Ordering::Relaxed);
            write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: https://localhost:{}/images/x.img.zst?sig=secret\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                self.port
            )?;
        } else if !is_private
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err()
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
            write!(
                stream,
                "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )?;
        } else {
            let mut backend = TcpStream::connect(&self.backend)?;
            backend.write_all(head.as_bytes())?;
            let mut piece = vec![0; 1 << 16];
            while let count @ 1.. = backend.read(&mut piece)? {
                stream.write_all(&piece[..count])?;
            }
        }
        stream.conn.send_close_notify();
        stream.flush()
    }
}

//! Log records as the journal takes them, in its native protocol (systemd.io, "Native Journal Protocol").
//!
//! Each field of a record is a field of the journal, for programs; and all of them stand in the message too, since `journalctl`
//! shows a person nothing else. (tracing-journald leaves them out of the message: "a file could not be read", and not which.)

use std::{
    fmt::{Debug, Write as _},
    io,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest text that is kept of a field or the message, in bytes: a record must fit in a datagram.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Sends what is logged to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    program: String,
    /// Records that found no room, since that was said last.
    lost: AtomicU64,
}

impl Journal {
    /// To the journal of this machine, in the name of `program`.
    pub(super) fn connect(program: &str) -> io::Result<Self> {
        Self::connect_to(Path::new(SOCKET), program)
    }

    fn connect_to(path: &Path, program: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A journal that is busy must not stop a daemon: what it has no room for is lost, and counted.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, program: program.to_owned(), lost: AtomicU64::new(0) })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !self.send(Level::WARN, module_path!(), &Record::of_lost(lost)) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        let mut record = Record::default();
        event.record(&mut record);
        let metadata = event.metadata();
        if !self.send(*metadata.level(), metadata.target(), &record) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Journal {
    /// Whether the journal has it.
    fn send(&self, level: Level, target: &str, record: &Record) -> bool {
        let mut fields = record.fields.clone();
        put(&mut fields, "PRIORITY", priority(level));
        put(&mut fields, "SYSLOG_IDENTIFIER", &self.program);
        put(&mut fields, "TARGET", target);
        put(&mut fields, "MESSAGE", &format!("{}{}", record.message, record.details));
        self.socket.send(&fields).is_ok()
    }
}

/// The syslog severity of a level (RFC 5424 6.2.1).
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// A record on its way: fields as the journal takes them, and the text that a person sees.
#[derive(Debug, Default)]
struct Record {
    fields: Vec<u8>,
    message: String,
    details: String,
}

impl Record {
    fn of_lost(records: u64) -> Self {
        let message = format!("{records} log lines were lost: the journal took none");
        Self { message, ..Self::default() }
    }

    fn text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            text.clone_into(&mut self.message);
            return;
        }
        // The journal takes upper case, digits and underscores, and no leading underscore.
        let name: String = field
            .name()
            .chars()
            .map(|sign| if sign.is_ascii_alphanumeric() { sign.to_ascii_uppercase() } else { '_' })
            .collect();
        put(&mut self.fields, &format!("F_{name}"), text);
        let _ = write!(self.details, " {}={text}", field.name());
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // What comes from the LAN must not look like other fields to a person.
        match field.name() {
            "message" => self.text(field, value),
            _ if value.contains(char::is_whitespace) || value.is_empty() => {
                self.text(field, &format!("{value:?}"));
            }
            _ => self.text(field, value),
        }
    }
}

/// Appends a field: with its length before it, so that it may hold line ends.
fn put(fields: &mut Vec<u8>, name: &str, text: &str) {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    fields.extend_from_slice(name.as_bytes());
    fields.push(b'\n');
    fields.extend_from_slice(&(kept.len() as u64).to_le_bytes());
    fields.extend_from_slice(kept.as_bytes());
    fields.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The fields of a datagram, as systemd's own reader takes them apart.
    fn parse(mut datagram: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while let Some(end) = datagram.iter().position(|&byte| byte == b'\n') {
            let name = String::from_utf8(datagram[..end].to_vec()).unwrap();
            let size: [u8; 8] = datagram[end + 1..end + 9].try_into().unwrap();
            let size = usize::try_from(u64::from_le_bytes(size)).unwrap();
            let text = datagram[end + 9..end + 9 + size].to_vec();
            assert_eq!(datagram[end + 9 + size], b'\n');
            fields.insert(name, String::from_utf8(text).unwrap());
            datagram = &datagram[end + 10 + size..];
        }
        fields
    }

    fn logged(log: impl FnOnce()) -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect_to(&path, "bty-test").unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), log);
        let mut datagram = vec![0; 1 << 17];
        let size = listener.recv(&mut datagram).unwrap();
        parse(&datagram[..size])
    }

    #[test]
    fn the_message_says_everything_and_each_field_stands_alone() {
        let fields = logged(|| {
            tracing::warn!(mac = %"52:54:00:77:00:01", why = "two words", count = 3, "it\nwaits");
        });
        assert_eq!(fields["MESSAGE"], "it\nwaits mac=52:54:00:77:00:01 why=\"two words\" count=3");
        assert_eq!(fields["F_MAC"], "52:54:00:77:00:01");
        assert_eq!(fields["F_COUNT"], "3");
        assert_eq!(
            (fields["PRIORITY"].as_str(), fields["SYSLOG_IDENTIFIER"].as_str()),
            ("4", "bty-test")
        );
    }

    #[test]
    fn what_a_busy_journal_had_no_room_for_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let journal = Journal::connect_to(&path, "bty-test").unwrap();
        let subscriber = tracing_subscriber::registry().with(journal);
        let mut messages = Vec::new();
        tracing::subscriber::with_default(subscriber, || {
            (0..5000).for_each(|number| tracing::info!("{number}"));
            let mut datagram = vec![0; 1 << 12];
            let mut read = || {
                while let Ok(size) = listener.recv(&mut datagram) {
                    messages.push(parse(&datagram[..size])["MESSAGE"].clone());
                }
            };
            read();
            tracing::info!("the end");
            read();
        });
        let [.., lost, end] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(end, "the end");
        let want =
            format!("{} log lines were lost: the journal took none", 5000 - (messages.len() - 2));
        assert_eq!(*lost, want);
    }

    #[test]
    fn a_text_without_end_is_cut_at_a_character() {
        let fields = logged(|| tracing::info!(text = "ä".repeat(100_000), "long"));
        assert!(fields["MESSAGE"].len() <= MAX_TEXT_BYTES);
        assert!(fields["F_TEXT"].len() <= MAX_TEXT_BYTES);
    }
}

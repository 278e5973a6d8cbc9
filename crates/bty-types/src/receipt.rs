//! The receipt of a flash: what was asked, on which disk it was done, what it took, and what it proved.
//!
//! A JSON document; `docs/format/receipt.md` says what each field means. The order of the fields is that of these types, and the
//! document's exact bytes are what is signed: it is written once and kept as it is.

use serde::{Deserialize, Serialize};

use crate::{ImageId, MacAddr};

/// What `format` says.
const FORMAT: &str = "bty-flash-receipt";
/// The newest version that this program reads, and the one that it writes. Fields may be added without a new one.
const VERSION: u32 = 1;
/// A document that is larger is none: those that are made have some thousand bytes.
const MOST_BYTES: usize = 1 << 20;

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    format: String,
    version: u32,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
}

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The run; none where no appliance asked for it.
    pub run: Option<String>,
    /// The version of the program that wrote the disk.
    pub agent_version: String,
    /// The machine; none where no appliance asked for it.
    pub machine: Option<Machine>,
    /// When it began and ended, as RFC 3339 has it, in UTC.
    pub started_at: String,
    /// See `started_at`.
    pub ended_at: String,
    /// What was asked for.
    pub asked: Asked,
    /// The disk that was written.
    pub disk: Disk,
    /// The id of the image that the disk was proved to hold: each of its bytes was read from the disk. None where nothing was proved.
    pub proved_id: Option<ImageId>,
    /// What became of the image's bytes.
    pub bytes: Bytes,
    /// What went wrong and was put right.
    pub repeated: Repeated,
    /// Whether the disk was compared, and why, in words.
    pub choice: String,
    /// From the gate to the proof, in milliseconds.
    pub elapsed_ms: u64,
    /// What each step took, in order.
    pub steps: Vec<Step>,
    /// What was to be changed on the disk after the proof, in order: where one was done, the disk is not the image in that any more.
    #[serde(default)]
    pub fix_ups: Vec<FixUp>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its name; none where it has none.
    pub name: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The image as it was named.
    pub image: String,
    /// The image's id; none where it was not known beforehand.
    pub image_id: Option<ImageId>,
    /// The digest of the image's chunk index, `blake3:HEX`; none where it was not known beforehand.
    pub index_digest: Option<String>,
    /// The disk as it was named.
    pub disk: String,
    /// `auto`, `on` or `off`.
    pub compare: String,
    /// `readback` or `stream`.
    pub verify: String,
    /// `zero`, `discard` or `keep`.
    pub holes: String,
}

/// A disk; what it doesn't state is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its node, such as `/dev/sda`.
    pub path: String,
    /// Its serial number.
    pub serial: String,
    /// Its World Wide Name.
    pub wwn: String,
    /// Its model.
    pub model: String,
    /// Its size.
    pub size_bytes: u64,
    /// Bytes of a logical sector.
    pub sector_bytes: u32,
}

/// What became of the image's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Of the raw disk.
    pub raw: u64,
    /// Read from the disk to compare them.
    pub compared: u64,
    /// That the disk held already.
    pub right: u64,
    /// That came from the source.
    pub fetched: u64,
    /// Written to the disk.
    pub written: u64,
    /// Made zero by the device.
    pub zeroed: u64,
}

/// What went wrong and was put right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// Chunks that came wrong, and were fetched again.
    pub chunks: u64,
    /// Requests to the source that failed, and were made again.
    pub requests: u64,
}

/// What a step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
    /// Bytes done in it; 0 where it isn't counted in bytes.
    pub bytes: u64,
    /// Bytes a second; none where it isn't counted in bytes or was too short to tell.
    pub bytes_per_second: Option<u64>,
}

/// What became of a change of the disk after the proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixUp {
    /// Its name, such as `grow-partition`.
    pub name: String,
    /// `done`, `not-needed` or `failed`; `unknown` where the agent said none of these.
    pub outcome: String,
    /// What was done or why not; never a content.
    pub detail: String,
}

/// A document that is no receipt that this program can read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It is something else.
    #[error("it is no receipt of a flash: {0}")]
    NotAReceipt(String),
    /// It was made by a newer program.
    #[error(
        "it is a receipt of version {0}, and this program reads version {VERSION}; use a newer one"
    )]
    Newer(u32),
}

impl Receipt {
    /// Of this.
    pub fn new(body: Body) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, body }
    }

    /// The document: the bytes that are signed.
    pub fn document(&self) -> String {
        // Only maps whose keys are no text can't be written, and there are none.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a document.
    pub fn parse(document: &[u8]) -> Result<Self, ReceiptError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        if document.len() > MOST_BYTES {
            return Err(ReceiptError::NotAReceipt(format!("it has over {MOST_BYTES} bytes")));
        }
        let no_receipt =
            |problem: serde_json::Error| ReceiptError::NotAReceipt(problem.to_string());
        let head: Head = serde_json::from_slice(document).map_err(no_receipt)?;
        if head.format != FORMAT {
            return Err(ReceiptError::NotAReceipt(format!("its format is {:?}", head.format)));
        }
        if head.version > VERSION {
            return Err(ReceiptError::Newer(head.version));
        }
        serde_json::from_slice(document).map_err(no_receipt)
    }
}

impl Step {
    /// A step, with its rate.
    pub fn new(name: String, elapsed_ms: u64, bytes: u64) -> Self {
        let rate = (u128::from(bytes) * 1000).checked_div(u128::from(elapsed_ms));
        let bytes_per_second = rate.filter(|_| bytes > 0).and_then(|rate| u64::try_from(rate).ok());
        Self { name, elapsed_ms, bytes, bytes_per_second }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt() -> Receipt {
        let id = ImageId::new([7; 32]);
        Receipt::new(Body {
            run: Some("0198".into()),
            agent_version: "0.1.0".into(),
            machine: Some(Machine { mac: "52:54:00:77:00:01".parse().unwrap(), name: None }),
            started_at: "2026-11-27T09:50:23Z".into(),
            ended_at: "2026-11-27T09:50:33Z".into(),
            asked: Asked {
                image: "debian:13".into(),
                image_id: Some(id),
                index_digest: None,
                disk: "serial:S1".into(),
                compare: "auto".into(),
                verify: "readback".into(),
                holes: "zero".into(),
            },
            disk: Disk { path: "/dev/vda".into(), serial: "S1".into(), ..Disk::default() },
            proved_id: Some(id),
            bytes: Bytes { raw: 1 << 30, ..Bytes::default() },
            repeated: Repeated::default(),
            choice: "compared \"all\"".into(),
            elapsed_ms: 10_000,
            steps: vec![Step::new("write".into(), 4000, 8_000_000)],
            fix_ups: vec![FixUp {
                name: "grow-partition".into(),
                outcome: "done".into(),
                detail: "partition 2 has 9 bytes now".into(),
            }],
        })
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let document = receipt().document();
        assert_eq!(Receipt::parse(document.as_bytes()).unwrap(), receipt());
        let added = document.replacen("{\n", "{\n  \"added_later\": [1],\n", 1);
        assert_eq!(Receipt::parse(added.as_bytes()).unwrap(), receipt());
        let Some((before, _)) = document.split_once(",\n  \"fix_ups\"") else {
            panic!("{document}")
        };
        let older = Receipt::parse(format!("{before}\n}}\n").as_bytes()).unwrap();
        assert_eq!((older.body.fix_ups, older.body.steps), (Vec::new(), receipt().body.steps));
    }

    #[test]
    fn the_order_of_the_fields_is_what_is_documented() {
        let document = receipt().document();
        let fields: Vec<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("  \"")?.split('"').next())
            .collect();
        assert_eq!(
            fields,
            [
                "format",
                "version",
                "run",
                "agent_version",
                "machine",
                "started_at",
                "ended_at",
                "asked",
                "disk",
                "proved_id",
                "bytes",
                "repeated",
                "choice",
                "elapsed_ms",
                "steps",
                "fix_ups"
            ]
        );
        assert!(document.starts_with("{\n  \"format\": \"bty-flash-receipt\",\n  \"version\": 1,"));
        assert!(document.ends_with("\n}\n"));
        let page = include_str!("../../../docs/format/receipt.md");
        for field in fields {
            assert!(page.contains(&format!("`{field}`")), "docs/format/receipt.md lacks {field}");
        }
    }

    #[test]
    fn what_is_no_receipt_is_refused_in_words() {
        let document = receipt().document();
        let newer = document.replace("\"version\": 1", "\"version\": 2");
        assert!(matches!(Receipt::parse(newer.as_bytes()), Err(ReceiptError::Newer(2))));
        let other = document.replace("bty-flash-receipt", "shopping-list");
        for wrong in [other.as_str(), "", "{}", "[]", &document.replace("0x07", "x")[..40]] {
            let refused = Receipt::parse(wrong.as_bytes());
            assert!(matches!(refused, Err(ReceiptError::NotAReceipt(_))), "{wrong}: {refused:?}");
        }
        let large = vec![b' '; MOST_BYTES + 1];
        assert!(Receipt::parse(&large).is_err());
    }

    #[test]
    fn a_rate_is_said_where_it_can_be_told() {
        let rate = |elapsed, bytes| Step::new(String::new(), elapsed, bytes).bytes_per_second;
        assert_eq!((rate(4000, 8_000_000), rate(0, 5), rate(5, 0)), (Some(2_000_000), None, None));
        assert_eq!(rate(1, u64::MAX), None);
    }

    proptest! {
        #[test]
        fn any_document_is_read_or_refused(document: Vec<u8>) {
            let _ = Receipt::parse(&document);
        }
    }
}

//! The datagrams of TFTP (RFC 1350, RFC 2347): tolerant of what clients send, strict in what is sent to them.
//!
//! Reading never fails loudly on foreign bytes: what can't be read is [`Unreadable`] with the one answer that fits.

use std::fmt;

/// Bytes before the payload of a DATA datagram.
pub const DATA_HEADER_BYTES: usize = 4;
/// The longest request that is read. RFC 2347 ends requests at 512 bytes; some clients send longer ones.
pub const MAX_REQUEST_BYTES: usize = 1468;
/// The most options of one request that are looked at.
const MAX_OPTIONS: usize = 32;
/// The longest text of an ERROR, in bytes.
const MAX_ERROR_TEXT_BYTES: usize = 256;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// A read request (RRQ).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file, as the client wrote it.
    pub file: Vec<u8>,
    /// How the client wants line ends treated.
    pub mode: Mode,
    /// The options that mean something here, in the client's order, each once.
    pub options: Vec<RequestOption>,
}

/// How the client wants line ends treated. The bytes are the same either way: boot programs have no line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As they are.
    Octet,
    /// As text; treated as octet.
    Netascii,
}

/// An option of a request with a value that can be read. What it may be is settled by negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOption {
    /// RFC 2348: bytes in a block.
    BlockSize(u64),
    /// RFC 2349: seconds before a retransmission.
    Timeout(u64),
    /// RFC 2349: the size of the file; the client sends 0.
    TransferSize(u64),
    /// RFC 7440: blocks in a window.
    WindowSize(u64),
}

impl RequestOption {
    /// The option's name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BlockSize(_) => "blksize",
            Self::Timeout(_) => "timeout",
            Self::TransferSize(_) => "tsize",
            Self::WindowSize(_) => "windowsize",
        }
    }

    /// The option's value.
    pub const fn value(self) -> u64 {
        match self {
            Self::BlockSize(value)
            | Self::Timeout(value)
            | Self::TransferSize(value)
            | Self::WindowSize(value) => value,
        }
    }

    fn read(name: &[u8], value: &[u8]) -> Option<Self> {
        // RFC 2347: names are case-insensitive; values are ASCII decimals.
        let value: u64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        let options = [
            Self::BlockSize(value),
            Self::Timeout(value),
            Self::TransferSize(value),
            Self::WindowSize(value),
        ];
        options.into_iter().find(|option| name.eq_ignore_ascii_case(option.name().as_bytes()))
    }
}

/// What arrives on the port where requests are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A client wants to read a file.
    Read(ReadRequest),
    /// A client wants to write a file.
    Write,
}

/// Why a datagram on the request port can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no request. It is not answered: two servers must not talk to each other for ever.
    #[error("the datagram is no request")]
    NotARequest,
    /// It is a request that says something impossible; the answer is ERROR 4.
    #[error("the request has {0}")]
    Malformed(&'static str),
}

impl Incoming {
    /// Reads a datagram that arrived on the request port.
    pub fn read(datagram: &[u8]) -> Result<Self, Unreadable> {
        let (code, body) = split_code(datagram).ok_or(Unreadable::NotARequest)?;
        match code {
            RRQ => read_request(body).map(Self::Read),
            WRQ => Ok(Self::Write),
            _ => Err(Unreadable::NotARequest),
        }
    }
}

fn read_request(body: &[u8]) -> Result<ReadRequest, Unreadable> {
    if body.len() > MAX_REQUEST_BYTES {
        return Err(Unreadable::Malformed("too many bytes"));
    }
    // Some clients leave out the last NUL, some add more of them: both read the same here.
    let mut fields = body.split(|&byte| byte == 0);
    let file = fields.next().filter(|file| !file.is_empty());
    let file = file.ok_or(Unreadable::Malformed("no file name"))?;
    let mode = match fields.next() {
        Some(mode) if mode.eq_ignore_ascii_case(b"octet") => Mode::Octet,
        Some(mode) if mode.eq_ignore_ascii_case(b"netascii") => Mode::Netascii,
        _ => return Err(Unreadable::Malformed("a mode other than octet and netascii")),
    };
    let mut options: Vec<RequestOption> = Vec::new();
    for _ in 0..MAX_OPTIONS {
        let (Some(name), Some(value)) = (fields.next(), fields.next()) else { break };
        // RFC 2347: an option may be given once; what is not understood is left out of the OACK.
        if let Some(option) = RequestOption::read(name, value)
            && !options.iter().any(|earlier| earlier.name() == option.name())
        {
            options.push(option);
        }
    }
    Ok(ReadRequest { file: file.to_vec(), mode, options })
}

/// What a client sends during a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has everything up to this block (the low 16 bits of its number).
    Ack(u16),
    /// It ends the transfer.
    Error(ErrorCode, String),
}

impl Answer {
    /// Reads a datagram that arrived during a transfer; `None` for what a reading client never sends.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let (code, body) = split_code(datagram)?;
        let (number, text) = split_code(body)?;
        match code {
            ACK => Some(Self::Ack(number)),
            ERROR => Some(Self::Error(ErrorCode(number), printable(text, MAX_ERROR_TEXT_BYTES))),
            _ => None,
        }
    }
}

/// The code of an ERROR (RFC 1350 §5, RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// See the text.
    pub const OTHER: Self = Self(0);
    /// File not found.
    pub const NOT_FOUND: Self = Self(1);
    /// Access violation.
    pub const ACCESS: Self = Self(2);
    /// Illegal TFTP operation.
    pub const ILLEGAL: Self = Self(4);
    /// Unknown transfer ID.
    pub const UNKNOWN_TID: Self = Self(5);
    /// The options are not acceptable, or the client only wanted to know what they would be.
    pub const OPTIONS: Self = Self(8);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ERROR {}", self.0)
    }
}

/// An ERROR datagram. The text is cut to a length that never needs fragments.
pub fn error(code: ErrorCode, text: &str) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(DATA_HEADER_BYTES + text.len() + 1);
    datagram.extend(ERROR.to_be_bytes());
    datagram.extend(code.0.to_be_bytes());
    datagram.extend(printable(text.as_bytes(), MAX_ERROR_TEXT_BYTES).bytes());
    datagram.push(0);
    datagram
}

/// An OACK datagram: each option once, its value in decimals, one NUL after each string and nothing else.
pub fn oack(options: &[RequestOption]) -> Vec<u8> {
    let mut datagram = OACK.to_be_bytes().to_vec();
    for option in options {
        for text in [option.name(), &option.value().to_string()] {
            datagram.extend(text.bytes());
            datagram.push(0);
        }
    }
    datagram
}

/// The first four bytes of a DATA datagram.
pub fn data_header(number: u16) -> [u8; DATA_HEADER_BYTES] {
    let [code_high, code_low] = DATA.to_be_bytes();
    let [high, low] = number.to_be_bytes();
    [code_high, code_low, high, low]
}

/// Foreign text for people: printable ASCII up to the first NUL, everything else as `?`.
pub fn printable(text: &[u8], max_chars: usize) -> String {
    text.iter()
        .take_while(|&&byte| byte != 0)
        .take(max_chars)
        .map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' })
        .collect()
}

fn split_code(datagram: &[u8]) -> Option<(u16, &[u8])> {
    let (code, body) = datagram.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), body))
}

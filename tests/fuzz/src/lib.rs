//! Every parser of foreign bytes as a function of bytes, which must return and keep its promises, whatever the bytes are.
//!
//! `cargo xtask fuzz TARGET` runs libFuzzer over one of [`TARGETS`]; what it finds goes into `corpus/TARGET/`, and the normal tests
//! replay it there.

mod dhcp;
mod firmware;
mod http;
mod image;
mod names;
mod script;
mod tftp;

/// A parser, and what is fed to it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Feeds it. Panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 15] = [
    Target { name: "dhcp", run: dhcp::datagrams },
    Target { name: "tftp_request", run: tftp::request },
    Target { name: "tftp_transfer", run: tftp::transfer },
    Target { name: "http_file", run: http::file },
    Target { name: "boot_script", run: script::script },
    Target { name: "token", run: script::token },
    Target { name: "names", run: names::names },
    Target { name: "checksums", run: names::checksums },
    Target { name: "container", run: image::container },
    Target { name: "source", run: image::source },
    Target { name: "partitions", run: image::partitions },
    Target { name: "contents", run: image::contents },
    Target { name: "freespace", run: image::freespace },
    Target { name: "boot_entry", run: firmware::boot_entry },
    Target { name: "loader", run: firmware::loader },
];

/// Cuts data into pieces, each behind its length in two bytes; the last may be shorter.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, behind) = rest.split_at_checked(length)?;
        data = behind;
        Some(piece)
    })
}

/// Cuts data at its first NUL.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == 0);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

//! A container is a file in zstd's seekable format: a reader of it that knows nothing of bty finds and unpacks any part.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod lab;

use std::{fs::File, io::Read as _};

use lab::Lab;
use zeekstd::{DecodeOptions, Decoder};

#[test]
fn another_seekable_reader_opens_it_and_reads_any_part() {
    let lab = Lab::new();
    let raw = std::fs::read(&lab.raw).unwrap();
    let (container, imported) = lab.import(&lab.raw, None);
    imported.unwrap();
    let mut whole = Vec::new();
    Decoder::new(File::open(&container).unwrap()).unwrap().read_to_end(&mut whole).unwrap();
    assert!(whole == raw, "the whole is another");
    for (from, to) in
        [(0, 1), (262_143, 262_145), (3_000_000, 3_700_000), (raw.len() - 5, raw.len())]
    {
        let options = DecodeOptions::new(File::open(&container).unwrap())
            .offset(from as u64)
            .offset_limit(to as u64);
        let mut part = Vec::new();
        Decoder::with_opts(options).unwrap().read_to_end(&mut part).unwrap();
        assert!(part == raw[from..to], "{from} to {to}");
    }
}

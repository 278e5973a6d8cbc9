//! Imports an image and says how fast: `cargo run --release -p bty-image --example import -- IMAGE OUT [CHUNK_KIB [LEVEL]]`.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{
    error::Error, fs::File, io::BufWriter, path::Path, sync::atomic::AtomicBool, time::Instant,
};

use bty_image::{
    container::Index,
    import::{Options, import},
    source::open_file,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, out, rest @ ..] = arguments.as_slice() else {
        return Err("usage: import IMAGE OUT [CHUNK_KIB [LEVEL]]".into());
    };
    let mut options = Options::default();
    if let Some(kib) = rest.first() {
        options.chunk_bytes = Some(kib.parse::<u32>()?.saturating_mul(1024));
    }
    if let Some(level) = rest.get(1) {
        options.level = level.parse()?;
    }
    let source = open_file(Path::new(image), None)?;
    let mut destination = BufWriter::new(File::create(out)?);
    let begin = Instant::now();
    let summary = import(source, &mut destination, &options, &AtomicBool::new(false), |_| {})?;
    let elapsed = begin.elapsed();
    drop(destination);
    let index = Index::read(&File::open(out)?)?;
    let rate = u128::from(index.raw_bytes()) / elapsed.as_micros().max(1);
    println!("{} {}", index.id(), summary.format.as_str());
    println!(
        "{} bytes of disk, {} mapped, {} chunks; {} bytes of container; {elapsed:.2?}, {rate} MB/s of disk",
        index.raw_bytes(),
        index.mapped_bytes(),
        index.len(),
        summary.container_bytes,
    );
    println!("{:?}", summary.inspection);
    Ok(())
}

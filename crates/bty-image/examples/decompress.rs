//! Decompresses what is mapped of a container on all processors, and throws it away: a limit of the flash.
//! `cargo run --release -p bty-image --example decompress -- CONTAINER`

use std::{
    error::Error,
    fs::File,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use bty_image::container::Index;
use zstd::bulk::Decompressor;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: decompress CONTAINER")?;
    let file = File::open(path)?;
    let index = Index::read(&file)?;
    let next = AtomicU64::new(0);
    let lane = || -> std::io::Result<()> {
        let mut decompressor = Decompressor::new()?;
        let (mut frame, mut raw) = (Vec::new(), vec![0; 1 << 20]);
        while let Some(chunk) = index.chunk(next.fetch_add(1, Ordering::Relaxed)) {
            if !chunk.is_hole {
                frame.resize(usize::try_from(chunk.frame_bytes).unwrap_or_default(), 0);
                file.read_exact_at(&mut frame, chunk.frame_offset)?;
                decompressor.decompress_to_buffer(&frame, &mut raw)?;
            }
        }
        Ok(())
    };
    let lanes = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(())
}

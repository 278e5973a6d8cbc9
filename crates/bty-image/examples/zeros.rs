//! Makes the table of values of zeros: `cargo run --release -p bty-image --example zeros -- OUT`. It hashes a TiB: some minutes.

use std::{
    error::Error,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use blake3::hazmat::HasherExt;
use bty_image::container::ZERO_PARTS;

fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::args().nth(1).ok_or("usage: zeros OUT")?;
    let zeros = vec![0; 1 << 20];
    let mut table = Vec::new();
    for (bytes, count) in ZERO_PARTS {
        let (next, values) = (AtomicUsize::new(0), Mutex::new(vec![[0; 32]; count]));
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let mut hasher = blake3::Hasher::new();
                hasher.set_input_offset(number as u64 * bytes);
                (0..bytes >> 20).for_each(|_| {
                    hasher.update(&zeros);
                });
                let value = hasher.finalize_non_root();
                let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(slot) = values.get_mut(number) {
                    *slot = value;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(work);
            }
        });
        table.extend(values.into_inner().unwrap_or_else(PoisonError::into_inner).concat());
    }
    std::fs::write(out, table)?;
    Ok(())
}

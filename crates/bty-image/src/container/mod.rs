//! The container: how the store, a stick and any HTTP server hold an image. `NAME.img.zst`.
//!
//! An ordinary zstd file (RFC 8878), so that `zstd -dc NAME.img.zst | dd of=DISK` is a correct flash and `zstd -t` passes; and a
//! seekable one (zstd's `contrib/seekable_format`), so that a reader fetches, decompresses and verifies any chunk alone.
//!
//! ```text
//! frame 0 | frame 1 | ... | frame n-1 | index frame | seek table frame
//! ```
//!
//! **Frames.** The raw disk is cut into chunks of one size, a power of two from 64 KiB to 1 MiB; the last may be shorter. Each chunk
//! is one independent zstd frame with content size and checksum. A chunk of zeros (a hole) has a frame too.
//!
//! **Index frame.** A skippable frame (magic `0x184D2A5B`) with, little endian:
//!
//! | offset | bytes | what |
//! |--:|--:|---|
//! | 0 | 8 | `BTYINDEX` |
//! | 8 | 2 | version, 1 |
//! | 10 | 1 | chunk size as a power of two, 16 to 20 |
//! | 11 | 5 | zero |
//! | 16 | 8 | size of the raw disk in bytes, not 0 |
//! | 24 | 8 | number of chunks, n |
//! | 32 + 40 i | 32 | chunk i's BLAKE3 chaining value, as the subtree of the whole disk that it is |
//! | 64 + 40 i | 4 | size of chunk i's frame in bytes |
//! | 68 + 40 i | 4 | flags: bit 0, chunk i is a hole |
//!
//! The chaining values merge to the BLAKE3 of the raw disk, which is the image's id: so the index proves itself against the id, and
//! a chunk proves itself against the index, in any order. A disk of a single chunk has no subtree but the whole: there the value
//! is the id itself. The BLAKE3 of the index (the skippable frame's content) is its digest, which a plan names.
//!
//! **Seek table frame.** As zstd's seekable format defines it: a skippable frame (magic `0x184D2A5E`), for each frame before it its
//! compressed and its decompressed size (the index frame's is 0), then the number of frames, a descriptor 0, and the magic
//! `0x8F92EAB1`. The number of frames says where the index is: a reader fetches the file's end ([`TAIL_BYTES`]), and the
//! index in a second request if it was not in the first ([`locate`]).

mod chunk;
mod index;
mod layout;
mod tree;
mod write;

pub use chunk::{ChunkDecoder, ChunkError};
pub use index::{Chunk, Chunks, Index, IndexError};
pub(crate) use layout::Entry;
pub use layout::{CHUNK_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, TAIL_BYTES, locate};
pub use tree::{Proof, chunk_value};
pub(crate) use write::Finish;

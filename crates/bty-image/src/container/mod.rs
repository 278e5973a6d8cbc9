//! The container: how the store, a stick and any HTTP server hold an image. `NAME.img.zst`.
//!
//! An ordinary zstd file (RFC 8878), so that `zstd -dc NAME.img.zst | dd of=DISK` is a correct flash and `zstd -t` passes; and a
//! seekable one (zstd's `contrib/seekable_format`), so that a reader fetches, decompresses and verifies any chunk alone.
//!
//! ```text
//! frame 0 | frame 1 | ... | frame n-1 | (other skippable frames) | index frame | seek table frame
//! ```
//!
//! # Frames
//!
//! The raw disk is cut into n chunks of one size, a power of two from 64 KiB to 1 MiB; the last may be shorter. Each chunk is one
//! independent zstd frame with content size and checksum, of at most the chunk size, a 128th of it and 1024 bytes. The frames begin
//! at offset 0 and follow each other in the chunks' order without gaps. A chunk of zeros (a hole) has a frame too: some 30 bytes.
//!
//! # Index frame
//!
//! A skippable frame (RFC 8878 section 3.1.2): magic `0x184D2A5B`, the content's size as four bytes, and the content. All
//! numbers are little endian. The content is
//!
//! | offset | bytes | what |
//! |--:|--:|---|
//! | 0 | 8 | `BTYINDEX` |
//! | 8 | 2 | version, 1 |
//! | 10 | 1 | chunk size as a power of two, 16 to 20 |
//! | 11 | 5 | zero |
//! | 16 | 8 | size of the raw disk in bytes, not 0 |
//! | 24 | 8 | number of chunks n: the size of the disk by the chunk size, rounded up |
//! | 32 + 40 i | 32 | chunk i's BLAKE3 chaining value, as the subtree of the whole disk that it is |
//! | 64 + 40 i | 4 | size of chunk i's frame in bytes |
//! | 68 + 40 i | 4 | flags: bit 0, chunk i is a hole; all others zero |
//!
//! The chaining values merge to the BLAKE3 of the raw disk, which is the image's id: so the index proves itself against the id, and
//! a chunk proves itself against the index, in any order. (A chunk's value is the BLAKE3 paper's chaining value of the subtree over
//! its bytes, with the input offset of the chunk, not finalised as a root; the last chunk's subtree may be incomplete. Values merge
//! in pairs, the left subtree being the largest power of two of chunks that leaves one for the right.) A disk of a single chunk has
//! no subtree but the whole: there the value is the id itself.
//!
//! The id says nothing of the hole flags. A reader that trusts one without having checked the value against zeros has to compare
//! what it reads back from the disk. The BLAKE3 of the content is the index's digest, which a plan names: it covers everything.
//!
//! The index frame holds less than 4 GiB, so a disk has at most some 107 million chunks: 26 TiB with chunks of 256 KiB.
//!
//! # Seek table frame
//!
//! As zstd's seekable format defines it, a skippable frame at the very end of the file:
//!
//! | bytes | what |
//! |--:|---|
//! | 4 | magic `0x184D2A5E` |
//! | 4 | size of what follows: 8 f + 9 |
//! | 8 f | for each of the f frames before it: compressed size (4) and decompressed size (4; 0 for skippable frames) |
//! | 4 | number of frames f; n + 1, unless there are other skippable frames |
//! | 1 | descriptor, 0: no checksums |
//! | 4 | magic `0x8F92EAB1` |
//!
//! # Finding the index
//!
//! The index frame is always the last before the seek table, so the last 17 bytes of the file (its entry and the footer) say
//! where it is: a reader fetches the file's end ([`TAIL_BYTES`]), and the index in a second request if it was not whole in the
//! first ([`locate`]). Readers skip other skippable frames between the chunks and the index, by which later versions can add what
//! this one doesn't know; anything that changes the index's layout takes another version number, which this one refuses.

mod chunk;
mod diff;
mod entries;
mod index;
mod layout;
mod raw_disk;
mod tree;
mod write;
mod zeros;

pub use chunk::{ChunkDecoder, ChunkError};
pub use diff::{ChunkDiff, diff};
pub(crate) use entries::{Entries, Entry};
pub(crate) use index::stated_raw_bytes;
pub use index::{Chunk, Chunks, Index, IndexError};
pub use layout::{
    CHUNK_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, TAIL_BYTES, chunk_bytes_for, locate,
};
pub(crate) use layout::{FOOTER_BYTES, max_frame_bytes, seekable_frames};
pub use raw_disk::RawDisk;
pub use tree::{Merging, chunk_value};
pub(crate) use write::Finish;
pub use zeros::{NotAHole, ZERO_PARTS};

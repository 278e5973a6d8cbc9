//! Memory that the kernel can move to and from a disk without copying: `O_DIRECT` wants it aligned (open(2)).

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

/// What every buffer begins at a multiple of: a page, which is at least any disk's sector.
pub const ALIGNMENT: usize = 4096;

/// Bytes whose first one is at a multiple of [`ALIGNMENT`], and whose length is one too. Zeros at first.
pub struct AlignedBuf {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the buffer owns its memory alone, as a Vec<u8> does; nothing in it is bound to a thread.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access gives only shared slices.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// A buffer of at least this many bytes, rounded up to whole pages; at least one.
    ///
    /// # Panics
    ///
    /// Where the size is beyond what an address space holds.
    pub fn new(bytes: usize) -> Self {
        let size = bytes.max(1).next_multiple_of(ALIGNMENT);
        let layout =
            Layout::from_size_align(size, ALIGNMENT).expect("invariant: buffers are a few MiB");
        // SAFETY: the layout's size is not zero: it is at least one page.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: `start` came from alloc_zeroed with this very layout and is freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to layout.size() initialised bytes (zeroed at first) that live as long as self.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref, and &mut self makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.layout.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_whole_pages_and_zero() {
        for bytes in [0, 1, 4096, 4097, 1 << 20] {
            let mut buffer = AlignedBuf::new(bytes);
            assert_eq!(buffer.as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(buffer.len() % ALIGNMENT, 0);
            assert!(buffer.len() >= bytes && buffer.iter().all(|&byte| byte == 0));
            buffer.fill(7);
            assert!(buffer.iter().all(|&byte| byte == 7));
        }
    }
}

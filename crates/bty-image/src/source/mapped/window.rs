//! A file's tables, of which little is looked at a time, and in order.

use std::{fs::File, io, sync::Arc};

use super::read_at;

/// What is read at once.
const WINDOW_BYTES: usize = 4096;

/// Numbers from a file. The piece of it that was read last is kept.
pub(in crate::source) struct Window {
    file: Arc<File>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(in crate::source) fn new(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), start: 0, bytes: Vec::new() }
    }

    /// The bytes at an offset, or `UnexpectedEof` where the file has none there.
    pub(in crate::source) fn read<const N: usize>(&mut self, offset: u64) -> io::Result<[u8; N]> {
        if let Some(bytes) = self.held(offset) {
            return Ok(bytes);
        }
        self.fill(offset)?;
        self.held(offset).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn held<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(at..)?.first_chunk().copied()
    }

    fn fill(&mut self, offset: u64) -> io::Result<()> {
        self.bytes.resize(WINDOW_BYTES, 0);
        let mut filled = 0;
        while let Some(rest) = self.bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            match read_at(&self.file, rest, at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) => {
                    self.bytes.clear();
                    return Err(problem);
                }
            }
        }
        self.bytes.truncate(filled);
        self.start = offset;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_gives_what_the_file_has(size in 0..9000_usize, offsets in proptest::collection::vec(prop_oneof![0..9000_u64, any::<u64>()], 1..20)) {
            let bytes: Vec<u8> = (0..=250_u8).cycle().take(size).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut window = Window::new(&Arc::new(file));
            for offset in offsets {
                let want = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)?.first_chunk::<12>());
                match window.read::<12>(offset) {
                    Ok(got) => prop_assert_eq!(Some(&got), want),
                    Err(problem) => {
                        prop_assert_eq!(problem.kind(), io::ErrorKind::UnexpectedEof);
                        prop_assert!(want.is_none());
                    }
                }
            }
        }
    }
}

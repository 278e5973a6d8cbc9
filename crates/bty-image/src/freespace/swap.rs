//! Swap space: everything behind its header, which has its UUID and label. Only where that is asked for.

use std::ops::Range;

use super::map::{Doubt, FreeMap, Part, read};
use crate::{ReadAt as _, fields::has};

const MAGIC: &[u8] = b"SWAPSPACE2";

/// Swap space whose content is of no use.
pub(super) struct Swap(Option<Range<u64>>);

impl Swap {
    pub(super) fn open(part: &Part<'_>) -> Result<Self, Doubt> {
        let length = part.length()?;
        let head = read(part, 0, length.min(65536))?;
        let page = [4096_u64, 8192, 16384, 65536].into_iter().find(|page| {
            usize::try_from(*page).is_ok_and(|page| has(&head, page - MAGIC.len(), MAGIC))
        });
        let page = page.ok_or(Doubt::Odd("it has no header that bty knows"))?;
        Ok(Self(Some(page..length)))
    }
}

impl FreeMap for Swap {
    fn next(&mut self, _: &Part<'_>, found: &mut Vec<Range<u64>>) -> Result<bool, Doubt> {
        let Some(content) = self.0.take() else { return Ok(false) };
        found.extend(Some(content).filter(|content| !content.is_empty()));
        Ok(true)
    }
}

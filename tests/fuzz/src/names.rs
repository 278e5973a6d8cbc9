//! The vocabulary: what is read is shown such that it reads back as the same.

use std::{fmt::Display, str::FromStr};

use bty_types::{Checksum, DiskSelector, ImageId, ImageName, MacAddr, Policy};

/// Any text as each word.
pub(crate) fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    reads_back::<MacAddr>(text);
    reads_back::<ImageId>(text);
    reads_back::<ImageName>(text);
    reads_back::<DiskSelector>(text);
    reads_back::<Checksum>(text);
    reads_back::<Policy>(text);
}

fn reads_back<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(word) = text.parse::<T>() else { return };
    let shown = word.to_string();
    assert!(shown.parse::<T>().is_ok_and(|again| again == word), "{text:?} is shown as {shown:?}");
}

//! The vocabulary: what is read is shown such that it reads back as the same.

use std::{fmt::Display, str::FromStr};

use bty_types::{Checksum, ChecksumList, DiskSelector, ImageId, ImageName, MacAddr, Policy};

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

/// Any text as a publisher's list of checksums: what it lists is found by its name, where no other is called so.
pub(crate) fn checksums(data: &[u8]) {
    let list = ChecksumList::parse(&String::from_utf8_lossy(data));
    for (name, checksum) in list.entries() {
        let same = |(other, _): &(&str, Checksum)| *other == name;
        match list.of(name) {
            Ok(found) => assert!(list.entries().filter(same).any(|(_, listed)| listed == found)),
            Err(_) => assert!(list.entries().filter(same).any(|(_, listed)| listed != checksum)),
        }
    }
}

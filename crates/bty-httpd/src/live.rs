//! What live system is served, in words: which kernel, which iPXE.

use std::{fs::File, io::Read, path::Path};

use serde_json::Value;

/// More than any description has.
const MOST_BYTES: u64 = 64 * 1024;

/// The versions that the live system's own description (`live.json`) names, or that there is none.
pub(crate) fn describe(folder: &Path) -> String {
    let mut text = Vec::new();
    let file = File::open(folder.join("live.json"));
    let read = file.and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
    let live: Value = match read {
        Ok(_) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => return format!("no live system is in {}", folder.display()),
    };
    let version = |pointer| live.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown");
    format!(
        "the live system has the kernel {} and iPXE {}",
        version("/kernel"),
        version("/packages/ipxe")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_where_they_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let described = || describe(folder.path());
        assert!(described().starts_with("no live system is in /"), "{}", described());
        let write = |text: &str| std::fs::write(folder.path().join("live.json"), text).unwrap();
        write(r#"{"kernel": "6.12.9", "packages": {"ipxe": "2.0.0+dfsg-5"}}"#);
        assert_eq!(described(), "the live system has the kernel 6.12.9 and iPXE 2.0.0+dfsg-5");
        write("not JSON");
        assert_eq!(described(), "the live system has the kernel unknown and iPXE unknown");
    }
}

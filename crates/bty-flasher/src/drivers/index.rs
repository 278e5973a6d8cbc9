//! Which modules a device needs, by the lists of depmod(8).

use std::collections::{HashMap, HashSet};

/// The lists of a kernel.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Patterns and the modules' names, by the bus that they begin with (`pci`, `usb`).
    aliases: HashMap<String, Vec<(String, String)>>,
    /// A module's file, by its name.
    files: HashMap<String, String>,
    /// The files that must be loaded before a file, in the order in which they must be.
    needs: HashMap<String, Vec<String>>,
    /// The modules that should be loaded before a module, each by its name or an alias (`crypto-crc32c`).
    first: HashMap<String, Vec<String>>,
}

impl Index {
    /// From the text of `modules.alias`, `modules.dep` and `modules.softdep`. Lines of another form are passed over.
    pub(super) fn parse(aliases: &str, dependencies: &str, soft: &str) -> Self {
        let mut index = Self::default();
        for line in aliases.lines() {
            if let ["alias", pattern, module] = words(line)[..] {
                let entry = (pattern.to_owned(), module.to_owned());
                index.aliases.entry(bus(pattern).to_owned()).or_default().push(entry);
            }
        }
        for line in dependencies.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            index.files.insert(name(file), file.to_owned());
            // modules.dep(5): each after those to its right.
            let needs = words(needs).into_iter().rev().map(str::to_owned).collect();
            index.needs.insert(file.to_owned(), needs);
        }
        for line in soft.lines() {
            if let ["softdep", module, "pre:", before @ ..] = &words(line)[..] {
                let before = before.iter().take_while(|word| **word != "post:");
                let before = before.map(|word| (*word).to_owned()).collect();
                index.first.insert(name(module), before);
            }
        }
        index
    }

    /// The files to load for a device with this alias, in order; none where no module drives it.
    pub(super) fn files_for(&self, alias: &str) -> Vec<String> {
        let mut files = Vec::new();
        let mut seen = HashSet::new();
        for (pattern, module) in self.aliases.get(bus(alias)).into_iter().flatten() {
            if matches(pattern.as_bytes(), alias.as_bytes()) {
                self.add(&name(module), &mut files, &mut seen);
            }
        }
        files
    }

    /// The files to load for this module, in order; none where there is no such module.
    pub(super) fn files_of(&self, module: &str) -> Vec<String> {
        let mut files = Vec::new();
        self.add(&name(module), &mut files, &mut HashSet::new());
        files
    }

    fn add(&self, module: &str, files: &mut Vec<String>, seen: &mut HashSet<String>) {
        if !seen.insert(module.to_owned()) {
            return;
        }
        let Some(file) = self.files.get(module) else { return };
        for before in self.first.get(module).into_iter().flatten() {
            self.add(&name(before), files, seen);
            let aliases = self.aliases.get(bus(before)).into_iter().flatten();
            for (_, module) in aliases.filter(|(alias, _)| alias == before) {
                self.add(&name(module), files, seen);
            }
        }
        for needed in self.needs.get(file).into_iter().flatten() {
            self.add(&name(needed), files, seen);
            if !files.contains(needed) {
                files.push(needed.clone());
            }
        }
        files.push(file.clone());
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_ascii_whitespace().collect()
}

/// What comes before the first colon; no pattern has a wildcard there.
fn bus(alias: &str) -> &str {
    alias.split(':').next().unwrap_or(alias)
}

/// A module's name: without folders and endings, and with `_` for `-`.
pub(super) fn name(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// Whether the whole text matches a pattern of fnmatch(3): `*`, `?` and `[a-f0-9]`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where the last star was, and how much it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(at), text.get(from)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((at, from));
                at += 1;
                continue;
            }
            (Some(_), Some(&byte)) => one(pattern.get(at..).unwrap_or_default(), byte),
            _ => None,
        };
        if let Some(width) = step {
            at += width;
            from += 1;
        } else if let Some((after, taken)) = star.filter(|(_, taken)| *taken < text.len()) {
            star = Some((after, taken + 1));
            (at, from) = (after + 1, taken + 1);
        } else {
            return false;
        }
    }
}

/// How much of the pattern the byte used up; `None` where it doesn't fit.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|&sign| sign == b']')?;
            is_member(rest.get(..end)?, byte).then_some(end + 2)
        }
        [sign, ..] => (*sign == byte).then_some(1),
        [] => None,
    }
}

fn is_member(class: &[u8], byte: u8) -> bool {
    match class {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || is_member(rest, byte),
        [sign, rest @ ..] => *sign == byte || is_member(rest, byte),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALIASES: &str = "# made by depmod\n\
        alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
        alias virtio:d00000001v* virtio-net\n\
        alias usb:v0BDAp815[2-5]d*dc*dsc*dp*ic*isc*ip*in* r8152\n\
        alias pci:v*d*sv*sd*bc0Csc03i10* ohci_pci\n\
        rubbish\n";
    const DEPENDENCIES: &str = "kernel/virtio_pci.ko: kernel/legacy.ko kernel/virtio_ring.ko kernel/virtio.ko\n\
        kernel/virtio-net.ko: kernel/failover.ko\n\
        kernel/ohci-pci.ko:\nkernel/ehci-pci.ko:\n";
    const SOFT: &str = "softdep ohci_pci pre: ehci_pci post: other\n";

    fn files(alias: &str) -> Vec<String> {
        Index::parse(ALIASES, DEPENDENCIES, SOFT).files_for(alias)
    }

    #[test]
    fn what_a_module_needs_comes_before_it() {
        assert_eq!(
            files("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"),
            [
                "kernel/virtio.ko",
                "kernel/virtio_ring.ko",
                "kernel/legacy.ko",
                "kernel/virtio_pci.ko"
            ]
        );
        assert_eq!(
            files("virtio:d00000001v00001AF4"),
            ["kernel/failover.ko", "kernel/virtio-net.ko"]
        );
        let usb = "pci:v00008086d00007112sv00000000sd00000000bc0Csc03i10";
        assert_eq!(files(usb), ["kernel/ehci-pci.ko", "kernel/ohci-pci.ko"]);
    }

    #[test]
    fn what_a_module_asks_for_by_an_alias_comes_before_it() {
        let aliases = "alias crypto-crc32c crc32c_generic\nalias crypto-crc32c-x crc32c_x\n";
        let dependencies = "kernel/ext4.ko: kernel/jbd2.ko\nkernel/jbd2.ko:\nkernel/bnx2x.ko: kernel/libcrc32c.ko\n\
            kernel/libcrc32c.ko:\nkernel/crc32c_generic.ko:\nkernel/crc32c_x.ko:\n";
        let soft = "softdep ext4 pre: crypto-crc32c\nsoftdep libcrc32c pre: crypto-crc32c none\n";
        let index = Index::parse(aliases, dependencies, soft);
        assert_eq!(
            index.files_of("ext4"),
            ["kernel/crc32c_generic.ko", "kernel/jbd2.ko", "kernel/ext4.ko"]
        );
        assert_eq!(
            index.files_of("bnx2x"),
            ["kernel/crc32c_generic.ko", "kernel/libcrc32c.ko", "kernel/bnx2x.ko"]
        );
    }

    #[test]
    fn a_device_without_a_driver_needs_nothing() {
        assert!(files("pci:v0000DEADd0000BEEFsv*").is_empty());
        assert!(files("usb:v0BDAp8152").is_empty(), "the pattern wants more");
        assert!(files("usb:v0BDAp8152d1dc1dsc1dp1ic1isc1ip1in1").is_empty(), "the file is absent");
        assert!(files("").is_empty());
    }

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, wanted) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[0-9A-F]x", "Bx", true),
            ("[0-9A-F]x", "Gx", false),
            ("[ab]*", "b", true),
            ("[a", "a", false),
            ("*a", "aaa", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn any_lists_are_read_and_any_alias_looked_up(
            lists: String, alias: String, pattern in "[ab*?\\[\\]-]{0,12}", text in "[ab-]{0,12}"
        ) {
            Index::parse(&lists, &lists, &lists).files_for(&alias);
            matches(pattern.as_bytes(), text.as_bytes());
        }
    }
}

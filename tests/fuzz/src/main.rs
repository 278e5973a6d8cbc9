//! The fuzzer: libFuzzer over the target that `BTY_FUZZ_TARGET` names.
#![no_main]

use std::sync::OnceLock;

use bty_fuzz::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("BTY_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.into_iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("BTY_FUZZ_TARGET {name:?} is no target"))
    });
    (target.run)(data);
});

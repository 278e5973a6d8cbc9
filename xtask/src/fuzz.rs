//! `cargo xtask fuzz`: libFuzzer over the parsers of foreign bytes.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use crate::{build, workspace};

/// Coverage for libFuzzer, as cargo-fuzz asks for it; stable Rust has all of it but the address sanitizer, which code without
/// unsafe needs least. Overflows and debug assertions are caught.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
/// The largest input, and the most memory that a target may take in MiB.
const MAX_BYTES: u32 = 32 * 1024;
const MEMORY_MIB: u32 = 512;
/// A single input that takes longer, in seconds, is a finding.
const SLOW_SECONDS: u32 = 5;

/// What to fuzz.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FuzzArgs {
    /// The targets, such as dhcp or source; all of them where none is named.
    targets: Vec<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Fuzzes one target after the other; fails at the first finding.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    let shell = Shell::new()?;
    let root = workspace::root();
    shell.change_dir(&root);
    let seeds = root.join("tests/fuzz/corpus");
    let mut known: Vec<String> = Vec::new();
    for entry in fs::read_dir(&seeds).context("reading tests/fuzz/corpus")? {
        known.push(entry?.file_name().to_string_lossy().into_owned());
    }
    known.sort();
    for target in &args.targets {
        ensure!(known.contains(target), "{target} is no target; there are {}", known.join(", "));
    }
    let targets = if args.targets.is_empty() { &known } else { &args.targets };

    let built = root.join("target/fuzz");
    // A target of its own keeps the flags from build scripts.
    let triple = "x86_64-unknown-linux-gnu";
    build::cargo(&shell)
        .args(["build", "--release", "--locked", "-p", "bty-fuzz", "--features", "libfuzzer"])
        .args(["--target", triple, "--target-dir"])
        .arg(&built)
        .env("RUSTFLAGS", FLAGS)
        .run()
        .context("building the fuzzer")?;
    let fuzzer = built.join(triple).join("release/bty-fuzz");
    for target in targets {
        one(&shell, &fuzzer, target, &seeds.join(target), &built, args.seconds)?;
    }
    Ok(())
}

fn one(
    shell: &Shell,
    fuzzer: &Path,
    target: &str,
    seeds: &Path,
    built: &Path,
    seconds: u32,
) -> Result<()> {
    let (corpus, findings) =
        (built.join("corpus").join(target), built.join("findings").join(target));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    println!("== {target}: {seconds} s");
    let artifacts = format!("-artifact_prefix={}/", findings.display());
    let (total, slow) = (format!("-max_total_time={seconds}"), format!("-timeout={SLOW_SECONDS}"));
    let (length, memory) = (format!("-max_len={MAX_BYTES}"), format!("-rss_limit_mb={MEMORY_MIB}"));
    cmd!(shell, "{fuzzer} {corpus} {seeds} {total} {slow} {length} {memory} {artifacts} -print_final_stats=1 -verbosity=0")
        .env("BTY_FUZZ_TARGET", target)
        .run()
        .with_context(|| {
            format!(
                "{target} found something; it is in {}: mend it, and move the file to tests/fuzz/corpus/{target}",
                findings.display()
            )
        })
}

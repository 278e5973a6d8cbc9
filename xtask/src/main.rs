//! The build tool of bty: `cargo xtask --help`.

#![allow(clippy::print_stdout, reason = "a build tool talks to the person who started it")]

mod bench;
mod build;
mod codegen;
mod debian;
mod demo;
mod fuzz;
mod install;
mod live;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The build tool of bty.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 80)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the main job, end to end, in a virtual lab.
    Demo(demo::DemoArgs),
    /// Build the live systems that machines boot; installs what it needs.
    Live(live::LiveArgs),
    /// Run every check and test; installs what they need.
    Test(test::TestArgs),
    /// Measure, beside a named peer.
    Bench(bench::BenchArgs),
    /// Fuzz the parsers of foreign bytes
    Fuzz(fuzz::FuzzArgs),
    /// Fetch a file by TFTP, for the benchmark
    #[command(hide = true)]
    TftpLoad(bench::tftp_load::LoadArgs),
    /// Fetch a file by HTTP, for the benchmark
    #[command(hide = true)]
    HttpLoad(bench::http_load::LoadArgs),
    /// Check the rules that a compiler doesn't know.
    Tidy,
    /// Generate the Rust code of the gRPC contract from proto/.
    Codegen,
    /// Lay everything out as a package will.
    Install(install::InstallArgs),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Live(args) => live::run(&args),
        Verb::Test(args) => test::run(args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::TftpLoad(args) => bench::tftp_load::run(&args),
        Verb::HttpLoad(args) => bench::http_load::run(&args),
        Verb::Tidy => tidy::check(),
        Verb::Codegen => codegen::write(),
        Verb::Install(args) => install::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! The build tool of bty: `cargo xtask --help`.

#![allow(clippy::print_stdout, reason = "a build tool talks to the person who started it")]

mod codegen;
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
    /// Generate the Rust code of the gRPC contract from proto/.
    Codegen,
}

fn main() -> ExitCode {
    let outcome = match Args::parse().verb {
        Verb::Codegen => codegen::write(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

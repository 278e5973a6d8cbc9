//! The command line of bty: everything by the same gRPC that any client sees.
//!
//! Standard output is data (a table, or JSON with `--output json`), standard error is talk and progress, and the exit code
//! says what sort of failure it was ([`bty_types::ErrorKind::exit_code`]). Nothing here decides anything about machines.

mod arguments;
mod connection;
mod failure;
mod output;
mod progress;
mod verb;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Receipt, Verb};
use connection::Connection;
use failure::Failure;
use output::Output;

/// Runs `btyctl` with the process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            eprintln!("error: starting: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(arguments) => outcome,
            // Dropping the call cancels it on the server, which then cleans up.
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
        }
    });
    // A read of standard input can't be cancelled; it must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.show();
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let output = Output::new(arguments.output);
    if let Verb::Receipt(Receipt::Verify(what)) = &arguments.verb {
        return verb::receipt::verify(what, output);
    }
    let connection = Connection::new(&arguments.connect)?;
    match arguments.verb {
        Verb::Image(image) => verb::image::run(image, &connection, output).await,
        Verb::Machine(machine) => verb::machine::run(machine, &connection, output).await,
        Verb::Run(run) => verb::run::run(run, &connection, output).await,
        Verb::Receipt(receipt) => verb::receipt::run(receipt, &connection, output).await,
        Verb::Event(event) => verb::event::run(event, &connection, output).await,
        Verb::Dhcp(dhcp) => verb::dhcp::run(dhcp, &connection, output).await,
        Verb::Token(token) => verb::token::run(token, &connection, output).await,
        Verb::Status => verb::status::run(&connection, output).await,
    }
}

//! The executable `ottla`: parses the command line and hands over to one file per command.
//!
//! Results go to stdout, messages to stderr. An error ends with exit status 1 and says what to do next; a
//! reader that closes the pipe (`ottla consume … | head`) is no error.

mod commands;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use commands::{completions, serve};

/// A Kafka-protocol broker and its tools, in one binary.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, max_term_width = 110, after_help = EXAMPLES)]
struct Arguments {
    /// How results are printed to stdout: for people or for programs.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ottla serve                                      a broker on 127.0.0.1:9092, data in ./ottla-data

Every command but `serve` and `log dump` works against any Kafka cluster.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables and lines.
    Text,
    /// JSON: one document, or one document a line where results stream.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker.
    Serve(serve::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Serve(args) => serve::run(&args),
        Command::Completions(args) => completions::run(&args, &mut Arguments::command()),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

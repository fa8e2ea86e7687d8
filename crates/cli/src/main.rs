//! The executable `ottla`: parses the command line and calls the command, which has its own file.
//!
//! Results go to stdout, messages to stderr. An error ends with exit status 1 and the next step. A
//! reader that closes the pipe (`ottla consume … | head`) is not an error. Under `--output json`
//! each line of stderr is a JSON object: a message or an error.

mod candidates;
mod commands;
mod connect;
mod durability;
mod failure;
mod http;
mod instant;
mod moving;
mod offset_range;
mod outcomes;
mod output;
mod partitions;
mod patterns;
mod placing;
mod quantity;
mod settings;
mod stop;
mod throttle;
mod unset;
mod writers;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::CompleteEnv;

use commands::{
    broker, cluster, completions, config, consume, controller, group, log, loss, partition,
    produce, reference, serve, topic, why,
};
use output::Output;

/// A Kafka-protocol broker and its tools, in one binary.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, max_term_width = 110, after_help = EXAMPLES)]
struct Arguments {
    /// The format of results on stdout: text for people, JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ottla serve                                     a broker on 127.0.0.1:9092, data in ./ottla-data
  ottla topic create orders --partitions 6
  echo '42:two apples' | ottla produce orders --key-separator :
  ottla consume orders --from beginning --exit
  ottla group describe billing
  ottla cluster                                   brokers, disks, and what is wrong
  ottla COMMAND --help                            more examples

Every command but `serve`, `controller` and `log` takes the cluster as -b HOST:PORT; all but `why` and `loss` work against any Kafka.";

/// The exit status for a command line that cannot be parsed, the same as clap's.
const USAGE: u8 = 2;

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker.
    Serve(serve::Args),
    /// Show the brokers of a cluster, their disks and versions, and what is wrong.
    Cluster(cluster::Args),
    /// Create, list, describe, alter, trim and delete topics.
    Topic(topic::Args),
    /// Take brokers out of a cluster.
    Broker(broker::Args),
    /// Recover a metadata quorum whose majority is lost for good.
    Controller(controller::Args),
    /// Move partitions to other brokers.
    Partition(partition::Args),
    /// Write lines as records.
    Produce(produce::Args),
    /// Print records.
    Consume(consume::Args),
    /// List, describe, delete and reset consumer groups.
    Group(group::Args),
    /// Show and change the configs of topics, brokers and groups.
    Config(config::Args),
    /// Print, check and repair log files, without a broker.
    Log(log::Args),
    /// Show the acknowledged records that an Ottla cluster has lost, and why.
    Loss(loss::Args),
    /// Ask Ottla brokers why a topic was or was not compacted.
    Why(why::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Print docs/cli.md.
    #[command(hide = true)]
    Reference,
}

fn main() -> ExitCode {
    // A shell that completes a word sets a variable; the program then prints the candidates and
    // exits here.
    CompleteEnv::with_factory(|| candidates::offered(Arguments::command()))
        .var(completions::VARIABLE)
        .complete();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && asks_for_json(std::env::args()) => {
            output::write_to_stderr(&failure::usage_to_json(&error).to_string());
            return ExitCode::from(USAGE);
        }
        Err(error) => error.exit(),
    };
    let output = arguments.output;
    output::write_messages_as(output);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            failure::report(&error, output);
            ExitCode::FAILURE
        }
    }
}

/// Whether a command line that clap could not parse asks for `--output json`.
fn asks_for_json(words: impl Iterator<Item = String>) -> bool {
    let words: Vec<_> = words.take_while(|word| word != "--").collect();
    let is_joined = words.iter().any(|word| word == "--output=json");
    is_joined || words.windows(2).any(|pair| pair == ["--output", "json"])
}

fn run(arguments: Arguments) -> Result<()> {
    let output = arguments.output;
    match arguments.command {
        Command::Serve(args) => serve::run(&args, output),
        Command::Cluster(args) => cluster::run(&args, output),
        Command::Topic(args) => topic::run(&args, output),
        Command::Broker(args) => broker::run(&args, output),
        Command::Controller(args) => controller::run(&args, output),
        Command::Partition(args) => partition::run(&args, output),
        Command::Produce(args) => produce::run(&args, output),
        Command::Consume(args) => consume::run(&args, output),
        Command::Group(args) => group::run(&args, output),
        Command::Config(args) => config::run(&args, output),
        Command::Log(args) => log::run(&args, output),
        Command::Loss(args) => loss::run(&args, output),
        Command::Why(args) => why::run(&args, output),
        Command::Completions(args) => completions::run(&args),
        Command::Reference => reference::run(Arguments::command()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::{Command, CommandFactory as _};

    use super::Arguments;

    /// The long names for which each letter stands, with a command that says so.
    fn collect(
        command: &Command,
        path: &str,
        letters: &mut BTreeMap<char, BTreeMap<String, String>>,
    ) {
        for argument in command.get_arguments() {
            if let (Some(letter), Some(long)) = (argument.get_short(), argument.get_long()) {
                let meanings = letters.entry(letter).or_default();
                meanings.insert(long.to_owned(), path.to_owned());
            }
        }
        for below in command.get_subcommands() {
            collect(below, &format!("{path} {}", below.get_name()), letters);
        }
    }

    #[test]
    fn a_letter_means_the_same_in_all_commands() {
        let mut command = Arguments::command();
        command.build();
        let mut letters = BTreeMap::new();
        collect(&command, "ottla", &mut letters);
        assert!(letters.contains_key(&'b') && letters.contains_key(&'t'));
        assert_eq!(letters[&'t'].keys().collect::<Vec<_>>(), ["topic"]);
        for (letter, meanings) in letters {
            assert_eq!(
                meanings.len(),
                1,
                "-{letter} is several options: {meanings:?}"
            );
        }
    }

    #[test]
    fn the_tree_of_commands_holds_together() {
        Arguments::command().debug_assert();
    }
}

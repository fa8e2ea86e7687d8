//! `ottla-load`: the loads of `cargo xtask bench` and `limits` that generators of other projects cannot make.
//!
//! Latency from the due time; produce frames that are encoded once, so that the generator costs little; and many
//! partitions at once. Each load prints one line of JSON.

mod bare;
mod clock;
mod cold;
mod frames;
mod latency;
mod quantiles;
mod request;
mod spread;

use std::io::{self, Write as _};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "ottla-load", about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Produce and consume at a fixed rate, and print the latencies from the due times.
    Latency(latency::Args),
    /// As `latency`, while other consumers read a topic that is not in the page cache.
    Cold(cold::Args),
    /// Send the same produce frame again and again over several connections.
    Frames(frames::Args),
    /// Serve such frames with nothing but read, CRC, write and answer: the lower bound of a broker's cost.
    Bare(bare::Args),
    /// Write one small batch to each of many partitions, round after round, until the broker refuses.
    Spread(spread::Args),
    /// Read such batches from all parts of the log.
    ReadBack(spread::ReadArgs),
}

fn main() -> Result<()> {
    let report = match Arguments::parse().command {
        Command::Latency(args) => latency::run(&args)?,
        Command::Cold(args) => cold::run(&args)?,
        Command::Frames(args) => frames::run(&args)?,
        Command::Bare(args) => return bare::run(&args),
        Command::Spread(args) => spread::write(&args)?,
        Command::ReadBack(args) => spread::read(&args)?,
    };
    Ok(writeln!(io::stdout(), "{report}")?)
}

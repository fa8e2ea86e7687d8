//! `ottla-load`: loads of `cargo xtask bench` and `limits` that other people's generators cannot make.
//!
//! Latency from the intended send time, produce frames that are encoded once, so that the broker and not the
//! generator is what costs, and many partitions at once. Each prints one line of JSON.

mod bare;
mod clock;
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
    /// Produce and consume at a fixed rate, and say how long after its intended time each record was there.
    Latency(latency::Args),
    /// Send the same produce frame again and again over several connections.
    Frames(frames::Args),
    /// Serve such frames with nothing but read, CRC, write and answer: what a broker cannot go below.
    Bare(bare::Args),
    /// Write one small batch to each of many partitions, round after round, until the broker refuses.
    Spread(spread::Args),
    /// Read such batches back, from anywhere in the log.
    ReadBack(spread::ReadArgs),
}

fn main() -> Result<()> {
    let report = match Arguments::parse().command {
        Command::Latency(args) => latency::run(&args)?,
        Command::Frames(args) => frames::run(&args)?,
        Command::Bare(args) => return bare::run(&args),
        Command::Spread(args) => spread::write(&args)?,
        Command::ReadBack(args) => spread::read(&args)?,
    };
    Ok(writeln!(io::stdout(), "{report}")?)
}

//! `cargo xtask limits`: tiny segments until it breaks, and 10,000 partitions on one node, Ottla beside Apache Kafka.
//!
//! It checks only that Ottla serves where it must. It prints the measurements, and `--write` writes
//! them to docs/limits.md. Each broker starts on an empty directory with its own defaults.

mod compaction;
mod connections;
mod inodes;
mod load;
mod partitions;
mod sheet;
mod tiny_segments;
mod trial;
mod usage;

use std::fs;
use std::io::{self, Write as _};

use anyhow::Result;

use crate::measured::contender::Contender;
use crate::measured::page::Page;
use crate::measured::proc;
use crate::toolbox::ottla;

/// The document with the figures.
const PAGE: Page = Page {
    path: "docs/limits.md",
    mark: "<!-- Everything below is written by `cargo xtask limits --write`. -->",
};

/// What is brought to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Subject {
    /// A segment for each batch, 1,024 file descriptors.
    TinySegments,
    /// A file system whose inodes run out.
    Inodes,
    /// 10,000 partitions: ten topics of 1,000, and one of 10,000.
    Partitions,
    /// One topic under both cleaners.
    Compaction,
}

/// Options of `cargo xtask limits`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to bring to its limit [default: all].
    #[arg(
        value_enum,
        default_values_t = [
            Subject::TinySegments,
            Subject::Inodes,
            Subject::Partitions,
            Subject::Compaction,
        ]
    )]
    subjects: Vec<Subject>,

    /// Only these brokers.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [Contender::Kafka, Contender::Ottla]
    )]
    brokers: Vec<Contender>,

    /// The number of segments to create, in 1,000 partitions.
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(1000..))]
    segments: u32,

    /// Write the tables to docs/limits.md too; tables that are not measured again stay.
    #[arg(long)]
    write: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    ottla::release_with_load()?;
    let (day, machine) = (Page::today()?, proc::machine()?);
    let mut sheets = Vec::new();
    let mut left = Vec::new();
    for subject in &args.subjects {
        let mut sheet = match subject {
            Subject::TinySegments => tiny_segments::run(&args.brokers, args.segments, &mut left)?,
            Subject::Inodes => inodes::run(&args.brokers)?,
            Subject::Partitions => partitions::run(&args.brokers, &mut left)?,
            Subject::Compaction => compaction::run(&args.brokers)?,
        };
        for column in sheet.columns() {
            sheet.set(("measured on", &column), day.as_str());
        }
        io::stdout().lock().write_all(sheet.render().as_bytes())?;
        sheets.push(sheet);
    }
    if args.write {
        let tables = sheet::merged(&PAGE.measured()?, sheets);
        PAGE.write(&format!("Measured with {machine}.\n\n{tables}"))?;
    }
    // Millions of files are removed at the end: a file system that discards freed blocks needs
    // longer to remove them than to write them.
    for directory in left {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}

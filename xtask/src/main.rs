//! `cargo xtask`: the commands for development, tests and measurements. One file per subcommand.

mod adopt;
mod bench;
mod check;
mod cli_test;
mod cluster;
mod codec_test;
mod compat;
mod crash;
mod damage;
mod ecosystem;
mod failover;
mod full_load;
mod fuzz;
mod generate;
mod licences;
mod limits;
mod measured;
mod mixed;
mod operations;
mod package;
mod port;
mod racks;
mod scale;
mod seeds;
mod sim;
mod soak;
mod suites;
mod sweep;
mod tidy;
mod time;
mod toolbox;
mod torture;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Set-up, generation, tidy checks and the whole gate.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Move data directories from Apache Kafka to Ottla and back.
    Adopt(adopt::Args),
    /// Moves the directories of three nodes from Apache Kafka to Ottla, back, and to Ottla again.
    AdoptCluster(adopt::cluster::Args),
    /// Measure Ottla beside Apache Kafka on this machine.
    Bench(bench::Args),
    /// Run the whole gate, as CI does.
    Check(check::Args),
    /// Run the commands of ottla against Ottla and Apache Kafka.
    CliTest(cli_test::Args),
    /// Run three nodes under faults and the load of real clients, and check all that they were told.
    Cluster(cluster::Args),
    /// Compare the codec with Apache Kafka's own classes.
    CodecTest(codec_test::Args),
    /// Run clients of other projects against a real broker.
    Compat(compat::Args),
    /// Kill a broker with -9 under load; everything acknowledged must be there.
    Crash(crash::Args),
    /// Damage a data directory: clients must get errors for the damaged batches only, and a repair
    /// must work.
    Damage,
    /// Move records with tools that users run on a broker: Kafka Connect, Streams, Flink,
    /// MirrorMaker, Spark.
    Ecosystem(ecosystem::Args),
    /// Measure how long clients wait when one of three nodes fails.
    Failover(failover::Args),
    /// Fuzz the parsers of network and disk for a short time.
    Fuzz(fuzz::Args),
    /// Write the messages of `ottla-protocol` from the schemas in Kafka's jars.
    Generate(generate::Args),
    /// Fill a disk image: produce must be refused, the rest must work, and free space must restore
    /// everything.
    FullDisk(crash::Args),
    /// Keep three nodes and all cores busy: no healthy node may be fenced.
    FullLoad(full_load::Args),
    /// Measure limits beside Apache Kafka: tiny segments until it breaks, inodes, 10,000
    /// partitions, compaction.
    Limits(limits::Args),
    /// Run a broker of Apache Kafka in a cluster whose controller is Ottla's.
    Mixed(mixed::Args),
    /// Run the commands of docs/operations.md as they stand there, and Apache Kafka's tools, under
    /// the load of real clients.
    Operations,
    /// Build what users install (the Debian package, the image's last stage), and run it.
    Package,
    /// Cut the power of a disk image under load; everything acknowledged must be there.
    PowerCut(crash::Args),
    /// Consumers with a rack must read from the replica in it.
    Racks,
    /// Measure a cluster of eight processes with thousands of partitions.
    Scale(scale::Args),
    /// Simulate a node and its clients with a disk, clock and network that fail, from many seeds.
    Sim(sim::Args),
    /// Restart a broker under a producer and consumers of ottla again and again, and add
    /// partitions.
    Soak(soak::Args),
    /// Freeze a disk image under load: only requests that need it may wait.
    StalledDisk(crash::Args),
    /// Send all kinds of requests to Ottla and to Apache Kafka, and compare the outcomes.
    Sweep(sweep::Args),
    /// Run the test suites of other clients against a real broker.
    Suites(suites::Args),
    /// Check the rules of the tree that no compiler checks.
    Tidy,
    /// Torture the log on a simulated disk, from many seeds.
    Torture(torture::Args),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Adopt(args) => print(&adopt::run(&args)?),
        Command::AdoptCluster(args) => print(&adopt::cluster::run(&args)?),
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args),
        Command::CliTest(args) => print(&cli_test::run(&args)?),
        Command::Cluster(args) => print(&cluster::run(&args)?),
        Command::CodecTest(args) => print(&codec_test::run(&args)?),
        Command::Compat(args) => compat::run(&args),
        Command::Crash(args) => print(&crash::crash(&args)?),
        Command::Damage => print(&damage::run()?),
        Command::Ecosystem(args) => ecosystem::run(&args),
        Command::Failover(args) => print(&failover::run(&args)?),
        Command::FullDisk(args) => print(&crash::full_disk(&args)?),
        Command::FullLoad(args) => print(&full_load::run(&args)?),
        Command::Limits(args) => limits::run(&args),
        Command::Mixed(args) => print(&mixed::run(&args)?),
        Command::Operations => print(&operations::run()?),
        Command::Package => print(&package::run()?),
        Command::PowerCut(args) => print(&crash::power_cut(&args)?),
        Command::Racks => print(&racks::run()?),
        Command::Scale(args) => print(&scale::run(&args)?),
        Command::Sim(args) => print(&sim::run(&args)?),
        Command::Soak(args) => print(&soak::run(&args)?),
        Command::StalledDisk(args) => print(&crash::stalled_disk(&args)?),
        Command::Fuzz(args) => print(&fuzz::run(&args)?),
        Command::Generate(args) => generate::run(&args),
        Command::Sweep(args) => print(&sweep::run(&args)?),
        Command::Suites(args) => suites::run(&args),
        Command::Tidy => print(&tidy::run()?),
        Command::Torture(args) => print(&torture::run(&args)?),
    }
}

/// Writes a command's one-line result.
#[expect(
    clippy::unnecessary_wraps,
    clippy::print_stdout,
    reason = "it takes the place of a command's result"
)]
fn print(result: &str) -> Result<()> {
    println!("{result}");
    Ok(())
}

//! One run of one broker: start, warm-up, each load of the plan, and its cost.
//!
//! Each load has its own topic, which is deleted afterwards. Dirty pages of earlier loads are
//! written out before the next measurement. A load that fails on Ottla or Kafka ends the command;
//! on other brokers it leaves a gap.

use std::collections::BTreeSet;

use anyhow::Result;

use super::cold;
use super::load::{self, Generator, Load};
use super::own::{self, FRAMES, Frames, Latency};
use super::table::{Figures, RowName, Section};
use crate::measured::broker::Running;
use crate::measured::contender::{Contender, Durability, Setup, program};
use crate::measured::proc::{self, Process};
use crate::measured::{output, say};

/// The amount that each of two loads writes and reads before the measurement, so that a JVM has
/// compiled its hot code.
const WARM_UP_MEGABYTES: u32 = 500;
/// Loads are smaller by this factor where each batch waits for the disk.
const DURABLE_DIVISOR: u32 = 4;

/// How much of a load is measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Amount {
    /// MB of a throughput load.
    pub megabytes: u32,
    /// Seconds of a latency load.
    pub seconds: u32,
    /// MB that consumers read from the disk.
    pub cold_megabytes: u32,
}

/// The loads of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub durability: Durability,
    /// How many nodes a cluster has.
    pub nodes: u32,
    amount: Amount,
    loads: Vec<Load>,
    latency: Vec<Latency>,
    frames: Vec<Frames>,
    has_cold_reads: bool,
}

impl Plan {
    /// The loads that apply to this durability, filtered by name.
    pub fn new(
        durability: Durability,
        amount: Amount,
        loads: &[Load],
        is_chosen: impl Fn(&str) -> bool,
    ) -> Self {
        let (loads, latency, frames) = match durability {
            Durability::PageCache => (
                loads.to_vec(),
                ["1", "all"].map(Latency::busy).to_vec(),
                FRAMES.to_vec(),
            ),
            Durability::Fsync => (
                load::durable(loads),
                ["all", "1", "0"].map(Latency::busy).to_vec(),
                Vec::new(),
            ),
            Durability::Default => (
                Vec::new(),
                ["all", "1", "0"].map(Latency::alone).to_vec(),
                Vec::new(),
            ),
        };
        let amount = Amount {
            megabytes: Self::share(durability, amount.megabytes),
            ..amount
        };
        let is_load = |load: &Load| is_chosen(&load.name());
        Self {
            durability,
            nodes: 1,
            amount,
            loads: loads.into_iter().filter(is_load).collect(),
            latency: latency
                .into_iter()
                .filter(|latency| is_chosen(&latency.name()))
                .collect(),
            frames: frames
                .into_iter()
                .filter(|frames| is_chosen(frames.name))
                .collect(),
            has_cold_reads: durability != Durability::Default && is_chosen(cold::NAME),
        }
    }

    /// The loads with acks=all on this number of nodes, with each record on all of them.
    pub fn replicated(self, nodes: u32) -> Self {
        let is_replicated =
            |load: &Load| load.acks == "all" && load.generator == Generator::Librdkafka;
        Self {
            nodes,
            loads: self.loads.into_iter().filter(is_replicated).collect(),
            latency: self
                .latency
                .into_iter()
                .filter(|latency| latency.acks == "all")
                .map(Latency::on_one_partition)
                .collect(),
            frames: Vec::new(),
            has_cold_reads: false,
            ..self
        }
    }

    fn share(durability: Durability, megabytes: u32) -> u32 {
        match durability {
            Durability::PageCache => megabytes,
            Durability::Fsync | Durability::Default => megabytes.div_ceil(DURABLE_DIVISOR),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.loads.is_empty()
            && self.latency.is_empty()
            && self.frames.is_empty()
            && !self.has_cold_reads
    }

    /// The names of all loads.
    pub fn names() -> Vec<String> {
        let all = [
            Durability::PageCache,
            Durability::Fsync,
            Durability::Default,
        ];
        let plans = all.map(|each| Self::new(each, Amount::default(), &load::chosen(), |_| true));
        let mut names = Vec::new();
        for plan in &plans {
            names.extend(plan.loads.iter().map(Load::name));
            names.extend(plan.latency.iter().map(Latency::name));
            names.extend(plan.frames.iter().map(|frames| frames.name.to_owned()));
            names.extend(plan.has_cold_reads.then(|| cold::NAME.to_owned()));
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}

/// A broker while it is measured.
pub struct Session<'a> {
    contender: Contender,
    running: Running,
    plan: &'a Plan,
    figures: &'a mut Figures,
    /// How many topics it has created.
    topics: u32,
}

/// Processor time used by the broker, or all nodes of its cluster, and by the whole machine.
struct Cpu {
    broker: f64,
    machine: f64,
}

impl Session<'_> {
    /// Measures a broker once.
    pub fn run(contender: Contender, plan: &Plan, figures: &mut Figures) -> Result<()> {
        if contender == Contender::BareLoop && plan.frames.is_empty() {
            return Ok(());
        }
        let mut session = Session {
            contender,
            running: Running::start(&Setup {
                nodes: plan.nodes,
                ..Setup::new(contender, plan.durability)
            })?,
            plan,
            figures,
            topics: 0,
        };
        if contender == Contender::BareLoop {
            session.frames()?;
            return session.running.stop();
        }
        let started_after = session.running.started_after.as_secs_f64() * 1e3;
        session.add_broker("start to first answer, ms", started_after);
        let idle = session.running.sum(Process::resident_mib)?;
        session.add_broker("resident memory idle, MiB", idle);
        session.warm_up()?;
        for load in &plan.loads {
            session.attempt(&load.name(), |session| session.load(load))?;
        }
        for latency in &plan.latency {
            session.attempt(&latency.name(), |session| session.latency(latency))?;
        }
        session.frames()?;
        // Tansu keeps everything in memory.
        if plan.has_cold_reads && contender != Contender::Tansu {
            session.attempt(cold::NAME, Session::cold_reads)?;
        }
        let peak = session.running.sum(Process::peak_resident_mib)?;
        session.add_broker("resident memory at most, MiB", peak);
        let files = session.running.sum(Process::open_files)?;
        session.add_broker("open files at the end", files);
        let maps = session.running.sum(Process::memory_maps)?;
        session.add_broker("memory maps at the end", maps);
        session.running.stop()
    }

    fn attempt(&mut self, name: &str, measure: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        say(&format!("  {name}"))?;
        let measured = measure(self);
        match self.contender {
            Contender::Tansu => measured.or_else(|error| say(&format!("  -: {error:#}"))),
            Contender::Kafka | Contender::Ottla | Contender::BareLoop => measured,
        }
    }

    fn warm_up(&mut self) -> Result<()> {
        let loads = load::chosen();
        let spread = loads.iter().find(|load| load.partitions > 1);
        for load in loads.first().into_iter().chain(spread) {
            self.attempt("warm-up", |session| {
                let topic = session.create_topic("warm-up", load.partitions)?;
                let records = load.records(Plan::share(session.plan.durability, WARM_UP_MEGABYTES));
                load.produce(session.running.bootstrap(), &topic, records)?;
                load.consume(session.running.bootstrap(), &topic, records)?;
                session.delete_topic(&topic)
            })?;
        }
        Ok(())
    }

    /// Writes and reads one load.
    fn load(&mut self, load: &Load) -> Result<()> {
        let topic = self.create_topic("load", load.partitions)?;
        let records = load.records(self.plan.amount.megabytes);
        let gigabytes = (records * u64::from(load.record_bytes)) as f64 / 1e9;
        let per_record = f64::from(load.record_bytes) / 1e6;
        let bootstrap = self.running.bootstrap().to_owned();
        rustix::fs::sync();
        let before = self.cpu()?;
        let produced = load.produce(&bootstrap, &topic, records)?;
        let between = self.cpu()?;
        let consumed = load.consume(&bootstrap, &topic, records)?;
        let after = self.cpu()?;
        let name = load.name();
        for (verb, rate, from, to) in [
            ("Produce", produced, &before, &between),
            ("Consume", consumed, &between, &after),
        ] {
            let mut add = |figure: &str, value| {
                self.add(&format!("{verb}, {figure}"), &name, value);
            };
            add("MB/s", rate * per_record);
            add("1,000 records/s", rate / 1e3);
            add("broker CPU s/GB", (to.broker - from.broker) / gigabytes);
            add("machine CPU s/GB", (to.machine - from.machine) / gigabytes);
        }
        self.delete_topic(&topic)
    }

    fn latency(&mut self, latency: &Latency) -> Result<()> {
        let topic = self.create_topic("latency", latency.partitions())?;
        rustix::fs::sync();
        let before = self.cpu()?;
        let seconds = self.plan.amount.seconds;
        let measured = own::latency(self.running.bootstrap(), &topic, latency, seconds)?;
        let after = self.cpu()?;
        for (name, value) in measured {
            self.add(&latency.caption(), &name, value);
        }
        let share = (after.broker - before.broker) / f64::from(seconds + own::LATENCY_WARM_UP);
        let table = "Produce and consume at that rate, broker CPU in % of a core";
        self.add(table, &format!("acks {}", latency.acks), share * 100.0);
        self.delete_topic(&topic)
    }

    /// Measures the same latency alone and beside readers of cold records.
    fn cold_reads(&mut self) -> Result<()> {
        let bootstrap = self.running.bootstrap().to_owned();
        let cold_topic = self.create_topic("cold", cold::READERS)?;
        own::frames(
            &cold::FRAMES,
            &bootstrap,
            &cold_topic,
            self.plan.amount.cold_megabytes,
        )?;
        rustix::fs::sync();
        let latency = Latency::beside_cold_reads();
        let table = latency.caption();
        let topic = self.create_topic("alone", latency.partitions())?;
        let seconds = self.plan.amount.seconds;
        for (name, value) in own::latency(&bootstrap, &topic, &latency, seconds)? {
            self.add(&table, &format!("{name}, alone"), value);
        }
        self.delete_topic(&topic)?;
        let topic = self.create_topic("beside", latency.partitions())?;
        cold::evict(&self.running.directory().join("data"), &cold_topic)?;
        let (figures, rate) = cold::beside(&bootstrap, (&topic, &cold_topic), &latency)?;
        for (name, value) in figures {
            let name = format!("acks all: {name}, beside cold readers");
            self.add(&table, &name, value);
        }
        self.add(
            "Consume from the disk meanwhile, MB/s",
            "two consumers",
            rate,
        );
        self.delete_topic(&topic)?;
        self.delete_topic(&cold_topic)
    }

    fn frames(&mut self) -> Result<()> {
        for frames in &self.plan.frames {
            self.attempt(frames.name, |session| session.send_frames(frames))?;
        }
        Ok(())
    }

    fn send_frames(&mut self, frames: &Frames) -> Result<()> {
        let is_broker = self.contender != Contender::BareLoop;
        let topic = if is_broker {
            self.create_topic("frames", frames.connections)?
        } else {
            "frames".to_owned()
        };
        let megabytes = (self.plan.amount.megabytes * frames.percent).div_ceil(100);
        rustix::fs::sync();
        let before = self.cpu()?;
        let sent = own::frames(frames, self.running.bootstrap(), &topic, megabytes)?;
        let after = self.cpu()?;
        let mut add = |table: &str, value| {
            let row = RowName {
                section: Section::BareLoop,
                table,
                name: frames.name,
            };
            self.figures.add(row, self.contender, value);
        };
        add("Produce, MB/s", sent.gigabytes * 1e3 / sent.seconds);
        let cpu = (after.broker - before.broker) / sent.gigabytes;
        add("Produce, server CPU s/GB", cpu);
        if is_broker {
            self.delete_topic(&topic)?;
        }
        Ok(())
    }

    fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu {
            broker: self.running.sum(Process::cpu_seconds)?,
            machine: proc::machine_cpu_seconds()?,
        })
    }

    fn add_broker(&mut self, name: &str, value: f64) {
        self.add("The broker", name, value);
    }

    fn add(&mut self, table: &str, name: &str, value: f64) {
        let row = RowName {
            section: match self.plan.nodes {
                1 => Section::Brokers(self.plan.durability),
                _ => Section::ThreeNodes(self.plan.durability),
            },
            table,
            name,
        };
        self.figures.add(row, self.contender, value);
    }

    /// A name is used only once, because brokers delete topics in the background.
    fn create_topic(&mut self, purpose: &str, partitions: u32) -> Result<String> {
        self.topics += 1;
        let topic = format!("{purpose}-{}", self.topics);
        let mut create = program("ottla");
        create.args(["topic", "create", &topic]);
        create.args(["--partitions", &partitions.to_string()]);
        if self.plan.nodes > 1 {
            create.args(["--replication-factor", &self.plan.nodes.to_string()]);
            create.args(["--config", "min.insync.replicas=2"]);
        }
        create.args(["--bootstrap-server", self.running.bootstrap()]);
        output(&mut create)?;
        // Kafka answers CreateTopics before it serves the topic.
        let mut describe = program("ottla");
        describe.args(["topic", "describe", &topic]);
        describe.args(["--bootstrap-server", self.running.bootstrap()]);
        self.running.wait_until(|| output(&mut describe).is_ok())?;
        Ok(topic)
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        let mut delete = program("ottla");
        delete.args(["topic", "delete", topic]);
        delete.args(["--bootstrap-server", self.running.bootstrap()]);
        output(&mut delete)?;
        Ok(())
    }
}

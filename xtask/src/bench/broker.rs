//! A broker under measurement: started as its operators start it, watched through `/proc`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::compat::broker::Kind;
use crate::toolbox::{self, maven};

/// The longest that a start or a stop may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// `USER_HZ`, in which `/proc` counts processor time; 100 on every architecture that the JVM and we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// When a record is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is in the page cache, as Kafka does by default.
    PageCache,
    /// When it is on stable storage.
    StableStorage,
}

impl Durability {
    /// The keys that say so.
    fn properties(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::PageCache, Kind::Ottla) => "ottla.ack.durability=page-cache\n",
            (Self::PageCache, Kind::Kafka) => "",
            (Self::StableStorage, Kind::Ottla) => "ottla.ack.durability=fsync\n",
            (Self::StableStorage, Kind::Kafka) => "log.flush.interval.messages=1\n",
        }
    }
}

/// A broker that answers. It is killed when dropped.
pub struct Running {
    child: Child,
    bootstrap: String,
    directory: PathBuf,
    /// From the start of the process to its first answer.
    pub started_after: Duration,
}

/// Builds Ottla as it is released.
pub fn build() -> Result<()> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "ottla-cli"])
        .status()?;
    if !built.success() {
        bail!("ottla does not build");
    }
    Ok(())
}

impl Running {
    /// Starts a broker on an empty directory.
    pub fn start(kind: Kind, durability: Durability) -> Result<Self> {
        let directory =
            toolbox::workspace().join(format!("target/bench/{kind:?}-{}", std::process::id()));
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let port = free_port()?;
        let config = directory.join("server.properties");
        let keys = durability.properties(kind);
        fs::write(
            &config,
            properties(port, free_port()?, &directory.join("data")) + keys,
        )?;
        let mut command = match kind {
            Kind::Ottla => ottla(&config),
            Kind::Kafka => kafka(&config)?,
        };
        let log = fs::File::create(directory.join("broker.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let start = now();
        let child = command
            .spawn()
            .with_context(|| format!("could not start {command:?}"))?;
        let mut running = Self {
            child,
            bootstrap: format!("127.0.0.1:{port}"),
            directory,
            started_after: Duration::ZERO,
        };
        while !answers(port) {
            if start.elapsed() > PATIENCE || running.child.try_wait()?.is_some() {
                bail!(
                    "the broker does not answer; see {}/broker.log",
                    running.directory.display()
                );
            }
            pause(Duration::from_millis(1));
        }
        running.started_after = start.elapsed();
        Ok(running)
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The processor time that the broker has used.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name in parentheses may hold spaces; the fields are counted behind it.
        let fields = stat.rsplit_once(") ").context("no process name in stat")?.1;
        let ticks = |at: usize| -> Result<f64> {
            let field = fields.split(' ').nth(at).context("stat is too short")?;
            Ok(field.parse::<u32>().map(f64::from)?)
        };
        // Fields 14 and 15 of proc(5): user and system time.
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    /// What lies in memory now.
    pub fn resident_mib(&self) -> Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// The most that has lain in memory.
    pub fn peak_resident_mib(&self) -> Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// Open file descriptors.
    pub fn open_files(&self) -> Result<f64> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id()))?;
        Ok(open.count() as f64)
    }

    /// Memory maps.
    pub fn memory_maps(&self) -> Result<f64> {
        Ok(self.proc("maps")?.lines().count() as f64)
    }

    fn status_mib(&self, field: &str) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: u32 = kib
            .with_context(|| format!("no {field} in status"))?
            .parse()?;
        Ok(f64::from(kib) / 1024.0)
    }

    fn proc(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(format!(
            "/proc/{}/{file}",
            self.child.id()
        ))?)
    }

    /// Ends the broker and removes what it wrote.
    pub fn stop(mut self) -> Result<()> {
        let id = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(id).context("a child has a process id")?;
        kill_process(pid, Signal::TERM)?;
        let start = now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            pause(Duration::from_millis(20));
        }
        Ok(fs::remove_dir_all(&self.directory)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn properties(port: u16, controller_port: u16, data: &Path) -> String {
    let data = data.display();
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={data}\noffsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nottla.http.listen=127.0.0.1:0\n"
    )
}

fn ottla(config: &Path) -> Command {
    let program = toolbox::workspace().join("target/release/ottla");
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(config);
    command
}

/// Apache Kafka with the JVM flags of its own start script.
fn kafka(config: &Path) -> Result<Command> {
    let jars = maven::kafka_jars()?.join("*");
    let format = Command::new("java")
        .arg("-cp")
        .arg(&jars)
        .args([
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            "b3R0bGEtYmVuY2gtMDAwMQ",
        ])
        .arg("--config")
        .arg(config)
        .output()?;
    if !format.status.success() {
        bail!(
            "kafka-storage format failed:\n{}",
            String::from_utf8_lossy(&format.stderr)
        );
    }
    let mut command = Command::new("java");
    command.args([
        "-Xmx1G",
        "-Xms1G",
        "-server",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
        "-XX:+ExplicitGCInvokesConcurrent",
        "-Djava.awt.headless=true",
        "-cp",
    ]);
    command.arg(&jars).arg("kafka.Kafka").arg(config);
    Ok(command)
}

/// Whether the broker answers a Metadata request, version 1, for no topic with itself as its one broker.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0])?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer[11] == 1)
    };
    ask().unwrap_or(false)
}

#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this is for"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a process outside does not say when it starts to serve or ends"
)]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

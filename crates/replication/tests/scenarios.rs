//! Runs the stories in `tests/scenarios/`: the leader of a partition, its followers and the controller, and where the
//! high watermark is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::time::MonotonicTime;
use ottla_replication::{Answer, EpochStart, IsrChange, Leader, LeaderLog, Progress, Role};

/// `replica.lag.time.max.ms`.
const MAX_LAG: Duration = Duration::from_secs(30);

#[test]
fn scenarios_play_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    ottla_scenario::play_all(&directory, 6, || {
        let mut stage = Stage::default();
        move |line: &str| stage.run(line)
    });
}

/// Node 1 leads.
#[derive(Default)]
struct Stage {
    leader: Option<Leader>,
    end: i64,
    flushed: i64,
    min_isr: usize,
    now: MonotonicTime,
}

impl Stage {
    fn run(&mut self, text: &str) -> String {
        let mut words = text.split(' ');
        let verb = words.next().unwrap();
        let values: BTreeMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
        let number = |name: &str| values.get(name).map(|value| value.parse::<i64>().unwrap());
        match verb {
            "lead" => self.lead(&values),
            "append" => {
                self.end = number("end").unwrap();
                self.show(None)
            }
            "flush" => {
                self.flushed = number("to").unwrap_or(self.end);
                self.show(None)
            }
            "fetch" => {
                let end = Offset(number("from").unwrap());
                let progress = Progress {
                    end,
                    counted: number("flushed").map_or(end, Offset),
                };
                let (log, now) = (self.log(), self.now);
                let node = NodeId(i32::try_from(number("by").unwrap()).unwrap());
                let change = self.leader().on_fetch(node, progress, log, now);
                self.show(change)
            }
            "wait" => {
                let seconds = u64::try_from(number("seconds").unwrap()).unwrap();
                self.now = self.now.after(Duration::from_secs(seconds));
                let (log, now) = (self.log(), self.now);
                let change = self.leader().on_tick(log, now);
                self.show(change)
            }
            "controller" => self.controller(text),
            "metadata" => self.metadata(&values),
            other => panic!("what is {other}?"),
        }
    }

    fn lead(&mut self, values: &BTreeMap<&str, &str>) -> String {
        let number = |name: &str| values.get(name).map(|value| value.parse::<i32>().unwrap());
        let nodes = |name: &str| nodes(values, name);
        self.min_isr = usize::try_from(number("min").unwrap_or(1)).unwrap();
        let role = Role {
            node: NodeId(1),
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(number("epoch").unwrap()),
            partition_epoch: 0,
            replicas: nodes("replicas"),
            isr: nodes("isr"),
        };
        let before = self.leader.as_ref();
        let start = EpochStart {
            offset: Offset(self.end),
            high_watermark: before.map_or(Offset(0), Leader::high_watermark),
        };
        self.leader = Some(Leader::new(role, start, MAX_LAG, self.now));
        self.show(None)
    }

    /// The metadata has an ISR with this partition epoch.
    fn metadata(&mut self, values: &BTreeMap<&str, &str>) -> String {
        let role = Role {
            partition_epoch: values["epoch"].parse().unwrap(),
            isr: nodes(values, "isr"),
            ..self.leader().role().clone()
        };
        let now = self.now;
        self.leader().on_role(role, now);
        self.show(None)
    }

    /// The controller commits the pending change, refuses it, or does not answer.
    fn controller(&mut self, text: &str) -> String {
        let now = self.now;
        let pending = self.leader().pending().cloned();
        match text {
            "controller commits" => {
                let mut role = self.leader().role().clone();
                role.isr = pending.unwrap().isr;
                role.partition_epoch += 1;
                self.leader().on_answer(Answer::Committed);
                self.leader().on_role(role, now);
            }
            "controller refuses" => self.leader().on_answer(Answer::Refused),
            "controller is silent" => self.leader().on_answer(Answer::Unknown),
            other => panic!("what is {other}?"),
        }
        self.show(None)
    }

    fn leader(&mut self) -> &mut Leader {
        self.leader.as_mut().unwrap()
    }

    fn log(&self) -> LeaderLog {
        LeaderLog {
            progress: Progress {
                end: Offset(self.end),
                counted: Offset(self.flushed),
            },
            min_insync_replicas: self.min_isr,
        }
    }

    fn show(&mut self, change: Option<IsrChange>) -> String {
        let (log, now, min_isr) = (self.log(), self.now, self.min_isr);
        if let Some(next) = self.leader().next_high_watermark(log, now) {
            self.leader().advanced(next);
        }
        let leader = self.leader();
        let ids = |nodes: &[NodeId]| nodes.iter().map(|id| id.0).collect::<Vec<_>>();
        let mut shown = format!(
            "high watermark {} isr {:?}",
            leader.high_watermark(),
            ids(&leader.role().isr)
        );
        if leader.has_too_few_in_sync(min_isr) {
            shown += ", acks=all is refused";
        }
        if let Some(change) = change {
            write!(shown, ", proposes isr {:?}", ids(&change.isr)).unwrap();
        }
        shown + "\n"
    }
}

/// A list of nodes, as in `isr=1,2`.
fn nodes(values: &BTreeMap<&str, &str>, name: &str) -> Vec<NodeId> {
    let list = values
        .get(name)
        .into_iter()
        .flat_map(|list| list.split(','));
    list.map(|id| NodeId(id.parse().unwrap())).collect()
}

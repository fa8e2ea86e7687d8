//! Runs the stories in `tests/scenarios/`: the leader of a partition, its followers and the controller, and where the
//! high watermark is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::time::MonotonicTime;
use ottla_replication::{
    Answer, Broker, Brokers, Committed, EpochStart, IsrChange, Leader, Progress, Replica, Role,
    Situation,
};

/// `replica.lag.time.max.ms`.
const MAX_LAG: Duration = Duration::from_secs(30);

#[test]
fn scenarios_play_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    ottla_scenario::play_all(&directory, 12, || {
        let mut stage = Stage::default();
        move |line: &str| stage.run(line)
    });
}

/// Node 1 leads. Nodes 1, 2 and 3 are registered with their ids as broker epochs.
struct Stage {
    leader: Option<Leader>,
    brokers: BTreeMap<NodeId, Broker>,
    end: i64,
    flushed: i64,
    min_isr: usize,
    now: MonotonicTime,
}

impl Default for Stage {
    fn default() -> Self {
        let brokers = (1..=3).map(|id| {
            let broker = Broker {
                epoch: id.into(),
                is_fenced: false,
                is_shutting_down: false,
            };
            (NodeId(id), broker)
        });
        Self {
            leader: None,
            brokers: brokers.collect(),
            end: 0,
            flushed: 0,
            min_isr: 0,
            now: MonotonicTime::default(),
        }
    }
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
                let from = Replica {
                    node: NodeId(i32::try_from(number("by").unwrap()).unwrap()),
                    broker_epoch: number("epoch"),
                };
                match self.deciding(|leader, at| leader.on_fetch(from, progress, at)) {
                    Ok(change) => self.show(change),
                    Err(refused) => format!("{refused}\n"),
                }
            }
            "wait" => {
                let seconds = u64::try_from(number("seconds").unwrap()).unwrap();
                self.now = self.now.after(Duration::from_secs(seconds));
                let change = self.deciding(Leader::on_tick);
                self.show(change)
            }
            "broker" => self.broker(text),
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
            recovering: false,
        };
        let before = self.leader.as_ref();
        let start = EpochStart {
            offset: Offset(self.end),
            high_watermark: before.map_or(Offset(0), Leader::high_watermark),
        };
        self.leader = Some(Leader::new(role, start, self.now));
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

    /// `broker N …`: what becomes of node N.
    fn broker(&mut self, text: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        let node = NodeId(words[1].parse().unwrap());
        let broker = self.brokers.get_mut(&node).unwrap();
        match words[2] {
            "fenced" => broker.is_fenced = true,
            "unfenced" => broker.is_fenced = false,
            "shuts" => broker.is_shutting_down = true,
            "restarted" => broker.epoch += 10,
            other => panic!("what is {other}?"),
        }
        self.show(None)
    }

    /// The controller commits the pending change, refuses it, or does not answer.
    fn controller(&mut self, text: &str) -> String {
        let now = self.now;
        let pending = self.leader().pending().cloned().unwrap();
        let committed = Committed {
            leader_epoch: pending.leader_epoch,
            partition_epoch: pending.partition_epoch + 1,
            isr: pending.isr.iter().map(|member| member.node).collect(),
        };
        let answer = match text {
            "controller commits" => Answer::Committed(committed),
            "controller refuses" => Answer::of_error(ErrorCode::IneligibleReplica),
            "controller has newer metadata" => Answer::of_error(ErrorCode::InvalidUpdateVersion),
            "controller is silent" => Answer::of_error(ErrorCode::RequestTimedOut),
            "controller answers an earlier change" => {
                let mut earlier = pending;
                earlier.partition_epoch -= 1;
                self.leader().on_answer(&earlier, Answer::Refused, now);
                return self.show(None);
            }
            other => panic!("what is {other}?"),
        };
        self.leader().on_answer(&pending, answer, now);
        self.show(None)
    }

    fn leader(&mut self) -> &mut Leader {
        self.leader.as_mut().unwrap()
    }

    fn deciding<T>(&mut self, decide: impl FnOnce(&mut Leader, &Situation<'_>) -> T) -> T {
        let brokers: Brokers = self
            .brokers
            .iter()
            .map(|(id, broker)| (*id, *broker))
            .collect();
        let at = Situation {
            progress: Progress {
                end: Offset(self.end),
                counted: Offset(self.flushed),
            },
            min_insync_replicas: self.min_isr,
            max_lag: MAX_LAG,
            brokers: &brokers,
            now: self.now,
        };
        decide(self.leader.as_mut().unwrap(), &at)
    }

    fn show(&mut self, change: Option<IsrChange>) -> String {
        let min_isr = self.min_isr;
        if let Some(next) = self.deciding(|leader, at| leader.next_high_watermark(at)) {
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
            let members: Vec<_> = change.isr.iter().map(|member| member.node).collect();
            write!(shown, ", proposes isr {:?}", ids(&members)).unwrap();
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

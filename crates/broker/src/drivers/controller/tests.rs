//! The controller and its follower, over a log that only counts.

use super::{ControllerLoop, DrivenQuorum, Quorum, controller};
use crate::cluster::channel::NoController;
use crate::cluster::sessions::Sessions;
use crate::process::clock::Clock;
use ottla_controller::QuorumEvent;
use ottla_controller::Settings;
use ottla_controller::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
use ottla_controller::brokers::Registration;
use ottla_controller::create_topics::NewTopic;
use ottla_controller::request::{BrokerHeartbeat, CreateTopics, RegisterBroker};
use ottla_metadata::{BrokerRegistration, FeatureRange, Loader, MetadataVersion, versions};
use ottla_protocol::ids::{NodeId, Offset, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

/// The batches that were proposed, whether the disk fails, and the events that were not taken yet.
#[derive(Clone)]
struct Batches(Arc<Mutex<Vec<usize>>>, bool, Vec<QuorumEvent>);

impl Batches {
    fn new(fails: bool) -> Self {
        Self(Arc::default(), fails, vec![QuorumEvent::LeadershipGained])
    }
}

impl DrivenQuorum for Batches {
    async fn wait(&mut self) {
        std::future::pending::<()>().await;
    }

    fn close(self) {}
}

impl Quorum for Batches {
    type Error = &'static str;

    fn next_offset(&self) -> Offset {
        Offset(self.0.lock().unwrap().iter().sum::<usize>() as i64)
    }

    fn propose(
        &mut self,
        records: &[MetadataRecord],
        _: MetadataVersion,
    ) -> Result<(), &'static str> {
        if self.1 {
            return Err("disk failed");
        }
        self.0.lock().unwrap().push(records.len());
        let (end, records) = (self.next_offset(), records.to_vec());
        self.2.push(QuorumEvent::Committed { end, records });
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, &'static str> {
        Ok(std::mem::take(&mut self.2))
    }
}

fn register() -> RegisterBroker {
    let metadata_version = FeatureRange {
        name: versions::FEATURE.to_owned(),
        minimum: 1,
        maximum: 99,
    };
    RegisterBroker(Registration {
        broker: BrokerRegistration {
            id: NodeId(1),
            features: vec![metadata_version],
            ..BrokerRegistration::default()
        },
        previous_epoch: -1,
        is_alive: false,
    })
}

fn unfence() -> BrokerHeartbeat {
    BrokerHeartbeat(Heartbeat {
        broker: NodeId(1),
        epoch: 0,
        metadata_offset: Offset(0),
        wish: Wish::Serve,
        offline_directories: Vec::new(),
        cordoned_directories: None,
        shutdown: ControlledShutdown::None,
    })
}

fn create(name: &str) -> CreateTopics {
    CreateTopics {
        topics: vec![NewTopic {
            name: name.to_owned(),
            partitions: 1,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
            id: Uuid::from_parts(9, name.len() as u64),
        }],
        validate_only: false,
    }
}

fn sessions() -> Arc<Sessions> {
    Arc::new(Sessions::of_test(Clock::start()))
}

fn spawn<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().spawn(run).unwrap()
}

fn run(owner: ControllerLoop<Batches>) -> Result<(), &'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    runtime.unwrap().block_on(owner.run(stopping))
}

#[tokio::test]
async fn waiting_requests_share_a_batch_and_see_each_other() {
    let batches = Batches::new(false);
    let (controller, owner, follower) = controller(
        Loader::default(),
        Settings::default(),
        batches.clone(),
        sessions(),
    );
    let asked = async {
        tokio::join!(
            controller.ask(register()),
            controller.ask(unfence()),
            controller.ask(create("t")),
            controller.ask(create("t"))
        )
    };
    let ((registered, _, first, second), ()) = tokio::join!(asked, async {
        tokio::task::yield_now().await;
        drop(spawn(move || run(owner)));
        drop(spawn(move || follower.run(|_, _| {}, |_| {})));
    });
    assert_eq!(registered.unwrap(), Ok(0));
    assert!(first.unwrap()[0].1.is_ok());
    assert!(second.unwrap()[0].1.is_err(), "it exists");
    assert_eq!(batches.0.lock().unwrap().len(), 1);
    assert_eq!(controller.image().topics.len(), 1);
}

#[tokio::test]
async fn a_decision_that_was_not_committed_is_neither_answered_nor_seen() {
    let failing = Batches::new(true);
    let (controller, owner, follower) =
        controller(Loader::default(), Settings::default(), failing, sessions());
    let runs = spawn(move || run(owner));
    let follows = spawn(move || follower.run(|_, _| {}, |_| {}));
    assert_eq!(controller.ask(register()).await, Err(NoController));
    assert!(controller.image().brokers.is_empty());
    assert_eq!(runs.join().unwrap(), Err("disk failed"));
    follows.join().unwrap();
}

#[tokio::test]
async fn a_directory_that_holds_up_the_follower_holds_up_no_commit() {
    let batches = Batches::new(false);
    let (controller, owner, follower) = controller(
        Loader::default(),
        Settings::default(),
        batches.clone(),
        sessions(),
    );
    let (answers, disk) = channel::<()>();
    drop(spawn(move || run(owner)));
    drop(spawn(move || {
        follower.run(move |_, _| _ = disk.recv(), |_| {});
    }));
    let first = tokio::spawn({
        let controller = controller.clone();
        async move { controller.ask(register()).await }
    });
    while batches.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn({
        let controller = controller.clone();
        async move { controller.ask(unfence()).await }
    });
    while batches.0.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(
        controller.image().brokers.is_empty(),
        "nothing is published"
    );
    assert!(!first.is_finished() && !second.is_finished());
    drop(answers);
    assert_eq!(first.await.unwrap().unwrap(), Ok(0));
    assert!(second.await.unwrap().unwrap().is_ok());
    assert!(!controller.image().brokers[&NodeId(1)].fenced);
}

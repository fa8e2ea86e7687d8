//! The controller's loop: one thread that owns the metadata, and the handle by which requests reach it.
//!
//! Requests that wait together are decided together, each against what those before it propose, and their
//! records are committed as one batch (`ottla-controller` says how). An image is published before the replies
//! that depend on it are released, and never before its records are on stable storage. An uncommitted decision
//! is seen by nobody outside this thread; if its batch cannot be committed it is forgotten, and so is the loop.

use std::sync::Arc;

use ottla_controller::{Decision, Settings, View};
use ottla_metadata::{Changes, Loader, MetadataDelta, MetadataImage};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the controller; beyond it callers wait to be queued.
const MAX_WAITING: usize = 1024;
/// Records above which no further request joins a batch, as Kafka bounds one operation.
const MAX_RECORDS_PER_BATCH: usize = 10_000;

/// The controller cannot commit: its disk failed, or it is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller is not available")]
pub struct Unavailable;

/// Commits records: when it returns, they are on stable storage.
pub trait Commit: Send + 'static {
    /// Why records could not be committed.
    type Error: std::fmt::Display;
    /// Whether nothing can be committed any more; otherwise these records alone were not.
    fn is_final(_error: &Self::Error) -> bool {
        true
    }
    /// The offset that the next record will have.
    fn next_offset(&self) -> Offset;
    /// Appends `records` as one batch; `image` is what they lead to, for a snapshot should one be due.
    fn commit(
        &mut self,
        records: &[MetadataRecord],
        image: &MetadataImage,
    ) -> Result<(), Self::Error>;
}

/// What a request wants committed, and how its caller hears of it.
struct Proposed {
    records: Vec<MetadataRecord>,
    release: Box<dyn FnOnce() + Send>,
}

type Request = Box<dyn FnOnce(View<'_>, Offset) -> Proposed + Send>;

/// How the rest of the broker reaches the controller.
#[derive(Debug, Clone)]
pub struct Controller {
    requests: mpsc::Sender<Request>,
    image: watch::Receiver<Arc<MetadataImage>>,
}

impl Controller {
    /// The latest committed metadata.
    pub fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    /// Follows the committed metadata.
    pub fn follow(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.clone()
    }

    /// Has the controller decide, and returns its reply once the records are committed and published.
    ///
    /// `decide` gets the offset that its first record will have if its batch holds nothing before it.
    pub async fn decide<Reply, F>(&self, decide: F) -> Result<Reply, Unavailable>
    where
        Reply: Send + 'static,
        F: FnOnce(View<'_>, Offset) -> Decision<Reply> + Send + 'static,
    {
        let (sender, reply) = oneshot::channel();
        let request: Request = Box::new(move |view, offset| {
            let decision = decide(view, offset);
            Proposed {
                records: decision.records,
                // A caller that went away wants no reply.
                release: Box::new(move || drop(sender.send(decision.reply))),
            }
        });
        self.requests.send(request).await.map_err(|_| Unavailable)?;
        reply.await.map_err(|_| Unavailable)
    }
}

/// The controller's own side: everything it owns.
pub struct ControllerLoop<C> {
    requests: mpsc::Receiver<Request>,
    loader: Loader,
    publish: watch::Sender<Arc<MetadataImage>>,
    settings: Settings,
    commit: C,
}

impl<C: Commit> ControllerLoop<C> {
    /// A controller that starts from committed metadata.
    pub fn new(image: MetadataImage, settings: Settings, commit: C) -> (Controller, Self) {
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        let (publish, follow) = watch::channel(Arc::new(image.clone()));
        let handle = Controller {
            requests: sender,
            image: follow,
        };
        let owner = Self {
            requests,
            loader: Loader::new(image),
            publish,
            settings,
            commit,
        };
        (handle, owner)
    }

    /// Decides and commits until every handle is gone or a commit fails.
    ///
    /// `apply` is called with each new image before it is published and before any reply that depends on it:
    /// a topic whose creation was answered has its partitions.
    pub fn run(
        mut self,
        mut apply: impl FnMut(&Arc<MetadataImage>, &Changes),
    ) -> Result<(), C::Error> {
        while let Some(first) = self.requests.blocking_recv() {
            let (records, image, releases) = self.decide(first);
            if !records.is_empty() {
                match self.commit.commit(&records, &image) {
                    Ok(()) => {}
                    Err(error) if C::is_final(&error) => return Err(error),
                    Err(error) => {
                        // Whoever waits for a reply hears that the controller is not available, and asks again.
                        tracing::error!(%error, "metadata was not changed");
                        continue;
                    }
                }
                let changes = self.loader.load(&records);
                let image = Arc::new(self.loader.image().clone());
                apply(&image, &changes);
                self.publish.send_replace(image);
            }
            for release in releases {
                release();
            }
        }
        Ok(())
    }

    /// Decides the request and as many of those behind it as fit one batch.
    #[expect(clippy::type_complexity, reason = "taken apart by the only caller")]
    fn decide(
        &mut self,
        first: Request,
    ) -> (
        Vec<MetadataRecord>,
        MetadataImage,
        Vec<Box<dyn FnOnce() + Send>>,
    ) {
        let mut delta = MetadataDelta::new(self.loader.image().clone());
        let mut records = Vec::new();
        let mut releases = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            let view = View {
                image: delta.image(),
                settings: &self.settings,
            };
            let written = i64::try_from(records.len()).unwrap_or(i64::MAX);
            let proposed = request(view, self.commit.next_offset().plus(written));
            for record in &proposed.records {
                delta.replay(record);
            }
            records.extend(proposed.records);
            releases.push(proposed.release);
            let full = records.len() >= MAX_RECORDS_PER_BATCH;
            next = if full {
                None
            } else {
                self.requests.try_recv().ok()
            };
        }
        (records, delta.finish().0, releases)
    }
}

#[cfg(test)]
mod tests {
    use super::{Commit, ControllerLoop};
    use ottla_controller::{Decision, Settings};
    use ottla_metadata::MetadataImage;
    use ottla_metadata::effective::StaticConfigs;
    use ottla_protocol::ids::Offset;
    use ottla_protocol::messages::metadata::{FeatureLevelRecord, MetadataRecord};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Batches(Arc<Mutex<Vec<usize>>>, bool);

    impl Commit for Batches {
        type Error = &'static str;
        fn next_offset(&self) -> Offset {
            Offset(0)
        }
        fn commit(
            &mut self,
            records: &[MetadataRecord],
            _: &MetadataImage,
        ) -> Result<(), &'static str> {
            if self.1 {
                return Err("disk failed");
            }
            self.0.lock().unwrap().push(records.len());
            Ok(())
        }
    }

    fn settings() -> Settings {
        Settings {
            default_partitions: 1,
            default_replication_factor: 1,
            delete_topics: true,
            statics: StaticConfigs::default(),
        }
    }

    fn feature(name: &str) -> MetadataRecord {
        FeatureLevelRecord {
            name: name.into(),
            feature_level: 1,
            ..Default::default()
        }
        .into()
    }

    #[tokio::test]
    async fn waiting_requests_share_a_batch_and_see_each_other() {
        let batches = Batches::default();
        let (controller, owner) =
            ControllerLoop::new(MetadataImage::default(), settings(), batches.clone());
        let first = controller.decide(|view, _| {
            assert!(view.image.features.is_empty());
            Decision {
                records: vec![feature("a")],
                reply: 1,
            }
        });
        let second = controller.decide(|view, offset| {
            assert!(view.image.features.contains_key("a"));
            Decision {
                records: vec![feature("b")],
                reply: offset.0,
            }
        });
        let both = async { tokio::join!(first, second) };
        let (replies, ()) = tokio::join!(both, async {
            tokio::task::yield_now().await;
            let runs = std::thread::Builder::new()
                .spawn(move || owner.run(|_, _| {}))
                .unwrap();
            drop(runs);
        });
        assert_eq!(replies, (Ok(1), Ok(1)));
        assert_eq!(*batches.0.lock().unwrap(), [2]);
        assert_eq!(controller.image().features.len(), 2);
    }

    #[tokio::test]
    async fn a_decision_that_was_not_committed_is_neither_answered_nor_seen() {
        let failing = Batches(Arc::default(), true);
        let (controller, owner) =
            ControllerLoop::new(MetadataImage::default(), settings(), failing);
        let runs = std::thread::Builder::new()
            .spawn(move || owner.run(|_, _| {}))
            .unwrap();
        let reply = controller
            .decide(|_, _| Decision {
                records: vec![feature("a")],
                reply: (),
            })
            .await;
        assert!(reply.is_err());
        assert!(controller.image().features.is_empty());
        assert_eq!(runs.join().unwrap(), Err("disk failed"));
    }
}

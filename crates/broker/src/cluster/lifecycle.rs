//! The life of this broker in its cluster: it registers, beats, and leaves in an orderly way.
//!
//! The controller decides what the broker is; this file asks it, again and again. One request is under way at a time.

use std::sync::Arc;
use std::time::Duration;

use ottla_controller::Refusal;
use ottla_controller::broker_heartbeat::{ControlledShutdown, Health, Heartbeat, Wish};
use ottla_controller::brokers::Registration;
use ottla_controller::request::{BrokerHeartbeat, RegisterBroker};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::time::MonotonicTime;
use tokio::sync::watch;
use tokio::time::sleep;

use super::channel::NoController;
use super::controller_clock::{Agreement, apart};
use crate::broker::Broker;

/// The pace while the broker waits for the controller's consent.
const HURRIED: Duration = Duration::from_millis(50);
/// Before a broker that was refused registers again.
const REGISTERS_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long a broker that wants to leave waits for its leaderships to move.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);
/// How long it waits for a controller that does not answer.
const UNANSWERED_FOR: Duration = Duration::from_secs(5);

/// Why a broker is not part of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    /// The controller refused it.
    #[error("the controller refused the registration: {0}")]
    Refused(#[from] Refusal),
    /// The controller has registered it, but does not let it serve.
    #[error("the controller keeps the broker fenced")]
    Fenced,
    /// There is no controller.
    #[error(
        "{0} within initial.broker.registration.timeout.ms; check that the controllers run, and controller.quorum.bootstrap.servers"
    )]
    NoController(#[from] NoController),
}

/// This broker, as the controller knows it.
#[derive(Debug)]
pub struct Lifecycle {
    broker: Arc<Broker>,
    registration: Registration,
    /// Whether the controller took the last heartbeat.
    is_heard: bool,
    clocks: Agreement,
}

impl Lifecycle {
    /// Registers the broker, fenced. Waits for a controller, and for the end of the session of the broker's last process.
    pub async fn register(
        broker: Arc<Broker>,
        registration: Registration,
    ) -> Result<Self, NotRegistered> {
        let registered = Self {
            broker,
            registration,
            is_heard: true,
            clocks: Agreement::default(),
        };
        let until = registered.until(registered.broker.config.quorum.registration_timeout);
        let mut is_logged = false;
        loop {
            let why = match registered.try_register().await {
                Ok(()) => return Ok(registered),
                Err(why) => why,
            };
            let is_passing = matches!(why, NotRegistered::NoController(_))
                || code(&why) == Some(ErrorCode::DuplicateBrokerRegistration);
            if !is_passing || registered.is_over(until) {
                return Err(why);
            }
            if !is_logged {
                tracing::warn!(%why, "the broker is not registered yet; trying again");
                is_logged = true;
            }
            sleep(HURRIED).await;
        }
    }

    async fn try_register(&self) -> Result<(), NotRegistered> {
        let asked = RegisterBroker(self.registration.clone());
        let epoch = self.broker.controller.ask(asked).await??;
        self.broker.set_epoch(epoch);
        Ok(())
    }

    /// Waits until the controller lets the broker serve.
    pub async fn unfence(&mut self) -> Result<(), NotRegistered> {
        let until = self.until(self.broker.config.quorum.registration_timeout);
        loop {
            match self.beat(Wish::Serve).await {
                Ok(health) if !health.is_fenced => {
                    self.broker.set_fenced(false);
                    return Ok(());
                }
                Ok(_) if self.is_over(until) => return Err(NotRegistered::Fenced),
                Err(why @ NotRegistered::Refused(_)) => return Err(why),
                Err(why) if self.is_over(until) => return Err(why),
                Ok(_) | Err(_) => sleep(HURRIED).await,
            }
        }
    }

    /// Beats until `leaving` is set; then leaves: the controller moves the leaderships of this broker first.
    pub async fn live(mut self, mut leaving: watch::Receiver<bool>) {
        let interval = self.broker.config.quorum.heartbeat_interval;
        let is_left = |leaving: &bool| *leaving;
        loop {
            let pace = match self.beat(Wish::Serve).await {
                Ok(health) => {
                    self.hear();
                    self.log_health(health);
                    if health.is_fenced { HURRIED } else { interval }
                }
                Err(why) => {
                    self.renew(&why).await;
                    HURRIED
                }
            };
            tokio::select! {
                () = sleep(pace) => {}
                _ = leaving.wait_for(is_left) => break,
            }
        }
        self.leave().await;
    }

    /// The controller has taken a heartbeat.
    fn hear(&mut self) {
        if !std::mem::replace(&mut self.is_heard, true) {
            self.broker.set_has_controller(true);
            tracing::info!("a controller takes the heartbeats of this broker again");
        }
    }

    fn log_health(&self, health: Health) {
        if health.is_fenced != self.broker.is_fenced() {
            self.broker.set_fenced(health.is_fenced);
            if health.is_fenced {
                tracing::warn!(
                    "the controller has fenced this broker: it leads nothing until its heartbeats arrive again"
                );
            } else {
                tracing::info!("the controller lets this broker serve again");
            }
        }
    }

    /// The controller did not take a heartbeat. The broker registers again if the controller does not know this process any
    /// more.
    async fn renew(&mut self, why: &NotRegistered) {
        if std::mem::replace(&mut self.is_heard, false) {
            if let NotRegistered::NoController(_) = why {
                self.broker.set_has_controller(false);
                tracing::warn!(
                    "no controller takes the heartbeats of this broker: reads and writes go on, but no leader is elected and no \
                     metadata changes; start the controllers that are down, of which a majority is needed"
                );
            } else {
                tracing::warn!(%why, "the controller did not take a heartbeat; trying again");
            }
        }
        if code(why) != Some(ErrorCode::StaleBrokerEpoch) {
            return;
        }
        match self.try_register().await {
            Ok(()) => tracing::warn!(
                epoch = self.broker.epoch(),
                "the broker has registered again"
            ),
            Err(why) => {
                let node = self.broker.config.node_id.0;
                tracing::error!(node, %why, "the broker cannot register again; is node.id used by another process?");
                sleep(REGISTERS_AGAIN_AFTER).await;
            }
        }
    }

    async fn leave(&mut self) {
        let image = self.broker.controller.image();
        let node = self.broker.config.node_id;
        let mut others = image.brokers.values();
        if !others.any(|other| other.id != node && other.is_active()) {
            return;
        }
        let until = self.until(LEAVES_WITHIN);
        let mut answered = self.broker.clock.monotonic();
        loop {
            match self.beat(Wish::ShutDown).await {
                Ok(health) if health.should_shut_down => return,
                Ok(_) => answered = self.broker.clock.monotonic(),
                Err(_) if self.is_over(answered.after(UNANSWERED_FOR)) => {
                    tracing::warn!("stopping without the consent of a controller, as none answers");
                    return;
                }
                Err(_) => {}
            }
            if self.is_over(until) {
                tracing::warn!("stopping although this broker still leads partitions");
                return;
            }
            sleep(HURRIED).await;
        }
    }

    async fn beat(&mut self, wish: Wish) -> Result<Health, NotRegistered> {
        let heartbeat = Heartbeat {
            broker: self.broker.config.node_id,
            epoch: self.broker.epoch(),
            metadata_offset: Offset(self.broker.controller.applied().0 - 1),
            wish,
            offline_directories: self.offline_directories(),
            cordoned_directories: None,
            shutdown: ControlledShutdown::None,
        };
        let asked = self.broker.clock.now().wall;
        let health = self.broker.controller.ask(BrokerHeartbeat(heartbeat));
        let health = health.await??;
        if let Some(theirs) = health.clock {
            let apart = apart(asked, theirs, self.broker.clock.now().wall);
            self.clocks.tell(apart);
        }
        Ok(health)
    }

    fn offline_directories(&self) -> Vec<Uuid> {
        let directories = self.broker.replicas.directories().iter();
        let failed = directories.filter(|directory| directory.log.failure().is_some());
        failed
            .filter_map(|directory| directory.id.get().copied())
            .collect()
    }

    fn until(&self, limit: Duration) -> MonotonicTime {
        self.broker.clock.monotonic().after(limit)
    }

    fn is_over(&self, until: MonotonicTime) -> bool {
        self.broker.clock.monotonic() >= until
    }
}

fn code(why: &NotRegistered) -> Option<ErrorCode> {
    match why {
        NotRegistered::Refused(refusal) => Some(refusal.code()),
        NotRegistered::Fenced | NotRegistered::NoController(_) => None,
    }
}

//! The task that asks the controller for the elections that are due, while the active controller is in this process. What
//! is not answered is asked for again when the next elections are due.

use std::time::Duration;

use ottla_controller::elections::Election;
use ottla_controller::request::ElectDueLeaders;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::stopping::stopped;
use crate::cluster::channel::Controller;
use crate::config::ElectionsConfig;

/// Upper bound of an interval: the clock cannot add longer ones.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Runs until the node stops, also while an answer is missing: without a majority none comes.
pub async fn run(
    controller: Controller,
    config: ElectionsConfig,
    mut stopping: watch::Receiver<bool>,
) {
    tokio::select! {
        () = ask_when_due(&controller, config) => {}
        () = stopped(&mut stopping) => {}
    }
}

async fn ask_when_due(controller: &Controller, config: ElectionsConfig) {
    let mut preferred = every(config.preferred_interval.unwrap_or(LONGEST));
    let mut unclean = every(config.unclean_interval);
    loop {
        tokio::select! {
            _ = preferred.tick(), if config.preferred_interval.is_some() => {
                elect(controller, Election::Preferred).await;
            }
            _ = unclean.tick() => elect(controller, Election::Unclean).await,
        }
    }
}

fn every(interval: Duration) -> Interval {
    let interval = interval.min(LONGEST);
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Makes all elections that are due.
async fn elect(controller: &Controller, election: Election) {
    let due = ElectDueLeaders(election);
    while controller.sessions().is_active() && controller.ask_here(due.clone()).await == Ok(true) {}
}

#[cfg(test)]
mod tests {
    use super::{elect, run};
    use crate::cluster::channel::{Controller, Request};
    use crate::cluster::sessions::Sessions;
    use crate::config::ElectionsConfig;
    use crate::drivers::controller::follower;
    use crate::process::clock::Clock;
    use ottla_controller::elections::Election;
    use ottla_controller::request::ElectDueLeaders;
    use ottla_controller::{ControllerReply, ControllerRequest};
    use ottla_metadata::MetadataImage;
    use ottla_protocol::ids::Offset;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::{mpsc, watch};

    /// A controller, the active one if `is_active`, and what it is asked.
    fn controller(is_active: bool) -> (Controller, mpsc::Receiver<Request>) {
        let image = MetadataImage::default();
        let sessions = Arc::new(Sessions::of_test(Clock::start()));
        if is_active {
            sessions.begin(&image);
        }
        let (applied, ..) = follower(image, Offset(0));
        Controller::new(applied, sessions)
    }

    #[tokio::test]
    async fn another_controller_than_the_active_one_is_not_asked() {
        let (controller, mut requests) = controller(false);
        elect(&controller, Election::Unclean).await;
        assert!(requests.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_one_decision_leaves_is_elected_at_once() {
        let (controller, mut requests) = controller(true);
        let answers = async {
            for may_be_more in [true, true, false] {
                let (caller, request) = requests.recv().await.unwrap();
                assert_eq!(request, ElectDueLeaders(Election::Preferred).into());
                caller
                    .send(ControllerReply::ElectDueLeaders(may_be_more))
                    .unwrap();
            }
        };
        tokio::join!(elect(&controller, Election::Preferred), answers);
        assert!(requests.try_recv().is_err());
    }

    /// The elections that are asked for until there are three of one kind.
    async fn asked(preferred_interval: Option<Duration>) -> Vec<Election> {
        let (controller, mut requests) = controller(true);
        let (stop, stopping) = watch::channel(false);
        let config = ElectionsConfig {
            preferred_interval,
            unclean_interval: Duration::from_millis(1),
        };
        let answers = async {
            let mut asked = Vec::new();
            while asked
                .iter()
                .filter(|kind| **kind == Election::Unclean)
                .count()
                < 3
            {
                let (caller, request) = requests.recv().await.unwrap();
                let ControllerRequest::ElectDueLeaders(ElectDueLeaders(election)) = request else {
                    panic!("{request:?}");
                };
                asked.push(election);
                // The proposal fails.
                drop(caller);
            }
            stop.send_replace(true);
            asked
        };
        tokio::join!(run(controller, config, stopping), answers).1
    }

    #[tokio::test]
    async fn a_failed_controller_is_asked_again_and_for_preferred_leaders_only_if_enabled() {
        assert_eq!(asked(None).await, [Election::Unclean; 3]);
        let both = asked(Some(Duration::from_micros(1))).await;
        assert!(both.contains(&Election::Preferred));
    }
}

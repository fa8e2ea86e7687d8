//! Coordinators that are active beside one that is loading.

use std::path::PathBuf;
use std::sync::PoisonError;

use ottla_coordinator::Unavailable;
use ottla_coordinator::group::offsets::ListOffsetsRequest;
use ottla_coordinator::group::requests::GroupReply;
use ottla_protocol::ids::Uuid;
use tokio::sync::{mpsc, watch};

use super::{GroupCoordinators, Handle, Phase};
use crate::config::BrokerConfig;
use crate::drivers::coordinator::Message;
use crate::process::clock::Clock;
use crate::replicas::Replicas;

/// A coordinator in `phase` that answers each request with no offsets.
fn coordinator(phase: Phase) -> Handle {
    let (messages, mut mailbox) = mpsc::channel(1);
    let (settle, phase) = watch::channel(phase);
    tokio::spawn(async move {
        let _settle = settle;
        while let Some(message) = mailbox.recv().await {
            if let Message::Request(_, answer) = message {
                answer
                    .send(Ok(GroupReply::ListOffsets(Vec::new())))
                    .unwrap();
            }
        }
    });
    Handle {
        topic: Uuid::ZERO,
        epoch: 0,
        messages,
        phase,
    }
}

#[tokio::test]
async fn a_coordinator_that_loads_does_not_hide_the_offsets_of_the_others() {
    let config = BrokerConfig::embedded(PathBuf::from("unused"), 0);
    let clock = Clock::start();
    let replicas = Replicas::new(&config, 10, clock);
    let coordinators = GroupCoordinators::new(&config, clock, replicas);
    let phases = [Phase::Loading, Phase::Active, Phase::Failed, Phase::Active];
    for (index, phase) in (0..).zip(phases) {
        let mut registry = coordinators
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        registry.handles.insert(index, coordinator(phase));
    }
    assert_eq!(coordinators.ask_active(ListOffsetsRequest).await.len(), 2);
    let all = coordinators.ask_all(ListOffsetsRequest).await;
    assert_eq!(all, Err(Unavailable::Loading));
}

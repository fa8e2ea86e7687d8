//! What both AlterConfigs calls share: each resource is changed or refused by itself, and every one is answered.

use ottla_controller::{Decision, View, alter_configs};
use ottla_metadata::ConfigResource;
use ottla_protocol::messages::{ErrorCode, KafkaString};

use crate::controller::Controller;

/// How it went with one resource.
#[derive(Debug)]
pub struct Outcome {
    /// The wire's number of the resource's type.
    pub kind: i8,
    /// The resource's name.
    pub name: KafkaString,
    /// Kafka's error code.
    pub code: i16,
    /// Why it was refused.
    pub message: Option<KafkaString>,
}

/// What one resource is to become, or why the request about it makes no sense.
pub type Wanted<T> = Result<(ConfigResource, T), (i8, KafkaString, String)>;

/// Has the controller decide what makes sense, and answers for every resource.
pub async fn change<T: Send + 'static>(
    controller: &Controller,
    wanted: Vec<Wanted<T>>,
    decide: impl FnOnce(View<'_>, &[(ConfigResource, T)]) -> Decision<alter_configs::Reply>
    + Send
    + 'static,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut resources = Vec::new();
    for one in wanted {
        match one {
            Ok(resource) => resources.push(resource),
            Err((kind, name, why)) => outcomes.push(Outcome {
                kind,
                name,
                code: ErrorCode::InvalidRequest.code(),
                message: Some(why.into()),
            }),
        }
    }
    let asked: Vec<ConfigResource> = resources
        .iter()
        .map(|(resource, _)| resource.clone())
        .collect();
    let decided = controller
        .decide(move |view, _| decide(view, &resources))
        .await;
    let of = |resource: ConfigResource, code: ErrorCode, message: Option<String>| Outcome {
        kind: resource.kind.code(),
        name: resource.name.into(),
        code: code.code(),
        message: message.map(KafkaString::from),
    };
    let Ok(reply) = decided else {
        let unavailable = |resource| of(resource, ErrorCode::NotController, None);
        outcomes.extend(asked.into_iter().map(unavailable));
        return outcomes;
    };
    outcomes.extend(reply.into_iter().map(|(resource, result)| match result {
        Ok(()) => of(resource, ErrorCode::None, None),
        Err(refusal) => of(resource, refusal.code(), Some(refusal.to_string())),
    }));
    outcomes
}

//! `DescribeUserScramCredentials` (key 50), version 0.
//!
//! SCRAM is not served, and no credential can be set. Metadata that Kafka wrote may hold some, which are shown.

use std::collections::BTreeMap;

use ottla_metadata::MetadataImage;
use ottla_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use ottla_protocol::messages::{
    DescribeUserScramCredentialsRequestData, DescribeUserScramCredentialsResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Lists the mechanisms of the users asked for, or of all users.
pub fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeUserScramCredentialsRequestData,
) -> DescribeUserScramCredentialsResponseData {
    let image = broker.controller.image();
    let asked = request.users.unwrap_or_default();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for user in &asked {
        *times.entry(user.name.as_str()).or_default() += 1;
    }
    if asked.is_empty() {
        times.extend(image.scram.keys().map(|(user, _)| (user.as_str(), 1)));
    }
    let results = times
        .into_iter()
        .map(|(user, times)| described(&image, user, times));
    DescribeUserScramCredentialsResponseData::default().with_results(results.collect())
}

fn described(
    image: &MetadataImage,
    user: &str,
    times: usize,
) -> DescribeUserScramCredentialsResult {
    let result = DescribeUserScramCredentialsResult::default().with_user(user.to_owned().into());
    let refused = |code: ErrorCode, why: String| {
        result
            .clone()
            .with_error_code(code.code())
            .with_error_message(Some(why.into()))
    };
    if times > 1 {
        let why = format!("the request names the user {user} twice");
        return refused(ErrorCode::DuplicateResource, why);
    }
    let own = image.scram.iter().filter(|((name, _), _)| name == user);
    let credentials: Vec<CredentialInfo> = own
        .map(|((_, mechanism), credential)| {
            CredentialInfo::default()
                .with_mechanism(*mechanism)
                .with_iterations(credential.iterations)
        })
        .collect();
    if credentials.is_empty() {
        let why = format!("the user {user} has no SCRAM credential");
        return refused(ErrorCode::ResourceNotFound, why);
    }
    result.with_credential_infos(credentials)
}

//! Kafka's APIs: their numbers, the versions that Apache Kafka 4.4 serves, and the header version of each.
//!
//! Versions are defined here and nowhere else. A broker announces [`announced`] for each API that it has a handler for.
//! `cargo xtask codec-test` compares this table with Kafka's own.

use std::ops::RangeInclusive;

use crate::messages::newer;
use kacrab_protocol::generated::client_api_info;

pub use kacrab_protocol::generated::ApiKey;

/// The highest stable version of `InitProducerId`; the schema of 6 exists, marked unstable.
const INIT_PRODUCER_ID_STABLE: i16 = 5;

/// The API of this number, if there is one.
pub fn from_number(number: i16) -> Option<ApiKey> {
    ApiKey::from_i16(number)
}

/// The versions of `api` that can be decoded and served.
pub fn versions(api: ApiKey) -> RangeInclusive<i16> {
    let known = client_api_info(api);
    let highest = match api {
        ApiKey::InitProducerId => INIT_PRODUCER_ID_STABLE,
        ApiKey::ApiVersions => newer::API_VERSIONS_LATEST,
        ApiKey::DeleteGroups => newer::DELETE_GROUPS_LATEST,
        _ => known.max_version,
    };
    known.min_version..=highest
}

/// The versions that `ApiVersions` names for `api`.
///
/// Produce is announced from 0, as Kafka does, although 0 to 2 are refused: older librdkafka takes the lowest
/// version for the broker's age and stops compressing without it (KAFKA-18659).
pub fn announced(api: ApiKey) -> RangeInclusive<i16> {
    let served = versions(api);
    match api {
        ApiKey::Produce => 0..=*served.end(),
        _ => served,
    }
}

/// The version of the header in front of a request.
///
/// Defined also for versions that do not exist, because an `ApiVersions` request of a later version must be answered.
pub fn request_header_version(api: ApiKey, version: i16) -> i16 {
    if is_flexible(api, version) { 2 } else { 1 }
}

/// The version of the header in front of a response.
///
/// `ApiVersions` responses have the oldest version, because the client does not know the broker's versions yet
/// (KIP-511).
pub fn response_header_version(api: ApiKey, version: i16) -> i16 {
    i16::from(api != ApiKey::ApiVersions && is_flexible(api, version))
}

fn is_flexible(api: ApiKey, version: i16) -> bool {
    version >= client_api_info(api).flexible_versions_start
}

#[cfg(test)]
mod tests {
    use super::{ApiKey, announced, request_header_version, response_header_version, versions};

    #[test]
    fn produce_is_announced_below_what_is_served() {
        assert_eq!(announced(ApiKey::Produce), 0..=13);
        assert_eq!(versions(ApiKey::Produce), 3..=13);
        assert_eq!(announced(ApiKey::Fetch), versions(ApiKey::Fetch));
    }

    #[test]
    fn api_versions_answers_carry_the_oldest_header() {
        assert_eq!(request_header_version(ApiKey::ApiVersions, 99), 2);
        assert_eq!(response_header_version(ApiKey::ApiVersions, 4), 0);
        assert_eq!(response_header_version(ApiKey::Metadata, 9), 1);
        assert_eq!(response_header_version(ApiKey::Metadata, 8), 0);
    }
}

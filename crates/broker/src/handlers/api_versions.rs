//! `ApiVersions` (key 18), versions 0 to 5.
//!
//! - 0: the APIs and their versions. 1: throttle time.
//! - 3: the client names its software; features appear.
//! - 4: features whose lowest level is 0 appear too.
//! - 5: the client names the cluster and the node that it expects, both or neither (KIP-1242).
//!
//! A version above 5 is answered in version 0 with `UNSUPPORTED_VERSION` and the range of this API alone, from which the
//! client chooses another version.

use ottla_metadata::{MetadataImage, versions};
use ottla_protocol::api_key;
use ottla_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use ottla_protocol::messages::{
    ApiKey, ApiVersionsRequestData, ApiVersionsResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::cluster::{quorum_leader, registration};
use crate::context::{ClientSoftware, RequestContext};

/// The first version in which the client names its software.
const NAMES_SOFTWARE: i16 = 3;

/// The node of a client that expects none.
const NO_NODE: i32 = -1;
/// The first version that shows features.
const SHOWS_FEATURES: i16 = 3;
/// The first version that shows features whose lowest level is 0 (KAFKA-17011).
const SHOWS_MINIMUM_ZERO: i16 = 4;

/// Announces the APIs in the listener's table of handlers.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ApiVersionsRequestData,
) -> ApiVersionsResponseData {
    if context.version >= NAMES_SOFTWARE {
        let name = request.client_software_name.as_str();
        let version = request.client_software_version.as_str();
        if !is_software_name(name) || !is_software_name(version) {
            return ApiVersionsResponseData::default()
                .with_error_code(ErrorCode::InvalidRequest.code());
        }
        // The first name counts: a connection belongs to one client.
        let _ = context.connection.software.set(ClientSoftware {
            name: name.to_owned(),
            version: version.to_owned(),
        });
    }
    if let Err(error) = check_expected(broker, &request) {
        return ApiVersionsResponseData::default().with_error_code(error.code());
    }
    let served = (broker.served)(context.connection.role);
    let response = ApiVersionsResponseData::default()
        .with_api_keys(served.iter().map(|api| announced(*api)).collect());
    if context.version < SHOWS_FEATURES {
        return response;
    }
    with_features(broker, context.version, response)
}

/// Whether this is the broker that the client expects. The connection stays open either way.
fn check_expected(broker: &Broker, request: &ApiVersionsRequestData) -> Result<(), ErrorCode> {
    match (&request.cluster_id, request.node_id) {
        (None, NO_NODE) => Ok(()),
        // Cluster and node must both be given, or neither.
        (None, _) | (Some(_), NO_NODE) => Err(ErrorCode::InvalidRequest),
        (Some(cluster), node)
            if *cluster == broker.cluster_id && node == broker.config.node_id.0 =>
        {
            Ok(())
        }
        (Some(_), _) => Err(ErrorCode::RebootstrapRequired),
    }
}

/// Adds the features that this broker supports, and the finalized levels of the cluster.
fn with_features(
    broker: &Broker,
    version: i16,
    response: ApiVersionsResponseData,
) -> ApiVersionsResponseData {
    let image = broker.controller.image();
    let supported = registration::supported_features(&image)
        .into_iter()
        .filter(|feature| version >= SHOWS_MINIMUM_ZERO || feature.minimum > 0)
        .map(|feature| {
            SupportedFeatureKey::default()
                .with_name(feature.name.into())
                .with_min_version(feature.minimum)
                .with_max_version(feature.maximum)
        });
    let quorum = quorum_leader::status(broker);
    let kraft = quorum.as_ref().map_or(0, |quorum| quorum.kraft_version);
    let finalized = finalized(&image, kraft).map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(name.to_owned().into())
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    let epoch = quorum.map_or(-1, |quorum| quorum.high_watermark.0 - 1);
    response
        .with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(epoch)
}

/// The finalized levels; that of `kraft.version` is not in the image but in the quorum's own records.
fn finalized(image: &MetadataImage, kraft: i16) -> impl Iterator<Item = (&str, i16)> {
    let kraft = (kraft > 0).then_some((versions::KRAFT, kraft));
    let features = image.features.iter();
    features
        .map(|(name, level)| (name.as_str(), *level))
        .chain(kraft)
}

/// The answer to a version that does not exist.
pub fn unsupported_version() -> ApiVersionsResponseData {
    ApiVersionsResponseData::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(vec![announced(ApiKey::ApiVersions)])
}

fn announced(api: ApiKey) -> ApiVersion {
    let versions = api_key::announced(api);
    ApiVersion::default()
        .with_api_key(api as i16)
        .with_min_version(*versions.start())
        .with_max_version(*versions.end())
}

/// Whether Kafka accepts a name of software: letters and digits, with dots and dashes inside.
fn is_software_name(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_alphanumeric();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let bytes = name.as_bytes();
    bytes.first().is_some_and(edge) && bytes.last().is_some_and(edge) && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests {
    use super::is_software_name;

    #[test]
    fn software_names_are_what_kafka_accepts() {
        for name in [
            "librdkafka",
            "2.12.1",
            "a",
            "apache-kafka-java",
            "4.3.1-SNAPSHOT",
        ] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a b", "a_b", "é", "v1.0.0+dirty", ".1"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}

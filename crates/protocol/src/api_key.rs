//! Kafka's APIs: their numbers, the versions that Apache Kafka 4.4 serves, and the header version of each.
//!
//! Versions are defined here and nowhere else. A broker announces [`announced`] for each API that it has a handler for.
//! `cargo xtask codec-test` compares this table with Kafka's own.

use std::ops::RangeInclusive;

use crate::messages::api::each_api;

macro_rules! keys {
    ($(
        $api:ident = $number:literal: $from:literal to $to:literal,
        flexible from $flexible:literal, $request:ident, $response:ident;
    )*) => {
        /// An API of Kafka, by its number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("Number ", $number, ".")]
                $api = $number,
            )*
        }

        /// The API of this number, if there is one.
        pub const fn from_number(number: i16) -> Option<ApiKey> {
            match number {
                $($number => Some(ApiKey::$api),)*
                _ => None,
            }
        }

        /// The lowest and the highest version that can be served, and the first flexible one.
        const fn known(api: ApiKey) -> (i16, i16, i16) {
            match api {
                $(ApiKey::$api => ($from, $to, $flexible),)*
            }
        }
    };
}

each_api!(keys);

/// The versions of `api` that can be decoded and served.
pub fn versions(api: ApiKey) -> RangeInclusive<i16> {
    let (lowest, highest, _) = known(api);
    lowest..=highest
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
    let (_, _, flexible) = known(api);
    version >= flexible
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

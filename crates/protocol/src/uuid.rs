//! Kafka's 16-byte ids, of topics, directories and clusters: raw on the wire, base64url without padding in text.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// An id of 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 22 letters of base64url, without padding")]
pub struct BadUuid;

impl Uuid {
    /// The id that means "none".
    pub const ZERO: Self = Self([0; 16]);
    /// The topic id of `__cluster_metadata`.
    pub const METADATA_TOPIC_ID: Self = Self::from_parts(0, 1);

    /// The id of these bytes, in the order of the wire.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, in the order of the wire.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id of these random bytes, marked as random (version 4 of RFC 9562).
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// The id of these halves.
    pub const fn from_parts(most_significant: u64, least_significant: u64) -> Self {
        let number = (most_significant as u128) << 64 | least_significant as u128;
        Self(number.to_be_bytes())
    }

    /// The first eight bytes as a number.
    pub const fn most_significant_bits(self) -> u64 {
        (u128::from_be_bytes(self.0) >> 64) as u64
    }

    /// The last eight bytes as a number.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the other half is not asked for"
    )]
    pub const fn least_significant_bits(self) -> u64 {
        u128::from_be_bytes(self.0) as u64
    }

    /// Whether this is [`Self::ZERO`].
    pub fn is_nil(self) -> bool {
        self == Self::ZERO
    }

    /// Reads the text that [`fmt::Display`] writes.
    pub fn from_base64(text: &str) -> Result<Self, BadUuid> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadUuid)?;
        bytes.try_into().map(Self::from_bytes).map_err(|_| BadUuid)
    }

    /// The text of RFC 9562, as Java's `UUID` writes it: hexadecimal digits in five groups.
    pub fn hyphenated(self) -> String {
        let digits = format!("{:032x}", u128::from_be_bytes(self.0));
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
        groups
            .map(|group| digits.get(group).unwrap_or_default().to_owned())
            .join("-")
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Uuid;

    #[test]
    fn text_and_halves_name_the_same_id() {
        let id = Uuid::from_parts(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
        assert_eq!(id.to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!(Uuid::from_base64("ASNFZ4mrze_-3LqYdlQyEA"), Ok(id));
        assert_eq!(id.most_significant_bits(), 0x0123_4567_89ab_cdef);
        assert_eq!(id.least_significant_bits(), 0xfedc_ba98_7654_3210);
        assert_eq!(Uuid::from_bytes(id.to_bytes()), id);
        assert_eq!(id.hyphenated(), "01234567-89ab-cdef-fedc-ba9876543210");
    }

    #[test]
    fn a_random_id_says_so() {
        let text = Uuid::from_random([0xff; 16]).hyphenated();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let text = Uuid::from_random([0; 16]).hyphenated();
        assert_eq!(text, "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "ASNFZ4mrze_-3LqYdlQyE",
            "ASNFZ4mrze_-3LqYdlQyEA==",
            "ASNFZ4mrze/+3LqYdlQyEA",
        ] {
            assert!(Uuid::from_base64(text).is_err(), "{text}");
        }
    }
}

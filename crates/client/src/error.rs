//! The errors of a call.

use std::io;
use std::time::Duration;

use ottla_protocol::messages::{ApiKey, ProtocolError};
use thiserror::Error;

pub use ottla_protocol::error_code::ErrorCode;

/// A call that failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The name has no address, or it is not `host:port`.
    #[error("cannot find the address of {address}")]
    Resolve {
        address: String,
        #[source]
        source: io::Error,
    },
    /// The connection was not accepted.
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    /// The connection ended before the answer.
    #[error("{address} closed the connection before it answered {api:?} ({bytes} bytes)")]
    Disconnected {
        address: String,
        api: ApiKey,
        /// The size of the request.
        bytes: usize,
    },
    /// The answer did not come in time.
    #[error("{address} did not answer {api:?} within {} ms", after.as_millis())]
    TimedOut {
        address: String,
        api: ApiKey,
        /// How long the call waited.
        after: Duration,
    },
    /// Client and broker have no version of the API in common.
    #[error("{address} does not offer {api:?} in a version that this client speaks")]
    Unsupported { address: String, api: ApiKey },
    /// The request has no encoding in the negotiated version.
    #[error("{api:?} cannot be encoded")]
    Encode {
        api: ApiKey,
        #[source]
        source: ProtocolError,
    },
    /// The answer is not one of Kafka's protocol.
    #[error("{address} sent an answer to {api:?} that cannot be read")]
    Malformed {
        address: String,
        api: ApiKey,
        #[source]
        source: ProtocolError,
    },
    /// The frame is larger than this client accepts, or not a Kafka frame at all.
    #[error("{address} does not answer in Kafka's protocol: {}", not_kafka(*size))]
    FrameTooLarge {
        address: String,
        /// The value of its length field.
        size: i64,
    },
    /// The records in a fetch are damaged.
    #[error("{topic}-{partition} at offset {offset}: {what}")]
    CorruptRecords {
        topic: String,
        partition: i32,
        /// The offset of the fetch.
        offset: i64,
        what: String,
    },
    /// The record was not sent, because a record before it could not be written.
    #[error("it was not sent, because a record before it could not be written")]
    NotSent,
    /// No broker of the cluster has this node id.
    #[error("the cluster has no broker {0}")]
    UnknownNode(i32),
    /// A broker refused the request.
    #[error("{what}: {}", refusal(*code, message.as_deref()))]
    Refused {
        /// The request, in words.
        what: String,
        code: ErrorCode,
        /// The broker's message.
        message: Option<String>,
    },
}

/// What an answer is whose first four bytes cannot be its length.
fn not_kafka(size: i64) -> String {
    let first = u32::try_from(size).unwrap_or_default().to_be_bytes();
    match &first {
        // A TLS record: alert or handshake, major version 3 (RFC 8446, section 5.1).
        [21 | 22, 3, ..] => "it speaks TLS".to_owned(),
        b"HTTP" => "it speaks HTTP".to_owned(),
        _ => format!("an answer of {size} bytes is larger than any"),
    }
}

fn refusal(code: ErrorCode, message: Option<&str>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!("{}: {message}", code_name(code)),
        _ => code_name(code),
    }
}

/// The name that Kafka's documents give a code: `UNKNOWN_TOPIC_OR_PARTITION`.
pub fn code_name(code: ErrorCode) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

impl ClientError {
    /// A refusal, when `code` is an error.
    pub fn check(code: i16, message: Option<&str>, what: impl Into<String>) -> Result<(), Self> {
        let code = ErrorCode::from(code);
        if !code.is_error() {
            return Ok(());
        }
        Err(Self::Refused {
            what: what.into(),
            code,
            message: message.map(str::to_owned),
        })
    }

    /// A refusal without a message of the broker.
    pub(crate) fn refused(what: impl Into<String>, code: ErrorCode) -> Self {
        Self::Refused {
            what: what.into(),
            code,
            message: None,
        }
    }

    /// Whether the same call may succeed later, perhaps at another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::UnknownNode(_) => true,
            Self::Resolve { .. }
            | Self::Unsupported { .. }
            | Self::Encode { .. }
            | Self::Malformed { .. }
            | Self::FrameTooLarge { .. }
            | Self::CorruptRecords { .. }
            | Self::NotSent => false,
        }
    }

    /// Whether the group may work for its member later: a rebalance ends too.
    pub(crate) fn is_retriable_in_group(&self) -> bool {
        self.is_retriable() || self.code() == Some(ErrorCode::RebalanceInProgress)
    }

    /// Whether the broker may have carried out the request although the call failed.
    pub(crate) fn leaves_doubt(&self) -> bool {
        match self {
            // A leader that was deposed while it waited for its followers answers that it is not the leader. A disk that
            // failed may have kept the records.
            Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::UnknownServerError
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::RequestTimedOut
                    | ErrorCode::NetworkException
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::KafkaStorageError
            ),
            Self::Disconnected { .. } | Self::TimedOut { .. } | Self::Malformed { .. } => true,
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Unsupported { .. }
            | Self::Encode { .. }
            | Self::FrameTooLarge { .. }
            | Self::CorruptRecords { .. }
            | Self::UnknownNode(_)
            | Self::NotSent => false,
        }
    }

    /// The broker's error code, when it refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ClientError;

    #[test]
    fn an_answer_in_another_protocol_names_it() {
        let text = |first: [u8; 4]| {
            let size = i64::from(i32::from_be_bytes(first));
            let address = "a:1".to_owned();
            ClientError::FrameTooLarge { address, size }.to_string()
        };
        assert!(text([21, 3, 3, 0]).ends_with("it speaks TLS"));
        assert!(text(*b"HTTP").ends_with("it speaks HTTP"));
        assert!(text([0x7f, 0, 0, 0]).contains("2130706432 bytes"));
    }
}

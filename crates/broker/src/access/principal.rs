//! The principal of a client, by which an authorizer decides what it may do.

use bytes::{Buf, Bytes};
use ottla_protocol::messages::{DefaultPrincipalDataData, ProtocolError};

/// The kind and the name of the one that sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// `User`, unless a plugin of Kafka says otherwise.
    pub kind: String,
    pub name: String,
}

/// Why a forwarded principal is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadPrincipal {
    #[error("there is none")]
    Missing,
    #[error("its version is unknown")]
    UnknownVersion,
    #[error(transparent)]
    Malformed(#[from] ProtocolError),
}

impl Principal {
    /// The principal of a connection that did not authenticate, as Kafka names it.
    pub fn anonymous() -> Self {
        Self {
            kind: "User".to_owned(),
            name: "ANONYMOUS".to_owned(),
        }
    }

    /// Reads what a broker that forwards a request says about its sender: a version, then `DefaultPrincipalData`.
    pub fn forwarded(bytes: Option<Bytes>) -> Result<Self, BadPrincipal> {
        let mut bytes = bytes.ok_or(BadPrincipal::Missing)?;
        let version = bytes.try_get_i16();
        if version != Ok(0) {
            return Err(BadPrincipal::UnknownVersion);
        }
        let read = DefaultPrincipalDataData::read(&mut bytes, 0)?;
        Ok(Self {
            kind: read.r#type.as_str().to_owned(),
            name: read.name.as_str().to_owned(),
        })
    }
}

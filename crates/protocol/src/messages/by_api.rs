//! Requests and responses whose type is known at run time only, by API and version.
//!
//! Used by code that treats all APIs alike: the codec's test, sweeps and fuzzing. The functions are inlined, so that only
//! that code compiles them.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};

use crate::api_key::ApiKey;
use crate::messages::api::each_api;
use crate::messages::{self, ProtocolError};

/// A decoded request or response.
pub trait Message: Debug + Send {
    /// Appends the body at `version`.
    fn write(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError>;
}

macro_rules! apis {
    ($(
        $api:ident = $number:literal: $from:literal to $to:literal,
        flexible from $flexible:literal, $request:ident, $response:ident;
    )*) => {
        $(
            impl Message for messages::$request {
                fn write(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
                    Self::write(self, out, version)
                }
            }
            impl Message for messages::$response {
                fn write(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
                    Self::write(self, out, version)
                }
            }
        )*

        /// Every API, in the order of their numbers.
        pub const APIS: &[ApiKey] = &[$(ApiKey::$api),*];

        /// Reads the body of a request from the front of `body`.
        #[inline]
        pub fn read_request(
            api: ApiKey,
            version: i16,
            body: &mut Bytes,
        ) -> Result<Box<dyn Message>, ProtocolError> {
            Ok(match api {
                $(ApiKey::$api => Box::new(messages::$request::read(body, version)?),)*
            })
        }

        /// Reads the body of a response from the front of `body`.
        #[inline]
        pub fn read_response(
            api: ApiKey,
            version: i16,
            body: &mut Bytes,
        ) -> Result<Box<dyn Message>, ProtocolError> {
            Ok(match api {
                $(ApiKey::$api => Box::new(messages::$response::read(body, version)?),)*
            })
        }
    };
}

each_api!(apis);

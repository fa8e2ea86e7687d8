//! `Envelope` (key 58), version 0: a request of a client that a broker forwards, with the client's principal and address
//! (KIP-590).
//!
//! The request is answered as if the client had sent it to this listener, and the answer goes back inside of the envelope's.
//! An envelope that makes no sense is answered with `INVALID_REQUEST`, one whose content makes none with
//! `UNSUPPORTED_VERSION`: then the broker closes the client's connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use ottla_protocol::frame::{LENGTH_BYTES, RequestHead};
use ottla_protocol::messages::{EnvelopeRequestData, EnvelopeResponseData, ErrorCode};

use crate::access::principal::Principal;
use crate::broker::Broker;
use crate::cluster::forward::is_forwardable;
use crate::context::{Connection, RequestContext};
use crate::handlers::{Refused, Request, start};
use crate::reply::{Part, Reply};

/// Answers the request in an envelope.
pub async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: EnvelopeRequestData,
) -> EnvelopeResponseData {
    // The broker then asks the active controller.
    if broker.controller.remote().is_some() {
        return EnvelopeResponseData::default().with_error_code(ErrorCode::NotController.code());
    }
    let answered = match unwrap(context, request) {
        Ok(forwarded) => start(broker, forwarded).answering.await.map_err(refused),
        Err(code) => Err(code),
    };
    let response = EnvelopeResponseData::default();
    match answered.and_then(content) {
        Ok(answer) => response.with_response_data(Some(answer)),
        Err(code) => response.with_error_code(code.code()),
    }
}

/// The request of the client, in Kafka's order of checks.
fn unwrap(context: &RequestContext, envelope: EnvelopeRequestData) -> Result<Request, ErrorCode> {
    let principal = Principal::forwarded(envelope.request_principal);
    let principal = principal.map_err(|_| ErrorCode::PrincipalDeserializationFailure)?;
    let client = address(&envelope.client_host_address).ok_or(ErrorCode::InvalidRequest)?;
    let size = envelope.request_data.len();
    let mut body = envelope.request_data;
    let head = RequestHead::read(&mut body).map_err(|_| ErrorCode::UnsupportedVersion)?;
    if !is_forwardable(head.api) {
        return Err(ErrorCode::InvalidRequest);
    }
    let via = &context.connection;
    let connection = Connection {
        id: via.id,
        listener: Arc::clone(&via.listener),
        role: via.role,
        local: via.local,
        peer: SocketAddr::new(client, 0),
        principal,
        software: OnceLock::new(),
        beats_of: OnceLock::new(),
    };
    Ok(Request {
        context: RequestContext {
            connection: Arc::new(connection),
            api: head.api,
            version: head.version,
            correlation_id: head.correlation_id,
            client_id: head.client_id,
            received: context.received,
            size,
        },
        body,
        // The envelope has reserved the memory.
        reservation: None,
    })
}

/// An IP address of four or sixteen bytes.
fn address(bytes: &Bytes) -> Option<IpAddr> {
    let bytes = &bytes[..];
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen()).ok()
}

fn refused(refused: Refused) -> ErrorCode {
    match refused {
        Refused::Body(_) | Refused::NotServed => ErrorCode::UnsupportedVersion,
        Refused::Response(_) | Refused::UnansweredProduce(_) => ErrorCode::UnknownServerError,
    }
}

/// Header and body of an answer, unless another controller has to answer: the broker then asks that one.
fn content(answer: Reply) -> Result<Bytes, ErrorCode> {
    if answer.is_not_controller {
        return Err(ErrorCode::NotController);
    }
    let mut content = BytesMut::with_capacity(answer.parts.iter().map(Part::len).sum());
    for part in answer.parts {
        match part {
            Part::Bytes(bytes) => content.extend_from_slice(&bytes),
            // No forwardable API has records in its answer.
            Part::Stored(_) => return Err(ErrorCode::UnknownServerError),
        }
    }
    Ok(content.split_off(LENGTH_BYTES).freeze())
}

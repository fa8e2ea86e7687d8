//! Passes a client's request on to the active controller on another node, as Kafka wraps it: in an Envelope.
//!
//! The controller decides for the client's principal. Its answer goes to the client as it is.

use bytes::{BufMut as _, Bytes, BytesMut};
use ottla_protocol::api_key;
use ottla_protocol::frame::{self, LENGTH_BYTES, RequestHead};
use ottla_protocol::messages::{
    ApiKey, DefaultPrincipalDataData, EnvelopeRequestData, ErrorCode, ProtocolError,
    ResponseHeaderData,
};

use super::channel::NoController;
use super::remote_controller::RemoteController;
use crate::access::principal::Principal;
use crate::context::RequestContext;

/// Whether a broker may forward requests of this API: those that only the active controller can answer.
pub const fn is_forwardable(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreateAcls
            | ApiKey::DeleteAcls
            | ApiKey::AlterConfigs
            | ApiKey::CreatePartitions
            | ApiKey::CreateDelegationToken
            | ApiKey::RenewDelegationToken
            | ApiKey::ExpireDelegationToken
            | ApiKey::ElectLeaders
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::AlterPartitionReassignments
            | ApiKey::ListPartitionReassignments
            | ApiKey::AlterClientQuotas
            | ApiKey::AlterUserScramCredentials
            | ApiKey::DescribeQuorum
            | ApiKey::UpdateFeatures
            | ApiKey::UnregisterBroker
            | ApiKey::AllocateProducerIds
            | ApiKey::AddRaftVoter
            | ApiKey::RemoveRaftVoter
    )
}

/// Whether this broker forwards such requests whole. Of IncrementalAlterConfigs, its handler answers a part; ACLs are not
/// served by any node yet.
pub const fn is_forwarded(api: ApiKey) -> bool {
    is_forwardable(api)
        && !matches!(
            api,
            ApiKey::IncrementalAlterConfigs | ApiKey::CreateAcls | ApiKey::DeleteAcls
        )
}

/// The body of the controller's answer to a request with this body.
pub async fn forward(
    controller: &RemoteController,
    context: &RequestContext,
    body: Bytes,
) -> Result<Bytes, NoController> {
    let envelope = envelope(context, &body).map_err(|_| NoController)?;
    let answer = controller.forward(&envelope).await?;
    let code = ErrorCode::from(answer.error_code);
    if code != ErrorCode::None {
        tracing::warn!(api = ?context.api, ?code, "the controller refused a forwarded request");
        return Err(NoController);
    }
    let mut response = answer.response_data.ok_or(NoController)?;
    let version = api_key::response_header_version(context.api, context.version);
    let header = ResponseHeaderData::read(&mut response, version).map_err(|_| NoController)?;
    if header.correlation_id != context.correlation_id {
        return Err(NoController);
    }
    Ok(response)
}

fn envelope(context: &RequestContext, body: &[u8]) -> Result<EnvelopeRequestData, ProtocolError> {
    let head = RequestHead {
        api: context.api,
        version: context.version,
        correlation_id: context.correlation_id,
        client_id: context.client_id.clone(),
    };
    let mut request = BytesMut::new();
    frame::write_request(&mut request, &head, |out| {
        out.put_slice(body);
        Ok(())
    })?;
    let request = request.freeze().slice(LENGTH_BYTES..);
    Ok(EnvelopeRequestData::default()
        .with_request_data(request)
        .with_request_principal(Some(principal(context)?))
        .with_client_host_address(address(context)))
}

/// The principal as Kafka's default serialization has it: the version of the data, then the data.
fn principal(context: &RequestContext) -> Result<Bytes, ProtocolError> {
    const VERSION: i16 = 0;
    let Principal { kind, name } = context.principal();
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    DefaultPrincipalDataData::default()
        .with_type(kind.clone().into())
        .with_name(name.clone().into())
        .write(&mut out, VERSION)?;
    Ok(out.freeze())
}

fn address(context: &RequestContext) -> Bytes {
    match context.connection.peer.ip().to_canonical() {
        std::net::IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        std::net::IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

//! Fetch as a replica sends it, of the metadata log and of partitions.

use bytes::{Bytes, BytesMut};
use ottla_client::Request;
use ottla_protocol::messages::{ApiKey, FetchRequestData, FetchResponseData, ProtocolError};

/// A Fetch of a replica, which needs version `OLDEST` or a later one.
#[derive(Debug)]
pub struct ReplicaFetch<const OLDEST: i16>(pub FetchRequestData);

impl<const OLDEST: i16> Request for ReplicaFetch<OLDEST> {
    const KEY: ApiKey = ApiKey::Fetch;
    const OLDEST: i16 = OLDEST;
    const NEWEST: i16 = 18;
    type Response = FetchResponseData;

    fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
        self.0.write(out, version)
    }

    fn decode(body: &mut Bytes, version: i16) -> Result<FetchResponseData, ProtocolError> {
        FetchResponseData::read(body, version)
    }
}

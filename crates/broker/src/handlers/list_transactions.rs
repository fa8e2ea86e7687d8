//! `ListTransactions` (key 66), versions 0 to 2.
//!
//! - 1: filtered by duration. 2: filtered by a pattern of transactional ids.
//!
//! Transactions are not served, so the list is empty. The filters are checked as in Kafka.

use std::collections::BTreeSet;

use ottla_protocol::messages::{
    ErrorCode, KafkaString, ListTransactionsRequestData, ListTransactionsResponseData,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The states of a transaction, as clients name them.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// Returns an empty list, and the unknown states of the filter.
pub fn handle(
    _broker: &Broker,
    _context: &RequestContext,
    request: ListTransactionsRequestData,
) -> ListTransactionsResponseData {
    let pattern = request.transactional_id_pattern.as_ref();
    if pattern.is_some_and(|pattern| regex_syntax::parse(pattern.as_str()).is_err()) {
        return ListTransactionsResponseData::default()
            .with_error_code(ErrorCode::InvalidRegularExpression.code());
    }
    let asked: BTreeSet<&str> = request
        .state_filters
        .iter()
        .map(KafkaString::as_str)
        .collect();
    let unknown = asked.into_iter().filter(|state| !STATES.contains(state));
    ListTransactionsResponseData::default()
        .with_unknown_state_filters(unknown.map(|state| state.to_owned().into()).collect())
}

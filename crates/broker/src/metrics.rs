//! The metrics of the process, under the names that Kafka's exporters use.
//!
//! Counters of the hot path are looked up once and kept, so that updating one takes no lock that a scrape holds for long.
//! Values that the broker has anyway (log sizes, group lag) are read when `/metrics` is asked for: at a *scrape*.

pub mod errors;
pub mod observe;
mod registrar;
mod scrape;

use std::collections::HashMap;
use std::fmt;

use ottla_protocol::messages::ApiKey;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use registrar::{Description, descriptions};
pub use scrape::{ClusterCounts, Observed, ReplicaCounts};

use registrar::{Registrar, Series};
use scrape::text;

/// One request's API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Api {
    request: String,
}

/// One API's error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiError {
    request: String,
    error: String,
}

/// The metrics of one API.
#[derive(Debug, Clone)]
pub struct ApiMetrics {
    /// Requests answered.
    pub requests: Counter,
    /// Bytes of requests, with their frame lengths.
    pub bytes_in: Counter,
    /// Bytes of answers, with their frame lengths.
    pub bytes_out: Counter,
    /// Seconds from a request's last byte to its answer.
    pub seconds: Histogram,
}

/// Every metric; updating one never blocks for long.
#[derive(Debug)]
pub struct Metrics {
    /// Open connections.
    pub connections: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections refused because their address has as many as it may.
    pub connections_refused: Counter,
    /// Connections closed because their bytes were not Kafka's protocol.
    pub protocol_violations: Counter,
    apis: HashMap<i16, ApiMetrics>,
    errors: Family<ApiError, Counter>,
    registry: Registry,
}

impl Metrics {
    /// Metrics of a process that serves these APIs, all at zero.
    pub fn new(served: &[ApiKey]) -> Self {
        Self::with(served, Series::Used)
    }

    fn with(served: &[ApiKey], series: Series) -> Self {
        let mut registrar = Registrar::new(series);
        let metrics = Connections::register(&mut registrar);
        let errors = Family::default();
        registrar.family(
            "kafka_network_requestmetrics_errors",
            "Answers by API and error code",
            &errors,
        );
        Self {
            connections: metrics.open,
            connections_accepted: metrics.accepted,
            connections_refused: metrics.refused,
            protocol_violations: metrics.violations,
            apis: apis(served, &mut registrar),
            errors,
            registry: registrar.into_registry(),
        }
    }

    /// All metrics as text: the counters, and the values of `observed`.
    pub fn text(&self, observed: &Observed) -> Result<String, fmt::Error> {
        text(self, observed, Series::Used)
    }

    /// The counters of a served API.
    pub fn api(&self, api: ApiKey) -> Option<&ApiMetrics> {
        self.apis.get(&(api as i16))
    }

    /// Counts one error in an answer of `api`; code 0 is no error.
    pub fn error(&self, api: ApiKey, code: i16) {
        if code == 0 {
            return;
        }
        let error = ottla_protocol::messages::ErrorCode::from(code);
        let labels = ApiError {
            request: format!("{api:?}"),
            error: format!("{error:?}"),
        };
        self.errors.get_or_create(&labels).inc();
    }
}

struct Connections {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
    violations: Counter,
}

impl Connections {
    fn register(registrar: &mut Registrar) -> Self {
        let metrics = Self {
            open: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            violations: Counter::default(),
        };
        registrar.single(
            "kafka_server_socketservermetrics_connection_count",
            "Open connections",
            metrics.open.clone(),
        );
        registrar.single(
            "kafka_server_socketservermetrics_connection_creation",
            "Connections accepted",
            metrics.accepted.clone(),
        );
        registrar.single(
            "ottla_network_connections_refused",
            "Connections refused by max.connections.per.ip or its override",
            metrics.refused.clone(),
        );
        registrar.single(
            "ottla_network_protocol_violations",
            "Connections closed because their bytes were not Kafka's protocol",
            metrics.violations.clone(),
        );
        metrics
    }
}

/// Registers the metrics of every served API, so that a scrape shows zeros before the first request.
fn apis(served: &[ApiKey], registrar: &mut Registrar) -> HashMap<i16, ApiMetrics> {
    let requests = Family::<Api, Counter>::default();
    let bytes_in = Family::<Api, Counter>::default();
    let bytes_out = Family::<Api, Counter>::default();
    // 50 microseconds to about 26 seconds.
    let seconds = Family::<Api, Histogram>::new_with_constructor(|| {
        Histogram::new(exponential_buckets(0.000_05, 2.0, 20))
    });
    registrar.family(
        "kafka_network_requestmetrics_requests",
        "Requests answered, by API",
        &requests,
    );
    registrar.family(
        "kafka_network_requestmetrics_request_bytes",
        "Bytes of requests, by API",
        &bytes_in,
    );
    registrar.family(
        "kafka_network_requestmetrics_response_bytes",
        "Bytes of answers, by API",
        &bytes_out,
    );
    registrar.family_in_seconds(
        "kafka_network_requestmetrics_totaltime",
        "From a request's last byte to its answer, by API",
        &seconds,
    );
    served
        .iter()
        .map(|api| {
            let name = Api {
                request: format!("{api:?}"),
            };
            let metrics = ApiMetrics {
                requests: requests.get_or_create_owned(&name),
                bytes_in: bytes_in.get_or_create_owned(&name),
                bytes_out: bytes_out.get_or_create_owned(&name),
                seconds: seconds.get_or_create_owned(&name),
            };
            (*api as i16, metrics)
        })
        .collect()
}

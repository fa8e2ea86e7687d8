//! The HTTP listener for monitoring: `/metrics`, `/live`, `/ready`, `/loss`, `/acks` and
//! `/why/compaction/TOPIC[/PARTITION]`.
//!
//! It has a port of its own, by default on loopback, and its answers hold no secrets.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ottla_log::compaction::{Quarantined, Verdict};
use ottla_protocol::ids::Offset;
use ottla_replica::cleaner::report::CompactionReport;
use ottla_replica::loss_ledger::LossEntry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::config::HostPort;
use crate::drivers::disk_work::{NotLooked, look};
use crate::drivers::stopping::stopped;
use crate::metrics;
use crate::readiness::{OPENING, Standing};
use crate::replicas::Partition;

/// The content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The config key of its address.
pub const LISTEN_KEY: &str = "ottla.http.listen";

/// Binds the address of `ottla.http.listen`.
pub async fn bind(address: &HostPort) -> io::Result<TcpListener> {
    TcpListener::bind((address.host.as_str(), address.port)).await
}

/// The broker, from the moment when its metadata is known.
pub type Serving = Arc<OnceLock<Arc<Broker>>>;

/// Serves until `shutdown`. `serving` is set during the start: before that, only `/live` and `/ready` have an answer.
pub async fn serve(listener: TcpListener, serving: Serving, mut shutdown: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/loss", get(loss))
        .route("/acks", get(acks))
        .route("/why/compaction/{topic}", get(why_topic))
        .route("/why/compaction/{topic}/{partition}", get(why_partition))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .with_state(serving);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stopped(&mut shutdown).await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP listener ended");
    }
}

impl IntoResponse for NotLooked {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{self}\n")).into_response()
    }
}

/// The broker of a request; while there is none, the request is refused.
struct OfBroker(Arc<Broker>);

impl FromRequestParts<Serving> for OfBroker {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(_: &mut Parts, serving: &Serving) -> Result<Self, Self::Rejection> {
        match serving.get() {
            Some(broker) => Ok(Self(Arc::clone(broker))),
            None => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{OPENING}\n"))),
        }
    }
}

async fn metrics(OfBroker(broker): OfBroker) -> Response {
    let observed = match metrics::observe::observe(&broker).await {
        Ok(observed) => observed,
        Err(not_looked) => return not_looked.into_response(),
    };
    match broker.metrics.text(&observed) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Answers as long as the process does, from the first moment of a start on: who restarts what is not live must not end a
/// node that recovers, or that waits for its controllers.
async fn live() -> &'static str {
    "live\n"
}

/// Upper bound of the lines of `/ready` about one kind of problem.
const MAX_DEGRADED: usize = 20;

/// Whether this node is ready; a line for each condition that is not met. Problems of disks and logs are listed, and do not
/// change the status: a load balancer must not take a broker out of service that still leads partitions.
async fn ready(State(serving): State<Serving>) -> (StatusCode, String) {
    let Some(broker) = serving.get().map(Arc::clone) else {
        return not_ready(&[OPENING.to_owned()], "");
    };
    let unmet = Standing::of(&broker).await.unmet();
    let degraded = degraded_or_not(look(move || degraded(&broker)).await);
    if unmet.is_empty() {
        (StatusCode::OK, format!("ready\n{degraded}"))
    } else {
        not_ready(&unmet, &degraded)
    }
}

fn not_ready(unmet: &[String], degraded: &str) -> (StatusCode, String) {
    let unmet = unmet.join("\nnot ready: ");
    let text = format!("not ready: {unmet}\n{degraded}");
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

fn degraded_or_not(looked: Result<String, NotLooked>) -> String {
    looked.unwrap_or_else(|not_looked| format!("degraded: {not_looked}\n"))
}

/// A line for each problem.
fn degraded(broker: &Broker) -> String {
    let (replicas, drivers) = (&broker.replicas, &broker.drivers);
    let now = broker.clock.monotonic();
    let mut lines = String::new();
    let reports = drivers.compaction(|partition| partition.settings().log.compact);
    let degraded = reports.iter().filter(|report| report.is_degraded());
    for report in degraded.take(MAX_DEGRADED) {
        let _ = writeln!(lines, "degraded: compaction of {report}");
    }
    for report in replicas.damage().iter().take(MAX_DEGRADED) {
        let _ = writeln!(lines, "degraded: log of {report}");
    }
    for directory in replicas.directories() {
        let path = directory.log.path().display();
        if let Some(cause) = directory.log.failure() {
            let _ = writeln!(lines, "degraded: log directory {path} is offline: {cause}");
        }
        if directory.stalls.is_stalled(now) {
            let _ = writeln!(
                lines,
                "degraded: log directory {path} is stalled: its disk does not answer"
            );
        }
        if directory.reserve.is_short() {
            let _ = writeln!(
                lines,
                "degraded: log directory {path} is below ottla.disk.reserve"
            );
        }
    }
    lines
}

/// What this node has seen of lost records, as JSON.
async fn loss(OfBroker(broker): OfBroker) -> Response {
    let read = match look(move || broker.replicas.losses().entries()).await {
        Ok(read) => read,
        Err(not_looked) => return not_looked.into_response(),
    };
    match read {
        Ok(entries) => {
            let entries: Vec<_> = entries.iter().map(loss_to_json).collect();
            let body = serde_json::Value::Array(entries).to_string();
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn loss_to_json(entry: &LossEntry) -> serde_json::Value {
    let offset = |offset: Option<Offset>| offset.map(|offset| offset.0);
    serde_json::json!({
        "time_ms": entry.at.0,
        "node": entry.node.0,
        "topic": entry.topic,
        "topic_id": entry.topic_id.to_string(),
        "partition": entry.partition.0,
        "from": offset(entry.from),
        "to": offset(entry.to),
        "end": offset(entry.end),
        "old_leader": entry.old_leader.map(|id| id.0),
        "new_leader": entry.new_leader.0,
        "old_epoch": entry.old_epoch.map(|epoch| epoch.0),
        "new_epoch": entry.new_epoch.0,
        "what": entry.what.word(),
    })
}

/// Which clients write to which topics without waiting for the replicas, as JSON.
async fn acks(OfBroker(broker): OfBroker) -> Response {
    let writers = broker.weak_acks.all(broker.clock.now().wall);
    let writers = writers.iter().map(|(writer, last)| {
        serde_json::json!({
            "topic": &*writer.topic,
            "client_id": writer.client_id,
            "acks": writer.acks,
            "last_ms": last.0,
        })
    });
    let body = writers.collect::<serde_json::Value>().to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Why each partition of a topic was or was not compacted, as JSON.
async fn why_topic(OfBroker(broker): OfBroker, Path(topic): Path<String>) -> Response {
    why(&broker, move |partition| *partition.topic == *topic).await
}

/// Why one partition was or was not compacted, as JSON.
async fn why_partition(
    OfBroker(broker): OfBroker,
    Path((topic, index)): Path<(String, i32)>,
) -> Response {
    let asks =
        move |partition: &Partition| *partition.topic == *topic && partition.index.0 == index;
    why(&broker, asks).await
}

async fn why(broker: &Arc<Broker>, asks: impl Fn(&Partition) -> bool + Send + 'static) -> Response {
    let drivers = Arc::clone(&broker.drivers);
    let reports = match look(move || drivers.compaction(asks)).await {
        Ok(reports) => reports,
        Err(not_looked) => return not_looked.into_response(),
    };
    if reports.is_empty() {
        return (StatusCode::NOT_FOUND, "no such partition here\n").into_response();
    }
    let reports: Vec<_> = reports.iter().map(to_json).collect();
    let body = serde_json::Value::Array(reports).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A report for programs.
fn to_json(report: &CompactionReport) -> serde_json::Value {
    let plan = &report.plan;
    let next_due = match plan.verdict {
        Verdict::NotDue { next_due, .. } => next_due.map(|due| due.0),
        Verdict::Due(_) => Some(report.now.0),
    };
    let failure = report.history.failure.as_ref();
    let quarantined = |entry: &Quarantined| {
        serde_json::json!({
            "first_offset": entry.first_offset.0,
            "last_offset": entry.last_offset.0,
            "bytes": entry.bytes,
            "reason": entry.reason,
        })
    };
    serde_json::json!({
        "topic": report.topic,
        "partition": report.partition,
        "why": report.to_string(),
        "is_due": plan.is_due(),
        "is_degraded": report.is_degraded(),
        "first_dirty_offset": plan.first_dirty.0,
        "first_uncleanable_offset": plan.first_uncleanable.0,
        "clean_bytes": plan.clean_bytes,
        "cleanable_bytes": plan.cleanable_bytes,
        "next_due_ms": next_due,
        "compacted_at_ms": report.history.compacted_at.map(|at| at.0),
        "failure": failure.map(|failure| failure.reason.as_str()),
        "quarantine": report.quarantine.iter().map(quarantined).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::{degraded_or_not, look};
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    #[tokio::test]
    async fn a_panic_while_looking_is_shown() {
        let looked = look(|| -> String { panic!("a broken invariant") }).await;
        assert!(degraded_or_not(looked).starts_with("degraded: looking at the broker panicked"));
        let looked = look(|| -> String { panic!("a broken invariant") }).await;
        let answer = looked.into_response();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(degraded_or_not(look(String::new).await), "");
    }
}

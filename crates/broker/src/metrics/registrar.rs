//! Registers metrics, and lists them for the documents.
//!
//! A family without series is not in the text of `/metrics`. For the documents each family gets one series with empty
//! labels, so that the list of metrics is made from their registration and is complete.

use std::fmt::{self, Debug};
use std::hash::Hash;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::{Metrics, Observed, text};

/// Collects the metrics of one registry.
#[derive(Debug)]
pub struct Registrar {
    registry: Registry,
    series: Series,
}

/// Which series a family shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// Those with a value.
    Used,
    /// One more with empty labels, for the documents.
    Sample,
}

/// A metric as the documents list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name in the text of `/metrics`: of a histogram without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What is counted.
    pub help: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

impl Registrar {
    pub fn new(series: Series) -> Self {
        Self {
            registry: Registry::default(),
            series,
        }
    }

    /// Registers a metric without labels.
    pub fn single(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    /// Registers a family of metrics.
    pub fn family<L, M, C>(&mut self, name: &str, help: &str, family: &Family<L, M, C>)
    where
        L: Labels,
        M: EncodeMetric + TypedMetric + Debug + Send + Sync + 'static,
        C: MetricConstructor<M> + Clone + Send + Sync + 'static,
    {
        self.sample(family);
        self.registry.register(name, help, family.clone());
    }

    /// Registers a family of metrics in seconds.
    pub fn family_in_seconds<L, M, C>(&mut self, name: &str, help: &str, family: &Family<L, M, C>)
    where
        L: Labels,
        M: EncodeMetric + TypedMetric + Debug + Send + Sync + 'static,
        C: MetricConstructor<M> + Clone + Send + Sync + 'static,
    {
        self.sample(family);
        self.registry
            .register_with_unit(name, help, Unit::Seconds, family.clone());
    }

    /// The registry with all metrics.
    pub fn into_registry(self) -> Registry {
        self.registry
    }

    fn sample<L: Labels, M, C: MetricConstructor<M>>(&self, family: &Family<L, M, C>) {
        if self.series == Series::Sample {
            drop(family.get_or_create(&L::default()));
        }
    }
}

/// A metric that can be registered, with or without labels.
pub trait Observable {
    /// Registers it under a name.
    fn register(&self, registrar: &mut Registrar, name: &str, help: &str);
}

impl Observable for Gauge {
    fn register(&self, registrar: &mut Registrar, name: &str, help: &str) {
        registrar.single(name, help, self.clone());
    }
}

impl Observable for Counter {
    fn register(&self, registrar: &mut Registrar, name: &str, help: &str) {
        registrar.single(name, help, self.clone());
    }
}

impl<L, M> Observable for Family<L, M>
where
    L: Labels,
    M: EncodeMetric + TypedMetric + Debug + Default + Send + Sync + 'static,
{
    fn register(&self, registrar: &mut Registrar, name: &str, help: &str) {
        registrar.family(name, help, self);
    }
}

/// The labels of a family.
pub trait Labels:
    EncodeLabelSet + Clone + Eq + Hash + Debug + Default + Send + Sync + 'static
{
}

impl<L> Labels for L where
    L: EncodeLabelSet + Clone + Eq + Hash + Debug + Default + Send + Sync + 'static
{
}

/// Every metric, by name.
pub fn descriptions() -> Result<Vec<Description>, fmt::Error> {
    let metrics = Metrics::with(&[], Series::Sample);
    let text = text(&metrics, &Observed::default(), Series::Sample)?;
    let mut found: Vec<Description> = Vec::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            let (name, help) = line.split_once(' ').unwrap_or((line, ""));
            found.push(Description {
                name: name.to_owned(),
                kind: String::new(),
                help: help.trim_end_matches('.').to_owned(),
                labels: Vec::new(),
            });
        } else if let Some(last) = found.last_mut() {
            last.read(line);
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

impl Description {
    /// Reads a line that follows the metric's help: its type, its unit, or a series.
    fn read(&mut self, line: &str) {
        if let Some(line) = line.strip_prefix("# TYPE ") {
            let kind = line.split(' ').nth(1).unwrap_or_default();
            kind.clone_into(&mut self.kind);
            if self.kind == "counter" {
                self.name.push_str("_total");
            }
        } else if !line.starts_with('#')
            && self.labels.is_empty()
            && let Some((_, labels)) = line.split_once('{')
        {
            let names = labels.split("\",").filter_map(|label| {
                let (name, _) = label.split_once("=\"")?;
                Some(name.to_owned())
            });
            // The bounds of a histogram's buckets belong to its type.
            self.labels = names.filter(|name| name != "le").collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::descriptions;

    #[test]
    fn every_metric_is_described_with_its_labels() {
        let all = descriptions().unwrap();
        let described = |name: &str| {
            let found = all.iter().find(|metric| metric.name == name).unwrap();
            format!("{} {:?}", found.kind, found.labels)
        };
        let of = described;
        assert_eq!(of("ottla_ready"), "gauge []");
        assert_eq!(
            of("kafka_network_requestmetrics_errors_total"),
            "counter [\"request\", \"error\"]"
        );
        assert_eq!(
            of("kafka_network_requestmetrics_totaltime_seconds"),
            "histogram [\"request\"]"
        );
        assert_eq!(
            of("kafka_consumergroup_lag"),
            "gauge [\"group\", \"topic\", \"partition\"]"
        );
        assert_eq!(
            of("ottla_log_damaged_ranges"),
            "gauge [\"topic\", \"partition\"]"
        );
        assert!(all.iter().all(|metric| !metric.help.is_empty()));
    }
}

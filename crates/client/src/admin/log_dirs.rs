//! The log directories of the brokers, and their replicas (DescribeLogDirs).

use std::collections::BTreeMap;

use ottla_protocol::messages::DescribeLogDirsRequestData;
use ottla_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;

use crate::{ClientError, Cluster, Result, TopicPartition};

/// A log directory of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// Its path on the broker.
    pub path: String,
    /// Kafka's code of the reason, if it cannot be used.
    pub error: Option<crate::ErrorCode>,
    /// The size of its file system; brokers before Kafka 3.3 do not tell it.
    pub total_bytes: Option<u64>,
    /// The free bytes of its file system.
    pub usable_bytes: Option<u64>,
    /// The bytes of each replica in it, including a copy that is being moved into it.
    pub replicas: BTreeMap<TopicPartition, u64>,
}

impl LogDir {
    /// The bytes of all replicas.
    pub fn size(&self) -> u64 {
        self.replicas.values().sum()
    }
}

impl Cluster {
    /// The log directories of one broker.
    pub async fn log_dirs(&self, node: i32) -> Result<Vec<LogDir>> {
        let request = DescribeLogDirsRequestData {
            topics: None,
            ..DescribeLogDirsRequestData::default()
        };
        let response = self.call(node, &request).await?;
        ClientError::check(
            response.error_code,
            None,
            format!("log directories of broker {node}"),
        )?;
        Ok(response.results.iter().map(log_dir).collect())
    }
}

fn log_dir(result: &DescribeLogDirsResult) -> LogDir {
    let mut replicas = BTreeMap::new();
    for topic in &result.topics {
        for partition in &topic.partitions {
            let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            let size = u64::try_from(partition.partition_size).unwrap_or(0);
            *replicas.entry(key).or_default() += size;
        }
    }
    let code = crate::ErrorCode::from(result.error_code);
    LogDir {
        path: result.log_dir.to_string(),
        error: code.is_error().then_some(code),
        total_bytes: u64::try_from(result.total_bytes).ok(),
        usable_bytes: u64::try_from(result.usable_bytes).ok(),
        replicas,
    }
}

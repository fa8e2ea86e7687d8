//! Describes and changes the configs of topics, brokers and groups.

use std::collections::BTreeMap;

use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::describe_configs_request::{
    DescribeConfigsRequestData, DescribeConfigsResource,
};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequestData,
};

use super::Validation;
use crate::{ClientError, Cluster, Result};

/// A resource with configs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Topic(String),
    Broker(i32),
    /// The defaults of all brokers.
    BrokerDefaults,
    Group(String),
}

impl Resource {
    fn wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (2, name.clone()),
            Self::Broker(id) => (4, id.to_string()),
            Self::BrokerDefaults => (4, String::new()),
            Self::Group(name) => (32, name.clone()),
        }
    }

    /// The broker that must be asked, if only one can answer.
    fn node(&self) -> Option<i32> {
        match self {
            Self::Broker(id) => Some(*id),
            Self::Topic(_) | Self::BrokerDefaults | Self::Group(_) => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Topic(name) => format!("configs of topic {name}"),
            Self::Broker(id) => format!("configs of broker {id}"),
            Self::BrokerDefaults => "configs of all brokers".to_owned(),
            Self::Group(name) => format!("configs of group {name}"),
        }
    }
}

/// A change to one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    Set(String),
    /// Back to the default.
    Delete,
    /// Add items to a list.
    Append(String),
    /// Remove items from a list.
    Subtract(String),
}

impl ConfigChange {
    fn wire(&self) -> (i8, Option<&str>) {
        match self {
            Self::Set(value) => (0, Some(value)),
            Self::Delete => (1, None),
            Self::Append(value) => (2, Some(value)),
            Self::Subtract(value) => (3, Some(value)),
        }
    }
}

/// Whether configs come with their documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documentation {
    Included,
    Omitted,
}

impl Cluster {
    /// The configs of a resource, with their sources and synonyms.
    pub async fn describe_configs(
        &self,
        resource: &Resource,
        documentation: Documentation,
    ) -> Result<Vec<DescribeConfigsResourceResult>> {
        let (resource_type, name) = resource.wire();
        let request = DescribeConfigsRequestData {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: KafkaString::from(name),
                configuration_keys: None,
                ..DescribeConfigsResource::default()
            }],
            include_synonyms: true,
            include_documentation: documentation == Documentation::Included,
            ..DescribeConfigsRequestData::default()
        };
        let response = match resource.node() {
            Some(node) => self.call(node, &request).await?,
            None => self.call_any(&request).await?,
        };
        let mut configs = Vec::new();
        for result in response.results {
            let message = result.error_message.as_ref().map(KafkaString::as_str);
            ClientError::check(result.error_code, message, resource.describe())?;
            configs.extend(result.configs);
        }
        Ok(configs)
    }

    /// Changes some configs of a resource, or only checks the changes.
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &BTreeMap<String, ConfigChange>,
        validation: Validation,
    ) -> Result<()> {
        let (resource_type, name) = resource.wire();
        let configs = changes.iter().map(|(name, change)| {
            let (config_operation, value) = change.wire();
            AlterableConfig {
                name: KafkaString::from(name.clone()),
                config_operation,
                value: value.map(|value| KafkaString::from(value.to_owned())),
                ..AlterableConfig::default()
            }
        });
        let request = IncrementalAlterConfigsRequestData {
            resources: vec![AlterConfigsResource {
                resource_type,
                resource_name: KafkaString::from(name),
                configs: configs.collect(),
                ..AlterConfigsResource::default()
            }],
            validate_only: validation == Validation::Only,
            ..IncrementalAlterConfigsRequestData::default()
        };
        let response = match resource.node() {
            Some(node) => self.call(node, &request).await?,
            None => self.call_controller(&request).await?,
        };
        for result in &response.responses {
            let message = result.error_message.as_ref().map(KafkaString::as_str);
            ClientError::check(result.error_code, message, resource.describe())?;
        }
        Ok(())
    }
}

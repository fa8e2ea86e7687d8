//! Finds which groups with live members read a topic.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ottla_client::admin::Group;
use ottla_client::{Cluster, ErrorCode};

use crate::output::message;

/// Groups with members, by the topics that they read.
#[derive(Debug, Default)]
pub struct Readers {
    groups: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Readers {
    /// Describes all groups of the cluster.
    pub async fn of_all(cluster: &Cluster) -> Result<Self> {
        let mut readers = Self::default();
        for listed in cluster.list_groups().await? {
            if matches!(listed.state.as_str(), "Empty" | "Dead") {
                continue;
            }
            match cluster.describe_group(&listed.group).await {
                Ok(group) if group.members.is_empty() => {}
                Ok(group) => readers.add(cluster, &group).await?,
                // The group was just deleted, or it is of a type that no Describe API of this client finds.
                Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {
                    if !matches!(
                        listed.group_type.to_lowercase().as_str(),
                        "classic" | "consumer"
                    ) {
                        message(&format!(
                            "cannot see what group {} of type {} reads",
                            listed.group, listed.group_type
                        ));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(readers)
    }

    /// The groups that read `topic`, with how many members each has.
    pub fn of(&self, topic: &str) -> Vec<String> {
        let groups = self.groups.get(topic).into_iter().flatten();
        let shown = groups.map(|(group, members)| {
            let s = if *members == 1 { "" } else { "s" };
            format!("{group} ({members} member{s})")
        });
        shown.collect()
    }

    async fn add(&mut self, cluster: &Cluster, group: &Group) -> Result<()> {
        let members = group.members.iter();
        let mut topics: BTreeSet<_> = members
            .flat_map(|member| {
                let assigned = member.partitions.iter().map(|of| of.topic.clone());
                member.topics.iter().cloned().chain(assigned)
            })
            .collect();
        if topics.is_empty() {
            // While a classic group rebalances, DescribeGroups does not return the subscriptions of
            // its members.
            let committed = cluster.committed(&group.group, None).await?;
            topics = committed.into_keys().map(|of| of.topic).collect();
        }
        for topic in topics {
            let groups = self.groups.entry(topic).or_default();
            groups.insert(group.group.clone(), group.members.len());
        }
        Ok(())
    }
}

//! A classic group as tools see it.

use super::group::{Group, State};
use crate::group::describe::{DescribedGroup, DescribedMember};

impl Group {
    /// The group and its members. Their metadata is shown only in a stable group, where it is current.
    pub fn describe(&self) -> DescribedGroup {
        let protocol = self
            .protocol
            .as_deref()
            .filter(|_| self.state == State::Stable);
        let members = self.members.values().map(|member| DescribedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol
                .map(|name| member.metadata(name))
                .unwrap_or_default(),
            assignment: member.assignment.clone(),
        });
        DescribedGroup {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: members.collect(),
        }
    }
}

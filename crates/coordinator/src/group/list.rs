//! `ListGroups`: every group of the shard, by state and type.

use crate::group::foreign::Kind;
use crate::shard::Shard;

/// Which groups to list. An empty list accepts all; letter case does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of states.
    pub states: Vec<String>,
    /// Names of types.
    pub types: Vec<String>,
}

impl Filter {
    fn accepts(&self, group: &ListedGroup) -> bool {
        let names = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|f| f.trim().eq_ignore_ascii_case(name))
        };
        names(&self.states, group.state) && names(&self.types, group.kind.name())
    }
}

/// A group in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub id: String,
    /// Its protocol type, empty for none.
    pub protocol_type: String,
    /// The name of its state.
    pub state: &'static str,
    /// Its type.
    pub kind: Kind,
}

impl Shard {
    /// Lists the groups that `filter` accepts.
    pub fn list(&self, filter: &Filter) -> Vec<ListedGroup> {
        let classic = self.classics().map(|(id, group)| ListedGroup {
            id: id.to_owned(),
            protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
            state: group.state().name(),
            kind: Kind::Classic,
        });
        let foreign = self.state().foreigns().map(|(id, group)| ListedGroup {
            id: id.to_owned(),
            protocol_type: group.kind.protocol_type().to_owned(),
            state: group.state_name(),
            kind: group.kind,
        });
        let groups = classic.chain(foreign);
        groups.filter(|group| filter.accepts(group)).collect()
    }
}

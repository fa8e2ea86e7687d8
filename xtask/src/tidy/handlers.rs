//! Each API in the broker's table has its handler in the file of its name, and each handler file is in the table.
//!
//! A handler file's header lists the versions it serves, which must be those of `protocol::api_key`.

use std::collections::BTreeSet;

use ottla_protocol::api_key;
use ottla_protocol::messages::by_api;

use super::source::{Source, Tree};
use crate::generate::snake;

const TABLE: &str = "crates/broker/src/handlers.rs";
const HANDLERS: &str = "crates/broker/src/handlers/";

pub fn check(tree: &Tree) -> Vec<String> {
    let Some(table) = tree.sources.iter().find(|source| source.path == TABLE) else {
        return vec![format!(
            "{TABLE} is gone; name the new table in xtask/src/tidy/handlers.rs"
        )];
    };
    let served = served(&table.text);
    let mut problems = Vec::new();
    for api in &served {
        let path = format!("{HANDLERS}{}.rs", snake(api));
        match tree.sources.iter().find(|source| source.path == path) {
            None => problems.push(format!("{api} is in the table, but {path} does not exist")),
            Some(source) => problems.extend(versions_problem(api, source)),
        }
    }
    for file in tree
        .sources
        .iter()
        .filter_map(|source| source.path.strip_prefix(HANDLERS))
    {
        // A directory has the parts of the handler with its name.
        let stem = file
            .split('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs");
        if !served.iter().any(|api| snake(api) == stem) {
            problems.push(format!(
                "{HANDLERS}{file} belongs to no API in the table; serve it, or move it out of handlers/"
            ));
        }
    }
    problems
}

/// The APIs in the table, and those of `SERVED` that are handled elsewhere.
fn served(text: &str) -> BTreeSet<String> {
    let list = text.lines().find(|line| line.contains("const SERVED"));
    let own_paths = list.unwrap_or_default().split("ApiKey::").skip(1);
    let table = text.lines().skip_while(|line| *line != "serve_apis! {");
    let mut served: BTreeSet<String> = table
        .take_while(|line| *line != "}")
        .filter_map(|line| line.trim().split_once(" => "))
        .map(|(api, _)| api.to_owned())
        .collect();
    served.extend(own_paths.filter_map(|name| {
        let name: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
        (!name.is_empty()).then_some(name)
    }));
    served
}

fn versions_problem(api: &str, source: &Source) -> Option<String> {
    let known = by_api::APIS
        .iter()
        .find(|known| format!("{known:?}") == api)?;
    let versions = api_key::versions(*known);
    let (from, to) = versions.into_inner();
    let wanted = match to - from {
        0 => format!("version {from}"),
        1 => format!("versions {from} and {to}"),
        _ => format!("versions {from} to {to}"),
    };
    let first = source.text.lines().next().unwrap_or_default();
    (!first.contains(&wanted)).then(|| {
        format!(
            "{} must name in its first line what is served: `//! `{api}` (key {}), {wanted}.`",
            source.path, *known as i16
        )
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_found_in_its_macro() {
        let text = "pub const SERVED: &[ApiKey] = &[ApiKey::Produce, $(ApiKey::$api),*];\nserve_apis! {\n    Fetch => waits fetch::handle(F),\n}\n";
        let served: Vec<String> = super::served(text).into_iter().collect();
        assert_eq!(served, ["Fetch", "Produce"]);
    }
}

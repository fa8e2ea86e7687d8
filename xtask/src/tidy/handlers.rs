//! Each API in the broker's table has its handler in the file of its name, and each handler file is in the table.
//!
//! A handler file's header lists the versions it serves, which must be those of `protocol::api_key`.

use std::collections::BTreeSet;

use ottla_protocol::api_key;
use ottla_protocol::messages::by_api;

use super::source::{Source, Tree};
use crate::generate::snake;

/// The table of each role of a listener, and the directory of its handlers.
const TABLES: [(&str, &str); 2] = [
    (
        "crates/broker/src/handlers.rs",
        "crates/broker/src/handlers/",
    ),
    (
        "crates/broker/src/handlers/controller.rs",
        "crates/broker/src/handlers/controller/",
    ),
];

pub fn check(tree: &Tree) -> Vec<String> {
    let tables = TABLES.iter();
    tables
        .flat_map(|(table, handlers)| check_table(tree, table, handlers))
        .collect()
}

fn check_table(tree: &Tree, table: &str, handlers: &str) -> Vec<String> {
    let Some(source) = tree.sources.iter().find(|source| source.path == table) else {
        return vec![format!(
            "{table} is gone; name the new table in xtask/src/tidy/handlers.rs"
        )];
    };
    let served = served(&source.text);
    let mut problems = Vec::new();
    for api in &served {
        // A handler may be shared by both tables: it is in the directory of the first.
        let directories = TABLES.iter().rev().map(|(_, directory)| *directory);
        let mut paths = directories
            .filter(|directory| handlers.starts_with(directory))
            .map(|directory| format!("{directory}{}.rs", snake(api)));
        let found = paths.find_map(|path| tree.sources.iter().find(|source| source.path == path));
        match found {
            None => problems.push(format!(
                "{api} is in {table}, but {handlers}{}.rs does not exist",
                snake(api)
            )),
            Some(source) => problems.extend(versions_problem(api, source)),
        }
    }
    let files = tree.sources.iter();
    for file in files.filter_map(|source| source.path.strip_prefix(handlers)) {
        // A directory has the parts of the handler with its name.
        let stem = file.split('/').next().unwrap_or_default();
        let stem = stem.trim_end_matches(".rs");
        let is_table = TABLES
            .iter()
            .any(|(_, directory)| *directory == format!("{handlers}{stem}/"));
        if !is_table && !served.iter().any(|api| snake(api) == stem) {
            problems.push(format!(
                "{handlers}{file} belongs to no API in {table}; serve it, or move it out of there"
            ));
        }
    }
    problems
}

/// The APIs in the table, and those with a path of their own.
fn served(text: &str) -> BTreeSet<String> {
    let lines = text.lines().skip_while(|line| *line != "serve_apis! {");
    let lines = lines.skip(1).take_while(|line| *line != "}");
    let mut served = BTreeSet::new();
    for line in lines.map(str::trim) {
        if let Some((api, _)) = line.split_once(" => ") {
            served.insert(api.to_owned());
        } else if let Some(own) = line.strip_prefix("own [") {
            let names = own.split([',', ']', ';']).map(str::trim);
            served.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
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
        let text = "serve_apis! {\n    own [Produce];\n    Fetch => waits fetch::handle(F),\n}\n";
        let served: Vec<String> = super::served(text).into_iter().collect();
        assert_eq!(served, ["Fetch", "Produce"]);
    }
}

//! Documents that derive from the code: the table of APIs in README.md, docs/config.md, and docs/cli.md.
//!
//! A document that differs from the code fails its test; `OTTLA_WRITE_DOCUMENTS=1` writes it instead.

#![expect(clippy::unwrap_used, reason = "a test without its files has failed")]

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ottla_broker::handlers::{SERVED, served_versions};
use ottla_metadata::ResourceKind;
use ottla_metadata::config_keys::{self, ConfigKey, Effect, Update};

const APIS_BEGIN: &str = "<!-- apis -->\n";
const APIS_END: &str = "<!-- end of apis -->\n";

fn workspace() -> &'static Path {
    let mut ancestors = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    ancestors.nth(2).unwrap()
}

/// Fails when the file differs from `expected`, or makes it so.
fn compare(file: &PathBuf, expected: &str) {
    let written = std::fs::read_to_string(file).unwrap_or_default();
    if written == expected {
        return;
    }
    assert!(
        std::env::var_os("OTTLA_WRITE_DOCUMENTS").is_some(),
        "{} is not what the code says; write it with \
         OTTLA_WRITE_DOCUMENTS=1 cargo test -p ottla-cli --test documents",
        file.display()
    );
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    let mut file = options.open(file).unwrap();
    file.write_all(expected.as_bytes()).unwrap();
}

#[test]
fn readme_lists_the_apis_that_are_served() {
    let file = workspace().join("README.md");
    let readme = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = readme.split_once(APIS_BEGIN).unwrap();
    let (_, after) = rest.split_once(APIS_END).unwrap();
    let table = api_table();
    let expected = format!("{before}{APIS_BEGIN}{table}{APIS_END}{after}");
    compare(&file, &expected);
}

/// Three APIs a line, by number.
fn api_table() -> String {
    let mut apis = SERVED.to_vec();
    apis.sort_by_key(|api| *api as i16);
    let cells = apis.iter().map(|api| {
        let versions = served_versions(*api).expect("a served API has versions");
        let (first, last) = (versions.start(), versions.end());
        format!("{api:?} ({}) | {first} to {last}", *api as i16)
    });
    let cells: Vec<_> = cells.collect();
    let mut table = String::from("| API | versions | API | versions | API | versions |\n");
    table.push_str("|---|---|---|---|---|---|\n");
    for row in cells.chunks(3) {
        let mut row = row.to_vec();
        row.resize(3, " | ".to_owned());
        writeln!(table, "| {} |", row.join(" | ")).unwrap();
    }
    table
}

const CONFIG_INTRODUCTION: &str = "\
# Configuration

Kafka's names, types and bounds. Written from the table that reads `server.properties`, checks topic configs and
answers DescribeConfigs (`OTTLA_WRITE_DOCUMENTS=1 cargo test -p ottla-cli --test documents`).

Without a configuration file the broker is a single node on 127.0.0.1:9092 with its data in `./ottla-data`. The
replication factors and minimum in-sync replicas of its own topics are then 1, because with Kafka's defaults a single
broker could never create them, and `group.initial.rebalance.delay.ms` is 0, because there is nobody to wait for. With a
file, the defaults below hold.
";

#[test]
fn config_page_lists_the_keys_that_are_known() {
    let mut page = CONFIG_INTRODUCTION.to_owned();
    for (title, kind) in [
        ("Brokers", ResourceKind::Broker),
        ("Topics", ResourceKind::Topic),
        ("Groups", ResourceKind::Group),
    ] {
        let titles = "| key | default | may change | meaning |\n|---|---|---|---|";
        write!(page, "\n## {title}\n\n{titles}\n").unwrap();
        let shown = || config_keys::all(kind).filter(|key| !key.internal);
        for key in shown().filter(|key| key.effect == Effect::Works) {
            page.push_str(&line(key, kind));
        }
        let with = |effect| {
            shown()
                .filter(move |key| key.effect == effect)
                .collect::<Vec<_>>()
        };
        list(
            &mut page,
            "Taken, but without effect yet, which is said once",
            &with(Effect::NotYet),
        );
        let refused = "Not served yet: a value other than the default refuses the start";
        list(&mut page, refused, &with(Effect::Refused));
    }
    compare(&workspace().join("docs/config.md"), &page);
}

#[test]
fn command_line_page_lists_the_commands_that_there_are() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ottla"));
    let written = command.arg("reference").output().unwrap();
    assert!(written.status.success(), "{written:?}");
    let page = String::from_utf8(written.stdout).unwrap();
    compare(&workspace().join("docs/cli.md"), &page);
}

fn line(key: &ConfigKey, kind: ResourceKind) -> String {
    let default = match key.default {
        Some("") => "empty".to_owned(),
        Some(default) => format!("`{}`", default.replace('|', "\\|")),
        None => "none".to_owned(),
    };
    let update = match (kind, key.update) {
        (ResourceKind::Broker, Update::ReadOnly) => "at a start",
        (ResourceKind::Broker, Update::PerBroker) => "per broker",
        _ => "any time",
    };
    let meaning = key.documentation.replace('|', "\\|");
    format!("| `{}` | {default} | {update} | {meaning} |\n", key.name)
}

fn list(page: &mut String, title: &str, keys: &[&ConfigKey]) {
    if keys.is_empty() {
        return;
    }
    let names: Vec<_> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
    write!(page, "\n{title}: {}.\n", names.join(", ")).unwrap();
}

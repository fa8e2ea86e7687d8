//! The documents that are generated from the code: the table of APIs in README.md, docs/config.md,
//! docs/cli.md, and the metrics in docs/running.md and in the Grafana dashboard.
//!
//! A document that differs from the code fails its test; `OTTLA_WRITE_DOCUMENTS=1` writes it instead.

#![expect(clippy::unwrap_used, reason = "a test without its files has failed")]

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ottla_broker::context::ListenerRole;
use ottla_broker::handlers::{REFUSED, SERVED, served_versions};
use ottla_broker::metrics::{Description, descriptions};
use ottla_metadata::ResourceKind;
use ottla_metadata::config_keys::{self, ConfigKey, Effect, Update, WhenChanged};

const APIS_BEGIN: &str = "<!-- apis -->\n";
const APIS_END: &str = "<!-- end of apis -->\n";
const METRICS_BEGIN: &str = "<!-- metrics -->\n";
const METRICS_END: &str = "<!-- end of metrics -->\n";

fn workspace() -> &'static Path {
    let mut ancestors = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    ancestors.nth(2).unwrap()
}

/// Fails when the file differs from `expected`; with `OTTLA_WRITE_DOCUMENTS` it writes the file.
fn compare(file: &PathBuf, expected: &str) {
    let written = std::fs::read_to_string(file).unwrap_or_default();
    if written == expected {
        return;
    }
    assert!(
        std::env::var_os("OTTLA_WRITE_DOCUMENTS").is_some(),
        "{} differs from the code; write it with \
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
    compare_part("README.md", [APIS_BEGIN, APIS_END], &api_table());
}

#[test]
fn running_lists_the_metrics_that_are_registered() {
    let marks = [METRICS_BEGIN, METRICS_END];
    compare_part("docs/running.md", marks, &metrics_table());
}

/// Compares the text between two lines of a document.
fn compare_part(document: &str, [begin, end]: [&str; 2], part: &str) {
    let file = workspace().join(document);
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    compare(&file, &format!("{before}{begin}{part}{end}{after}"));
}

/// The table in docs/running.md whose first column quotes log messages of the broker.
const MESSAGES: &str = "| message | why, and what to do |\n|---|---|\n";

#[test]
fn troubleshooting_quotes_messages_that_exist() {
    let running = std::fs::read_to_string(workspace().join("docs/running.md")).unwrap();
    let (_, rows) = running.split_once(MESSAGES).unwrap();
    let rows: Vec<&str> = rows
        .lines()
        .take_while(|row| row.starts_with('|'))
        .collect();
    assert!(rows.len() >= 20, "only {} messages", rows.len());
    let mut sources = String::new();
    read_sources(&workspace().join("crates"), &mut sources);
    for row in rows {
        let quoted = row.split('`').nth(1).unwrap();
        for part in quoted.split('…').map(str::trim) {
            assert!(sources.contains(part), "no source has the message: {part}");
        }
    }
}

/// Adds the sources below a directory, with multi-line strings joined into one line.
fn read_sources(directory: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            let mut pieces = text.split("\\\n");
            sources.push_str(pieces.next().unwrap_or_default());
            pieces.for_each(|piece| sources.push_str(piece.trim_start()));
        }
    }
}

fn metrics_table() -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in descriptions().unwrap() {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let cells = [
            format!("`{}`", metric.name),
            metric.kind,
            labels.join(", "),
            metric.help,
        ];
        writeln!(table, "| {} |", cells.join(" | ")).unwrap();
    }
    table
}

#[test]
fn the_dashboard_asks_for_metrics_and_labels_that_exist() {
    let known = descriptions().unwrap();
    let file = workspace().join("packaging/grafana/ottla.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut asked = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{} has no query", panel["title"]);
        asked.extend(
            targets
                .iter()
                .map(|target| target["expr"].as_str().unwrap()),
        );
    }
    assert!(asked.len() >= 12, "only {} queries", asked.len());
    for query in asked {
        if let Err(unknown) = check_query(query, &known) {
            panic!("{query}: {unknown}");
        }
    }
}

#[test]
fn a_query_for_what_does_not_exist_is_found() {
    let known = descriptions().unwrap();
    let check = |query| check_query(query, &known);
    assert!(check("sum by (topic) (rate(kafka_log_log_size[5m]))").is_ok());
    assert!(check("kafka_log_log_sizes").is_err());
    assert!(check("kafka_consumergroup_lag{grouping=\"a\"}").is_err());
    assert!(check("sum by (topics) (kafka_log_log_size)").is_err());
    assert!(check("rate(ottla_ready_total[1m])").is_err());
    assert!(check("sum(up)").is_err());
}

/// Checks that each metric of the query exists, and that each of its labels is a label of one of
/// these metrics.
fn check_query(query: &str, known: &[Description]) -> Result<(), String> {
    let mut labels = vec!["job".to_owned(), "instance".to_owned(), "le".to_owned()];
    let mut metrics = 0;
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    // Text in quotes is a label's value.
    let without_values: String = query.split('"').step_by(2).collect();
    let words = without_values.split(|character| !is_part(character));
    for word in words.filter(|word| word.starts_with("kafka_") || word.starts_with("ottla_")) {
        let metric = known
            .iter()
            .find(|metric| scraped_names(metric).any(|name| name == word))
            .ok_or_else(|| format!("{word} is not a metric"))?;
        labels.extend(metric.labels.iter().cloned());
        metrics += 1;
    }
    let lists = without_values.split(" by (").skip(1);
    let selectors = without_values.split('{').skip(1);
    for list in lists.chain(selectors) {
        let list = list.split([')', '}']).next().unwrap_or_default();
        for label in list.split(',').filter_map(|label| {
            let name = label.split(['=', '!']).next()?.trim();
            Some(name).filter(|name| !name.is_empty())
        }) {
            if !labels.iter().any(|known| known == label) {
                return Err(format!("{label} is not a label of its metrics"));
            }
        }
    }
    if metrics == 0 {
        return Err("it queries no metric".to_owned());
    }
    Ok(())
}

/// The names of the series of a metric.
fn scraped_names(metric: &Description) -> impl Iterator<Item = String> {
    let suffixes: &[&str] = match metric.kind.as_str() {
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    suffixes
        .iter()
        .map(|suffix| format!("{}{suffix}", metric.name))
}

/// Three APIs a line, by number.
fn api_table() -> String {
    let mut apis = SERVED.to_vec();
    apis.sort_by_key(|api| *api as i16);
    let cells = apis.iter().map(|api| {
        let versions =
            served_versions(ListenerRole::Broker, *api).expect("a served API has versions");
        let (first, last) = (versions.start(), versions.end());
        let mark = if REFUSED.contains(api) { " \\*" } else { "" };
        format!("{api:?} ({}){mark} | {first} to {last}", *api as i16)
    });
    let cells: Vec<_> = cells.collect();
    let mut table = String::from("| API | versions | API | versions | API | versions |\n");
    table.push_str("|---|---|---|---|---|---|\n");
    for row in cells.chunks(3) {
        let mut row = row.to_vec();
        row.resize(3, " | ".to_owned());
        writeln!(table, "| {} |", row.join(" | ")).unwrap();
    }
    table.push_str(
        "\n\\* Not served: each request is answered with `UNSUPPORTED_VERSION`, as by a Kafka at group.version 0. Clients with\n\
         `group.protocol=consumer` then fail at once; without these APIs they would wait for ever.\n",
    );
    table
}

const CONFIG_INTRODUCTION: &str = "\
# Configuration

Names, types and bounds are Kafka's. This page is generated from the table that parses `server.properties`, validates topic
configs and answers DescribeConfigs (`OTTLA_WRITE_DOCUMENTS=1 cargo test -p ottla-cli --test documents`).

Without a configuration file the broker is a single node on 127.0.0.1:9092 with its data in `./ottla-data`. Two
defaults differ then. The replication factor and the minimum of in-sync replicas of the internal topics are 1, because a single
broker could never create them with Kafka's defaults. `group.initial.rebalance.delay.ms` is 0, because a group on a laptop has no
other members to wait for. With a file, the defaults below hold.
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
            "Accepted, but without effect yet; the log and `ottla config set` say so",
            &with(Effect::NotYet),
        );
        let refused =
            "Not supported yet: the broker refuses to start with a value other than the default";
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
    let update = match (kind, key.update, key.when_changed()) {
        (ResourceKind::Broker, Update::ReadOnly, _)
        | (ResourceKind::Broker, _, WhenChanged::Refused | WhenChanged::NextStart) => "at a start",
        (ResourceKind::Broker, Update::PerBroker | Update::PerListener, _) => "per broker",
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

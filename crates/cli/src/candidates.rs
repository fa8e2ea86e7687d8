//! Shell completion of values: the topics and groups of the cluster, and the keys of configs.
//!
//! The value name of an option in `--help` (TOPIC, GROUP, KEY) decides what is offered for it. The
//! cluster has one second to answer; after that nothing is offered, because a person is waiting.

use std::ffi::OsStr;
use std::sync::Arc;

use clap::{Arg, Command, Parser};
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use ottla_client::Cluster;
use ottla_metadata::ResourceKind;
use ottla_metadata::config_keys;

use crate::connect::{Connect, block_on};

/// Attaches the completers to the options of a command and of its subcommands.
pub fn offered(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let command = command.mut_args(move |argument| offer(argument, &name));
    let below: Vec<_> = command
        .get_subcommands()
        .map(|it| it.get_name().to_owned())
        .collect();
    below.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, offered)
    })
}

fn offer(argument: Arg, command: &str) -> Arg {
    let named = argument.get_value_names().unwrap_or_default().first();
    let named = named.map_or_else(String::new, ToString::to_string);
    let id = argument.get_id().as_str().to_owned();
    // Nothing can be offered for the name of a new topic, nor for the keys of headers.
    let is_new = command == "create" || id == "headers";
    match named.as_str() {
        "KEY=VALUE" | "KEY" if id == "configs" || id == "deleted_configs" => {
            argument.add(ArgValueCompleter::new(topic_keys))
        }
        "KEY=VALUE" if id == "overrides" => argument.add(ArgValueCompleter::new(broker_keys)),
        "KEY=VALUE" | "KEY" if id == "settings" || id == "keys" => {
            argument.add(ArgValueCompleter::new(keys_of_target))
        }
        _ if is_new => argument,
        name if name.starts_with("TOPIC") => argument.add(ArgValueCompleter::new(topics)),
        name if name.starts_with("GROUP") => argument.add(ArgValueCompleter::new(groups)),
        _ => argument,
    }
}

fn topics(current: &OsStr) -> Vec<CompletionCandidate> {
    let names = from_cluster(|cluster| async move {
        let metadata = cluster.refresh_all().await?;
        Ok(metadata.topics.keys().cloned().collect())
    });
    candidates(names, current)
}

fn groups(current: &OsStr) -> Vec<CompletionCandidate> {
    let names = from_cluster(|cluster| async move {
        let groups = cluster.list_groups().await?;
        Ok(groups.into_iter().map(|group| group.group).collect())
    });
    candidates(names, current)
}

fn topic_keys(current: &OsStr) -> Vec<CompletionCandidate> {
    keys(ResourceKind::Topic, current)
}

fn broker_keys(current: &OsStr) -> Vec<CompletionCandidate> {
    keys(ResourceKind::Broker, current)
}

/// Config keys of the resource that the command line names so far: a topic, a group, or brokers.
fn keys_of_target(current: &OsStr) -> Vec<CompletionCandidate> {
    let words: Vec<_> = words();
    let has = |names: [&str; 2]| words.iter().any(|word| names.contains(&word.as_str()));
    let kind = if has(["--group", "-g"]) {
        ResourceKind::Group
    } else if has(["--broker", "--brokers"]) {
        ResourceKind::Broker
    } else {
        ResourceKind::Topic
    };
    keys(kind, current)
}

/// Config keys, followed by `=` where the command expects a value.
fn keys(kind: ResourceKind, current: &OsStr) -> Vec<CompletionCandidate> {
    let takes_value = !words()
        .iter()
        .any(|word| word == "delete" || word == "--delete-config");
    let shown = config_keys::all(kind).filter(|key| !key.internal);
    let end = if takes_value { "=" } else { "" };
    candidates(
        shown.map(|key| format!("{}{end}", key.name)).collect(),
        current,
    )
}

fn candidates(names: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let fitting = names.into_iter().filter(|name| name.starts_with(&*current));
    fitting.map(CompletionCandidate::new).collect()
}

/// The command line that is being completed. The shell's script passes it after `--`.
fn words() -> Vec<String> {
    let words = std::env::args().skip_while(|word| word != "--");
    words.skip(1).collect()
}

/// The connection options of the command line that is being completed.
#[derive(Debug, Parser)]
struct Reach {
    #[command(flatten)]
    connect: Connect,
}

/// Asks the cluster that the command line names; returns an empty list when it does not answer.
fn from_cluster<F>(ask: impl FnOnce(Arc<Cluster>) -> F) -> Vec<String>
where
    F: Future<Output = anyhow::Result<Vec<String>>>,
{
    let mut arguments = vec!["ottla".to_owned(), "--timeout=1".to_owned()];
    if let Some(given) = bootstrap(&words()) {
        arguments.push(format!("--bootstrap-server={given}"));
    }
    let Ok(reach) = Reach::try_parse_from(arguments) else {
        return Vec::new();
    };
    let answer = block_on(async { ask(reach.connect.cluster().await?).await });
    answer.unwrap_or_default()
}

/// The value of `-b` in the words. Bash splits `host:port` and `--option=value` into three words
/// each.
fn bootstrap(words: &[String]) -> Option<String> {
    let is_option = |word: &String| word == "-b" || word.starts_with("--bootstrap-server");
    let at = words.iter().position(is_option)?;
    let mut given = match words[at].split_once('=') {
        Some((_, value)) => value.to_owned(),
        None => String::new(),
    };
    let mut rest = words[at + 1..]
        .iter()
        .skip_while(|word| *word == "=")
        .peekable();
    if given.is_empty() {
        given.push_str(rest.next()?);
    }
    while let Some(colon) = rest.next_if(|word| *word == ":") {
        given.push_str(colon);
        given.push_str(rest.next()?);
    }
    Some(given)
}

#[cfg(test)]
mod tests {
    use super::bootstrap;

    #[test]
    fn brokers_are_found_in_words_that_the_shell_has_split() {
        for (words, expected) in [
            (&["topic", "list"][..], None),
            (&["-b", "kafka", "x"], Some("kafka")),
            (&["-b", "kafka:9092", "x"], Some("kafka:9092")),
            (&["-b", "kafka", ":", "9092", "x"], Some("kafka:9092")),
            (
                &["--bootstrap-server", "=", "kafka", ":", "9092"],
                Some("kafka:9092"),
            ),
            (&["--bootstrap-server=kafka:9092"], Some("kafka:9092")),
        ] {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            assert_eq!(bootstrap(&words).as_deref(), expected, "{words:?}");
        }
    }
}

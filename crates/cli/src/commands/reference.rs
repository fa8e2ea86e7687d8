//! `ottla reference`: prints docs/cli.md, from the same command tree as `--help`.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use clap::{Arg, Command};

use crate::output::stdout;

const INTRODUCTION: &str = "\
# The command line

Generated from the commands (`OTTLA_WRITE_DOCUMENTS=1 cargo test -p ottla-cli --test documents`); `--help` shows the same for
each command.

Results go to stdout, messages and errors to stderr. Every command takes `--output json`: results are then JSON, and so is
each line of stderr, a message (`{\"message\"}`) or an error (`{\"error\", \"cause\", \"code\", \"next\"}`, with Kafka's error code
where a broker refused and the next step where one is known). The exit status is 0 for success, 1 for an error, 2 for a
command line that cannot be understood. A command with several names tries each of them, prints the outcome of each,
and fails if one failed. In JSON, a command that changes something prints the names that succeeded and those that failed
(`{\"deleted\", \"failed\"}`). A command that shows something prints the list of what it found, and writes errors to stderr.

The commands that talk to a cluster take `-b`, `--bootstrap-server HOST:PORT` (several separated by commas; by default
`OTTLA_BOOTSTRAP_SERVERS` of the environment, or 127.0.0.1:9092) and `--timeout SECONDS` (30), and work against any
Kafka.

Where several topics or groups may be given, a pattern in quotes stands for all that match it: `*` is any text, `?` one letter,
`[ab]` one of these letters. The value of a config in milliseconds or bytes may have a unit: `7d`, `1.5h`, `64MiB`, `1GB`.
Times are `2026-11-24`, `2026-11-24T10:30:00Z`, `15m` (s, m, h, d ago), or milliseconds since 1970.
";

pub fn run(mut command: Command) -> Result<()> {
    command.build();
    let mut page = INTRODUCTION.to_owned();
    for below in visible(&command) {
        describe(&mut page, below, 2);
    }
    let mut out = stdout();
    out.write_all(page.as_bytes())?;
    Ok(out.flush()?)
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    let below = command.get_subcommands();
    below.filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

/// Adds a command and its subcommands to the page.
fn describe(page: &mut String, command: &Command, depth: usize) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let _ = write!(page, "\n{} {name}\n", "#".repeat(depth));
    if let Some(about) = command.get_about() {
        let _ = write!(page, "\n{about}\n");
    }
    let arguments: Vec<_> = command.get_arguments().filter(|it| is_own(it)).collect();
    if !arguments.is_empty() {
        page.push_str("\n| option | meaning |\n|---|---|\n");
    }
    for argument in arguments {
        let _ = writeln!(page, "| {} | {} |", syntax(argument), meaning(argument));
    }
    if let Some(examples) = command.get_after_help() {
        let text = examples.to_string();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("  ")).collect();
        let _ = write!(page, "\n```\n");
        for line in lines {
            let _ = writeln!(page, "{}", &line[2..]);
        }
        page.push_str("```\n");
    }
    for below in visible(command) {
        describe(page, below, depth + 1);
    }
}

/// Whether the option belongs to this command; false for those that all commands have.
fn is_own(argument: &Arg) -> bool {
    let is_shared = argument.get_help_heading() == Some("Connection") || argument.is_global_set();
    let id = argument.get_id().as_str();
    !argument.is_hide_set() && !is_shared && id != "help" && id != "version"
}

/// `` `-t`, `--topic TOPIC` ``.
fn syntax(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let value = if argument.get_action().takes_values() {
        names.join(" ")
    } else {
        String::new()
    };
    let several = match argument.get_num_args() {
        Some(range) if range.max_values() > 1 => " …",
        _ if argument.is_positional()
            && matches!(argument.get_action(), clap::ArgAction::Append) =>
        {
            " …"
        }
        _ => "",
    };
    let long = argument.get_long().map(|long| format!("--{long} {value}"));
    let short = argument.get_short().map(|short| format!("-{short}"));
    let forms: Vec<_> = [short, long].into_iter().flatten().collect();
    if forms.is_empty() {
        return format!("`{value}{several}`").replace('|', "\\|");
    }
    let forms = forms.iter().map(|form| format!("`{}`", form.trim_end()));
    forms.collect::<Vec<_>>().join(", ").replace('|', "\\|")
}

fn meaning(argument: &Arg) -> String {
    let mut text = argument
        .get_help()
        .map_or_else(String::new, ToString::to_string);
    let values = argument.get_possible_values();
    let values: Vec<_> = values.iter().filter(|value| !value.is_hide_set()).collect();
    if argument.get_action().takes_values() && !values.is_empty() {
        let names = values.iter().map(|value| format!("`{}`", value.get_name()));
        let _ = write!(text, ". One of {}.", names.collect::<Vec<_>>().join(", "));
    }
    let defaults = argument.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let end = if text.ends_with('.') { "" } else { "." };
        let _ = write!(text, "{end} By default `{}`.", defaults.join(","));
    }
    text.replace('\n', " ").replace('|', "\\|")
}

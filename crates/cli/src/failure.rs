//! Prints an error: as lines with the next step, or as one JSON object under `--output json`.

use std::error::Error;
use std::fmt;

use clap::error::{ContextKind, ContextValue};
use ottla_client::{ClientError, code_name};
use serde_json::{Value, json};

use crate::connect;
use crate::output::{Output, write_to_stderr};

/// An error whose next step depends on how far the command got.
#[derive(Debug)]
pub struct Advised {
    /// What went wrong.
    pub error: anyhow::Error,
    /// What the user can do.
    pub next: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Advised {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.chain().nth(1)
    }
}

fn next_step(error: &anyhow::Error) -> Option<String> {
    match error.downcast_ref::<Advised>() {
        Some(advised) => Some(advised.next.clone()),
        None => connect::next_step(error),
    }
}

/// Prints the error to stderr.
pub fn report(error: &anyhow::Error, output: Output) {
    if output == Output::Json {
        write_to_stderr(&to_json(error).to_string());
        return;
    }
    write_to_stderr(&format!("error: {}", chain(error)));
    if let Some(step) = next_step(error) {
        write_to_stderr(&format!("next: {step}"));
    }
}

/// The error as JSON: what failed, its cause, Kafka's error code if a broker refused, and the next
/// step.
pub fn to_json(error: &anyhow::Error) -> Value {
    let code = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ClientError>())
        .and_then(ClientError::code);
    let refused = error.downcast_ref::<ClientError>();
    let (what, cause) = if let Some(ClientError::Refused { what, message, .. }) = refused {
        (what.clone(), message.clone().unwrap_or_default())
    } else {
        let whole = chain(error);
        let what = error.to_string();
        let causes = whole.strip_prefix(&what).unwrap_or_default();
        let causes = causes.trim_start_matches(": ").to_owned();
        (what, causes)
    };
    let cause = Some(cause).filter(|text| !text.is_empty());
    json!({
        "error": what,
        "cause": cause,
        "code": code.map(code_name),
        "next": next_step(error),
    })
}

/// The error as JSON for a command line that cannot be parsed.
pub fn usage_to_json(error: &clap::Error) -> Value {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let what = paragraphs.next().unwrap_or_default();
    let lines = what.trim_start_matches("error: ").lines().map(str::trim);
    let suggestions = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    let suggested = suggestions.iter().find_map(|kind| match error.get(*kind) {
        Some(ContextValue::String(name)) => Some(name.clone()),
        Some(ContextValue::Strings(names)) => names.first().cloned(),
        _ => None,
    });
    let next = match suggested {
        Some(name) => format!("did you mean {name}?"),
        None => "--help shows how the command is used".to_owned(),
    };
    json!({
        "error": lines.collect::<Vec<_>>().join(" "),
        "cause": null,
        "code": null,
        "next": next,
    })
}

/// The error and its causes. A cause whose text the message before it contains is left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Advised, to_json};
    use anyhow::{Context as _, anyhow};
    use ottla_client::{ClientError, ErrorCode};
    use serde_json::json;

    #[test]
    fn an_error_in_json_has_its_cause_code_and_next_step() {
        let refused = ClientError::Refused {
            what: "delete group billing".to_owned(),
            code: ErrorCode::NonEmptyGroup,
            message: Some("The group is not empty.".to_owned()),
        };
        let shown = to_json(&refused.into());
        assert_eq!(shown["error"], "delete group billing");
        assert_eq!(shown["cause"], "The group is not empty.");
        assert_eq!(shown["code"], "NON_EMPTY_GROUP");
        assert!(shown["next"].as_str().unwrap().contains("stop its members"));
    }

    #[test]
    fn advice_takes_the_place_of_the_next_step_and_hides_no_cause() {
        let error = anyhow!("it has no key").context("line 3 of the input");
        let next = "go on with --from-line 3".to_owned();
        let shown = to_json(&Advised { error, next }.into());
        assert_eq!(shown["error"], "line 3 of the input");
        assert_eq!(shown["cause"], "it has no key");
        assert_eq!(shown["next"], "go on with --from-line 3");
    }

    #[test]
    fn the_cause_in_json_is_every_error_but_the_first() {
        let error = Err::<(), _>(anyhow!("no such file")).context("cannot open it");
        let error = error.context("the dump failed").unwrap_err();
        assert_eq!(
            to_json(&error),
            json!({
                "error": "the dump failed",
                "cause": "cannot open it: no such file",
                "code": null,
                "next": null,
            })
        );
    }
}

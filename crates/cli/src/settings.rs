//! `KEY=VALUE` arguments, and configs with the durations and sizes that people write.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use ottla_client::admin::Validation;

use crate::quantity;

/// Splits `KEY=VALUE`.
pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

/// The configs, with durations and sizes converted to the unit of the key. A key that is given
/// twice is an error.
pub fn resolved(settings: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut keys = BTreeSet::new();
    if let Some((key, _)) = settings.iter().find(|(key, _)| !keys.insert(key)) {
        bail!("{key} is set twice; give it once");
    }
    let resolved = settings
        .iter()
        .map(|(key, value)| Ok((key.clone(), quantity::resolve(key, value)?)));
    resolved.collect()
}

pub fn validation(is_dry_run: bool) -> Validation {
    if is_dry_run {
        Validation::Only
    } else {
        Validation::AndExecution
    }
}

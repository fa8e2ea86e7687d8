//! The levels of the process's loggers (KIP-412): shown, and changed while it runs.
//!
//! What is written where is decided by whoever started the process; it gives the filter that it began with, and a way to
//! replace it. Without that, levels are shown and cannot be changed. Nothing is stored: a start begins anew.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The logger whose level holds for all that have none of their own.
pub const ROOT: &str = "root";
/// The loggers of the process: its crates.
const CRATES: &[&str] = &[
    "ottla_broker",
    "ottla_cli",
    "ottla_client",
    "ottla_controller",
    "ottla_coordinator",
    "ottla_log",
    "ottla_metadata",
    "ottla_protocol",
    "ottla_quorum",
];
/// Kafka's levels, and the filter's word for each.
const LEVELS: &[(&str, &str)] = &[
    ("DEBUG", "debug"),
    ("ERROR", "error"),
    ("FATAL", "error"),
    ("INFO", "info"),
    ("TRACE", "trace"),
    ("WARN", "warn"),
];

/// Why a level is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    /// There is no such logger, or no such level.
    #[error("{0}")]
    Invalid(String),
    /// It makes no sense.
    #[error("{0}")]
    Refused(String),
}

/// Replaces the filter by this one.
type Replace = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The levels, and how they are changed.
#[derive(Default)]
pub struct LogLevels {
    control: OnceLock<Control>,
    /// What was changed since the start, by logger, as Kafka's word.
    changed: Mutex<BTreeMap<String, String>>,
}

struct Control {
    /// The filter that the process began with.
    first: String,
    replace: Replace,
}

impl fmt::Debug for LogLevels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LogLevels")
            .field("changed", &self.changed)
            .finish_non_exhaustive()
    }
}

impl LogLevels {
    /// Lets levels be changed: `first` is the filter so far, as directives separated by commas.
    pub fn control(
        &self,
        first: String,
        replace: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) {
        // Whoever started the process controls its logs, once.
        let _ = self.control.set(Control {
            first,
            replace: Box::new(replace),
        });
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every logger with its level, in Kafka's words.
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut levels = BTreeMap::from([(ROOT.to_owned(), "OFF".to_owned())]);
        let first = self.control.get().map_or("", |control| &control.first);
        for directive in first.split(',').map(str::trim) {
            let (logger, level) = directive.split_once('=').unwrap_or((ROOT, directive));
            let is_name = logger
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_:".contains(c));
            if is_name && !level.is_empty() {
                levels.insert(logger.to_owned(), level.to_uppercase());
            }
        }
        levels.extend(self.changed().clone());
        let root = levels[ROOT].clone();
        for name in CRATES {
            levels
                .entry((*name).to_owned())
                .or_insert_with(|| root.clone());
        }
        levels
    }

    /// Whether a level could be set, or with `None` taken back.
    pub fn check(&self, logger: &str, level: Option<&str>) -> Result<(), NotChanged> {
        if self.control.get().is_none() {
            let why = "the levels of the loggers cannot be changed in this process";
            return Err(NotChanged::Refused(why.to_owned()));
        }
        let of_crate = logger.split("::").next().unwrap_or(logger);
        if !CRATES.contains(&of_crate) && !self.all().contains_key(logger) {
            let why = format!("Logger {logger} does not exist!");
            return Err(NotChanged::Invalid(why));
        }
        match level {
            None if logger == ROOT => Err(NotChanged::Refused(
                "Removing the log level of the root logger is not allowed".to_owned(),
            )),
            Some(level) if !LEVELS.iter().any(|(known, _)| *known == level) => {
                let known: Vec<_> = LEVELS.iter().map(|(known, _)| *known).collect();
                Err(NotChanged::Invalid(format!(
                    "Cannot set the log level of {logger} to {level} as it is not a supported log level. Valid log \
                     levels are {}",
                    known.join(", ")
                )))
            }
            _ => Ok(()),
        }
    }

    /// Makes changes that have been checked.
    pub fn set(&self, wanted: &[(String, Option<String>)]) -> Result<(), NotChanged> {
        let Some(control) = self.control.get() else {
            return Ok(());
        };
        let mut changed = self.changed();
        for (logger, level) in wanted {
            match level {
                Some(level) => changed.insert(logger.clone(), level.clone()),
                None => changed.remove(logger),
            };
        }
        let mut filter = control.first.clone();
        for (logger, level) in changed.iter() {
            let known = LEVELS.iter().find(|(known, _)| known == level);
            let word = known.map_or("info", |(_, word)| word);
            filter.push(',');
            // Of two directives for the same logger the last one counts.
            if logger == ROOT {
                filter.push_str(word);
            } else {
                filter.extend([logger, "=", word]);
            }
        }
        (control.replace)(&filter).map_err(NotChanged::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::{LogLevels, NotChanged};
    use std::sync::{Arc, Mutex};

    #[test]
    fn levels_are_shown_changed_and_taken_back() {
        let levels = LogLevels::default();
        assert!(levels.check("root", Some("INFO")).is_err());
        let filters: Arc<Mutex<Vec<String>>> = Arc::default();
        let written = Arc::clone(&filters);
        levels.control(
            "warn,ottla_broker::replicas=info".to_owned(),
            move |filter| {
                written.lock().unwrap().push(filter.to_owned());
                Ok(())
            },
        );
        assert_eq!(levels.all()["root"], "WARN");
        assert_eq!(levels.all()["ottla_log"], "WARN");
        assert_eq!(levels.all()["ottla_broker::replicas"], "INFO");

        let set = |logger: &str, level: Option<&str>| {
            levels.check(logger, level)?;
            levels.set(&[(logger.to_owned(), level.map(str::to_owned))])
        };
        set("ottla_log", Some("DEBUG")).unwrap();
        set("root", Some("FATAL")).unwrap();
        assert_eq!(levels.all()["ottla_log"], "DEBUG");
        assert_eq!(levels.all()["ottla_quorum"], "FATAL");
        set("ottla_log", None).unwrap();
        assert_eq!(levels.all()["ottla_log"], "FATAL");
        let filters = filters.lock().unwrap();
        assert_eq!(
            filters[1],
            "warn,ottla_broker::replicas=info,ottla_log=debug,error"
        );
        assert_eq!(filters[2], "warn,ottla_broker::replicas=info,error");
    }

    #[test]
    fn what_is_no_logger_or_no_level_is_refused() {
        let levels = LogLevels::default();
        levels.control("warn".to_owned(), |_| Ok(()));
        assert_eq!(levels.check("ottla_broker::network", Some("TRACE")), Ok(()));
        for (logger, level) in [
            ("kafka", Some("INFO")),
            ("root", Some("info")),
            ("root", Some("LOUD")),
            ("kafka", None),
        ] {
            let refused = levels.check(logger, level);
            assert!(
                matches!(refused, Err(NotChanged::Invalid(_))),
                "{refused:?}"
            );
        }
        let refused = levels.check("root", None);
        assert!(
            matches!(refused, Err(NotChanged::Refused(_))),
            "{refused:?}"
        );
    }
}

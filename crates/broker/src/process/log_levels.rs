//! The levels of the process's loggers (KIP-412), which can be shown and changed while it runs.
//!
//! The executable sets up logging. It hands over its filter and a function that replaces the filter. Without that
//! function, levels are shown but cannot be changed. Changes are not stored: the next start begins with its own filter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The logger whose level applies to all loggers without a level of their own.
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
    "ottla_replica",
    "ottla_replication",
];
/// Kafka's levels, and the word of the filter for each.
const LEVELS: &[(&str, &str)] = &[
    ("DEBUG", "debug"),
    ("ERROR", "error"),
    ("FATAL", "error"),
    ("INFO", "info"),
    ("TRACE", "trace"),
    ("WARN", "warn"),
];

/// Upper bound of the loggers with a changed level: each is a directive that is compared with every line of the log.
const MAX_CHANGED: usize = 100;
/// Upper bound of the length of a logger's name.
const MAX_NAME: usize = 200;

/// Wanted levels by logger; `None` takes a logger back to its level at the start.
pub type Wanted = [(String, Option<String>)];

/// Why a level is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    /// There is no such logger, or no such level.
    #[error("{0}")]
    Invalid(String),
    /// The logger and the level are known, and this change of them is not allowed.
    #[error("{0}")]
    Refused(String),
    /// The change is allowed, and the filter could not be replaced. The old one is in force.
    #[error("the log filter cannot be replaced and stays as it is: {0}")]
    Failed(String),
}

/// Levels by logger, in Kafka's words.
type Changed = BTreeMap<String, String>;

/// Replaces the filter by this one.
type Replace = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The levels, and how they are changed.
#[derive(Default)]
pub struct LogLevels {
    control: OnceLock<Control>,
    /// Changed levels by logger, in Kafka's words.
    changed: Mutex<Changed>,
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
        // The executable calls this once.
        let _ = self.control.set(Control {
            first,
            replace: Box::new(replace),
        });
    }

    fn changed(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every logger with its level, in Kafka's words.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.with(&self.changed())
    }

    fn with(&self, changed: &Changed) -> BTreeMap<String, String> {
        let mut levels = BTreeMap::from([(ROOT.to_owned(), "OFF".to_owned())]);
        let first = self.control.get().map_or("", |control| &control.first);
        for directive in first.split(',').map(str::trim) {
            let (logger, level) = directive.split_once('=').unwrap_or((ROOT, directive));
            if is_name(logger) && !level.is_empty() {
                levels.insert(logger.to_owned(), level.to_uppercase());
            }
        }
        levels.extend(changed.clone());
        let root = levels[ROOT].clone();
        for name in CRATES {
            levels
                .entry((*name).to_owned())
                .or_insert_with(|| root.clone());
        }
        levels
    }

    /// Checks that these changes are allowed, and makes none.
    pub fn check(&self, wanted: &Wanted) -> Result<(), NotChanged> {
        self.controlled()?;
        self.after(&self.changed(), wanted).map(drop)
    }

    /// Makes all of these changes, or none.
    pub fn set(&self, wanted: &Wanted) -> Result<(), NotChanged> {
        let control = self.controlled()?;
        let mut changed = self.changed();
        let after = self.after(&changed, wanted)?;
        (control.replace)(&filter(&control.first, &after)).map_err(NotChanged::Failed)?;
        *changed = after;
        Ok(())
    }

    /// The function that changes levels, or a refusal if the executable gave none.
    fn controlled(&self) -> Result<&Control, NotChanged> {
        self.control.get().ok_or_else(|| {
            let why = "the levels of the loggers cannot be changed in this process";
            NotChanged::Refused(why.to_owned())
        })
    }

    /// The changed levels after these changes.
    fn after(&self, changed: &Changed, wanted: &Wanted) -> Result<Changed, NotChanged> {
        let known = self.with(changed);
        let mut after = changed.clone();
        for (logger, level) in wanted {
            check_logger(&known, logger)?;
            match level {
                Some(level) => {
                    check_level(logger, level)?;
                    after.insert(logger.clone(), level.clone());
                }
                None if logger == ROOT => {
                    let why = "Removing the log level of the root logger is not allowed";
                    return Err(NotChanged::Refused(why.to_owned()));
                }
                None => _ = after.remove(logger),
            }
        }
        if after.len() > MAX_CHANGED {
            return Err(NotChanged::Refused(format!(
                "at most {MAX_CHANGED} loggers can have a changed level: take the level of another one back first"
            )));
        }
        Ok(after)
    }
}

/// Whether this can be the name of a logger, and can be written into a directive without escapes.
fn is_name(logger: &str) -> bool {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    (1..=MAX_NAME).contains(&logger.len()) && logger.chars().all(is_of_name)
}

/// Refuses a logger that is not in `known` and not in a crate of the process.
fn check_logger(known: &Changed, logger: &str) -> Result<(), NotChanged> {
    let of_crate = logger.split("::").next().unwrap_or(logger);
    if is_name(logger) && (CRATES.contains(&of_crate) || known.contains_key(logger)) {
        return Ok(());
    }
    let shown: String = logger.chars().take(MAX_NAME).collect();
    let why = format!("Logger {shown} does not exist!");
    Err(NotChanged::Invalid(why))
}

fn check_level(logger: &str, level: &str) -> Result<(), NotChanged> {
    if LEVELS.iter().any(|(known, _)| *known == level) {
        return Ok(());
    }
    let known: Vec<_> = LEVELS.iter().map(|(known, _)| *known).collect();
    Err(NotChanged::Invalid(format!(
        "Cannot set the log level of {logger} to {level} as it is not a supported log level. Valid log levels are {}",
        known.join(", ")
    )))
}

/// The filter that begins as `first`, with these changes.
fn filter(first: &str, changed: &Changed) -> String {
    let mut filter = first.to_owned();
    for (logger, level) in changed {
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
    filter
}

#[cfg(test)]
mod tests {
    use super::{CRATES, LogLevels, MAX_CHANGED, NotChanged};
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    fn one(logger: &str, level: Option<&str>) -> [(String, Option<String>); 1] {
        [(logger.to_owned(), level.map(str::to_owned))]
    }

    #[test]
    fn every_crate_of_the_executable_is_a_logger() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let directories = std::fs::read_dir(crates).unwrap();
        let names = directories.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // The simulation drives these crates, and is not in the executable.
        let names = names.filter(|name| name != "sim");
        let mut loggers: Vec<String> = names.map(|name| format!("ottla_{name}")).collect();
        loggers.sort();
        assert_eq!(loggers, CRATES);
    }

    #[test]
    fn levels_are_shown_changed_and_taken_back() {
        let levels = LogLevels::default();
        assert!(levels.check(&one("root", Some("INFO"))).is_err());
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
            levels.check(&one(logger, level))?;
            levels.set(&one(logger, level))
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
        let trace = one("ottla_broker::network", Some("TRACE"));
        assert_eq!(levels.check(&trace), Ok(()));
        let long = format!("ottla_broker::{}", "x".repeat(200));
        for (logger, level) in [
            ("ottla_broker::a,warn", Some("INFO")),
            ("ottla_broker::a=off", Some("INFO")),
            ("ottla_broker::[{", Some("INFO")),
            ("ottla_broker::a b", Some("INFO")),
            (&long, Some("INFO")),
            ("", Some("INFO")),
            ("kafka", Some("INFO")),
            ("root", Some("info")),
            ("root", Some("LOUD")),
            ("kafka", None),
        ] {
            let refused = levels.check(&one(logger, level));
            assert!(
                matches!(refused, Err(NotChanged::Invalid(_))),
                "{refused:?}"
            );
        }
        let refused = levels.check(&one("root", None));
        assert!(
            matches!(refused, Err(NotChanged::Refused(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn a_change_that_fails_leaves_what_was_and_the_next_one_is_made() {
        let levels = LogLevels::default();
        levels.control("warn".to_owned(), |filter| {
            let is_bad = filter.contains("trace");
            if is_bad { Err("no".to_owned()) } else { Ok(()) }
        });
        let before = levels.all();
        let failed = levels.set(&one("ottla_log", Some("TRACE")));
        assert_eq!(failed, Err(NotChanged::Failed("no".to_owned())));
        assert_eq!(levels.all(), before);
        assert_eq!(levels.set(&one("ottla_log", Some("DEBUG"))), Ok(()));
        // Where one of several is wrong, none is made.
        let mut two = one("ottla_quorum", Some("DEBUG")).to_vec();
        two.extend(one("kafka", Some("DEBUG")));
        assert!(levels.set(&two).is_err());
        assert_eq!(levels.all()["ottla_quorum"], "WARN");
    }

    #[test]
    fn the_number_of_changed_loggers_is_bounded() {
        let levels = LogLevels::default();
        levels.control("warn".to_owned(), |_| Ok(()));
        for number in 0..MAX_CHANGED {
            let logger = format!("ottla_broker::m{number}");
            levels.set(&one(&logger, Some("INFO"))).unwrap();
        }
        let another = one("ottla_broker::another", Some("INFO"));
        for refused in [levels.check(&another), levels.set(&another)] {
            assert!(
                matches!(refused, Err(NotChanged::Refused(_))),
                "{refused:?}"
            );
        }
        levels.set(&one("ottla_broker::m0", Some("DEBUG"))).unwrap();
        levels.set(&one("ottla_broker::m0", None)).unwrap();
        levels.set(&another).unwrap();
    }
}

//! Everything that is wrong with a configuration, reported together.

use std::fmt;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    found: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    /// Where it was set, if it was.
    pub place: Option<String>,
    /// What is wrong, and the next step.
    pub text: String,
}

impl Problems {
    /// Adds a problem of a key.
    pub fn add(&mut self, key: &str, text: String) {
        self.add_at(key, None, text);
    }

    /// Adds a problem of a key that was set at `place`.
    pub fn add_at(&mut self, key: &str, place: Option<String>, text: String) {
        self.found.push(Problem {
            key: key.to_owned(),
            place,
            text,
        });
    }

    /// Adds a problem of a key that asks for a feature which does not exist yet. Such a key is never ignored silently.
    pub fn refuse(&mut self, key: &str, why: &str) {
        self.add(
            key,
            format!("{why}; a start without it would be less than what was asked for"),
        );
    }

    /// The value, unless there are problems.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.found.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }

    pub fn found(&self) -> &[Problem] {
        &self.found
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found.len() {
            1 => write!(f, "the configuration has a problem:")?,
            count => write!(f, "the configuration has {count} problems:")?,
        }
        for problem in &self.found {
            write!(f, "\n  {}: {}", problem.key, problem.text)?;
            if let Some(place) = &problem.place {
                write!(f, " ({place})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

//! Everything that is wrong with a configuration, said at once.

use std::fmt;

/// What keeps a configuration from being used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    found: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key.
    pub key: String,
    /// Where it was set, if it was.
    pub place: Option<String>,
    /// What is wrong and what to do.
    pub text: String,
}

impl Problems {
    /// Notes what is wrong with a key.
    pub fn add(&mut self, key: &str, text: String) {
        self.add_at(key, None, text);
    }

    /// Notes what is wrong with a key, and where it was set.
    pub fn add_at(&mut self, key: &str, place: Option<String>, text: String) {
        self.found.push(Problem {
            key: key.to_owned(),
            place,
            text,
        });
    }

    /// Notes that a key asks for what is not built, which must not be ignored silently.
    pub fn refuse(&mut self, key: &str, why: &str) {
        self.add(
            key,
            format!("{why}; a start without it would be less than what was asked for"),
        );
    }

    /// The value, unless something was wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.found.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }

    /// All of them.
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

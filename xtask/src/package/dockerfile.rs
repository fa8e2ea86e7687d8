//! Parses the Dockerfile, as far as ours uses the language: two stages, of which the first builds.
//!
//! Anything else is an error, so that no part of the file is ignored.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// An image, as its Dockerfile describes it.
#[derive(Debug, Default)]
pub struct Image {
    /// The images that the stages begin with.
    pub bases: Vec<String>,
    /// The commands of the first stage.
    pub build: Vec<String>,
    /// The commands of the last stage.
    pub commands: Vec<String>,
    /// The files that the last stage copies.
    pub copies: Vec<Copied>,
    /// Environment variables: names and values.
    pub environment: Vec<(String, String)>,
    /// `uid:gid`.
    pub user: String,
    /// The directories that outlive the container.
    pub volumes: Vec<String>,
    /// The ports of `EXPOSE`.
    pub ports: Vec<String>,
    /// The command of `HEALTHCHECK`.
    pub health: Vec<String>,
    /// What the container runs.
    pub entry_point: Vec<String>,
    /// The signal that stops the container.
    pub stop_signal: String,
}

/// A file that is copied into the image.
#[derive(Debug, PartialEq, Eq)]
pub struct Copied {
    /// True for a file of the first stage, false for one of the checkout.
    pub from_build: bool,
    /// Its path before the copy.
    pub source: String,
    /// Its path in the image.
    pub target: String,
}

impl Image {
    /// Reads a Dockerfile.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        Self::parse(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Parses the text of a Dockerfile.
    pub fn parse(text: &str) -> Result<Self> {
        let mut image = Self::default();
        for instruction in instructions(text) {
            let (word, rest) = instruction
                .split_once(' ')
                .with_context(|| format!("{instruction} says nothing"))?;
            image
                .take(word, rest.trim())
                .with_context(|| format!("in {instruction}"))?;
        }
        Ok(image)
    }

    fn take(&mut self, word: &str, rest: &str) -> Result<()> {
        let in_last = self.bases.len() > 1;
        match word {
            "FROM" => self.bases.push(rest.to_owned()),
            "RUN" if in_last => self.commands.push(rest.to_owned()),
            "RUN" => self.build.push(rest.to_owned()),
            "COPY" if in_last => self.copies.push(copied(rest)?),
            // The first stage has the whole checkout below /source.
            "COPY" if rest == ". ." => {}
            "WORKDIR" if !in_last && rest == "/source" => {}
            "ENV" => {
                for pair in rest.split_whitespace() {
                    let (name, value) = pair.split_once('=').context("ENV takes NAME=value")?;
                    self.environment.push((name.to_owned(), value.to_owned()));
                }
            }
            "USER" => rest.clone_into(&mut self.user),
            "VOLUME" => self.volumes = serde_json::from_str(rest)?,
            "EXPOSE" => self.ports = rest.split_whitespace().map(str::to_owned).collect(),
            "STOPSIGNAL" => rest.clone_into(&mut self.stop_signal),
            "HEALTHCHECK" => {
                let (_, command) = rest.split_once("CMD ").context("it has no CMD")?;
                self.health = serde_json::from_str(command)?;
            }
            "ENTRYPOINT" => self.entry_point = serde_json::from_str(rest)?,
            _ => bail!("{word} is not supported; add it to xtask/src/package/dockerfile.rs"),
        }
        Ok(())
    }

    /// The input of the program that runs the last stage in a room.
    pub fn as_json(&self, executable: &Path) -> Result<Value> {
        let (user, group) = self
            .user
            .split_once(':')
            .context("USER must be uid:gid, by number")?;
        let copies = self.copies.iter().map(|copy| {
            let source = if copy.from_build {
                executable.display().to_string()
            } else {
                copy.source.clone()
            };
            json!([source, copy.target])
        });
        let variables = self.environment.iter();
        let variables = variables.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        Ok(json!({
            "commands": self.commands,
            "copies": copies.collect::<Vec<_>>(),
            "environment": variables.collect::<serde_json::Map<_, _>>(),
            "user": user.parse::<u32>()?,
            "group": group.parse::<u32>()?,
            "volumes": self.volumes,
            "health": self.health,
            "entry_point": self.entry_point,
            "stop_signal": self.stop_signal,
        }))
    }
}

/// The instructions, each in one line, without comments.
fn instructions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = String::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(line) = line.strip_suffix('\\') {
            open.push_str(line);
        } else {
            open.push_str(line);
            found.push(std::mem::take(&mut open));
        }
    }
    found
}

fn copied(rest: &str) -> Result<Copied> {
    let (from_build, rest) = match rest.strip_prefix("--from=build ") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (source, target) = rest.split_once(' ').context("COPY takes two paths")?;
    Ok(Copied {
        from_build,
        source: source.to_owned(),
        target: target.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Copied, Image};
    use crate::toolbox;

    #[test]
    fn instructions_over_several_lines_are_one() {
        let text = "FROM a AS build\nRUN one \\\n  && two\nFROM b\n# no\nRUN three\nCOPY --from=build /x /y\n\
                    ENV A=1 \\\n    B=2\nUSER 5:6\nENTRYPOINT [\"run\", \"it\"]\n";
        let image = Image::parse(text).unwrap();
        assert_eq!(image.build, ["one && two"]);
        assert_eq!(image.commands, ["three"]);
        assert_eq!(image.environment[1], ("B".to_owned(), "2".to_owned()));
        assert_eq!(image.entry_point, ["run", "it"]);
        let copied = Copied {
            from_build: true,
            source: "/x".to_owned(),
            target: "/y".to_owned(),
        };
        assert_eq!(image.copies, [copied]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(Image::parse("FROM a\nONBUILD RUN b\n").is_err());
        assert!(Image::parse("FROM a\nFROM b\nENTRYPOINT ottla serve\n").is_err());
    }

    /// Checks that are specific to this project, which hadolint cannot make; `cargo xtask package`
    /// makes the rest.
    #[test]
    fn our_image_is_as_its_users_need_it() {
        let root = toolbox::workspace();
        let image = Image::read(&root.join("Dockerfile")).unwrap();
        assert!(!image.user.starts_with('0') && !image.user.contains("root"));
        assert!(image.health.iter().any(|part| part.contains("GET /ready ")));
        assert_eq!(image.stop_signal, "SIGTERM");
        let value = |name: &str| {
            let found = image.environment.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        assert!(value("KAFKA_LISTENERS").contains("://0.0.0.0:"));
        assert_eq!(image.volumes, [value("KAFKA_LOG_DIRS")]);
        for listener in [value("KAFKA_LISTENERS"), value("KAFKA_OTTLA_HTTP_LISTEN")] {
            let port = listener.rsplit(':').next().unwrap_or_default();
            assert!(image.ports.iter().any(|exposed| exposed == port), "{port}");
        }
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let version = manifest
            .lines()
            .find_map(|line| line.strip_prefix("rust-version = "))
            .unwrap()
            .trim_matches('"');
        assert!(image.bases[0].starts_with(&format!("rust:{version}-")));
    }
}

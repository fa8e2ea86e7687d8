//! `cargo xtask generate`: writes the messages of `ottla-protocol` from the schemas in Kafka's jars.
//!
//! Only names, types and versions are taken from the schemas. The output is committed, so that a build needs
//! nothing but Rust; `--check` fails when it differs from what the schemas give.

mod api;
mod family;
mod flavour;
mod names;
mod render;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, maven};
use flavour::Flavour;
pub use names::snake;
use schema::Schema;

/// Options of `cargo xtask generate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write nothing; fail if the committed files differ from what would be written.
    #[arg(long)]
    pub check: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let jars = maven::kafka_jars()?;
    let root = toolbox::workspace().join("crates/protocol/src/messages");
    let mut stale = Vec::new();
    for (directory, files) in generated(&jars)? {
        if args.check {
            stale.extend(differing(&root, &files));
        } else {
            write(&root, directory, &files)?;
        }
    }
    if !stale.is_empty() {
        bail!("generated files are stale: {stale:?}; run `cargo xtask generate` and commit");
    }
    Ok(())
}

/// Path below `messages/` to formatted text.
type Files = BTreeMap<PathBuf, String>;

/// The files, by the directory that holds all of them but the index.
fn generated(jars: &Path) -> Result<Vec<(&'static str, Files)>> {
    let mut bodies = schemas(jars, &[api::JAR])?;
    bodies.retain(api::is_wanted);
    let index = api::index(&bodies);
    let mut all = vec![files(api::DIRECTORY, (&bodies, Flavour::Body), &index)?];
    for family in family::ALL {
        let records = schemas(jars, family.jars)?;
        let index = family::index(family, &records);
        all.push(files(
            family.directory,
            (&records, Flavour::Record),
            &index,
        )?);
    }
    Ok(all)
}

/// What the jars of `artifacts` hold, in the order of its numbers.
fn schemas(jars: &Path, artifacts: &[&str]) -> Result<Vec<Schema>> {
    let mut schemas = Vec::new();
    for artifact in artifacts {
        let jar = jars.join(format!("{artifact}-{}.jar", maven::KAFKA_VERSION));
        for text in schema_texts(&jar)? {
            schemas.push(schema::parse(&text)?);
        }
    }
    schemas.sort_by(|a, b| (a.api_key, &a.name).cmp(&(b.api_key, &b.name)));
    Ok(schemas)
}

/// A file for each schema, and the index.
fn files(
    directory: &'static str,
    (schemas, flavour): (&[Schema], Flavour),
    index: &str,
) -> Result<(&'static str, Files)> {
    let mut files = BTreeMap::new();
    for schema in schemas {
        let path = Path::new(directory).join(format!("{}.rs", snake(&schema.name)));
        files.insert(path, format(&render::file(schema, flavour))?);
    }
    files.insert(PathBuf::from(format!("{directory}.rs")), format(index)?);
    Ok((directory, files))
}

/// The texts of all schema files in a jar.
fn schema_texts(jar: &Path) -> Result<Vec<String>> {
    let listing = capture(Command::new("unzip").arg("-Z1").arg(jar))?;
    listing
        .lines()
        .filter(|name| {
            name.starts_with("common/")
                && Path::new(name).extension().is_some_and(|end| end == "json")
        })
        .map(|name| capture(Command::new("unzip").arg("-p").arg(jar).arg(name)))
        .collect()
}

fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn format(source: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start rustfmt; install it with `rustup component add rustfmt`")?;
    child
        .stdin
        .take()
        .context("no stdin")?
        .write_all(source.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt refused generated code:\n{source}");
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn write(root: &Path, directory: &str, files: &Files) -> Result<()> {
    let directory = root.join(directory);
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    for (path, text) in files {
        fs::write(root.join(path), text)?;
    }
    Ok(())
}

fn differing(root: &Path, files: &Files) -> Vec<PathBuf> {
    let mut stale = Vec::new();
    for (path, text) in files {
        let committed = fs::read_to_string(root.join(path)).unwrap_or_default();
        if committed != *text {
            stale.push(path.clone());
        }
    }
    stale
}

//! `cargo xtask generate`: writes the record types of `ottla-protocol` from the schemas in Kafka's jars.
//!
//! Only names, types and versions are taken from the schemas. The output is committed, so that a build needs
//! nothing but Rust; `--check` fails when it differs from what the schemas give.

mod family;
mod render;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, maven};
use family::Family;
pub use render::snake;

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
    let mut stale = Vec::new();
    for family in family::ALL {
        let files = generate(family, &jars)?;
        let root = toolbox::workspace().join("crates/protocol/src/messages");
        if args.check {
            stale.extend(differing(&root, &files));
        } else {
            write(&root, family, &files)?;
        }
    }
    if !stale.is_empty() {
        bail!("generated files are stale: {stale:?}; run `cargo xtask generate` and commit");
    }
    Ok(())
}

/// The files of one family: path below `messages/` to formatted text.
fn generate(family: &Family, jars: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut schemas = Vec::new();
    for artifact in family.jars {
        let jar = jars.join(format!("{artifact}-{}.jar", maven::KAFKA_VERSION));
        for text in schema_texts(&jar)? {
            schemas.push(schema::parse(&text)?);
        }
    }
    schemas.sort_by(|a, b| (a.api_key, &a.name).cmp(&(b.api_key, &b.name)));
    let mut files = BTreeMap::new();
    for schema in &schemas {
        let path = Path::new(family.directory).join(format!("{}.rs", snake(&schema.name)));
        files.insert(path, format(&render::record(schema))?);
    }
    let index = PathBuf::from(format!("{}.rs", family.directory));
    files.insert(index, format(&family::index(family, &schemas))?);
    Ok(files)
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

fn write(root: &Path, family: &Family, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    let directory = root.join(family.directory);
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    for (path, text) in files {
        fs::write(root.join(path), text)?;
    }
    Ok(())
}

fn differing(root: &Path, files: &BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
    let mut stale = Vec::new();
    for (path, text) in files {
        let committed = fs::read_to_string(root.join(path)).unwrap_or_default();
        if committed != *text {
            stale.push(path.clone());
        }
    }
    stale
}

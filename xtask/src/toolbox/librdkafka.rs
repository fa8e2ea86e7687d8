//! Builds librdkafka with its C test suite from the sources in the crate `rdkafka-sys`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{apt, crates, maven};

/// The version of `rdkafka-sys`; librdkafka's version is after the plus sign.
pub const CRATE_VERSION: &str = "4.10.0+2.12.1";

/// Libraries for compression, and for the statistics that the tests read: the Debian package, and
/// one of its files.
const HEADERS: &[(&str, &str)] = &[
    ("libzstd-dev", "/usr/include/zstd.h"),
    ("rapidjson-dev", "/usr/include/rapidjson/schema.h"),
];

/// Kafka's shell scripts that the tests call, with their classes.
const SCRIPTS: &[(&str, &str)] = &[
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
    ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
];

/// Each script first changes its arguments: a test wants segments smaller than Kafka 4 allows, so
/// the key of Kafka's own tests is used instead.
const ARGUMENTS: &str = r#"for argument; do
  shift
  case "$argument" in
    segment.bytes=???????*) ;;
    segment.bytes=*) argument="internal.$argument" ;;
  esac
  set -- "$@" "$argument"
done
"#;

/// The directory with `test-runner` and the sources of the tests.
pub fn tests() -> Result<PathBuf> {
    let source = crates::source("rdkafka-sys", CRATE_VERSION)?.join("librdkafka");
    super::once(
        "librdkafka-suite",
        &format!("{CRATE_VERSION} {HEADERS:?}"),
        |_| {
            for (package, path) in HEADERS {
                apt::headers(package, path)?;
            }
            // Built without Kerberos and OIDC over HTTP, and so without their libraries.
            super::run(
                Command::new("./configure")
                    .args(["--no-cache", "--disable-gssapi", "--disable-curl"])
                    .current_dir(&source),
            )?;
            let jobs = std::thread::available_parallelism()?;
            super::run(
                Command::new("make")
                    .arg(format!("-j{jobs}"))
                    .arg("libs")
                    .current_dir(&source),
            )?;
            super::run(
                Command::new("make")
                    .arg(format!("-j{jobs}"))
                    .args(["-C", "tests", "build"])
                    .current_dir(&source),
            )
        },
    )?;
    Ok(source.join("tests"))
}

/// A directory like an installed Apache Kafka, whose `bin` has the scripts that the tests call.
pub fn kafka() -> Result<PathBuf> {
    let jars = maven::kafka_jars()?;
    super::once(
        "kafka-scripts",
        &format!("{SCRIPTS:?} {ARGUMENTS}"),
        |directory| {
            let bin = directory.join("bin");
            fs::create_dir_all(&bin)?;
            for (script, class) in SCRIPTS {
                write_script(&bin.join(script), class, &jars)?;
            }
            Ok(())
        },
    )
}

fn write_script(path: &Path, class: &str, jars: &Path) -> Result<()> {
    let jars = jars.display();
    fs::write(
        path,
        format!(
            "#!/bin/sh\n{ARGUMENTS}exec java -XX:TieredStopAtLevel=1 -cp '{jars}/*' {class} \"$@\"\n"
        ),
    )?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

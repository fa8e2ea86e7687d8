//! librdkafka with its C test suite, built from what the crate `rdkafka-sys` ships.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{apt, crates, maven};

/// The version of `rdkafka-sys`, which names librdkafka's behind the plus sign.
pub const CRATE_VERSION: &str = "4.10.0+2.12.1";

/// What the library compresses with, and what the tests read its statistics with: Debian's package, a file of it.
const HEADERS: &[(&str, &str)] = &[
    ("libzstd-dev", "/usr/include/zstd.h"),
    ("rapidjson-dev", "/usr/include/rapidjson/schema.h"),
];

/// The shell scripts of an Apache Kafka that the tests call, by the class of each.
const SCRIPTS: &[(&str, &str)] = &[
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
    ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
];

/// What each does with its arguments first. A test asks for segments that Kafka 4 no longer makes; what Kafka's own tests
/// use instead does the same.
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
            // Kerberos and OIDC by HTTP are left out with the libraries that they need.
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

/// A directory that stands for an installed Apache Kafka: its `bin` holds the scripts that the tests call.
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

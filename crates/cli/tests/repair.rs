//! The way of an operator with a damaged log: a consumer's error, skipping the damage, verify, the
//! steps of repair, the repair, and reading again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ottla_broker::Running;
use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;

const RECORDS: usize = 30;

async fn start(directory: &Path) -> Running {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    config.http = Some(ottla_broker::config::HostPort {
        host: "127.0.0.1".to_owned(),
        port: 0,
    });
    ottla_broker::start(config, Clock::start()).await.unwrap()
}

fn ottla(arguments: &[&str]) -> Output {
    ottla_given(arguments, "")
}

fn ottla_given(arguments: &[&str], input: &str) -> Output {
    ottla_in(Path::new("."), arguments, input)
}

fn ottla_in(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .current_dir(directory)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// The values from an offset on.
fn consume(bootstrap: &str, from: &str) -> Output {
    ottla(&["consume", "t", "-b", bootstrap, "--from", from, "--exit"])
}

/// The position of the batch with record `number`; each record is a batch.
fn position_of(log: &Path, number: usize) -> u64 {
    let dump = ottla(&["log", "dump", "--output", "json", log.to_str().unwrap()]);
    let dump = stdout(&dump);
    let line = dump.lines().nth(number).unwrap();
    let batch: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(batch["base_offset"], number);
    batch["position"].as_u64().unwrap()
}

fn overwrite(path: &PathBuf, position: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, position).unwrap();
}

/// Fills a topic of one partition, each record in its own batch.
fn fill(bootstrap: &str) {
    stdout(&ottla(&[
        "topic",
        "create",
        "t",
        "-b",
        bootstrap,
        "--partitions",
        "1",
    ]));
    for number in 0..RECORDS {
        let produced = ottla_given(&["produce", "t", "-b", bootstrap], &format!("v{number}\n"));
        assert!(produced.status.success(), "{produced:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_repaired_by_what_was_listed_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let running = start(directory.path()).await;
    let bootstrap = running.addresses[0].1.to_string();
    fill(&bootstrap);
    let refused = ottla(&["log", "repair", data]);
    assert!(
        text(&refused.stderr).contains("in use by another process"),
        "{refused:?}"
    );
    running.shut_down().await;
    let log = directory.path().join("t-0/00000000000000000000.log");
    let hurt = [7, RECORDS - 1];
    for position in hurt.map(|number| position_of(&log, number)) {
        overwrite(&log, position + 8, &[0xFF; 4]);
    }

    let running = start(directory.path()).await;
    let bootstrap = running.addresses[0].1.to_string();
    let refused = consume(&bootstrap, "7");
    assert!(!refused.status.success(), "{refused:?}");
    assert!(
        text(&refused.stderr).contains("CORRUPT_MESSAGE")
            || text(&refused.stderr).contains("CorruptMessage"),
        "{refused:?}"
    );
    let before = consume(&bootstrap, "0");
    assert!(text(&before.stdout).starts_with("v0\nv1\n"), "{before:?}");
    running.shut_down().await;

    let verified = ottla(&["log", "verify", data]);
    assert!(!verified.status.success(), "{verified:?}");
    assert_eq!(
        text(&verified.stdout).matches("damage: ").count(),
        2,
        "{verified:?}"
    );
    let listed = stdout(&ottla(&["log", "repair", data]));
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(
        listed.contains("offsets 7 to 7 become an empty batch"),
        "{listed}"
    );
    let again = ottla(&["log", "verify", data]);
    assert_eq!(again.stdout, verified.stdout, "listing changes nothing");
    let done = stdout(&ottla(&["log", "repair", data, "--execute"]));
    assert_eq!(done, listed);
    let sound = stdout(&ottla(&["log", "verify", data]));
    assert_eq!(sound.matches("taken out of a log").count(), 2, "{sound}");
    assert!(sound.contains("first-offset: 7; next-offset: 8"), "{sound}");

    let running = start(directory.path()).await;
    let bootstrap = running.addresses[0].1.to_string();
    let values = stdout(&consume(&bootstrap, "0"));
    let expected: Vec<String> = (0..RECORDS)
        .filter(|number| !hurt.contains(number))
        .map(|number| format!("v{number}"))
        .collect();
    assert_eq!(values.lines().collect::<Vec<_>>(), expected);
    running.shut_down().await;
    let sound = stdout(&ottla(&["log", "repair", data]));
    assert_eq!(sound, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_known_from_inside_and_by_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let running = start(&data).await;
    fill(&running.addresses[0].1.to_string());
    let partition = data.join("t-0");
    let (to_data, to_partition) = (directory.path().join("d"), directory.path().join("p"));
    symlink(&data, &to_data).unwrap();
    symlink(&partition, &to_partition).unwrap();
    // A partition whose directory is a link to another place.
    let elsewhere = directory.path().join("elsewhere-0");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::copy(
        partition.join("partition.metadata"),
        elsewhere.join("partition.metadata"),
    )
    .unwrap();
    symlink(&elsewhere, data.join("linked-0")).unwrap();
    let outside = directory.path();
    let places: [(&Path, &str); 7] = [
        (&data, "."),
        (&partition, "."),
        (&data, "t-0"),
        (&data, "linked-0"),
        (outside, "d"),
        (outside, "d/t-0"),
        (outside, "p"),
    ];
    for (from, to) in places {
        let refused = ottla_in(from, &["log", "repair", to], "");
        let reason = text(&refused.stderr);
        assert!(
            reason.contains("in use by another process"),
            "{to}: {reason}"
        );
    }
    running.shut_down().await;

    // The last record is lost; only the recovery point shows that it existed.
    let log = partition.join("00000000000000000000.log");
    let end = position_of(&log, RECORDS - 1);
    let file = OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(end).unwrap();
    for (from, to) in places.into_iter().filter(|(_, to)| *to != "linked-0") {
        let verified = ottla_in(from, &["log", "verify", to], "");
        let found = text(&verified.stdout);
        assert!(
            found.contains("was on stable storage up to 30"),
            "{to}: {found}"
        );
        let listed = stdout(&ottla_in(from, &["log", "repair", to], ""));
        assert!(
            listed.contains("offsets 29 to 29 are not given out again"),
            "{to}: {listed}"
        );
    }
    stdout(&ottla_in(
        &partition,
        &["log", "repair", ".", "--execute"],
        "",
    ));
    stdout(&ottla_in(&partition, &["log", "verify", "."], ""));
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the damage of a test")]
async fn a_trimmed_log_is_not_called_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let bootstrap = running.addresses[0].1.to_string();
    fill(&bootstrap);
    let trim = ["topic", "trim", "t", "-b", &bootstrap, "--to-offset", "2"];
    stdout(&ottla(&trim));
    running.shut_down().await;
    let data = directory.path().to_str().unwrap();
    let alone = tempfile::tempdir().unwrap();
    copy(&directory.path().join("t-0"), &alone.path().join("t-0"));
    let (inside, alone) = (format!("{data}/t-0"), alone.path().join("t-0"));
    for place in [data, &inside, alone.to_str().unwrap()] {
        let verified = stdout(&ottla(&["log", "verify", place]));
        assert!(!verified.contains("damage"), "{place}: {verified}");
        assert_eq!(stdout(&ottla(&["log", "repair", place])), "", "{place}");
    }
    // Records lost just above the log start are noticed if the log start is known.
    let epochs = directory.path().join("t-0/leader-epoch-checkpoint");
    std::fs::write(epochs, "0\n1\n0 3\n").unwrap();
    for place in [data, &inside] {
        let verified = ottla(&["log", "verify", place]);
        assert!(!verified.status.success(), "{place}: {verified:?}");
        let found = text(&verified.stdout);
        assert!(found.contains("is said to begin at 3"), "{place}: {found}");
    }
}

/// As after a kill of Kafka, whose cleaner went beyond the recovery point on disk.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the damage of a test")]
async fn a_log_that_was_compacted_beyond_its_recovery_point_is_not_called_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    fill(&running.addresses[0].1.to_string());
    running.shut_down().await;
    let log = directory.path().join("t-0/00000000000000000000.log");
    let kept = usize::try_from(position_of(&log, 10)).unwrap();
    std::fs::write(&log, &std::fs::read(&log).unwrap()[kept..]).unwrap();
    std::fs::remove_file(directory.path().join(".kafka_cleanshutdown")).unwrap();
    for (name, offset) in [("recovery-point", 5), ("cleaner", RECORDS)] {
        let path = directory.path().join(format!("{name}-offset-checkpoint"));
        std::fs::write(path, format!("0\n1\nt 0 {offset}\n")).unwrap();
    }
    let data = directory.path().to_str().unwrap();
    for place in [data, &format!("{data}/t-0")] {
        let verified = stdout(&ottla(&["log", "verify", place]));
        assert!(!verified.contains("damage"), "{place}: {verified}");
    }
    let running = start(directory.path()).await;
    let values = stdout(&consume(&running.addresses[0].1.to_string(), "0"));
    let expected: Vec<String> = (10..RECORDS).map(|number| format!("v{number}")).collect();
    assert_eq!(values.lines().collect::<Vec<_>>(), expected);
    running.shut_down().await;
}

/// The names of the files in a directory.
fn names(directory: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a copy without its lock file")]
async fn a_check_and_a_listed_repair_leave_no_lock_file() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).await.shut_down().await;
    std::fs::remove_file(directory.path().join(".lock")).unwrap();
    let before = names(directory.path());
    for command in ["verify", "repair"] {
        stdout(&ottla(&[
            "log",
            command,
            directory.path().to_str().unwrap(),
        ]));
        assert_eq!(names(directory.path()), before, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_says_what_is_damaged_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    fill(&running.addresses[0].1.to_string());
    running.shut_down().await;
    let log = directory.path().join("t-0/00000000000000000000.log");
    let hurt = [3, 9, RECORDS - 1];
    let positions = hurt.map(|number| position_of(&log, number));
    // Three damages: a batch with a wrong length, a batch with a wrong checksum, a torn last batch.
    overwrite(&log, positions[0] + 8, &[0x7F; 4]);
    overwrite(&log, positions[1] + 17, &[0xFF; 4]);
    let file = OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(positions[2] + 20).unwrap();
    for at in [&log, &directory.path().join("t-0")] {
        let dump = ottla(&["log", "dump", at.to_str().unwrap()]);
        assert!(!dump.status.success(), "{dump:?}");
        let (printed, said) = (text(&dump.stdout), text(&dump.stderr));
        let is_sound =
            |number: &usize| printed.contains(&format!("offsets {number} to {number}, records 1"));
        let printed_of: Vec<usize> = (0..RECORDS).filter(is_sound).collect();
        let expected: Vec<usize> = (0..RECORDS - 1).filter(|number| *number != 3).collect();
        assert_eq!(printed_of, expected, "{printed}");
        assert_eq!(printed.matches("crc WRONG").count(), 1, "{printed}");
        let lines: Vec<&str> = said.lines().collect();
        let says = [
            format!("bytes at {} are damaged", positions[0]),
            format!("bytes at {} are damaged", positions[1]),
            format!("20 bytes at {} are damaged", positions[2]),
        ];
        for (line, says) in lines.iter().zip(says) {
            assert!(line.contains(&says), "{said}");
        }
        assert!(lines[0].contains("the next that can is 4"), "{said}");
        assert!(lines[2].contains("no sound batch follows"), "{said}");
        assert_eq!(lines.len(), 4, "{said}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_may_be_the_metadata_log_is_not_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    running.shut_down().await;
    let metadata = directory.path().join("__cluster_metadata-0");
    let log = metadata.join("00000000000000000000.log");
    overwrite(&log, 8, &[0xFF; 4]);
    let names = ["__cluster_metadata-0.bak", "backup-0", "backup"];
    let outside = tempfile::tempdir().unwrap();
    for name in names {
        copy(&metadata, &outside.path().join(name));
    }
    let repaired = |name| {
        let path = outside.path().join(name);
        let before = std::fs::read(path.join(log.file_name().unwrap())).unwrap();
        let arguments = ["log", "repair", name, "--execute"];
        let refused = ottla_in(outside.path(), &arguments, "");
        assert!(!refused.status.success(), "{name}");
        assert_eq!(
            text(&refused.stdout).matches("rewrite").count(),
            0,
            "{name}"
        );
        let after = std::fs::read(path.join(log.file_name().unwrap())).unwrap();
        assert_eq!(before, after, "{name}");
        text(&refused.stderr)
    };
    for name in ["__cluster_metadata-0.bak", "backup"] {
        let reason = repaired(name);
        assert!(reason.contains("give it the name that it had"), "{reason}");
    }
    let reason = repaired("backup-0");
    assert!(reason.contains("cannot be repaired"), "{reason}");
}

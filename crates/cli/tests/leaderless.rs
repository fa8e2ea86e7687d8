//! Partitions without a leader do not block others: a broker is started without one of its log
//! directories.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod session;

use std::collections::BTreeSet;
use std::process::Output;

use session::Session;

/// A broker with four partitions of topic `t` in two log directories, started with only one of the
/// two. Each partition has two records; group `g` has committed the first.
struct Scene {
    session: Session,
    led: Vec<i32>,
    leaderless: Vec<i32>,
}

impl Scene {
    async fn start() -> Self {
        let mut session = Session::new();
        let directories = ["a", "b"].map(ToOwned::to_owned);
        session.log_directories = directories.to_vec();
        session.start_broker().await;
        session.create("t", 4);
        for round in ["first", "second"] {
            for index in 0..4 {
                let index = index.to_string();
                let line = format!("{round} of {index}\n");
                let produced = session.run(&["produce", "t", "--partition", &index], &line);
                assert!(produced.status.success(), "{produced:?}");
            }
            if round == "first" {
                let arguments = [
                    "consume",
                    "t",
                    "--group",
                    "g",
                    "--from",
                    "beginning",
                    "-n",
                    "4",
                ];
                session.ottla(&arguments);
            }
        }
        session.stop_broker().await;
        // The directory with the groups stays.
        let has_groups = |name: &str| !session.partitions_in(name, "__consumer_offsets").is_empty();
        let [kept, gone] = if has_groups("a") {
            ["a", "b"]
        } else {
            ["b", "a"]
        };
        let led = session.partitions_in(kept, "t");
        let leaderless = session.partitions_in(gone, "t");
        assert!(!led.is_empty() && !leaderless.is_empty());
        session.log_directories = vec![kept.to_owned()];
        session.start_broker().await;
        Self {
            session,
            led,
            leaderless,
        }
    }

    fn records(partitions: &[i32]) -> BTreeSet<String> {
        let both = |index: &i32| ["first", "second"].map(|round| format!("{round} of {index}"));
        partitions.iter().flat_map(both).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_partitions_are_read_and_these_as_soon_as_they_have_leaders() {
    let mut scene = Scene::start().await;
    let arguments = ["consume", "t", "--from", "beginning"];
    let last = ["consume", "t", "--from", "-2"];
    let grouped = ["consume", "t", "--from", "beginning", "--group", "fresh"];
    let mut consumers = [&arguments[..], &last, &grouped].map(|it| scene.session.spawn(it));
    let led = Scene::records(&scene.led);
    for consumer in &mut consumers {
        consumer.says(&format!("t-{} has no leader", scene.leaderless[0]));
        let read: BTreeSet<_> = led.iter().map(|_| consumer.line()).collect();
        assert_eq!(read, led);
    }
    scene.session.stop_broker().await;
    scene.session.log_directories = ["a", "b"].map(ToOwned::to_owned).to_vec();
    scene.session.start_broker().await;
    let others = Scene::records(&scene.leaderless);
    for mut consumer in consumers {
        let read: BTreeSet<_> = others.iter().map(|_| consumer.line()).collect();
        assert_eq!(read, others);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_cannot_be_reached_is_an_error_after_all_others() {
    let scene = Scene::start().await;
    for group in [&[][..], &["--group", "fresh"]] {
        let arguments = [
            "consume",
            "t",
            "--from",
            "beginning",
            "--exit",
            "--timeout",
            "1",
        ];
        let output = scene.session.run(&[&arguments, group].concat(), "");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        let printed: BTreeSet<_> = printed.lines().map(ToOwned::to_owned).collect();
        assert_eq!(printed, Scene::records(&scene.led));
        let said = said(&output);
        assert!(said.contains("LEADER_NOT_AVAILABLE"), "{said}");
        assert!(said.contains("next: `ottla cluster` shows"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_not_moved_and_its_lag_is_a_lower_bound() {
    let scene = Scene::start().await;
    let session = &scene.session;
    let listed = session.run(&["group", "list"], "");
    let text = String::from_utf8(listed.stdout.clone()).unwrap();
    let row = text.lines().find(|line| line.starts_with("g ")).unwrap();
    let bound = format!(">={}", scene.led.len());
    assert!(row.ends_with(&bound), "{row}");
    let told = format!(
        "the lag of group g leaves out {} partition",
        scene.leaderless.len()
    );
    assert!(said(&listed).contains(&told), "{listed:?}");
    let described = session.ottla(&["group", "describe", "g"]);
    assert!(described.contains(&format!("lag {bound}")), "{described}");
    let described = session.ottla(&["group", "describe", "g", "--output", "json"]);
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described[0]["lag"], scene.led.len());
    assert_eq!(
        described[0]["partitions_without_leader"],
        scene.leaderless.len()
    );

    let reset = ["group", "reset-offsets", "g", "--to-earliest", "--topic"];
    let refused = session.run(&[&reset[..], &["t"]].concat(), "");
    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    for index in &scene.leaderless {
        assert!(said.contains(&format!("t-{index}")), "{said}");
    }
    assert!(said.contains("no leader: `ottla cluster` shows"), "{said}");
    let led = scene.led.iter().map(ToString::to_string);
    let led = format!("t:{}", led.collect::<Vec<_>>().join(","));
    session.ottla(&[&reset[..], &[&led]].concat());
}

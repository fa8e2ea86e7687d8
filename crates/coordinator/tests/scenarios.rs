//! Runs the stories in `tests/scenarios/`: commands, then the records, replies and events that follow.
//!
//! Fresh ids count up from 1, so the first member of client `c` is `c-1`; requests are numbered by `#`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use std::path::Path;

use stage::Stage;

#[test]
fn scenarios_play_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    ottla_scenario::play_all(&directory, 20, || {
        let mut stage = Stage::default();
        move |line: &str| stage.run(line)
    });
}

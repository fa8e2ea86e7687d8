//! A log against a list of batches, under arbitrary sequences of everything that can happen to it.

use super::fixture::*;
use crate::files::simulated::Simulated;
use crate::{Left, LogConfig};
use ottla_protocol::ids::Offset;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Flush,
    Checkpoint,
    Roll,
    DeleteRecords(u8),
    Truncate(u8),
    ChangeSegmentBytes(u64),
    CloseAndOpen,
    Kill,
    CutPower(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(1u8..6, 1..5).prop_map(Step::Append),
        2 => Just(Step::Flush),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Roll),
        1 => any::<u8>().prop_map(Step::DeleteRecords),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => (500u64..3000).prop_map(Step::ChangeSegmentBytes),
        1 => Just(Step::CloseAndOpen),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::CutPower),
    ]
}

/// What the log should be: its batches, each with its offset and number of records.
#[derive(Debug, Default)]
struct Model {
    batches: Vec<(i64, i32)>,
    start: i64,
    flushed: i64,
    recovery_point: i64,
}

impl Model {
    fn end(&self) -> i64 {
        let last = self
            .batches
            .last()
            .map_or(0, |(offset, count)| offset + i64::from(*count));
        last.max(self.start)
    }

    fn keep_before(&mut self, end: i64) {
        self.batches
            .retain(|(offset, count)| offset + i64::from(*count) <= end);
        let end = self.end();
        self.flushed = self.flushed.min(end);
        self.recovery_point = self.recovery_point.min(end);
    }

    fn part(&self, part: u8) -> i64 {
        self.start + (self.end() - self.start) * i64::from(part) / 255
    }
}

struct World {
    files: Simulated,
    config: LogConfig,
    log: Option<Log>,
    model: Model,
}

impl World {
    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn open(&mut self, is_clean: bool) {
        let left = Left {
            is_clean,
            recovery_point: Offset(self.model.recovery_point),
            log_start: Offset(self.model.start),
            ..Left::default()
        };
        self.log = Some(open_as(&self.files, self.config.clone(), left).0);
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(counts) => self.append(counts),
            Step::Flush => {
                self.log().flush().unwrap();
                self.model.flushed = self.model.end();
            }
            Step::Checkpoint => {
                if let Some(checkpoint) = self.log().begin_checkpoint().unwrap() {
                    checkpoint.run().unwrap();
                    self.model.recovery_point = self.log().complete_checkpoint(&checkpoint).0;
                }
                assert_eq!(self.model.recovery_point, self.model.flushed);
            }
            Step::Roll => self.log().roll(NOW).unwrap(),
            Step::DeleteRecords(part) => {
                // Consumers see flushed records only, and only those can be deleted.
                let high_watermark = self.model.flushed;
                let offset = self.model.part(*part).min(high_watermark);
                self.log()
                    .set_high_watermark(Offset(high_watermark))
                    .unwrap();
                self.log()
                    .delete_records(Some(Offset(offset)), NOW)
                    .unwrap();
                self.model.start = self.model.start.max(offset);
            }
            Step::Truncate(part) => {
                let offset = self.model.part(*part);
                self.log().truncate_to(Offset(offset), NOW).unwrap();
                // A batch goes as a whole, even the one that the log start lies in.
                self.model.start = self.model.start.min(self.log().log_end_offset().0);
                self.model.keep_before(offset);
            }
            Step::ChangeSegmentBytes(segment_bytes) => {
                self.config.segment_bytes = *segment_bytes;
                let config = self.config.clone();
                self.log().set_config(config);
            }
            Step::CloseAndOpen => {
                let end = self.log.take().unwrap().close().unwrap().0;
                self.model.flushed = end;
                self.model.recovery_point = end;
                assert_eq!(self.files.open_handles(), 0);
                self.open(true);
            }
            Step::Kill => {
                self.files = self.files.process_killed();
                self.open(false);
                self.recovered(self.model.end());
            }
            Step::CutPower(seed) => {
                self.files = self.files.power_cut(*seed);
                self.open(false);
                self.recovered(self.model.flushed);
            }
        }
    }

    fn append(&mut self, counts: &[u8]) {
        for count in counts {
            let end = self.model.end();
            let appended = append(self.log(), &plain(i64::from(*count), NOW.0));
            assert_eq!(appended.first_offset.0, end);
            self.model.batches.push((end, i32::from(*count)));
        }
    }

    /// After a crash at least what lies before `at_least` is there, whole batches, and nothing but what was appended.
    fn recovered(&mut self, at_least: i64) {
        let end = self.log().log_end_offset().0;
        assert!(end >= at_least, "{end} is less than {at_least}");
        self.model.keep_before(end);
        assert_eq!(self.model.end(), end);
        self.model.flushed = end;
        self.model.recovery_point = self.log().recovery_point().0;
    }

    fn check(&mut self) {
        let (start, end) = (self.model.start, self.model.end());
        let log = self.log.as_ref().unwrap();
        assert_eq!(
            (log.log_start_offset().0, log.log_end_offset().0),
            (start, end)
        );
        let beyond = |(offset, count): &&(i64, i32)| offset + i64::from(*count) > start;
        let expected: Vec<_> = self.model.batches.iter().filter(beyond).copied().collect();
        assert_eq!(summary(&read_all(log, Offset(start))), expected);
        assert!(log.recovery_point() <= log.flushed_offset());
        assert_eq!(log.flushed_offset().0, self.model.flushed.max(start));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_the_list_of_its_batches(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World {
            files: new_disk(),
            config: small_segments(),
            log: None,
            model: Model::default(),
        };
        world.open(false);
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}

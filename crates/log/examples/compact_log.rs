//! Compacts a partition's log that no broker has open, and says what came of it:
//! `cargo run --release -p ottla-log --example compact_log -- DIRECTORY TOPIC-PARTITION [BYTES FOR KEYS]`.
//! For measuring, and for looking at what compaction makes of a log that Apache Kafka has closed.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use ottla_log::compaction::{MapLimits, OffsetMap, Tools};
use ottla_log::files::disk::Disk;
use ottla_log::{Left, LogConfig, LogDirectory, OpenLog, PartitionLog};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::error::Error;
use std::hash::RandomState;
use std::ops::ControlFlow;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name a log directory")?;
    let name = arguments.next().ok_or("name a partition's directory")?;
    let bytes = arguments
        .next()
        .map_or(Ok(128 << 20), |bytes| bytes.parse())?;
    let open = OpenLog {
        directory: LogDirectory::new(Disk, path),
        name,
        config: LogConfig {
            compact: true,
            delete: false,
            min_cleanable_dirty_ratio: 0.0,
            // No producer is forgotten, however long ago it wrote.
            producer_id_expiration: Duration::MAX,
            ..LogConfig::default()
        },
        topic_id: None,
        left: Left {
            is_clean: true,
            recovery_point: Offset(i64::MAX),
            ..Left::default()
        },
    };
    // Long after any delete horizon that may be in it, and the same at each run.
    let now = Timestamp(4_000_000_000_000);
    let (mut log, _) = PartitionLog::open(open, now, &mut |_| {})?;
    let limits = MapLimits {
        bytes,
        load_factor: 0.9,
    };
    let hashers = [RandomState::new(), RandomState::new()];
    let mut tools = Tools::new(OffsetMap::new(limits, hashers));
    let mut pace = |_| ControlFlow::Continue(());
    loop {
        let plan = log.plan_compaction(now)?;
        println!("{plan:?}");
        if !plan.is_due() {
            break;
        }
        let mut pass = log.begin_compaction(now)?;
        pass.index(&mut tools, &mut pace)?;
        while let Some(rewritten) = pass.rewrite_next(&mut tools, &mut pace)? {
            log.replace_segments(rewritten)?;
            pass.sync_names()?;
        }
        let outcome = pass.finish()?;
        log.complete_compaction(&outcome);
        println!("{outcome:?}");
    }
    log.close()?;
    Ok(())
}

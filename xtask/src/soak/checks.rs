//! Reads the output of consumers, and checks that it is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::time::{now, pause};

/// How long consumers may need to catch up.
const PATIENCE: Duration = Duration::from_secs(90);

/// The lines `PARTITION OFFSET NUMBER` of one or more consumers.
#[derive(Debug, Default)]
pub struct Printed {
    /// The offsets that each consumer printed, in order, by partition.
    offsets: BTreeMap<i64, Vec<Vec<i64>>>,
    numbers: BTreeSet<u64>,
    /// The number of lines whose record was printed before.
    pub repeated: usize,
}

impl Printed {
    /// Reads complete lines; a line without a line end is still being written and is left out.
    pub fn read(outputs: &[impl AsRef<Path>]) -> Result<Self> {
        let mut printed = Self::default();
        for output in outputs {
            let text = fs::read_to_string(output)?;
            let mut own = BTreeMap::<i64, Vec<i64>>::new();
            for line in text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
            {
                let mut words = line.split_whitespace();
                let mut word = || words.next().with_context(|| format!("a line {line:?}"));
                let (partition, offset) = (word()?.parse()?, word()?.parse()?);
                let number = word()?.parse()?;
                own.entry(partition).or_default().push(offset);
                if !printed.numbers.insert(number) {
                    printed.repeated += 1;
                }
            }
            for (partition, offsets) in own {
                printed.offsets.entry(partition).or_default().push(offsets);
            }
        }
        Ok(printed)
    }

    /// Checks that all records from 0 on were printed.
    pub fn check_complete(&self, written: u64) -> Result<()> {
        let missing: Vec<_> = (0..written)
            .filter(|number| !self.numbers.contains(number))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let first = &missing[..missing.len().min(10)];
        bail!(
            "{} of {written} records were never printed, as {first:?}",
            missing.len()
        )
    }

    /// Checks that each consumer printed consecutive offsets, without gaps and repetitions.
    pub fn check_no_gap(&self) -> Result<()> {
        for (partition, consumers) in &self.offsets {
            for offsets in consumers {
                let jump = offsets.windows(2).find(|pair| pair[1] != pair[0] + 1);
                if let Some([before, after]) = jump {
                    bail!("partition {partition}: after offset {before} came {after}");
                }
            }
        }
        Ok(())
    }

    /// Checks that all consumers together left out no offset. A partition may move between
    /// consumers.
    pub fn check_no_gap_together(&self) -> Result<()> {
        for (partition, consumers) in &self.offsets {
            let offsets: BTreeSet<_> = consumers.iter().flatten().copied().collect();
            let offsets: Vec<_> = offsets.into_iter().collect();
            let is_whole = offsets.first() == Some(&0);
            let jump = offsets.windows(2).find(|pair| pair[1] != pair[0] + 1);
            if !is_whole || jump.is_some() {
                bail!("partition {partition}: offsets were left out, first at {jump:?}");
            }
        }
        Ok(())
    }

    /// The offset after the largest one of a partition.
    pub fn next_offset(&self, partition: i64) -> i64 {
        let consumers = self.offsets.get(&partition).into_iter().flatten();
        consumers.flatten().max().map_or(0, |last| last + 1)
    }

    /// The partitions with printed records.
    pub fn partitions(&self) -> impl Iterator<Item = i64> {
        self.offsets.keys().copied()
    }
}

/// Waits until the consumers have together printed all records.
pub fn wait_for(written: u64, outputs: &[impl AsRef<Path>]) -> Result<()> {
    let begun = now();
    loop {
        let complete = Printed::read(outputs)?.check_complete(written);
        if complete.is_ok() || begun.elapsed() > PATIENCE {
            return complete;
        }
        pause(Duration::from_secs(1));
    }
}

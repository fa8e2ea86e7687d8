//! Rebuilds missing index files from the batches when a log is opened.
//!
//! Without space or file descriptors, the entries stay in memory and no file is written. A checkpoint or the next start
//! tries again: see `segment/detached.rs`.

use super::{OpenError, Recovering};
use crate::damage::{Met, Survey, UNBOUNDED};
use crate::directory::StorageError;
use crate::files::Files;
use crate::format::FileKind;
use crate::segment::{NewIndexes, Segment};

impl<F: Files> Recovering<F> {
    /// Rebuilds the offset and time index of a segment, without damaged batches.
    pub(super) fn rebuild_indexes(
        &self,
        segment: &mut Segment<F>,
        rebuilt: &mut NewIndexes,
    ) -> Result<(), OpenError> {
        let size = segment.size;
        let place = self.place();
        segment.detach_indexes();
        place
            .directory
            .judge(segment.begin_scan(place, 0, self.now))?;
        let file = place.directory.judge(segment.file(place))?;
        let mut survey = Survey::new(&*file, segment.base, 0..size, segment.base..UNBOUNDED);
        while let Some(met) = place.directory.judge(survey.advance())? {
            if let Met::Batch(located) = met {
                segment.note(&located, u64::from(self.config.index_interval_bytes));
            }
        }
        segment.end_scan();
        segment.size = size;
        match segment.write_aside(place, rebuilt) {
            Ok(()) => segment.attach_indexes(),
            // Both are removed, because a start would trust one alone.
            Err(error) if error.is_full() || error.is_lack_of_descriptors() => {
                self.remove_indexes(segment)?;
            }
            Err(error) => return Err(place.directory.failed(error).into()),
        }
        Ok(())
    }

    fn remove_indexes(&self, segment: &Segment<F>) -> Result<(), StorageError> {
        let place = self.place();
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
            let path = place.path_of(kind, segment.base);
            place.directory.forget(&path);
            match place.directory.files().remove(&path) {
                Err(error) if error.is_not_found() => {}
                outcome => place.directory.judge(outcome)?,
            }
        }
        Ok(())
    }
}

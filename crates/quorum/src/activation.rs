//! The first records that a leader writes to the metadata log: those of a new cluster, and those that finish what an
//! earlier leader left.

use ottla_log::files::Files;
use ottla_metadata::{Loader, MetadataVersion, ottla_configs};
use ottla_protocol::messages::metadata::{AbortTransactionRecord, MetadataRecord};
use ottla_protocol::time::Timestamp;

use crate::metadata_log::{MetadataLog, ProposeError};

/// The first records of a cluster, as its first leader writes them.
#[derive(Debug)]
pub struct FirstBatch {
    /// In a metadata transaction, if the version has them.
    pub records: Vec<MetadataRecord>,
    /// The `metadata.version` among them.
    pub version: MetadataVersion,
}

/// Aborts a transaction that the last leader did not end. Then writes `first`, the first records of a cluster whose log has
/// none, or else settles configs.
pub fn activate<F: Files>(
    log: &mut MetadataLog<F>,
    loader: &mut Loader,
    first: Option<FirstBatch>,
    now: Timestamp,
) -> Result<(), ProposeError> {
    if loader.in_transaction() {
        let abort = [AbortTransactionRecord::default().into()];
        log.propose(&abort, loader.image().metadata_version(), now)?;
        loader.load(&abort);
    }
    let Some(FirstBatch { records, version }) = first else {
        return settle_configs(log, loader, now);
    };
    log.propose(&records, version, now)?;
    loader.load(&records);
    Ok(())
}

/// Brings Ottla's settings of topics in order, after a leader that does not know them: see [`ottla_configs::settle`].
pub fn settle_configs<F: Files>(
    log: &mut MetadataLog<F>,
    loader: &mut Loader,
    now: Timestamp,
) -> Result<(), ProposeError> {
    let records = ottla_configs::settle(loader.image());
    let records: Vec<MetadataRecord> = records.into_iter().map(MetadataRecord::from).collect();
    if records.is_empty() {
        return Ok(());
    }
    tracing::info!(
        records = records.len(),
        "moving settings of topics, or removing those of topics that are gone"
    );
    match log.propose(&records, loader.image().metadata_version(), now) {
        Ok(_) => {
            loader.load(&records);
            Ok(())
        }
        // They can stay until a start with enough disk, or a `metadata.version` with transactions.
        Err(error @ (ProposeError::Full(_) | ProposeError::TooLarge)) => {
            tracing::warn!(%error, "they are left as they are");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

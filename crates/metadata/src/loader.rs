//! Replays committed records, and publishes a metadata transaction (KIP-868) only when it has ended.
//!
//! The records between `BeginTransactionRecord` and `EndTransactionRecord` are published as one change, or not at all. A
//! transaction may begin in the middle of a batch.

use ottla_protocol::messages::metadata::MetadataRecord;

use crate::{Changes, MetadataDelta, MetadataImage};

/// The published image, and the open transaction on top of it.
#[derive(Debug, Clone, Default)]
pub struct Loader {
    published: MetadataImage,
    transaction: Option<MetadataDelta>,
}

impl Loader {
    /// A loader that has published `image`.
    pub const fn new(image: MetadataImage) -> Self {
        Self {
            published: image,
            transaction: None,
        }
    }

    /// The published image.
    pub const fn image(&self) -> &MetadataImage {
        &self.published
    }

    /// Whether a metadata transaction is open.
    pub const fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Applies committed records, and returns what they changed in [`Self::image`]. Records of an open transaction wait.
    pub fn load<'a>(&mut self, records: impl IntoIterator<Item = &'a MetadataRecord>) -> Changes {
        let mut changes = Changes::default();
        let mut open = MetadataDelta::new(self.published.clone());
        for record in records {
            match record {
                MetadataRecord::BeginTransaction(_) => {
                    self.transaction = Some(MetadataDelta::new(open.image().clone()));
                }
                MetadataRecord::EndTransaction(_) => {
                    if let Some(transaction) = self.transaction.take() {
                        let (image, its_changes) = transaction.finish();
                        changes.extend(open.finish().1);
                        changes.extend(its_changes);
                        open = MetadataDelta::new(image);
                    }
                }
                MetadataRecord::AbortTransaction(_) => self.transaction = None,
                other => self.transaction.as_mut().unwrap_or(&mut open).replay(other),
            }
        }
        let (image, its_changes) = open.finish();
        changes.extend(its_changes);
        self.published = image;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::Loader;
    use ottla_protocol::messages::metadata::{
        AbortTransactionRecord, BeginTransactionRecord, EndTransactionRecord, FeatureLevelRecord,
        MetadataRecord,
    };

    fn feature(name: &str) -> MetadataRecord {
        FeatureLevelRecord {
            name: name.into(),
            feature_level: 1,
            ..FeatureLevelRecord::default()
        }
        .into()
    }

    fn begin() -> MetadataRecord {
        BeginTransactionRecord::default().into()
    }

    #[test]
    fn an_open_transaction_is_not_published() {
        let mut loader = Loader::default();
        loader.load(&[feature("before"), begin(), feature("inside")]);
        assert!(loader.image().features.contains_key("before"));
        assert!(!loader.image().features.contains_key("inside"));

        let changes = loader.load(&[EndTransactionRecord::default().into(), feature("after")]);
        assert!(changes.features);
        assert_eq!(loader.image().features.len(), 3);
    }

    #[test]
    fn an_aborted_transaction_changes_nothing() {
        let mut loader = Loader::default();
        loader.load(&[begin(), feature("inside")]);
        loader.load(&[AbortTransactionRecord::default().into(), feature("after")]);
        assert_eq!(loader.image().features.len(), 1);
        assert!(!loader.in_transaction());
    }
}

//! A controller as a member of the quorum: it follows what is committed, and decides while it leads.
//!
//! Synchronous. The owner calls [`Member::turn`] when there are requests, and when the quorum may have news. Invariants:
//!
//! - The image is that of the committed records, whoever proposed them.
//! - Requests are decided only between the gain and the loss of leadership, on top of everything that is committed.
//! - A reply leaves only with the commit of its proposal. After a loss of leadership nobody knows whether it is committed.

use ottla_metadata::{Changes, Loader, MetadataImage, versions};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::{AbortTransactionRecord, MetadataRecord};

use crate::Settings;
use crate::active::{Active, Published};
use crate::quorum::{Quorum, QuorumEvent};
use crate::request::ControllerRequest;

/// A controller. `T` identifies the caller of a request.
#[derive(Debug)]
pub struct Member<T> {
    settings: Settings,
    committed: Loader,
    end: Offset,
    /// While this controller leads.
    active: Option<Active<T>>,
    /// Whether the first records of this leadership are proposed.
    has_begun: bool,
}

/// The outcome of a turn.
#[derive(Debug)]
pub struct Turn<T, E> {
    /// The commits, in order.
    pub published: Vec<Published<T>>,
    /// Callers that get no reply from this controller. They may ask again; what was proposed may still be committed.
    pub unanswered: Vec<T>,
    /// Why the proposal of this turn was refused.
    pub refused: Option<E>,
    /// Whether this controller leads now, if that has changed, or if it leads again after a loss.
    pub leads: Option<bool>,
}

impl<T> Member<T> {
    /// A controller that starts from the metadata of a log that ends at `end`. It does not lead yet.
    pub fn new(committed: Loader, end: Offset, settings: Settings) -> Self {
        Self {
            settings,
            committed,
            end,
            active: None,
            has_begun: false,
        }
    }

    /// The committed metadata.
    pub fn image(&self) -> &MetadataImage {
        self.committed.image()
    }

    /// Whether this controller leads, and the first records of its leadership are proposed.
    pub fn has_begun(&self) -> bool {
        self.active.is_some() && self.has_begun
    }

    /// Whether a proposal waits to be committed. The owner then collects further requests for the next one.
    pub fn is_proposing(&self) -> bool {
        self.active.as_ref().is_some_and(Active::is_proposing)
    }

    /// Takes over what has happened in the quorum, decides requests, as many as fit one proposal, and proposes their
    /// records. Without leadership all requests are taken, and none is answered.
    ///
    /// An error is the end of the log.
    pub fn turn<Q: Quorum>(
        &mut self,
        requests: impl IntoIterator<Item = (T, ControllerRequest)>,
        quorum: &mut Q,
    ) -> Result<Turn<T, Q::Error>, Q::Error> {
        let mut turn = Turn {
            published: Vec::new(),
            unanswered: Vec::new(),
            refused: None,
            leads: None,
        };
        self.take_events(quorum, &mut turn)?;
        self.begin(quorum, &mut turn)?;
        let mut requests = requests.into_iter().peekable();
        if requests.peek().is_none() {
            // Nothing is to be decided.
        } else if let Some(active) = self.active.as_mut().filter(|_| self.has_begun) {
            let proposal = active.decide(requests, quorum.next_offset());
            if proposal.records.is_empty() {
                turn.published.push(active.on_committed(self.end));
            } else {
                propose(active, quorum, &mut turn)?;
            }
        } else {
            turn.unanswered.extend(requests.map(|(caller, _)| caller));
        }
        self.take_events(quorum, &mut turn)?;
        quorum.on_applied(&self.committed)?;
        turn.published.retain(Published::is_news);
        Ok(turn)
    }

    fn take_events<Q: Quorum>(
        &mut self,
        quorum: &mut Q,
        turn: &mut Turn<T, Q::Error>,
    ) -> Result<(), Q::Error> {
        for event in quorum.events()? {
            match event {
                QuorumEvent::Committed { end, records } => {
                    turn.published.push(self.on_committed(end, &records));
                }
                QuorumEvent::Restored { end, image } => {
                    turn.published.push(self.on_restored(end, *image));
                }
                QuorumEvent::LeadershipGained => {
                    let image = self.image().clone();
                    self.active = Some(Active::new(image, self.settings.clone()));
                    self.has_begun = false;
                    turn.leads = Some(true);
                }
                QuorumEvent::LeadershipLost => {
                    let active = self.active.take();
                    let callers = active.map(|mut active| active.on_leadership_lost());
                    turn.unanswered.extend(callers.into_iter().flatten());
                    turn.leads = Some(false);
                }
            }
        }
        Ok(())
    }

    fn on_committed(&mut self, end: Offset, records: &[MetadataRecord]) -> Published<T> {
        self.end = end;
        let changes = self.committed.load(records);
        let answered = self.active.as_mut();
        let answered = answered.map(|active| active.on_committed(end));
        let metadata = (!records.is_empty()).then(|| (self.image().clone(), changes));
        Published {
            end,
            metadata,
            ..answered.unwrap_or_default()
        }
    }

    fn on_restored(&mut self, end: Offset, image: MetadataImage) -> Published<T> {
        self.end = end;
        let changes = Changes::between(self.image(), &image);
        self.committed = Loader::new(image.clone());
        Published {
            end,
            metadata: Some((image, changes)),
            ..Published::default()
        }
    }

    /// Proposes what a new leader writes first: the end of a transaction that the last leader left open, and the records
    /// that the quorum asks for. If those of a new cluster or that end are refused, nothing is decided, and they are
    /// proposed again.
    fn begin<Q: Quorum>(
        &mut self,
        quorum: &mut Q,
        turn: &mut Turn<T, Q::Error>,
    ) -> Result<(), Q::Error> {
        let Some(active) = self.active.as_mut().filter(|_| !self.has_begun) else {
            return Ok(());
        };
        let mut records: Vec<MetadataRecord> = Vec::new();
        if self.committed.in_transaction() {
            records.push(AbortTransactionRecord::default().into());
        }
        let image = self.committed.image();
        records.extend(quorum.first_records(image));
        let is_new = !image.features.contains_key(versions::FEATURE);
        if !records.is_empty() {
            active.propose(records, quorum.next_offset());
            propose(active, quorum, turn)?;
        }
        let must_begin = is_new || self.committed.in_transaction();
        self.has_begun = turn.refused.is_none() || !must_begin;
        Ok(())
    }
}

/// Hands the newest proposal of `active` to the quorum. If it is refused, it is dropped.
fn propose<T, Q: Quorum>(
    active: &mut Active<T>,
    quorum: &mut Q,
    turn: &mut Turn<T, Q::Error>,
) -> Result<(), Q::Error> {
    let proposal = active.newest().expect("it was made just now");
    let version = proposal.image.metadata_version();
    let Err(error) = quorum.propose(&proposal.records, version) else {
        return Ok(());
    };
    if Q::is_final(&error) {
        return Err(error);
    }
    turn.unanswered.extend(active.on_refused());
    turn.refused = Some(error);
    Ok(())
}

#[cfg(test)]
mod tests;

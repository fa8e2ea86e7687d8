//! The answers of one connection that are not ready yet, in the order of their requests.
//!
//! Invariants: replies leave in the order of their requests; a Produce may start while only Produces wait; any other request
//! starts only when nothing waits.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use ottla_protocol::messages::ApiKey;

use crate::context::RequestContext;
use crate::handlers::{Refused, Waiting};
use crate::reply::Reply;

/// A finished answer.
pub struct Answered {
    /// Whose answer it is.
    pub context: RequestContext,
    /// What to send, or why the connection ends.
    pub reply: Result<Reply, Refused>,
}

/// Answers of one connection.
#[derive(Default)]
pub struct Replies {
    waiting: VecDeque<Waiting>,
}

impl Replies {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a request of `api` may start now.
    pub fn admits(&self, api: ApiKey) -> bool {
        match self.waiting.back() {
            None => true,
            Some(last) => api == ApiKey::Produce && last.context.api == ApiKey::Produce,
        }
    }

    /// Adds an answer behind the others.
    pub fn push(&mut self, waiting: Waiting) {
        debug_assert!(
            self.admits(waiting.context.api),
            "a request started too early"
        );
        self.waiting.push_back(waiting);
    }

    /// Waits for the answer to the oldest request; for ever when no request waits.
    pub async fn next(&mut self) -> Answered {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The answer to the oldest request, if it is ready now. Otherwise the task is woken when it is.
    pub async fn ready(&mut self) -> Option<Answered> {
        poll_fn(|context| match self.poll_next(context) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Drops requests that may wait long. Called when the client has gone or the broker stops.
    pub fn abandon_long_waits(&mut self) {
        self.waiting.retain(|waiting| {
            !matches!(
                waiting.context.api,
                ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup
            )
        });
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Answered> {
        let Some(front) = self.waiting.front_mut() else {
            return Poll::Pending;
        };
        let Poll::Ready(reply) = front.answering.as_mut().poll(context) else {
            return Poll::Pending;
        };
        let done = self.waiting.pop_front().expect("the front was polled");
        Poll::Ready(Answered {
            context: done.context,
            reply,
        })
    }
}

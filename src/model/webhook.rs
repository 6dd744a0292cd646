//! Who is told of an order's end, at an address of their own.

use std::fmt;

use url::Url;

use super::{EventId, JobId};

/// One wish to be told of an order's end.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Webhook {
    /// Names the one event that is sent, however often it is tried.
    pub(crate) id: EventId,
    /// May carry secrets of its owner: not for logs beyond its origin.
    pub(crate) url: Url,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.id, self.url.origin().ascii_serialization())
    }
}

/// Whoever tells others that an order has ended.
pub(crate) trait CompletionListener: Send + Sync + fmt::Debug {
    /// An order has ended, and the journal knows; or it had, and the journal has learned of one more who wants to be
    /// told.
    fn ended(&self, job: JobId);
}

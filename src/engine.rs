//! The life of a prediction from accepted to settled, and who waits for it. It has never heard of HTTP status codes.

/// Where a request's uploads go before there is an order; the engine reads them back when it submits.
pub(crate) use crate::storage::spool::{PartWriter, Spool, SpoolError};

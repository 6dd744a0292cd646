//! What survives: the journal of purchases, the pictures that were bought, and for as long as a request lives its
//! uploads. Records and bytes, no policy.

pub(crate) mod spool;

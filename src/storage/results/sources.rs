//! Where the bytes of a picture are read: files that were checked, memory, and the journal. Declares only.

pub(super) mod checked;
pub(super) mod read_cache;
pub(super) mod recorded;

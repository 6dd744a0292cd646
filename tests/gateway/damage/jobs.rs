//! The jobs that the folder is prepared with.

use crate::harness::{ALICE, BOB, Edit, plain_picture};

/// A job as it was asked for, and what was bought for it.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    /// The request, and its repetition.
    pub(super) edit: Edit,
    /// Known to the older copy of the journal.
    pub(super) early: bool,
    pub(super) kind: Kind,
    /// The ids of its purchases at the upstream, and their pictures as the upstream has them.
    pub(super) upstream_ids: Vec<String>,
    pub(super) pictures: Vec<Vec<u8>>,
    /// Its address.
    pub(super) id: String,
    /// The signed address of its picture, where there is one.
    pub(super) url: String,
}

/// How a job was brought into its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its client has received it.
    Delivered,
    /// Its client was cut off before it was done.
    Unclaimed,
    /// Its client was to fetch it later, and has not.
    Later,
    /// Accepted, and not done when the gateway ended.
    UnderWay,
    /// The answer to its submit was lost.
    Unknown,
}

fn job(name: &'static str, key: &'static str, kind: Kind) -> Job {
    // Equal prompts and inputs make equal pictures at the simulator.
    let edit = Edit::bare(name).picture("image", plain_picture());
    let nothing = (Vec::new(), Vec::new(), String::new(), String::new());
    let (upstream_ids, pictures, id, url) = nothing;
    Job { name, key, edit, early: false, kind, upstream_ids, pictures, id, url }
}

impl Job {
    fn early(mut self) -> Self {
        self.early = true;
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.edit = self.edit.header(name, value);
        self
    }

    fn model(mut self, model: &str) -> Self {
        self.edit = self.edit.field("model", model);
        self
    }

    /// Two pictures, each a purchase of its own.
    fn several(mut self) -> Self {
        self.edit = self.edit.field("model", "gpt-image-2-plus").field("size", "1254x1254").field("n", "2");
        self.edit = self.edit.without("quality");
        self
    }

    fn prompt(mut self, prompt: &str) -> Self {
        self.edit = self.edit.field("prompt", prompt);
        self
    }

    /// Whether it has an idempotency key.
    pub(super) fn is_keyed(&self) -> bool {
        self.name.contains("keyed")
    }

    /// Whether its repetition fetches what was paid for, and so says that it is a retry.
    pub(super) fn is_private(&self) -> bool {
        self.name == "private"
    }
}

/// The name of the job with a large picture.
pub(super) const LARGE: &str = "large";
/// The model that makes it, and no other one.
pub(super) const LARGE_MODEL: &str = "gpt-image-1";
/// Bytes that the simulator adds to its pictures.
pub(super) const LARGE_PADDING: usize = 300_000;
/// The largest picture that the gateways keep in memory.
pub(super) const MEMORY_PICTURE_BYTES_MAX: &str = "200000";

/// All jobs, in the order in which they are made; the early ones first.
pub(super) fn all() -> Vec<Job> {
    vec![
        job("delivered", ALICE, Kind::Delivered).early(),
        // The same picture as above, for another client.
        job("equal", BOB, Kind::Delivered).early().prompt("delivered"),
        job("keyed", ALICE, Kind::Delivered).early().header("idempotency-key", "key-of-keyed"),
        job(LARGE, ALICE, Kind::Delivered).early().model(LARGE_MODEL),
        job("several", ALICE, Kind::Delivered).early().several(),
        job("unclaimed", ALICE, Kind::Unclaimed).early(),
        job("other client", BOB, Kind::Delivered),
        job("late", ALICE, Kind::Delivered),
        job("late keyed", BOB, Kind::Delivered).header("idempotency-key", "key-of-late"),
        job("late unclaimed", BOB, Kind::Unclaimed),
        job("to be fetched", ALICE, Kind::Later),
        // With the counter of a retry, because an equal request is meant to buy.
        job("private", ALICE, Kind::Delivered).header("cache-control", "no-store"),
        job("unknown", ALICE, Kind::Unknown),
        job("under way", ALICE, Kind::UnderWay),
        job("keyed under way", BOB, Kind::UnderWay).header("idempotency-key", "key-under-way"),
    ]
}

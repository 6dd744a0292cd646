//! Arguments of `ledger`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::time_arg::{DurationArg, TimeArg, ZoneArg};

/// What to do with the ledger.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List purchases and what they cost, newest last
    ///
    /// PRICE: ~ by estimate, because the upstream reported no tokens; ? possibly spent; - nothing bought.
    List(List),
    /// Show everything that the journal knows of a job or a purchase
    Show {
        /// A job (pred_…), a purchase (pred_….0), or the upstream's id
        id: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Record whether a purchase of unknown outcome was bought
    ///
    /// The response to its submit was lost. The gateway never repeats such a submit, and refuses the same request for a
    /// while. Each of the three decisions ends that: the same request, sent again, may buy.
    Resolve {
        /// The purchase (pred_….0), or its job when only one of its purchases is unknown
        id: String,
        decision: Decision,
    },
    /// Compare the ledger with a usage export of the vendor's dashboard
    ///
    /// Reads CSV with a header, or JSON lines. Columns are found by name: a time or an id, and optionally a model and a
    /// cost in US dollars. Exits 1 when the two differ.
    Reconcile(Reconcile),
    /// Compare the journal with the stored pictures, and report what does not fit
    ///
    /// Reads every stored picture. Changes nothing without --repair, and works while a gateway runs. Exit codes: 0 everything
    /// fits, 1 something does not or could not be repaired, 2 not carried out.
    Verify(Verify),
}

/// How to verify.
#[derive(Args, Clone, Copy, Debug)]
pub struct Verify {
    /// Fetch missing and damaged pictures again from the upstream, which costs nothing, and bring orphans back; no gateway
    /// may run
    #[arg(long)]
    pub repair: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Which purchases to list.
#[derive(Args, Debug)]
pub struct List {
    /// Only purchases in this state, or in one of several with commas between: failed,unknown
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = ["intent", "committing", "accepted", "resolved", "failed", "unknown"]
    )]
    pub(super) state: Vec<String>,
    /// Only purchases of this client
    #[arg(long, value_name = "NAME")]
    pub(super) client: Option<String>,
    /// Only jobs created since this time: 2026-11-21, 2026-11-21T10:00Z, or an age such as 2h or 7d
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<TimeArg>,
    /// Only jobs created before this time
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<TimeArg>,
    /// How many to list, the newest; 0: all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) limit: usize,
    /// Print one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// What to compare with.
#[derive(Args, Debug)]
pub struct Reconcile {
    /// The export
    pub(super) file: PathBuf,
    /// Start of the period that the export covers [default: its first line]
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<TimeArg>,
    /// End of the period that the export covers [default: its last line]
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<TimeArg>,
    /// The greatest difference between the two clocks
    #[arg(long, value_name = "DURATION", default_value = "120s")]
    pub(super) slack: DurationArg,
    /// The zone of times in the export that name none, such as +08:00
    #[arg(long, value_name = "OFFSET", default_value = "UTC", allow_hyphen_values = true)]
    pub(super) zone: ZoneArg,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Whether a purchase of unknown outcome was bought.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Decision {
    /// It was never bought
    Lost,
    /// It was bought, and its picture cannot be fetched
    Bought,
    /// It is unclear; buy again, even if that pays twice
    Resubmit,
}

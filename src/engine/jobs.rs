//! The jobs that are under way, in memory: one lock, held for a few steps and never over an await.
//!
//! - [`Jobs`] and its operations: listing and joining (`table`), single purchases (`purchases`), the owner's view
//!   (`owner`).
//! - One live job (`live`), one purchase of it (`purchase_state`), what waiters see of it (`progress`).
//! - Decisions without state: what follows a submit, a poll or a fetch (`transitions`), and how a job has ended
//!   (`outcome`).

mod live;
pub(super) mod outcome;
mod owner;
mod progress;
mod purchase_state;
mod purchases;
mod request;
mod table;
pub(super) mod transitions;

pub(super) use live::{Joined, KeepAlive, StartTimes, WaiterSlot};
pub(crate) use owner::CancelOutcome;
pub(super) use owner::{LiveView, OpenPurchase};
pub(crate) use progress::JobStage;
pub(super) use progress::Progress;
pub(super) use purchase_state::{AcceptedPurchase, PurchaseEnd, PurchaseState};
pub(crate) use request::{JobRequest, WaitMode};
pub(super) use table::{Jobs, ListOutcome};

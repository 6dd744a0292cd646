//! The words of the domain as plain values, valid by construction. No I/O, nothing of ours, no framework.

pub(crate) mod catalogue;
pub(crate) mod chance;
pub(crate) mod clock;
pub(crate) mod fingerprint;
pub(crate) mod host;
pub(crate) mod ids;
pub(crate) mod money;
pub(crate) mod outcome;
pub(crate) mod picture;
pub(crate) mod quota;
pub(crate) mod request;
pub(crate) mod route;
pub(crate) mod webhook;

pub(crate) use catalogue::{Capability, Catalogue, Face, Model, Terms};
pub(crate) use chance::Chance;
pub(crate) use clock::{Clock, SystemClock, Timestamp};
pub(crate) use fingerprint::{Digest, Fingerprint};
pub(crate) use host::{HostName, HostRule};
pub(crate) use ids::{AccountId, ClientId, EventId, IdempotencyKey, OrderId, PredictionId, UpstreamId};
pub(crate) use money::{Price, Usage, Usd};
pub(crate) use outcome::{Delivery, Failure, Part, StoredPicture};
pub(crate) use picture::{Format, Picture, Source};
pub(crate) use quota::{Expense, Limit, OverLimit, QuotaHold, Quotas};
pub(crate) use request::{Input, PictureRequest, Size, Task};
pub(crate) use route::Route;
pub(crate) use webhook::{Notices, Webhook};

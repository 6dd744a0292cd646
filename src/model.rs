//! The words of the domain as plain values, valid by construction. No I/O, nothing of ours, no framework.

pub(crate) mod api_kind;
pub(crate) mod catalogue;
pub(crate) mod clock;
pub(crate) mod fingerprint;
pub(crate) mod host;
pub(crate) mod ids;
pub(crate) mod money;
pub(crate) mod outcome;
pub(crate) mod picture;
pub(crate) mod quota;
pub(crate) mod request;
pub(crate) mod rng;
pub(crate) mod webhook;

pub(crate) use api_kind::ApiKind;
pub(crate) use catalogue::{Capabilities, Catalogue, Model, TaskSpec, UpstreamApi};
pub(crate) use clock::{Clock, SystemClock, Timestamp};
pub(crate) use fingerprint::{Digest, Fingerprint};
pub(crate) use host::{HostName, HostRule};
pub(crate) use ids::{AccountId, ClientId, EventId, IdempotencyKey, JobId, ModelId, PurchaseId, UpstreamId};
pub(crate) use money::{Price, Usage, Usd};
pub(crate) use outcome::{Failure, JobResult, PurchaseResult, StoredPicture};
pub(crate) use picture::{ByteSource, Format, Picture};
pub(crate) use quota::{CostEstimate, Limit, LimitExceeded, QuotaHold, Quotas};
pub(crate) use request::{Input, PictureRequest, Size, Task};
pub(crate) use rng::Rng;
pub(crate) use webhook::{CompletionListener, Webhook};

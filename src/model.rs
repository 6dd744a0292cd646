//! The terms of the domain as plain values, valid by construction. No I/O, no other module of the gateway, no framework.

pub(crate) mod catalogue;
mod environment;
mod host;
mod ids;
mod money;
mod outcome;
pub(crate) mod picture;
mod quota;
mod request;

pub(crate) use catalogue::{Capabilities, Catalogue, Choice, Model, SizeRule, TaskSpec, UpstreamApi};
pub(crate) use environment::{Clock, Current, Rng, RunningTime, SystemClock, Timestamp, parse_duration};
pub(crate) use host::{AddressClass, HostName, HostRule, behind_nat64, unreachable_from_outside};
pub(crate) use ids::{
    AccountId, ClientId, Digest, EventId, IdempotencyKey, JobId, KeyId, ModelId, PurchaseId, UpstreamId,
};
pub(crate) use money::{Cost, PictureTerms, Usage, Usd};
pub(crate) use outcome::{
    CompletionListener, Failure, JobResult, MissingPictures, PurchaseResult, StoredPicture, UnattendedFailure, Webhook,
};
pub(crate) use picture::{ByteSource, Format, Picture};
pub(crate) use quota::{CostEstimate, Credential, Limit, LimitExceeded, QuotaHold, Quotas};
pub(crate) use request::{ApiKind, Choices, Fingerprint, Input, PictureRequest, Size, Task};

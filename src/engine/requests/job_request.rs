//! What a client asks for.

use std::sync::Arc;

use tokio::time::Instant;

use crate::model::{ClientId, Credential, IdempotencyKey, PictureRequest, Webhook};

/// A validated request of a client, with its inputs spooled.
#[derive(Debug)]
pub(crate) struct JobRequest {
    pub(crate) client: ClientId,
    /// Nothing is submitted once it has ended; `None` for a purchase of the gateway's own.
    pub(crate) credential: Option<Arc<dyn Credential>>,
    pub(crate) request: PictureRequest,
    /// The client refuses an earlier result (`Cache-Control: no-cache`).
    pub(crate) fresh: bool,
    /// The result must not answer later requests (`Cache-Control: no-store`).
    pub(crate) private: bool,
    /// The SDK reports that this is a retry.
    pub(crate) is_retry: bool,
    /// The client's own name for what it intends to buy once.
    pub(crate) key: Option<IdempotencyKey>,
    /// The response deadline: when the client is answered at the latest.
    pub(crate) until: Instant,
    pub(crate) wait_mode: WaitMode,
    /// The address that is notified when the job ends.
    pub(crate) webhook: Option<Webhook>,
}

/// How a client waits for its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// It waits on its connection, and no longer needs the job once the connection is closed.
    Connected,
    /// It fetches the result later: the job is needed although the client is not connected.
    Away,
}

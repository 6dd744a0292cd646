//! The key that a request came with, as long as what was begun with it goes on.

use tokio_util::sync::CancellationToken;

use crate::model::Credential;

/// Whether a key is valid, by what was known at the last change or expiry. Once it has ended it does not come back: the same
/// key, listed again, is another one.
#[derive(Debug, Default)]
pub(crate) struct KeyCredential {
    ended: CancellationToken,
}

impl KeyCredential {
    /// Waits until the key is revoked or expires.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

impl Credential for KeyCredential {
    fn is_valid(&self) -> bool {
        !self.ended.is_cancelled()
    }
}

//! Reading of a stored text: it blocks unless the text is in memory, and decoding a long one takes a while.

use crate::api::error::ApiError;
use crate::model::ByteSource;

/// Longest text that is read on the asynchronous thread, in bytes: handing it to another thread would take longer.
const INLINE_BYTES: usize = 64 * 1024;

/// Calls `read`, which reads this text, off the asynchronous threads unless the text is short and in memory.
///
/// # Errors
///
/// [`ApiError::Internal`] where `read` panicked on another thread.
pub(super) async fn read_stored<T: Send + 'static>(
    text: &dyn ByteSource,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if text.in_memory().is_some_and(|text| text.len() <= INLINE_BYTES) {
        return Ok(read());
    }
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| ApiError::internal(format!("reading a text failed: {error}")))
}

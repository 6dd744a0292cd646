//! HTTP bodies of both directions: requests to the upstream and responses to clients.

mod streaming_body;

pub(crate) use streaming_body::StreamingBody;

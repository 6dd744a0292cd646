//! HTTP bodies of both directions: requests to the upstream and responses to clients.

pub(crate) mod gateway_headers;
pub(crate) mod header;

mod streaming_body;

pub(crate) use streaming_body::StreamingBody;

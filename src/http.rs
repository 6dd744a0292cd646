//! Pieces of HTTP that both directions share: bodies that stream pictures, header values with parameters, and the names of
//! the gateway's own headers.

pub(crate) mod gateway_headers;
pub(crate) mod header;
pub(crate) mod page_headers;

mod streaming_body;

pub(crate) use streaming_body::StreamingBody;

//! What both sides of the wire share: bodies with pictures in them, made as they leave.

pub(crate) mod gateway_headers;
pub(crate) mod header;

mod streaming_body;

pub(crate) use streaming_body::StreamingBody;

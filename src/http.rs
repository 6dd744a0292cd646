//! What both sides of the wire share: bodies with pictures in them, made as they leave.

mod streaming_body;

pub(crate) use streaming_body::StreamingBody;

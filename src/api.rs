//! The client face: OpenAI's image API. Reads requests at the edge, hands valid ones inward, and words every answer.

#![cfg_attr(
    not(test),
    expect(dead_code, reason = "the handlers that call this are not there yet")
)]

mod base64;
mod body;
mod error;
mod form;
mod header;
mod intake;
mod json_body;
mod models;
mod multipart;
mod validate;

//! Responses to connections over a limit.

use bytes::Bytes;

use crate::server::accept::Refusals;

/// Returns the responses, as OpenAI's error object.
pub(super) fn connection_refusals() -> Refusals {
    Refusals {
        connections: http1(
            "too_many_connections",
            "This gateway has reached its limit of connections. Nothing was bought; retry after 5 seconds.",
        ),
        per_address: http1(
            "too_many_connections_of_address",
            "Your address has reached its limit of connections to this gateway. Nothing was bought; retry after 5 seconds.",
        ),
    }
}

fn http1(code: &str, message: &str) -> Bytes {
    let error = serde_json::json!({
        "error": {"message": message, "type": "service_unavailable_error", "param": null, "code": code}
    });
    let body = error.to_string();
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n\
                x-should-retry: true\r\nconnection: close\r\ncontent-length";
    format!("{head}: {}\r\n\r\n{body}", body.len()).into()
}

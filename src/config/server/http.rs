//! Ranges of the keys about HTTP/1.1, HTTP/2 and the time that a connection may take.

use std::time::Duration;

use super::{Error, ServerConfig, invalid};

/// The smallest buffer that the HTTP library takes.
const HEADER_BYTES_MIN: usize = 8192;
/// The largest window of HTTP/2 (RFC 9113 §6.9.1).
const WINDOW_MAX: u32 = (1 << 31) - 1;

impl ServerConfig {
    pub(super) fn check_http(&self) -> Result<(), Error> {
        for (key, value) in [
            ("header_timeout_s", self.header_timeout),
            ("keep_alive_timeout_s", self.keep_alive_timeout),
            ("write_timeout_s", self.write_timeout),
            ("http2_ping_interval_s", self.http2_ping_interval),
            ("http2_ping_timeout_s", self.http2_ping_timeout),
            ("body_rate_window_s", self.body_rate_window),
        ] {
            if value < Duration::from_secs(1) {
                return Err(invalid(key, "must be at least 1"));
            }
        }
        if self.header_bytes_max < HEADER_BYTES_MIN {
            return Err(invalid("header_bytes_max", format!("must be at least {HEADER_BYTES_MIN}")));
        }
        for (key, bytes) in [
            ("http2_stream_window_bytes", self.http2_stream_window_bytes),
            ("http2_connection_window_bytes", self.http2_connection_window_bytes),
        ] {
            if !(1..=WINDOW_MAX).contains(&bytes) {
                return Err(invalid(key, format!("must be from 1 to {WINDOW_MAX}")));
            }
        }
        for (key, count) in [
            ("headers_max", self.headers_max),
            ("http2_streams_max", self.http2_streams_max as usize),
            ("http2_header_bytes_max", self.http2_header_bytes_max as usize),
            ("http2_send_buffer_bytes", self.http2_send_buffer_bytes),
        ] {
            if count == 0 {
                return Err(invalid(key, "must be at least 1"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::refusal;

    #[test]
    fn values_out_of_range_name_the_key_and_the_range() {
        for (line, expected) in [
            ("header_timeout_s = 0", "server.header_timeout_s: must be at least 1"),
            ("body_rate_window_s = 0", "server.body_rate_window_s: must be at least 1"),
            ("header_bytes_max = 100", "server.header_bytes_max: must be at least 8192"),
            (
                "http2_stream_window_bytes = 3000000000",
                "server.http2_stream_window_bytes: must be from 1 to 2147483647",
            ),
            ("headers_max = 0", "server.headers_max: must be at least 1"),
        ] {
            assert_eq!(refusal(&format!("[server]\n{line}"), &[]), expected);
        }
    }
}

//! How a client is kept connected while its pictures are made, which takes minutes: something on the way may time out.
//!
//! | mode         | when                                             | sent meanwhile              | a failure is            |
//! |--------------|--------------------------------------------------|-----------------------------|-------------------------|
//! | `Events`     | `stream: true`                                   | comments between the events | a status, and an event once the stream has begun |
//! | `Interim`    | `server.interim_responses`, clients that know it | `102 Processing`            | a status                |
//! | `PaddedJson` | `server.json_heartbeat_s`                        | 200, then white space       | a status, and a broken connection once it has begun |
//! | `Async`      | `Prefer: respond-async`, without `stream`        | nothing, for at most `wait` seconds | a status, or in the prediction |
//! | `Plain`      | otherwise                                        | nothing                     | a status                |

use std::time::Duration;

use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, Version};

use crate::api::request::prefer::Preferences;
use crate::api::request::response_options::ResponseOptions;
use crate::config::{HeartbeatConfig, InterimResponses};

/// How a request waits, with the interval of its heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseMode {
    Plain,
    Interim(Duration),
    PaddedJson(Duration),
    Events(Duration),
    /// A 202 with the address of the job, unless the result comes within this time.
    Async(Duration),
}

impl ResponseMode {
    /// Chooses the mode of a request.
    pub(crate) fn of(
        options: &ResponseOptions,
        preferences: Preferences,
        headers: &HeaderMap,
        version: Version,
        heartbeats: &HeartbeatConfig,
    ) -> Self {
        if options.stream {
            Self::Events(heartbeats.stream_heartbeat)
        } else if let Preferences { respond_async: true, wait } = preferences {
            Self::Async(wait.unwrap_or_default())
        } else if heartbeats.interim_responses == InterimResponses::KnownClients
            && version == Version::HTTP_11
            && is_listed(headers, &heartbeats.interim_clients)
        {
            Self::Interim(heartbeats.interim_interval)
        } else {
            heartbeats.json_heartbeat.map_or(Self::Plain, Self::PaddedJson)
        }
    }

    /// Returns the longest time without a byte.
    pub(crate) fn heartbeat(self) -> Option<Duration> {
        match self {
            Self::Plain | Self::Async(_) => None,
            Self::Interim(interval) | Self::PaddedJson(interval) | Self::Events(interval) => Some(interval),
        }
    }
}

fn is_listed(headers: &HeaderMap, listed: &[String]) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    agent.split(' ').any(|word| listed.iter().any(|start| word.starts_with(start.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::response_options::ResponseFormat;
    use crate::api::request::test_support::server;

    #[test]
    fn only_known_clients_are_sent_interim_responses() {
        let mut heartbeats = server().heartbeats;
        let plain = ResponseOptions {
            response_format: ResponseFormat::B64Json,
            conversion: None,
            stream: false,
            user: None,
            safety_identifier: None,
        };
        let mode = |heartbeats: &HeartbeatConfig, agent: &str, version| {
            let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
            ResponseMode::of(&plain, Preferences::default(), &headers, version, heartbeats)
        };
        assert_eq!(mode(&heartbeats, "OpenAI/Python 3.51.0", Version::HTTP_11), ResponseMode::Plain, "off by default");
        heartbeats.interim_responses = InterimResponses::KnownClients;
        for known in [
            "OpenAI/Python 3.51.0",
            "AsyncOpenAI/Python 3.51.0",
            "OpenAI/JS 7.55.0",
            "ai/7.0.173 ai-sdk/provider-utils/5 runtime/node.js/22",
            "Python/3.11 aiohttp/3.14.0",
            "litellm/1.106.2",
        ] {
            let interim = ResponseMode::Interim(heartbeats.interim_interval);
            assert_eq!(mode(&heartbeats, known, Version::HTTP_11), interim, "{known}");
            assert_eq!(mode(&heartbeats, known, Version::HTTP_10), ResponseMode::Plain, "{known}");
            assert_eq!(mode(&heartbeats, known, Version::HTTP_2), ResponseMode::Plain, "{known}");
        }
        for unknown in ["python-requests/2.32", "Python-urllib/3.11", "", "curl/7.88.1", "mail/1 xOpenAI/1"] {
            assert_eq!(mode(&heartbeats, unknown, Version::HTTP_11), ResponseMode::Plain, "{unknown}");
        }
        let heartbeat = Duration::from_secs(20);
        heartbeats.json_heartbeat = Some(heartbeat);
        assert_eq!(mode(&heartbeats, "curl/7.88.1", Version::HTTP_11), ResponseMode::PaddedJson(heartbeat));
    }
}

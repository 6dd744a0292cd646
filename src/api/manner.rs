//! How a client is kept while its pictures are made: an answer takes minutes, and something on the way may not wait.
//!
//! | manner    | when                                                | seen meanwhile              | a failure is            |
//! |-----------|-----------------------------------------------------|-----------------------------|-------------------------|
//! | `Events`  | `stream: true`                                      | comments between the events | a status, and an event once the stream has begun |
//! | `Interim` | `server.interim_responses`, clients that know it    | `102 Processing`            | a status                |
//! | `Spaces`  | `server.json_heartbeat_s`                           | 200, then white space       | a status, and a broken connection once it has begun |
//! | `Later`   | `Prefer: respond-async`, without `stream`            | nothing, or no more than `wait` seconds of it | a status, or in the prediction |
//! | `Silent`  | otherwise                                           | nothing                     | a status                |

use std::time::Duration;

use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, Version};

use super::prefer::Preferences;
use super::validate::Presentation;
use crate::config::{InterimResponses, ServerConfig};

/// How an answer is waited for, with the time between two signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Silent,
    Interim(Duration),
    Spaces(Duration),
    Events(Duration),
    /// Answered at once, or after so long, that the work has begun.
    Later(Duration),
}

impl Manner {
    pub(super) fn of(
        presentation: &Presentation,
        headers: &HeaderMap,
        version: Version,
        server: &ServerConfig,
    ) -> Self {
        if presentation.stream {
            Self::Events(server.stream_heartbeat)
        } else if let Preferences { respond_async: true, wait } = Preferences::of(headers) {
            Self::Later(wait.unwrap_or_default())
        } else if server.interim_responses == InterimResponses::KnownClients
            && version == Version::HTTP_11
            && is_listed(headers, &server.interim_clients)
        {
            Self::Interim(server.interim_interval)
        } else {
            server.json_heartbeat.map_or(Self::Silent, Self::Spaces)
        }
    }

    /// The longest time without a byte.
    pub(super) fn heartbeat(self) -> Option<Duration> {
        match self {
            Self::Silent | Self::Later(_) => None,
            Self::Interim(every) | Self::Spaces(every) | Self::Events(every) => Some(every),
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
    use crate::api::validate::ResponseFormat;
    use crate::config::{Config, Environment};

    #[test]
    fn only_known_clients_are_sent_interim_answers() {
        let mut server = Config::load(None, &Environment::new()).unwrap().server;
        let plain = Presentation {
            response_format: ResponseFormat::B64Json,
            conversion: None,
            stream: false,
            user: None,
            safety_identifier: None,
        };
        let manner = |server: &ServerConfig, agent: &str, version| {
            let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
            Manner::of(&plain, &headers, version, server)
        };
        assert_eq!(manner(&server, "OpenAI/Python 3.51.0", Version::HTTP_11), Manner::Silent, "off by default");
        server.interim_responses = InterimResponses::KnownClients;
        for known in [
            "OpenAI/Python 3.51.0",
            "AsyncOpenAI/Python 3.51.0",
            "OpenAI/JS 7.55.0",
            "ai/7.0.173 ai-sdk/provider-utils/5 runtime/node.js/22",
            "Python/3.11 aiohttp/3.14.0",
            "litellm/1.106.2",
        ] {
            assert_eq!(manner(&server, known, Version::HTTP_11), Manner::Interim(server.interim_interval), "{known}");
            assert_eq!(manner(&server, known, Version::HTTP_10), Manner::Silent, "{known}");
            assert_eq!(manner(&server, known, Version::HTTP_2), Manner::Silent, "{known}");
        }
        for unknown in ["python-requests/2.32", "Python-urllib/3.11", "", "curl/7.88.1", "mail/1 xOpenAI/1"] {
            assert_eq!(manner(&server, unknown, Version::HTTP_11), Manner::Silent, "{unknown}");
        }
        server.json_heartbeat = Some(Duration::from_secs(20));
        assert_eq!(manner(&server, "curl/7.88.1", Version::HTTP_11), Manner::Spaces(Duration::from_secs(20)));
    }
}

//! The event and its signature (<https://www.standardwebhooks.com>, as `OpenAI` signs its own).
//!
//! The event only names the job that has ended; the client requests the result with its key.

use base64_simd::STANDARD;
use ring::hmac;
use serde::Serialize;

use crate::config::SigningSecret;
use crate::model::Timestamp;
use crate::storage::journal::PendingWebhook;

#[derive(Debug, Serialize)]
struct Event {
    id: String,
    object: &'static str,
    /// When the job ended, in seconds.
    created_at: i64,
    r#type: &'static str,
    data: Data,
}

#[derive(Debug, Serialize)]
struct Data {
    /// The job's id, for `GET /v1/predictions/{id}`.
    id: String,
}

/// Returns the body that is posted, the same bytes at every attempt.
pub(super) fn body(pending: &PendingWebhook) -> String {
    let event = Event {
        id: pending.webhook.id.to_string(),
        object: "event",
        created_at: pending.end.at.seconds(),
        r#type: if pending.end.completed { "image.prediction.completed" } else { "image.prediction.failed" },
        data: Data { id: pending.job.to_string() },
    };
    serde_json::to_string(&event).expect("the event is valid JSON")
}

/// Signs events.
#[derive(Debug)]
pub(super) struct Signer {
    key: hmac::Key,
}

impl Signer {
    pub(super) fn new(secret: &SigningSecret) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret.expose()) }
    }

    /// Returns the value of `webhook-signature` for an attempt at `now`: receivers reject one that is minutes old.
    pub(super) fn sign(&self, id: &str, now: Timestamp, body: &str) -> String {
        let signed = format!("{id}.{}.{body}", now.seconds());
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("v1,{}", STANDARD.encode_to_string(tag.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::model::{EventId, JobId, Webhook};
    use crate::storage::journal::JobEnd;

    const NOW: Timestamp = Timestamp::from_millis(1_614_265_330_500);

    #[test]
    fn a_signature_equals_that_of_the_reference_libraries() {
        let variables = [
            ("GATEWAY_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("GATEWAY_WEBHOOKS__ALLOWED_ORIGINS", "https://x.test"),
        ];
        let environment: Environment =
            variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let allowed = Config::load(None, &environment).unwrap().webhooks.allowed.unwrap();
        let signature =
            Signer::new(&allowed.secret).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, r#"{"test": 2432232314}"#);
        // Their example.
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_event_contains_only_the_job_and_its_end() {
        let pending = |completed| PendingWebhook {
            webhook: Webhook { id: EventId::new(NOW, 7), url: "https://x.test/?secret".parse().unwrap() },
            job: JobId::new(NOW, 8),
            tries: 0,
            due: None,
            end: JobEnd { completed, at: NOW },
        };
        insta::assert_snapshot!(
            body(&pending(true)),
            @r#"{"id":"evt_01ezcvcat40000000000000007","object":"event","created_at":1614265330,"type":"image.prediction.completed","data":{"id":"pred_01ezcvcat40000000000000008"}}"#
        );
        assert!(body(&pending(false)).contains(r#""type":"image.prediction.failed""#));
    }
}

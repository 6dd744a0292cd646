//! Single calls that the engine never makes: what `check` asks the service, without buying.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

use super::metrics::CallKind;
use super::observer::outline;
use super::{Exchange, ReceivedBody, date, describe};
use crate::model::{AccountId, Timestamp};
use crate::upstream::answer::edge_page::EdgePage;
use crate::upstream::answer::error_text::message_of;
use crate::upstream::formats::AuthStyle;

/// The answer to a query.
#[derive(Clone, Debug)]
pub(crate) struct QueryAnswer {
    pub(crate) status: u16,
    /// The time of the upstream's clock, where the answer has one.
    pub(crate) time: Option<Timestamp>,
    ray: Option<String>,
    mitigated: bool,
    body: Bytes,
}

/// A refusal by the edge in front of the service, which the service has not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EdgeRefusal {
    /// The edge's error code, such as 1010.
    pub(crate) code: Option<u16>,
    /// The edge's id of the exchange, which its support asks for.
    pub(crate) ray: Option<String>,
}

impl QueryAnswer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the text of an error of the service.
    pub(crate) fn message(&self) -> Option<String> {
        message_of(&self.body)
    }

    /// Returns the body, where it is JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Returns the body with every long text cut, as observations have it.
    pub(crate) fn json_outline(&self) -> Value {
        outline(&self.body)
    }

    /// Returns the status that the service tells: that of HTTP, or the code of an error that comes as JSON under 200. `None` where a
    /// proxy or a login page of the network has answered in its place: by a redirect, or by what is no JSON.
    pub(crate) fn told_status(&self) -> Option<u16> {
        match self.status {
            200..=299 => {
                let json = self.json()?;
                let code = json.get("code").or_else(|| json.pointer("/error/code"));
                let code = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
                let code = code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
                Some(code.unwrap_or(self.status))
            }
            300..=399 => None,
            status => Some(status),
        }
    }

    /// Returns whether the edge answered in place of the service. That the service is behind an edge (`server:
    /// cloudflare`) proves nothing.
    pub(crate) fn edge_refusal(&self) -> Option<EdgeRefusal> {
        if self.is_success() {
            return None;
        }
        let page = EdgePage::of(&self.body, self.mitigated)?;
        Some(EdgeRefusal { code: page.code, ray: self.ray.clone() })
    }
}

impl Exchange {
    /// Returns the hosts of results that the service names, and whether pictures may be downloaded from them.
    pub(in crate::upstream) async fn check_result_hosts(&self) -> (&'static [&'static str], Result<(), String>) {
        let hosts = &self.clients.result_hosts;
        (hosts.names(), hosts.check().await)
    }

    /// Sends a call with an account's key written in one style; with a body it is a POST of JSON.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub(in crate::upstream) async fn query(
        &self,
        account: &AccountId,
        auth: AuthStyle,
        path: &str,
        body: Option<&'static str>,
    ) -> Result<QueryAnswer, String> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut call = self.clients.of(account).request(method, self.at(path), auth);
        if let Some(body) = body {
            call = call.header(CONTENT_TYPE, "application/json").body(body);
        }
        let counted = self.metrics.begin(CallKind::Question);
        let response = call.send().await.map_err(|error| describe(&error))?;
        counted.answered(response.status());
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let ReceivedBody { body, broken, .. } = self.memory.receive(response, self.answer_limits).await;
        if let Some(problem) = broken {
            return Err(problem);
        }
        Ok(QueryAnswer {
            status,
            time: date(&headers),
            ray: text(&headers, "cf-ray"),
            mitigated: headers.contains_key("cf-mitigated"),
            body: body.freeze(),
        })
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, mitigated: bool, body: &'static str) -> QueryAnswer {
        QueryAnswer {
            status,
            time: None,
            ray: Some("ray".to_owned()),
            mitigated,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn an_error_under_200_is_one_and_a_page_of_the_network_is_not_the_service() {
        for (status, body, told) in [
            (200, r#"{"object":"list","data":[]}"#, Some(200)),
            (200, "[]", Some(200)),
            (200, r#"{"code":200,"message":"success","data":[]}"#, Some(200)),
            (200, r#"{"code":401,"message":"Token cannot be empty"}"#, Some(401)),
            (200, r#"{"code":"403","message":"no"}"#, Some(403)),
            (200, r#"{"error":{"code":500,"message":"busy"}}"#, Some(500)),
            (200, "<html>Welcome to Hotel Wifi</html>", None),
            (200, "", None),
            (302, "", None),
            (401, "<html>no</html>", Some(401)),
            (500, "", Some(500)),
        ] {
            assert_eq!(answer(status, false, body).told_status(), told, "{status} {body}");
        }
    }

    #[test]
    fn only_a_page_of_the_edge_is_one() {
        let refused = "<title>Access denied | gptproto.com used Cloudflare to restrict access</title> Error 1010";
        let page = |code| Some(EdgeRefusal { code, ray: Some("ray".to_owned()) });
        assert_eq!(answer(403, false, refused).edge_refusal(), page(Some(1010)));
        assert_eq!(answer(403, true, "<html>Just a moment</html>").edge_refusal(), page(None));
        for (status, body) in [
            (403, r#"{"error":{"message":"cloudflare says 1010"}}"#),
            (403, "<html>forbidden 1010</html>"),
            (502, "<html>cloudflare 502 bad gateway</html>"),
            (200, refused),
        ] {
            assert_eq!(answer(status, false, body).edge_refusal(), None, "{status} {body}");
        }
    }
}

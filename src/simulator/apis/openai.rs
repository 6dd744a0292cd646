//! The OpenAI API: `POST /v1/images/generations` and `/v1/images/edits`.
//!
//! A call buys one prediction, which is counted, charged and limited like any other, and is answered when the pictures
//! are done. A client that disconnects earlier has paid and loses the pictures, because there is no id to poll.
//! With `stream`, the answer is a stream of events, and begins at once.
//! The parameters are exactly those of the vendor's table, which differ between plain and -plus models.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answers::{OutputForm, failure, output_count, outputs, usage};
use super::submit::{SubmitApi, blocking, check_json, is_media_type, sent_json, submit};
use crate::simulator::rules::errors::{Refusal, page};
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::{Api, Background, Capability, Quality};
use crate::simulator::scenario::{DataPrefix, Format, Outcome, Scenario, UsagePlace};
use crate::simulator::world::clock::Now;
use crate::simulator::world::counters::SentBody;
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;

pub(crate) mod read;
mod stream;

/// `POST /v1/images/generations`
pub(crate) async fn generate(State(simulator): State<Simulator>, request: Request) -> Response {
    submit(&simulator, OpenAiApi(Capability::TextToImage), request).await
}

/// `POST /v1/images/edits`
pub(crate) async fn edit(State(simulator): State<Simulator>, request: Request) -> Response {
    submit(&simulator, OpenAiApi(Capability::ImageEdit), request).await
}

/// The OpenAI API, with the capability of the route.
struct OpenAiApi(Capability);

impl SubmitApi for OpenAiApi {
    const API: Api = Api::OpenAi;

    async fn sent(content_type: &str, body: Bytes) -> SentBody {
        match read::MultipartForm::parse(content_type, body.clone()).await {
            Ok(form) => form.sent(),
            Err(_) => sent_json(&body),
        }
    }

    async fn read(self, content_type: &str, body: Bytes, scenario: &Arc<Scenario>) -> Result<PictureRequest, Refusal> {
        let scenario = Arc::clone(scenario);
        if self.0 == Capability::ImageEdit && is_media_type(content_type, "multipart/form-data") {
            let form = read::MultipartForm::parse(content_type, body).await?;
            return blocking(move || read::read_form(form, &scenario)).await;
        }
        check_json(content_type)?;
        blocking(move || read::read_json(self.0, &body, &scenario)).await
    }

    /// Waits for the pictures, unless the edge cuts the call first.
    async fn answer(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Response {
        if let Some(partial) = prediction.request.stream {
            return stream::response(simulator, scenario, prediction, partial);
        }
        let deadline = silence_max(scenario).map(|silence| Now::read().at + silence);
        let Some(ended) = simulator.wait_for_end(prediction, deadline).await else {
            return page(524);
        };
        if let Some(text) = failure(ended.outcome, scenario) {
            return failed(ended.outcome, text).response(Api::OpenAi, scenario);
        }
        let is_plus = ended.request.model.is_plus();
        let form = match (scenario.openai.data_prefix, is_plus) {
            (DataPrefix::Always, _) | (DataPrefix::Plus, true) => OutputForm::DataUri,
            (DataPrefix::Plus, false) | (DataPrefix::Never, _) => OutputForm::Base64,
        };
        let outputs = outputs(simulator, &ended, origin, form, output_count(scenario, &ended)).await.into_iter();
        let data: Vec<_> = outputs.map(|picture| json!({ "b64_json": picture })).collect();
        let created = ended.schedule.created.wall.as_second();
        if is_plus {
            return axum::Json(json!({"created": created, "data": data})).into_response();
        }
        let mut body = described(&ended.request, scenario);
        body["created"] = json!(created);
        body["data"] = json!(data);
        if scenario.result.usage != UsagePlace::Absent {
            body["usage"] = usage(ended.cost.usage, scenario);
            body["usage"]["output_tokens_details"] = json!({"text_tokens": 0, "image_tokens": ended.cost.usage.output});
        }
        axum::Json(body).into_response()
    }
}

/// Returns how long the edge waits for a byte; none if it waits for any time.
fn silence_max(scenario: &Scenario) -> Option<Duration> {
    let seconds = scenario.openai.edge_cut_s;
    (seconds > 0).then(|| Duration::from_secs(seconds).div_f64(scenario.speed.max(1e-3)))
}

/// Returns the resolved parameters that an answer repeats.
fn described(request: &PictureRequest, scenario: &Scenario) -> Value {
    json!({
        "background": match request.background {
            Background::Opaque => "opaque",
            Background::Transparent => "transparent",
        },
        "output_format": match request.format(scenario) {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Webp => "webp",
        },
        "quality": match request.quality {
            Quality::Low => "low",
            Quality::Medium => "medium",
            Quality::High => "high",
        },
        "size": format!("{}x{}", request.size.0, request.size.1),
    })
}

/// Returns the refusal of a call whose prediction failed.
fn failed(outcome: Outcome, text: &str) -> Refusal {
    match outcome {
        Outcome::FailedPolicy => Refusal::guidelines(),
        Outcome::FailedLink | Outcome::FailedImageUrl => Refusal::invalid(text),
        Outcome::Completed
        | Outcome::FailedProvider
        | Outcome::FailedEmpty
        | Outcome::Cancelled
        | Outcome::Timeout
        | Outcome::Expired
        | Outcome::Stuck => Refusal::new(500, text),
    }
}

#[cfg(test)]
mod tests;

//! The parts of an answer that the APIs share: status words, failures, pictures and usage.

use serde_json::{Value, json};

use crate::simulator::rules::errors::GUIDELINES;
use crate::simulator::rules::inputs::WRONG_URL;
use crate::simulator::scenario::{Outcome, Scenario, SubmitAnswer};
use crate::simulator::world::cost::Usage;
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;
use crate::simulator::world::schedule::Phase;

/// The text of a prediction that failed because a link could not be fetched.
pub(super) const UNREACHABLE: &str = "Unable to download the image, please check the image url";

/// The form of one picture in an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum OutputForm {
    Url,
    RelativeUrl,
    Base64,
    DataUri,
    ObjectUrl,
    ObjectImageUrl,
    ObjectB64,
}

/// Returns the status word of the prediction API.
pub(super) fn status(scenario: &Scenario, prediction: &Prediction, phase: Phase) -> String {
    let words = &scenario.life;
    let word = match (phase, prediction.outcome) {
        (Phase::Created, _) => &words.created,
        (Phase::Processing, _) => &words.processing,
        (Phase::Ended, Outcome::Completed) => &words.completed,
        (
            Phase::Ended,
            Outcome::FailedPolicy
            | Outcome::FailedProvider
            | Outcome::FailedLink
            | Outcome::FailedImageUrl
            | Outcome::FailedEmpty
            | Outcome::Stuck,
        ) => &words.failed,
        (Phase::Ended, Outcome::Cancelled) => "cancelled",
        (Phase::Ended, Outcome::Timeout) => "timeout",
        (Phase::Ended, Outcome::Expired) => "expired",
    };
    word.to_owned()
}

/// Returns the error text of an outcome; none for a completed prediction.
pub(super) fn failure(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Completed => None,
        Outcome::FailedPolicy => Some(GUIDELINES),
        Outcome::FailedProvider | Outcome::Stuck => {
            Some("The upstream provider returned an error, please try again later")
        }
        Outcome::FailedLink => Some(UNREACHABLE),
        Outcome::FailedImageUrl => Some(WRONG_URL),
        Outcome::FailedEmpty => Some(""),
        Outcome::Cancelled => Some("The task was cancelled"),
        Outcome::Timeout => Some("The task timed out"),
        Outcome::Expired => Some("The task has expired"),
    }
}

/// Returns the origin of the polling URL in the answer to a submit.
pub(super) fn polling_origin<'a>(scenario: &Scenario, origin: &'a str) -> &'a str {
    if scenario.submit.answer == SubmitAnswer::ForeignHost { "https://collector.example.net" } else { origin }
}

/// Returns the number of pictures in an answer.
pub(super) fn output_count(scenario: &Scenario, prediction: &Prediction) -> usize {
    prediction.request.n.saturating_sub(scenario.result.missing_outputs) as usize
}

/// Returns the first `count` pictures of a prediction, all in one form.
pub(super) async fn outputs(
    simulator: &Simulator,
    prediction: &Prediction,
    origin: &str,
    form: OutputForm,
    count: usize,
) -> Vec<Value> {
    let mut outputs = Vec::new();
    for index in 0..count {
        outputs.push(output(simulator, prediction, origin, index, form).await);
    }
    outputs
}

/// Returns one picture of a prediction.
pub(super) async fn output(
    simulator: &Simulator,
    prediction: &Prediction,
    origin: &str,
    index: usize,
    form: OutputForm,
) -> Value {
    let scenario = simulator.scenario().for_model(prediction.request.model.name);
    let format = prediction.request.format(&scenario);
    let path = format!("/files/{}/{index}.{}", prediction.id, format.extension());
    let origin = match scenario.files.origin.as_str() {
        "" => origin,
        configured => configured.trim_end_matches('/'),
    };
    let url = format!("{origin}{path}");
    match form {
        OutputForm::Url => json!(url),
        OutputForm::RelativeUrl => json!(path),
        OutputForm::ObjectUrl => json!({"url": url}),
        OutputForm::ObjectImageUrl => json!({"image_url": url}),
        OutputForm::Base64 => json!(base64(simulator, prediction, index).await),
        OutputForm::ObjectB64 => json!({"b64_json": base64(simulator, prediction, index).await}),
        OutputForm::DataUri => {
            let media_type = format.media_type();
            json!(format!("data:{media_type};base64,{}", base64(simulator, prediction, index).await))
        }
    }
}

async fn base64(simulator: &Simulator, prediction: &Prediction, index: usize) -> String {
    let bytes = simulator.picture(prediction.number, index).await.unwrap_or_default();
    base64_simd::STANDARD.encode_to_string(&bytes)
}

/// Returns usage in the form that all APIs share.
pub(super) fn usage(usage: Usage) -> Value {
    let input = usage.text + usage.image;
    json!({
        "input_tokens": input,
        "input_tokens_details": {"text_tokens": usage.text, "image_tokens": usage.image},
        "output_tokens": usage.output,
        "total_tokens": input + usage.output,
    })
}

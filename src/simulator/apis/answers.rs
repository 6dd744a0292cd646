//! The parts of an answer that the APIs share: status words, failures, pictures and usage.

use serde_json::{Value, json};

use crate::simulator::rules::errors::{GUIDELINES, GUIDELINES_RELAY};
use crate::simulator::rules::inputs::WRONG_URL;
use crate::simulator::scenario::{ErrorTexts, IdForm, Outcome, PollUrl, Scenario, SubmitAnswer, UsageDetails};
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
    ObjectUri,
    ObjectB64,
    ObjectB64Camel,
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
pub(super) fn failure(outcome: Outcome, scenario: &Scenario) -> Option<&'static str> {
    match outcome {
        Outcome::Completed => None,
        Outcome::FailedPolicy => Some(match scenario.errors.texts {
            ErrorTexts::Vendor => GUIDELINES,
            ErrorTexts::Relay => GUIDELINES_RELAY,
        }),
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

/// Inserts the id of a prediction, in the form and under the key of the scenario.
pub(super) fn insert_id(object: &mut Value, scenario: &Scenario, prediction: &Prediction) {
    object[id_key(scenario)] = id(scenario, prediction);
}

/// Returns the id as it is shown.
pub(super) fn id(scenario: &Scenario, prediction: &Prediction) -> Value {
    match (scenario.submit.ids, prediction.id.parse::<u64>()) {
        (IdForm::Numeric, Ok(number)) => json!(number),
        _ => json!(prediction.id),
    }
}

/// Returns the key of an id.
pub(super) fn id_key(scenario: &Scenario) -> &'static str {
    if scenario.submit.ids == IdForm::TaskId { "taskId" } else { "id" }
}

/// Returns the polling URL of a path in the form of the scenario.
pub(super) fn poll_url(scenario: &Scenario, origin: &str, path: &str) -> Option<String> {
    match scenario.submit.poll_url {
        PollUrl::Absolute => Some(format!("{origin}{path}")),
        PollUrl::Relative => Some(path.to_owned()),
        PollUrl::Absent => None,
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
        OutputForm::ObjectUri => json!({"uri": url}),
        OutputForm::ObjectB64Camel => json!({"b64Json": base64(simulator, prediction, index).await}),
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
pub(super) fn usage(usage: Usage, scenario: &Scenario) -> Value {
    let details = scenario.result.usage_details;
    let image = if details == UsageDetails::NoPictures { 0 } else { usage.image };
    let input = usage.text + image;
    let mut shown = json!({
        "input_tokens": input,
        "output_tokens": usage.output,
        "total_tokens": input + usage.output,
    });
    if details != UsageDetails::Absent {
        shown["input_tokens_details"] = json!({"text_tokens": usage.text, "image_tokens": image});
    }
    shown
}

//! The envelope that describes a prediction.

use serde_json::{Value, json};

use crate::simulator::apis::answers::{
    OutputForm, failure, insert_id, output, output_count, outputs, poll_url, status, usage,
};
use crate::simulator::rules::values::ResponseFormat;
use crate::simulator::scenario::{
    FailureError, KeyStyle, NoError, Nsfw, Outputs, OutputsPlace, Scenario, Timestamps, UsagePlace,
};
use crate::simulator::world::clock::Now;
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;
use crate::simulator::world::schedule::Phase;

/// Returns `urls` of a prediction; none where the scenario leaves them out.
pub(super) fn urls(scenario: &Scenario, origin: &str, prediction: &Prediction) -> Option<Value> {
    let path = format!("/api/v3/predictions/{}/result", prediction.id);
    poll_url(scenario, origin, &path).map(|get| json!({ "get": get }))
}

/// Returns the envelope of a prediction in its current state.
pub(super) async fn envelope(
    simulator: &Simulator,
    scenario: &Scenario,
    prediction: &Prediction,
    origin: &str,
) -> Value {
    let rules = &scenario.result;
    let now = Now::read().at;
    let phase = prediction.phase(now);
    let mut data = json!({
        "model": prediction.request.model.name,
        "outputs": [],
        "executionTime": 0,
        "timings": {"inference": 0},
    });
    insert_id(&mut data, scenario, prediction);
    data[rules.status_key.name()] = json!(status(scenario, prediction, phase));
    if let Some(urls) = urls(scenario, origin, prediction) {
        data["urls"] = urls;
    }
    let mut message = "success".to_owned();
    let failure = (phase == Phase::Ended).then(|| failure(prediction.outcome, scenario)).flatten();
    match (failure, rules.failure_error, rules.no_error) {
        (Some(text), FailureError::String, _) => data["error"] = json!(text),
        (Some(text), FailureError::Object, _) => data["error"] = json!({"message": text, "code": "task_failed"}),
        (Some(text), FailureError::FailReason, _) => data["fail_reason"] = json!(text),
        (Some(text), FailureError::ErrorMessage, _) => data["error_message"] = json!(text),
        (Some(text), FailureError::Reason, _) => data["reason"] = json!(text),
        (Some(text), FailureError::Message, _) => text.clone_into(&mut message),
        (None, _, NoError::Empty) => data["error"] = json!(""),
        (None, _, NoError::Null) => data["error"] = Value::Null,
        (None, _, NoError::Object) => data["error"] = json!({}),
        (None, _, NoError::Absent) => {}
    }
    if phase == Phase::Ended {
        data["executionTime"] = json!(prediction.schedule.latency_ms);
        data["timings"]["inference"] = json!(prediction.schedule.latency_ms);
    }
    let completed = prediction.has_completed(now);
    let mut pictures = 0;
    if completed {
        if prediction.polls.completed > rules.empty_polls || rules.empty_polls == 0 {
            let outputs = configured_outputs(simulator, scenario, prediction, origin).await;
            pictures = outputs.len();
            insert_outputs(&mut data, rules.outputs_place, outputs);
        }
        insert_usage(&mut data, scenario, prediction);
    }
    let (nsfw_key, created_key) = match rules.keys {
        KeyStyle::Snake => ("has_nsfw_contents", "created_at"),
        KeyStyle::Camel => ("hasNsfwContents", "createdAt"),
    };
    match rules.nsfw {
        Nsfw::Empty => data[nsfw_key] = json!([]),
        Nsfw::Null => data[nsfw_key] = Value::Null,
        Nsfw::Flagged => data[nsfw_key] = json!(vec![true; pictures]),
        Nsfw::Absent => {}
    }
    data[created_key] = json!(created_at(prediction, rules.timestamps));
    json!({"data": data, "message": message, "code": 200})
}

fn created_at(prediction: &Prediction, form: Timestamps) -> String {
    let wall = prediction.schedule.created.wall;
    match form {
        Timestamps::Zoneless => wall.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        // The number of fraction digits varies, as in recorded answers.
        Timestamps::Rfc3339 => format!("{wall:.*}", 3 + prediction.number % 7),
    }
}

/// Returns the pictures in the form of the scenario.
async fn configured_outputs(
    simulator: &Simulator,
    scenario: &Scenario,
    prediction: &Prediction,
    origin: &str,
) -> Vec<Value> {
    let form = match scenario.result.outputs {
        Outputs::AsAsked => match prediction.request.response_format {
            ResponseFormat::Url => OutputForm::Url,
            ResponseFormat::B64Json => OutputForm::Base64,
        },
        Outputs::Url => OutputForm::Url,
        Outputs::RelativeUrl => OutputForm::RelativeUrl,
        Outputs::Base64 => OutputForm::Base64,
        Outputs::DataUri => OutputForm::DataUri,
        Outputs::ObjectUrl => OutputForm::ObjectUrl,
        Outputs::ObjectImageUrl => OutputForm::ObjectImageUrl,
        Outputs::ObjectUri => OutputForm::ObjectUri,
        Outputs::ObjectB64 => OutputForm::ObjectB64,
        Outputs::ObjectB64Camel => OutputForm::ObjectB64Camel,
        Outputs::Mixed => {
            const FORMS: [OutputForm; 4] =
                [OutputForm::Url, OutputForm::Base64, OutputForm::DataUri, OutputForm::ObjectUrl];
            let mut mixed = Vec::new();
            for index in 0..output_count(scenario, prediction) {
                mixed.push(output(simulator, prediction, origin, index, FORMS[index % FORMS.len()]).await);
            }
            return mixed;
        }
    };
    outputs(simulator, prediction, origin, form, output_count(scenario, prediction)).await
}

fn insert_outputs(data: &mut Value, place: OutputsPlace, outputs: Vec<Value>) {
    let first = || outputs.first().cloned().unwrap_or(Value::Null);
    match place {
        OutputsPlace::Outputs => data["outputs"] = json!(outputs),
        OutputsPlace::Output => data["output"] = json!(outputs),
        OutputsPlace::Result => data["result"] = json!(outputs),
        OutputsPlace::Images => {
            let objects =
                outputs.into_iter().map(|output| if output.is_object() { output } else { json!({ "url": output }) });
            data["images"] = objects.collect();
        }
        OutputsPlace::ImageUrl => data["image_url"] = first(),
        OutputsPlace::Url => data["url"] = first(),
    }
}

fn insert_usage(data: &mut Value, scenario: &Scenario, prediction: &Prediction) {
    let value = usage(prediction.cost.usage, scenario);
    match scenario.result.usage {
        UsagePlace::Data => data["usage"] = value,
        UsagePlace::ExtraParams => data["extra_params"] = json!({ "usage": value }),
        UsagePlace::Absent => {}
    }
}

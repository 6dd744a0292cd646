//! A streamed answer: partial pictures while the prediction runs, then the pictures.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{described, failed, silence_max};
use crate::simulator::apis::answers::{failure, output_count, usage};
use crate::simulator::rules::values::Capability;
use crate::simulator::scenario::{Scenario, UsagePlace};
use crate::simulator::world::clock::Now;
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;

/// Returns the answer to a call that asked for a stream with a number of partial pictures.
pub(super) fn response(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, partial: u8) -> Response {
    let progress = Progress {
        simulator: simulator.clone(),
        scenario: Arc::new(scenario.clone()),
        prediction: prediction.clone(),
        partial,
        next: 0,
        silent_since: Now::read().at,
    };
    let frames = stream::unfold(Some(progress), |progress| async move {
        let mut progress = progress?;
        match progress.next_frame().await {
            Some(frame) => Some((Ok(frame), (!progress.has_ended()).then_some(progress))),
            None => Some((Err(std::io::Error::other("cut by the edge")), None)),
        }
    });
    let mut response = Body::from_stream(frames).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// A stream that is being sent.
struct Progress {
    simulator: Simulator,
    scenario: Arc<Scenario>,
    prediction: Prediction,
    /// Number of partial pictures.
    partial: u8,
    /// Number of frames that were sent.
    next: u8,
    /// Since the last frame, or the beginning.
    silent_since: Instant,
}

impl Progress {
    /// Waits for the next frame; none if the edge cuts the call before.
    async fn next_frame(&mut self) -> Option<Bytes> {
        let deadline = silence_max(&self.scenario).map(|silence| self.silent_since + silence);
        let frame = match deadline {
            Some(at) => tokio::time::timeout_at(at, self.make_frame()).await.ok()?,
            None => self.make_frame().await,
        };
        self.next += 1;
        self.silent_since = Now::read().at;
        Some(frame)
    }

    fn has_ended(&self) -> bool {
        self.next > self.partial
    }

    /// Waits until the next frame is due. The last one holds the pictures, or the error.
    async fn make_frame(&self) -> Bytes {
        let started = self.simulator.wait_for_links(&self.prediction).await;
        let fails = failure(started.outcome, &self.scenario).is_some();
        if self.next < self.partial && !fails {
            tokio::time::sleep_until(due(&started, self.next, self.partial)).await;
            let picture = self.simulator.partial_picture(&started, self.next).await.unwrap_or_default();
            let mut event = event(&started, &self.scenario, &picture);
            event["partial_image_index"] = json!(self.next);
            return frame(&format!("{}.partial_image", kind(&started)), event);
        }
        tokio::time::sleep_until(started.schedule.ends).await;
        self.last_frame(&started).await
    }

    async fn last_frame(&self, ended: &Prediction) -> Bytes {
        let scenario = &self.scenario;
        if let Some(text) = failure(ended.outcome, scenario) {
            let error = failed(ended.outcome, text);
            let code = if error.status == 400 { "moderation_blocked" } else { "image_generation_failed" };
            let kind =
                if error.status == 400 { "image_generation_user_error" } else { "image_generation_server_error" };
            let error = json!({"type": kind, "code": code, "message": text, "param": null});
            return frame("error", json!({ "error": error }));
        }
        let mut frames = Vec::new();
        for index in 0..output_count(scenario, ended) {
            let picture = self.simulator.picture(ended.number, index).await.unwrap_or_default();
            let mut event = event(ended, scenario, &picture);
            if scenario.result.usage != UsagePlace::Absent {
                event["usage"] = usage(ended.cost.usage, scenario);
            }
            frames.extend_from_slice(&frame(&format!("{}.completed", kind(ended)), event));
        }
        frames.into()
    }
}

/// Returns when a partial picture is due: they are spread evenly over the run.
fn due(prediction: &Prediction, index: u8, partial: u8) -> Instant {
    let schedule = &prediction.schedule;
    let runs_for: Duration = schedule.ends.saturating_duration_since(schedule.starts);
    schedule.starts + runs_for * (u32::from(index) + 1) / (u32::from(partial) + 1)
}

fn kind(prediction: &Prediction) -> &'static str {
    match prediction.request.capability {
        Capability::ImageEdit => "image_edit",
        Capability::TextToImage => "image_generation",
    }
}

fn event(prediction: &Prediction, scenario: &Scenario, picture: &[u8]) -> Value {
    let mut event = described(&prediction.request, scenario);
    event["b64_json"] = json!(base64_simd::STANDARD.encode_to_string(picture));
    event["created_at"] = json!(prediction.schedule.created.wall.as_second());
    event
}

fn frame(name: &str, mut event: Value) -> Bytes {
    event["type"] = json!(name);
    format!("event: {name}\ndata: {event}\n\n").into()
}

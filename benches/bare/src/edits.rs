//! Whole edits: the form, a submit with the picture as base64, two polls, a download, and the answer. Nothing is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use base64_simd::STANDARD;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, sleep_until};

use crate::answer::Answer;
use crate::form::Form;
use crate::{Failure, Options};

/// How long after its completion a picture is asked for, so that the second poll finds it.
const MARGIN: Duration = Duration::from_millis(5);

struct Edits {
    answer: Answer,
    client: Client,
    upstream: String,
    latency: Duration,
}

#[derive(Deserialize)]
struct Envelope {
    data: Prediction,
}

#[derive(Deserialize)]
struct Prediction {
    id: String,
    status: String,
    outputs: Vec<String>,
}

/// Serves until the process is ended.
pub(crate) async fn serve(options: &Options) -> Result<(), Failure> {
    let (answer, _) = Answer::read(options)?;
    let edits = Edits {
        answer,
        client: Client::builder().no_proxy().tcp_nodelay(true).build()?,
        upstream: options.text("--upstream")?.into(),
        latency: Duration::from_millis(options.text("--latency-ms")?.parse()?),
    };
    let router = Router::new().route("/v1/images/edits", post(edit)).with_state(Arc::new(edits));
    let listener = options.listener().await?.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router).await?)
}

async fn edit(State(edits): State<Arc<Edits>>, headers: HeaderMap, body: Bytes) -> Result<Response<Body>, StatusCode> {
    let form = Form::read(&headers, &body).ok_or(StatusCode::BAD_REQUEST)?;
    let picture = edits.make(&form).await.map_err(|error| {
        eprintln!("an edit failed: {error}");
        StatusCode::BAD_GATEWAY
    })?;
    Ok(edits.answer.with(&picture))
}

impl Edits {
    async fn make(&self, form: &Form<'_>) -> Result<Bytes, Failure> {
        let text = |name| form.texts.iter().find(|(field, _)| *field == name).map(|(_, value)| *value);
        let model = text("model").ok_or("the form has no model")?;
        let mut submit: Map<String, Value> =
            form.texts.iter().map(|(name, value)| ((*name).into(), Value::from(*value))).collect();
        submit.remove("model");
        submit.insert("enable_sync_mode".into(), false.into());
        submit.insert("response_format".into(), "url".into());
        submit.insert("base64_images".into(), vec![STANDARD.encode_to_string(form.picture)].into());
        let address = format!("{}/api/v3/openai/{model}/image-edit", self.upstream);
        let submitted = Instant::now();
        let answer = self.client.post(address).json(&submit).send().await?.error_for_status()?;
        let id = answer.json::<Envelope>().await?.data.id;
        let address = format!("{}/api/v3/predictions/{id}/result", self.upstream);
        sleep(self.latency / 2).await;
        let mut polled = self.poll(&address).await?;
        sleep_until(submitted + self.latency + MARGIN).await;
        while polled.status != "completed" {
            polled = self.poll(&address).await?;
            if polled.status != "completed" {
                sleep(MARGIN).await;
            }
        }
        let output = polled.outputs.first().ok_or("the upstream made no picture")?;
        Ok(self.client.get(output).send().await?.error_for_status()?.bytes().await?)
    }

    async fn poll(&self, address: &str) -> Result<Prediction, Failure> {
        Ok(self.client.get(address).send().await?.error_for_status()?.json::<Envelope>().await?.data)
    }
}

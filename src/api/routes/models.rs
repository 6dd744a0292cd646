//! `GET /v1/models`: the model list, in the shape OpenAI's API returns.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use url::form_urlencoded;

use crate::api::error::ApiError;
use crate::api::middleware::auth::VerifiedClient;
use crate::api::request::available_models::AvailableModels;
use crate::api::request::validate::N_MAX;
use crate::api::response::prediction_object::task_word;
use crate::api::state::ApiState;
use crate::model::{ApiKind, Capabilities, Catalogue, Choice, Format, Model, SizeRule, Task};

/// The response of `GET /v1/models`.
#[derive(Debug, Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

/// The response of `GET /v1/models/{id}`.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
    shutdown_date: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x_gateway: Option<Description<'a>>,
}

/// What the gateway takes for a model, so that programs can offer it.
#[derive(Debug, Serialize)]
struct Description<'a> {
    tasks: Vec<&'static str>,
    /// Edits take a mask.
    mask: bool,
    inputs_max: usize,
    n_max: i64,
    prompt_chars_max: usize,
    parameters: BTreeMap<&'a str, Parameter<'a>>,
    price: PriceObject,
}

/// The values of a parameter.
#[derive(Debug, Serialize)]
struct Parameter<'a> {
    values: Vec<Cow<'a, str>>,
    default: &'a str,
    /// Other values are taken, too; of sizes alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<bool>,
}

#[derive(Debug, Serialize)]
struct PriceObject {
    /// An estimate where it is metered.
    usd_per_picture: f64,
    /// Estimates for 1024 by 1024 pixels, by quality; empty where the price does not depend on it.
    usd_per_megapixel: BTreeMap<&'static str, f64>,
    /// The price goes by tokens, which are reported with the picture.
    metered: bool,
}

impl<'a> Entry<'a> {
    fn of(model: &'a Model, id: &'a str) -> Self {
        Self { id, object: "model", created: model.created, owned_by: "gptproto", shutdown_date: None, x_gateway: None }
    }

    fn described(self, model: &'a Model, api_kinds: &[ApiKind]) -> Self {
        Self { x_gateway: Some(Description::of(model, api_kinds)), ..self }
    }
}

impl<'a> Description<'a> {
    fn of(model: &'a Model, api_kinds: &[ApiKind]) -> Self {
        let tasks = [Task::Edit, Task::Generate].into_iter().filter(|&task| model.is_offered(api_kinds, task));
        let of_task = |task| api_kinds.iter().filter_map(move |&api_kind| model.capabilities(api_kind, task));
        let capabilities: Vec<Capabilities<'a>> = of_task(Task::Edit).chain(of_task(Task::Generate)).collect();
        let mut parameters = BTreeMap::new();
        for &capabilities in &capabilities {
            // The APIs in the order of preference: the first that has a parameter counts.
            for (name, Choice { values, auto, .. }) in capabilities.choices() {
                let values = values.iter().map(|value| value.as_str().into()).collect();
                let parameter = Parameter { values, default: auto.as_str(), custom: None };
                parameters.entry(name.as_str()).or_insert(parameter);
            }
        }
        if let Some(SizeRule { values, custom, .. }) = capabilities.first().map(|capabilities| capabilities.size) {
            let values = values.iter().map(|size| Cow::from(size.to_string()));
            let values = std::iter::once(Cow::from("auto")).chain(values).collect();
            parameters.insert("size", Parameter { values, default: "auto", custom: Some(custom.is_some()) });
        }
        let formats = [Format::Png, Format::Jpeg, Format::Webp].map(|format| format.name().into());
        parameters
            .insert("output_format", Parameter { values: formats.into(), default: Format::Png.name(), custom: None });
        Self {
            tasks: tasks.map(task_word).collect(),
            mask: capabilities.iter().any(|capabilities| capabilities.mask),
            inputs_max: model.parameters.images_max,
            n_max: N_MAX,
            prompt_chars_max: model.parameters.prompt_chars_max,
            parameters,
            price: PriceObject {
                usd_per_picture: model.price.estimate_usd_per_picture,
                usd_per_megapixel: model.price.by_quality().collect(),
                metered: model.price.is_metered(),
            },
        }
    }
}

/// `GET /v1/models`.
pub(crate) async fn index(
    VerifiedClient(client, _): VerifiedClient,
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
) -> Response {
    let mut parameters = form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    let described = parameters.any(|(name, value)| name == "x_gateway" && value.eq_ignore_ascii_case("true"));
    Json(list(&state.available_models(&client), described)).into_response()
}

/// `GET /v1/models/{id}`.
pub(crate) async fn show(
    VerifiedClient(client, _): VerifiedClient,
    State(state): State<Arc<ApiState>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = path.map_err(|_| ApiError::UnknownModel { name: "?".to_owned(), nearest: None })?;
    Ok(Json(one(&state.available_models(&client), id.trim_end_matches('/'))?).into_response())
}

/// Lists the models that can be requested, by the upstream's names; described where that is asked for, because strict clients
/// know no other members.
fn list<'a>(available: &AvailableModels<'a>, described: bool) -> List<'a> {
    let models = available.models().filter(|model| model.is_available(available.api_kinds));
    let entry = |model: &'a Model| {
        let entry = Entry::of(model, &model.id);
        if described { entry.described(model, available.api_kinds) } else { entry }
    };
    List { object: "list", data: models.map(entry).collect() }
}

/// Finds one model by its name or an alias, under the requested name.
///
/// # Errors
///
/// [`ApiError::UnknownModel`].
fn one<'a>(available: &AvailableModels<'a>, name: &'a str) -> Result<Entry<'a>, ApiError> {
    let is_known = |model: &&Model| model.is_available(available.api_kinds) && available.allows(model);
    if let Some(model) = available.catalogue.find(name).filter(is_known) {
        return Ok(Entry::of(model, name).described(model, available.api_kinds));
    }
    let models = available.models().filter(|model| model.is_available(available.api_kinds));
    let nearest = Catalogue::nearest(name, models).map(|model| model.id.to_string());
    Err(ApiError::UnknownModel { name: name.to_owned(), nearest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::catalogue;
    use crate::config::ApiPolicy;

    #[test]
    fn the_list_names_the_available_models() {
        let catalogue = catalogue();
        let available =
            AvailableModels { catalogue: &catalogue, allowed: None, api_kinds: ApiPolicy::Auto.api_kinds() };
        insta::assert_json_snapshot!(list(&available, false));
    }

    #[test]
    fn a_model_is_described_as_its_requests_are_checked() {
        let catalogue = catalogue();
        let described = |name: &str, policy: ApiPolicy| {
            let available = AvailableModels { catalogue: &catalogue, allowed: None, api_kinds: policy.api_kinds() };
            serde_json::to_value(one(&available, name).unwrap()).unwrap()["x_gateway"].clone()
        };
        insta::assert_json_snapshot!(described("gpt-image-1", ApiPolicy::Auto));
        let plus = described("gpt-image-2-plus", ApiPolicy::Auto);
        assert_eq!((&plus["mask"], plus["parameters"].get("quality")), (&false.into(), None), "{plus}");
        assert_eq!(plus["n_max"], 10, "by several purchases");
        assert_eq!(described("gpt-image-2", ApiPolicy::Auto)["parameters"]["size"]["custom"], true);
        let prediction = described("gpt-image-1", ApiPolicy::Prediction);
        assert_eq!(prediction["parameters"].get("input_fidelity"), None, "only the OpenAI-format API has it");
        let available =
            AvailableModels { catalogue: &catalogue, allowed: None, api_kinds: ApiPolicy::Auto.api_kinds() };
        assert!(list(&available, true).data.iter().all(|entry| entry.x_gateway.is_some()));
    }

    #[test]
    fn aliases_are_found_and_unavailable_models_are_not() {
        let catalogue = catalogue();
        let available =
            AvailableModels { catalogue: &catalogue, allowed: None, api_kinds: ApiPolicy::Auto.api_kinds() };
        assert_eq!(one(&available, "chatgpt-image-latest").unwrap().id, "chatgpt-image-latest");
        assert_eq!(one(&available, "openai/gpt-image-2").unwrap().created, 1_776_729_600);
        assert_eq!(one(&available, "GPT-image-2").unwrap().id, "GPT-image-2");
        let error = one(&available, "gpt-image-22").unwrap_err();
        assert_eq!(error.to_string(), "The model 'gpt-image-22' does not exist. Did you mean 'gpt-image-2'?");
        for name in ["dall-e-2", "gpt-4o-image", ""] {
            assert_eq!(one(&available, name).unwrap_err().code(), "model_not_found");
        }
    }

    #[test]
    fn a_client_sees_the_models_it_may_use() {
        let (catalogue, allowed) = (catalogue(), ["gpt-image-2".to_owned()].into());
        let available = AvailableModels {
            catalogue: &catalogue,
            allowed: Some(Arc::new(allowed)),
            api_kinds: ApiPolicy::Auto.api_kinds(),
        };
        let ids: Vec<&str> = list(&available, false).data.into_iter().map(|entry| entry.id).collect();
        assert_eq!(ids, ["gpt-image-2"]);
        assert_eq!(one(&available, "openai/gpt-image-2").unwrap().id, "openai/gpt-image-2");
        assert_eq!(one(&available, "gpt-image-1").unwrap_err().code(), "model_not_found");
    }
}

//! `GET /v1/models`: the model list, in the shape OpenAI's API returns.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::error::ApiError;
use crate::api::middleware::auth::VerifiedClient;
use crate::api::request::available_models::AvailableModels;
use crate::api::state::ApiState;
use crate::model::{Catalogue, Model};

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
}

impl<'a> Entry<'a> {
    fn of(model: &'a Model, id: &'a str) -> Self {
        Self { id, object: "model", created: model.created, owned_by: "gptproto", shutdown_date: None }
    }
}

/// `GET /v1/models`.
pub(crate) async fn index(VerifiedClient(client): VerifiedClient, State(state): State<Arc<ApiState>>) -> Response {
    Json(list(&state.available_models(&client))).into_response()
}

/// `GET /v1/models/{id}`.
pub(crate) async fn show(
    VerifiedClient(client): VerifiedClient,
    State(state): State<Arc<ApiState>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = path.map_err(|_| ApiError::UnknownModel { name: "?".to_owned(), nearest: None })?;
    Ok(Json(one(&state.available_models(&client), id.trim_end_matches('/'))?).into_response())
}

/// Lists the models that can be requested, by the upstream's names.
fn list<'a>(available: &AvailableModels<'a>) -> List<'a> {
    let models = available.models().filter(|model| model.is_available(available.api_kinds));
    List { object: "list", data: models.map(|model| Entry::of(model, &model.id)).collect() }
}

/// Finds one model by its name or an alias, under the requested name.
///
/// # Errors
///
/// [`ApiError::UnknownModel`].
fn one<'a>(available: &AvailableModels<'a>, name: &'a str) -> Result<Entry<'a>, ApiError> {
    let is_known = |model: &&Model| model.is_available(available.api_kinds) && available.allows(model);
    if let Some(model) = available.catalogue.find(name).filter(is_known) {
        return Ok(Entry::of(model, name));
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
        insta::assert_json_snapshot!(list(&AvailableModels {
            catalogue: &catalogue,
            allowed: None,
            api_kinds: ApiPolicy::Auto.api_kinds()
        }));
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
        let ids: Vec<&str> = list(&available).data.into_iter().map(|entry| entry.id).collect();
        assert_eq!(ids, ["gpt-image-2"]);
        assert_eq!(one(&available, "openai/gpt-image-2").unwrap().id, "openai/gpt-image-2");
        assert_eq!(one(&available, "gpt-image-1").unwrap_err().code(), "model_not_found");
    }
}

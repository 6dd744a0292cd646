//! The model list, in OpenAI's recorded shape.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::ApiState;
use super::auth::Client;
use super::error::ApiError;
use super::offer::Offer;
use crate::model::Model;

/// `GET /v1/models`.
#[derive(Debug, Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

/// `GET /v1/models/{id}`.
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

/// Answers `GET /v1/models`.
pub(super) async fn index(Client(client): Client, State(state): State<ApiState>) -> Response {
    Json(list(state.offer(&client))).into_response()
}

/// Answers `GET /v1/models/{id}`.
pub(super) async fn show(
    Client(client): Client,
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = path.map_err(|_| ApiError::UnknownModel { name: "?".to_owned() })?;
    Ok(Json(one(state.offer(&client), id.trim_end_matches('/'))?).into_response())
}

/// The models that can be asked for, by the upstream's names.
fn list(offer: Offer<'_>) -> List<'_> {
    let models = offer.models().filter(|model| model.is_available(offer.routes));
    List { object: "list", data: models.map(|model| Entry::of(model, &model.id)).collect() }
}

/// One model by its name or an alias, under the name it was asked by.
///
/// # Errors
///
/// [`ApiError::UnknownModel`].
fn one<'a>(offer: Offer<'a>, name: &'a str) -> Result<Entry<'a>, ApiError> {
    match offer.catalogue.find(name).filter(|model| model.is_available(offer.routes) && offer.allows(model)) {
        Some(model) => Ok(Entry::of(model, name)),
        None => Err(ApiError::UnknownModel { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::form::tests::catalogue;
    use crate::config::ApiPolicy;

    #[test]
    fn the_list_names_what_can_be_asked_for() {
        let catalogue = catalogue();
        insta::assert_json_snapshot!(list(Offer {
            catalogue: &catalogue,
            allowed: None,
            routes: ApiPolicy::Auto.api_kinds()
        }));
    }

    #[test]
    fn aliases_are_found_and_what_cannot_be_made_is_not() {
        let catalogue = catalogue();
        let offer = Offer { catalogue: &catalogue, allowed: None, routes: ApiPolicy::Auto.api_kinds() };
        assert_eq!(one(offer, "chatgpt-image-latest").unwrap().id, "chatgpt-image-latest");
        assert_eq!(one(offer, "openai/gpt-image-2").unwrap().created, 1_776_729_600);
        for name in ["dall-e-2", "gpt-4o-image", ""] {
            assert_eq!(one(offer, name).unwrap_err().code(), "model_not_found");
        }
    }

    #[test]
    fn a_client_sees_what_it_may_use() {
        let (catalogue, allowed) = (catalogue(), ["gpt-image-2".to_owned()].into());
        let offer = Offer { catalogue: &catalogue, allowed: Some(&allowed), routes: ApiPolicy::Auto.api_kinds() };
        let ids: Vec<&str> = list(offer).data.into_iter().map(|entry| entry.id).collect();
        assert_eq!(ids, ["gpt-image-2"]);
        assert_eq!(one(offer, "openai/gpt-image-2").unwrap().id, "openai/gpt-image-2");
        assert_eq!(one(offer, "gpt-image-1").unwrap_err().code(), "model_not_found");
    }
}

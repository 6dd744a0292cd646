//! The prediction API, v3: `POST /api/v3/openai/{model}/{task}`, `GET /api/v3/predictions/{id}/result`.

use bytes::BytesMut;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::PurchaseHandle;
use super::exchange::Exchange;
use super::inputs::{Inputs, Reference};
use super::wire::{SubmitAnswer, submit_answer};
use crate::http::StreamingBody;
use crate::input_urls::InputUrlGuards;
use crate::model::{Model, PictureRequest, TaskSpec};

/// Characters that an id keeps in a path.
pub(super) const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The submit body: what the model's page documents, every parameter explicit. Data URIs never go into the field for
/// addresses, which refuses them.
pub(super) fn body(
    model: &Model,
    capability: &TaskSpec,
    request: &PictureRequest,
    pictures: u8,
    inputs: &Inputs,
) -> (StreamingBody, InputUrlGuards) {
    let mut body = StreamingBody::default().text("{\"prompt\":").json(&request.prompt);
    body = body.text(",\"size\":").json(&request.size.to_string());
    if model.parameters.n_max.is_some() {
        body = body.text(",\"n\":").json(&pictures);
    }
    for (name, value) in &request.choices {
        body = body.text(",").json(name).text(":").json(value);
    }
    // A model without a field for addresses gets its pictures inline whatever the operator wishes.
    let inputs = if capability.links_field.is_some() { inputs } else { &Inputs::Inline };
    let mut input_url_guards = InputUrlGuards::default();
    let (mut addresses, mut inline) = (Vec::new(), Vec::new());
    for input in &request.inputs {
        match inputs.refer(input, &mut input_url_guards) {
            Reference::Address(address) => addresses.push(address),
            reference @ Reference::Inline(..) => inline.push(reference),
        }
    }
    if let Some(field) = capability.links_field.as_ref().filter(|_| !addresses.is_empty()) {
        body = body.text(",").json(field).text(":").json(&addresses);
    }
    if let Some(field) = capability.inline_field.as_ref().filter(|_| !inline.is_empty()) {
        body = body.text(",").json(field).text(":[");
        for (position, reference) in inline.into_iter().enumerate() {
            body = reference.append_to(if position == 0 { body } else { body.text(",") });
        }
        body = body.text("]");
    }
    if let Some((field, mask)) = capability.mask_field.as_ref().zip(request.mask.as_ref()) {
        body = inputs.refer(mask, &mut input_url_guards).append_to(body.text(",").json(field).text(":"));
    }
    (body.text(",\"enable_sync_mode\":false,\"response_format\":\"url\"}"), input_url_guards)
}

/// Reads the answer to a submit.
#[expect(clippy::needless_pass_by_value, reason = "one of several readers, another of which decodes in place")]
pub(super) fn answer(body: BytesMut) -> SubmitAnswer {
    submit_answer(&body)
}

/// The address the upstream gave where it is on our origin and looks like one of a result, else the documented one.
pub(super) fn result_url(exchange: &Exchange, handle: &PurchaseHandle) -> Url {
    exchange.trusted(handle.poll_url.as_deref(), "/api/v3/predictions/").unwrap_or_else(|| {
        let id = utf8_percent_encode(handle.id.as_str(), PATH_SEGMENT);
        exchange.at(&format!("/api/v3/predictions/{id}/result"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Input, UpstreamId};
    use crate::upstream::gptproto::tests::{adapter, input, input_urls, json, request};

    async fn body_for(request: &PictureRequest, pictures: u8) -> serde_json::Value {
        json(adapter(None).call(request, pictures).unwrap().0).await
    }

    #[tokio::test]
    async fn every_parameter_is_explicit() {
        insta::assert_json_snapshot!(body_for(&request("gpt-image-2"), 2).await, @r#"
        {
          "base64_images": [
            "data:image/png;base64,b25l",
            "data:image/png;base64,dHdv"
          ],
          "enable_sync_mode": false,
          "n": 2,
          "prompt": "say \"hi\"\n",
          "quality": "low",
          "response_format": "url",
          "size": "1024x1024"
        }
        "#);
    }

    #[tokio::test]
    async fn a_model_without_n_is_not_sent_one() {
        let mut request = request("gpt-image-2-plus");
        request.choices.clear();
        let body = body_for(&request, 1).await;
        assert_eq!(body.get("n"), None);
        assert_eq!(body.get("quality"), None);
    }

    #[tokio::test]
    async fn links_and_masks_go_into_the_fields_of_their_page() {
        let mut request = request("gpt-image-1.5-plus");
        request.inputs = vec![Input::Link("https://x.example/1.png".to_owned())];
        request.mask = Some(input(b"mask"));
        let body = body_for(&request, 1).await;
        assert_eq!(body["image"], serde_json::json!(["https://x.example/1.png"]));
        assert_eq!(body["mask"], "data:image/png;base64,bWFzaw==");
        assert_eq!(body.get("base64_images"), None);
    }

    #[tokio::test]
    async fn lent_pictures_travel_as_addresses_in_their_order() {
        let input_urls = input_urls();
        let mut request = request("gpt-image-1.5");
        request.mask = Some(input(b"mask"));
        let (call, input_url_guards) = adapter(Some(input_urls.clone())).call(&request, 1).unwrap();
        let body = json(call).await;
        let published = |address: &serde_json::Value| {
            let token = address.as_str().unwrap().strip_prefix("https://gateway.example/v1/inputs/").unwrap();
            input_urls.find(token).map(|published| published.source.in_memory().unwrap())
        };
        assert_eq!(body["image"].as_array().unwrap().len(), 2);
        assert_eq!(published(&body["image"][0]).unwrap(), "one");
        assert_eq!(published(&body["image"][1]).unwrap(), "two");
        assert_eq!(published(&body["mask"]).unwrap(), "mask");
        assert_eq!(body.get("base64_images"), None);
        drop(input_url_guards);
        assert!(published(&body["image"][0]).is_none(), "the prediction is over");
    }

    #[test]
    fn the_key_goes_to_the_configured_origin_only() {
        let exchange = adapter(None).exchange;
        let url = |poll_url: Option<&str>| {
            let id = UpstreamId::new("a:b/../c").unwrap();
            let handle = PurchaseHandle {
                id,
                poll_url: poll_url.map(str::to_owned),
                api_kind: crate::model::ApiKind::Prediction,
                input_url_guards: InputUrlGuards::default(),
            };
            result_url(&exchange, &handle).to_string()
        };
        let documented = "https://gptproto.com/api/v3/predictions/a%3Ab%2F..%2Fc/result";
        let good = "https://gptproto.com/api/v3/predictions/xyz/result";
        assert_eq!(url(None), documented);
        assert_eq!(url(Some(good)), good);
        for foreign in [
            "https://evil.example/api/v3/predictions/xyz/result",
            "http://gptproto.com/api/v3/predictions/xyz/result",
            "https://gptproto.com:444/api/v3/predictions/xyz/result",
            "https://gptproto.com.evil.example/api/v3/predictions/xyz/result",
            "https://gptproto.com@evil.example/api/v3/predictions/xyz/result",
            "https://user@gptproto.com/api/v3/predictions/xyz/result",
            "https://gptproto.com/redirect?to=evil",
            "not an address",
        ] {
            assert_eq!(url(Some(foreign)), documented, "{foreign}");
        }
    }
}

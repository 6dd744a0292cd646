//! Which upstream API a request uses, and which error it gets where none fits.

use super::*;

/// Validates under a policy of the operator.
fn under(policy: ApiPolicy, form: Form, task: Task) -> Result<ValidRequest, ApiError> {
    let catalogue = catalogue();
    super::super::validate(
        form,
        task,
        &server().requests,
        &AvailableModels { catalogue: &catalogue, allowed: None, api_kinds: policy.api_kinds() },
    )
}

fn masked(texts: &[(&str, &str)]) -> Form {
    Form { mask: Some(bytes(png(30, 20))), ..form(texts) }
}

/// A model, further values, whether there is a mask, and the expected API.
type ApiCase<'a> = (&'a str, &'a [(&'a str, &'a str)], bool, ApiKind);

#[test]
fn a_request_uses_the_first_api_that_offers_all_of_it() {
    use ApiKind::{OpenAi, Prediction};
    let cases: &[ApiCase<'_>] = &[
        ("gpt-image-2", &[], false, Prediction),
        ("gpt-image-2", &[("quality", "high"), ("background", "opaque"), ("moderation", "auto")], false, Prediction),
        ("gpt-image-2", &[("input_fidelity", "low")], false, Prediction),
        ("gpt-image-2", &[], true, OpenAi),
        ("gpt-image-2", &[("quality", "standard"), ("background", "opaque")], true, OpenAi),
        ("gpt-image-2", &[("moderation", "low")], false, OpenAi),
        ("gpt-image-1-mini", &[], true, OpenAi),
        ("gpt-image-1", &[("background", "transparent")], true, Prediction),
        ("gpt-image-1", &[("input_fidelity", "high")], false, OpenAi),
        ("gpt-image-1", &[("input_fidelity", "high"), ("background", "transparent")], true, OpenAi),
        ("gpt-image-1.5-plus", &[("quality", "high")], true, Prediction),
    ];
    for (model, texts, mask, api_kind) in cases {
        let with_model: Vec<(&str, &str)> = texts.iter().copied().chain([("model", *model)]).collect();
        let form = if *mask { masked(&with_model) } else { form(&with_model) };
        let request = edit(form).unwrap_or_else(|error| panic!("{model} {texts:?}: {error}")).request;
        assert_eq!((request.api_kind, request.mask.is_some()), (*api_kind, *mask), "{model} {texts:?}");
    }
}

#[test]
fn the_api_is_no_part_of_the_fingerprint() {
    let alice = crate::model::ClientId("alice".into());
    let print = |policy, form| crate::model::Fingerprint::of(&alice, &under(policy, form, Task::Edit).unwrap().request);
    for model in ["gpt-image-1", "gpt-image-2"] {
        let plain = || form(&[("model", model)]);
        for policy in [ApiPolicy::OpenAi, ApiPolicy::Unified] {
            assert_eq!(print(ApiPolicy::Prediction, plain()), print(policy, plain()), "{model} {policy:?}");
        }
    }
    let low = || form(&[("model", "gpt-image-2"), ("moderation", "low")]);
    let plain = || form(&[("model", "gpt-image-2")]);
    assert_ne!(print(ApiPolicy::Auto, low()), print(ApiPolicy::Auto, plain()), "another fingerprint");
    assert_eq!(print(ApiPolicy::Auto, low()), print(ApiPolicy::OpenAi, low()));
}

#[test]
fn parameters_that_a_fixed_api_lacks_are_refused_with_the_setting_that_would_allow_them() {
    let cases: Vec<(ApiPolicy, Form, &str, &str)> = vec![
        (ApiPolicy::Prediction, masked(&[("model", "gpt-image-2")]), "unsupported_parameter", "'mask'"),
        (
            ApiPolicy::Prediction,
            form(&[("model", "gpt-image-2"), ("moderation", "low")]),
            "unsupported_parameter",
            "'moderation'",
        ),
        (
            ApiPolicy::Prediction,
            form(&[("model", "gpt-image-1"), ("input_fidelity", "high")]),
            "invalid_input_fidelity_model",
            "'input_fidelity'",
        ),
        (
            ApiPolicy::OpenAi,
            form(&[("model", "gpt-image-1.5"), ("background", "transparent")]),
            "unsupported_parameter",
            "'background'",
        ),
        (
            ApiPolicy::OpenAi,
            form(&[("model", "gpt-image-1.5-plus"), ("quality", "high")]),
            "unsupported_parameter",
            "'quality'",
        ),
        (ApiPolicy::Unified, masked(&[("model", "gpt-image-1")]), "unsupported_parameter", "'mask'"),
    ];
    for (policy, form, code, name) in cases {
        let error = under(policy, form, Task::Edit).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("upstream.api = \"auto\""), "{text}");
        assert!(text.contains(&format!("'{}'", policy.api_kinds()[0].name())), "{text}");
    }
    // A parameter that no API offers is refused without such a hint.
    for policy in [ApiPolicy::Auto, ApiPolicy::Prediction, ApiPolicy::OpenAi] {
        for parameter in [("background", "transparent"), ("input_fidelity", "high")] {
            let error = under(policy, form(&[("model", "gpt-image-2"), parameter]), Task::Edit).unwrap_err();
            assert!(!error.to_string().contains("upstream.api"), "{error}");
        }
    }
}

#[test]
fn a_model_without_the_configured_api_is_refused_by_name() {
    let sample = |policy, model| under(policy, form(&[("model", model)]), Task::Edit);
    let error = sample(ApiPolicy::OpenAi, "gpt-image-2.5-flare").unwrap_err();
    assert_eq!(error.code(), "unsupported_model");
    assert!(error.to_string().contains("upstream.api = \"prediction\""), "{error}");
    assert_eq!(sample(ApiPolicy::Unified, "gpt-image-2.5-flare").unwrap().request.api_kind, ApiKind::Unified);
    let unknown = sample(ApiPolicy::OpenAi, "dall-e-9").unwrap_err().to_string();
    assert!(unknown.contains("'gpt-image-2'") && !unknown.contains("flare"), "only available models: {unknown}");
}

#[test]
fn parameters_that_need_inline_pictures_are_refused_with_addresses() {
    let linked = |mut form: Form| {
        form.images = vec![link()];
        form
    };
    for (sample, name) in [
        (masked(&[("model", "gpt-image-2")]), "'mask'"),
        (form(&[("model", "gpt-image-2"), ("moderation", "low")]), "'moderation'"),
        (form(&[("model", "gpt-image-1"), ("input_fidelity", "high")]), "'input_fidelity'"),
    ] {
        let error = edit(linked(sample)).unwrap_err();
        assert_eq!(error.code(), "unsupported_parameter");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("send the pictures themselves"), "{text}");
    }
    let mut mask_alone = form(&[("model", "gpt-image-2")]);
    mask_alone.mask = Some(link());
    assert!(edit(mask_alone).unwrap_err().to_string().contains("'mask'"), "a mask's address cannot travel either");
    assert_eq!(edit(linked(form(&[("model", "gpt-image-2")]))).unwrap().request.api_kind, ApiKind::Prediction);
    let error = under(ApiPolicy::OpenAi, linked(form(&[("model", "gpt-image-2")])), Task::Edit).unwrap_err();
    assert!(error.to_string().contains("'image'") && error.to_string().contains("'openai'"), "{error}");
    assert!(under(ApiPolicy::Unified, linked(form(&[("model", "gpt-image-2")])), Task::Edit).is_ok());

    let dropped = dropping(linked(masked(&[("model", "gpt-image-2"), ("moderation", "low")]))).unwrap();
    assert_eq!(dropped.dropped, ["moderation", "mask"]);
    assert_eq!((dropped.request.api_kind, dropped.request.mask.is_some()), (ApiKind::Prediction, false));
}

#[test]
fn a_value_that_is_dropped_leaves_the_default() {
    let mut requests = server().requests;
    requests.unsupported_parameters = UnsupportedParameters::Drop;
    let catalogue = catalogue();
    let models = AvailableModels { catalogue: &catalogue, allowed: None, api_kinds: ApiPolicy::OpenAi.api_kinds() };
    let sample = form(&[("model", "gpt-image-1.5"), ("background", "transparent")]);
    let valid = super::super::validate(sample, Task::Edit, &requests, &models).unwrap();
    assert_eq!(valid.dropped, ["background"]);
    assert_eq!(valid.request.choices.background(), Some("opaque"));
}

#[test]
fn generations_have_their_own_capabilities() {
    let generate = |texts: &[(&str, &str)]| {
        let mut sample = form(texts);
        sample.images.clear();
        under(ApiPolicy::Auto, sample, Task::Generate)
    };
    let low = generate(&[("model", "gpt-image-2"), ("moderation", "low")]).unwrap().request;
    assert_eq!((low.api_kind, low.choices.get("moderation")), (ApiKind::OpenAi, Some("low")));
    let error = generate(&[("model", "gpt-image-1"), ("input_fidelity", "high")]).unwrap_err();
    assert_eq!(error.code(), "invalid_input_fidelity_model", "only edits have it: {error}");
}

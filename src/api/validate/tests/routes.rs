//! Which route a request takes, and what is told where none will do.

use super::*;

/// A check where the operator has chosen how requests travel.
fn by(policy: ApiPolicy, form: Form, task: Task) -> Result<Checked, ApiError> {
    let catalogue = catalogue();
    crate::api::validate::check(
        form,
        task,
        &server(),
        Offer { catalogue: &catalogue, allowed: None, routes: policy.api_kinds() },
    )
}

fn masked(texts: &[(&str, &str)]) -> Form {
    Form { mask: Some(bytes(png(30, 20))), ..form(texts) }
}

/// A model, values beside it, whether there is a mask, and the route that is taken.
type Taken<'a> = (&'a str, &'a [(&'a str, &'a str)], bool, ApiKind);

#[test]
fn a_request_takes_the_first_route_that_can_do_all_of_it() {
    use ApiKind::{OpenAi, Prediction};
    let cases: &[Taken<'_>] = &[
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
    for (model, texts, mask, route) in cases {
        let with_model: Vec<(&str, &str)> = texts.iter().copied().chain([("model", *model)]).collect();
        let form = if *mask { masked(&with_model) } else { form(&with_model) };
        let request = edit(form).unwrap_or_else(|error| panic!("{model} {texts:?}: {error}")).request;
        assert_eq!((request.api_kind, request.mask.is_some()), (*route, *mask), "{model} {texts:?}");
    }
}

#[test]
fn the_route_is_no_part_of_the_wish() {
    let alice = crate::model::ClientId("alice".into());
    let print = |policy, form| crate::model::Fingerprint::of(&alice, &by(policy, form, Task::Edit).unwrap().request);
    for model in ["gpt-image-1", "gpt-image-2"] {
        let plain = || form(&[("model", model)]);
        for policy in [ApiPolicy::OpenAi, ApiPolicy::Unified] {
            assert_eq!(print(ApiPolicy::Prediction, plain()), print(policy, plain()), "{model} {policy:?}");
        }
    }
    let low = || form(&[("model", "gpt-image-2"), ("moderation", "low")]);
    let plain = || form(&[("model", "gpt-image-2")]);
    assert_ne!(print(ApiPolicy::Auto, low()), print(ApiPolicy::Auto, plain()), "another wish");
    assert_eq!(print(ApiPolicy::Auto, low()), print(ApiPolicy::OpenAi, low()));
}

#[test]
fn what_a_fixed_route_lacks_is_refused_with_the_setting_that_would_allow_it() {
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
        let error = by(policy, form, Task::Edit).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("upstream.api = \"auto\""), "{text}");
        assert!(text.contains(&format!("'{}'", policy.api_kinds()[0].name())), "{text}");
    }
    // What nobody has is refused without such a hope.
    for policy in [ApiPolicy::Auto, ApiPolicy::Prediction, ApiPolicy::OpenAi] {
        for parameter in [("background", "transparent"), ("input_fidelity", "high")] {
            let error = by(policy, form(&[("model", "gpt-image-2"), parameter]), Task::Edit).unwrap_err();
            assert!(!error.to_string().contains("upstream.api"), "{error}");
        }
    }
}

#[test]
fn a_route_that_a_model_lacks_is_told() {
    let submit = |policy, model| by(policy, form(&[("model", model)]), Task::Edit);
    let error = submit(ApiPolicy::OpenAi, "gpt-image-2.5-flare").unwrap_err();
    assert_eq!(error.code(), "unsupported_model");
    assert!(error.to_string().contains("upstream.api = \"prediction\""), "{error}");
    assert_eq!(submit(ApiPolicy::Unified, "gpt-image-2.5-flare").unwrap().request.api_kind, ApiKind::Unified);
    let unknown = submit(ApiPolicy::OpenAi, "dall-e-9").unwrap_err().to_string();
    assert!(unknown.contains("'gpt-image-2'") && !unknown.contains("flare"), "only what can be had: {unknown}");
}

#[test]
fn addresses_and_what_needs_files_do_not_go_together() {
    let linked = |mut form: Form| {
        form.images = vec![link()];
        form
    };
    for (submit, name) in [
        (masked(&[("model", "gpt-image-2")]), "'mask'"),
        (form(&[("model", "gpt-image-2"), ("moderation", "low")]), "'moderation'"),
        (form(&[("model", "gpt-image-1"), ("input_fidelity", "high")]), "'input_fidelity'"),
    ] {
        let error = edit(linked(submit)).unwrap_err();
        assert_eq!(error.code(), "unsupported_parameter");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("send the pictures themselves"), "{text}");
    }
    let mut mask_alone = form(&[("model", "gpt-image-2")]);
    mask_alone.mask = Some(link());
    assert!(edit(mask_alone).unwrap_err().to_string().contains("'mask'"), "a mask's address cannot travel either");
    assert_eq!(edit(linked(form(&[("model", "gpt-image-2")]))).unwrap().request.api_kind, ApiKind::Prediction);
    let error = by(ApiPolicy::OpenAi, linked(form(&[("model", "gpt-image-2")])), Task::Edit).unwrap_err();
    assert!(error.to_string().contains("'image'") && error.to_string().contains("'openai'"), "{error}");
    assert!(by(ApiPolicy::Unified, linked(form(&[("model", "gpt-image-2")])), Task::Edit).is_ok());

    let dropped = dropping(linked(masked(&[("model", "gpt-image-2"), ("moderation", "low")]))).unwrap();
    assert_eq!(dropped.dropped, ["moderation", "mask"]);
    assert_eq!((dropped.request.api_kind, dropped.request.mask.is_some()), (ApiKind::Prediction, false));
}

#[test]
fn a_value_that_is_dropped_leaves_the_default() {
    let mut server = server();
    server.unsupported_parameters = UnsupportedParameters::Drop;
    let catalogue = catalogue();
    let offer = Offer { catalogue: &catalogue, allowed: None, routes: ApiPolicy::OpenAi.api_kinds() };
    let submit = form(&[("model", "gpt-image-1.5"), ("background", "transparent")]);
    let checked = crate::api::validate::check(submit, Task::Edit, &server, offer).unwrap();
    assert_eq!(checked.dropped, ["background"]);
    assert_eq!(checked.request.choices["background"], "opaque");
}

#[test]
fn text_to_image_has_its_own_terms() {
    let generate = |texts: &[(&str, &str)]| {
        let mut submit = form(texts);
        submit.images.clear();
        by(ApiPolicy::Auto, submit, Task::Generate)
    };
    let low = generate(&[("model", "gpt-image-2"), ("moderation", "low")]).unwrap().request;
    assert_eq!((low.api_kind, low.choices["moderation"].as_str()), (ApiKind::OpenAi, "low"));
    let error = generate(&[("model", "gpt-image-1"), ("input_fidelity", "high")]).unwrap_err();
    assert_eq!(error.code(), "invalid_input_fidelity_model", "only edits have it: {error}");
}

use super::*;
use crate::config::{Config, Environment};
use crate::model::{Catalogue, Choices};

const FILES: [InputTransport; 4] =
    [InputTransport::Base64Images, InputTransport::Links, InputTransport::Multipart, InputTransport::DataUris];
const QUICK: Option<Duration> = Some(Duration::from_secs(25));
const SLOW: Option<Duration> = Some(Duration::from_secs(140));

fn catalogue() -> Catalogue {
    Config::load(None, &Environment::new()).unwrap().catalogue
}

fn rules() -> FormatRules {
    FormatRules {
        mode: FirstContact::Adapt,
        api: ApiPolicy::Auto,
        inputs: FILES.into(),
        edge_timeout: Duration::from_secs(100),
        publishes: false,
    }
}

/// A request as validation makes it, with every value at its default.
fn request(model: &str, size: &str, choices: Choices) -> PictureRequest {
    PictureRequest {
        task: Task::Edit,
        model: model.into(),
        prompt: "a cat".to_owned(),
        inputs: vec![Input::for_test(b"picture")],
        mask: None,
        n: 1,
        size: size.parse().unwrap(),
        choices,
        explicit: BTreeSet::new(),
        api_kind: ApiKind::Prediction,
    }
}

fn gpt_image_1() -> PictureRequest {
    request("gpt-image-1", "1024x1024", Choices::from([("quality", "medium"), ("background", "opaque")]))
}

fn gpt_image_2() -> PictureRequest {
    request("gpt-image-2", "1024x1024", Choices::from([("quality", "medium")]))
}

fn explicit(mut request: PictureRequest, names: &[&str]) -> PictureRequest {
    request.explicit.extend(names.iter().map(|&name| name.to_owned()));
    request
}

fn of(request: &PictureRequest, rules: &FormatRules, expected: Option<Duration>) -> FormatOptions {
    let catalogue = catalogue();
    FormatOptions::of(catalogue.find(&request.model).unwrap(), request, request.n, rules, expected)
}

fn methods(request: &PictureRequest, rules: &FormatRules, expected: Option<Duration>) -> String {
    let name = |(method, fetch_links): (InputMethod, bool)| {
        format!("{}{}", if fetch_links { "fetched " } else { "" }, method.name())
    };
    of(request, rules, expected).methods.into_iter().map(name).collect::<Vec<_>>().join(", ")
}

fn link() -> Input {
    Input::Link("https://client.example/1.png".to_owned())
}

#[test]
fn files_go_in_the_order_of_the_configuration() {
    let published = FormatRules { publishes: true, ..rules() };
    assert_eq!(methods(&gpt_image_1(), &rules(), QUICK), "base64_images, multipart, data_uris");
    assert_eq!(methods(&gpt_image_1(), &published, QUICK), "base64_images, links, multipart, data_uris");
    // Wire facts: gpt-image-2 refuses data URIs among addresses.
    assert_eq!(methods(&gpt_image_2(), &published, QUICK), "base64_images, links, multipart");
    let inputs = vec![InputTransport::Multipart, InputTransport::Links];
    assert_eq!(methods(&gpt_image_2(), &FormatRules { inputs, ..published }, QUICK), "multipart, links");
}

#[test]
fn a_call_that_an_edge_would_cut_is_streamed_or_not_made() {
    assert_eq!(methods(&gpt_image_2(), &rules(), SLOW), "base64_images, multipart_stream");
    let mini = request("gpt-image-1-mini", "1024x1024", Choices::from([("quality", "high")]));
    assert_eq!(methods(&mini, &rules(), SLOW), "base64_images, multipart_stream, data_uris");
    // Its table at the OpenAI-format endpoints has no stream.
    let plus =
        request("gpt-image-1.5-plus", "1536x1024", Choices::from([("quality", "medium"), ("background", "opaque")]));
    assert_eq!(methods(&plus, &rules(), QUICK), "base64_images, multipart, data_uris");
    assert_eq!(methods(&plus, &rules(), SLOW), "base64_images, data_uris");
    let exactly = Some(Duration::from_secs(100));
    assert_eq!(methods(&gpt_image_2(), &rules(), exactly), "base64_images, multipart_stream");
}

#[test]
fn without_an_estimate_small_pictures_of_low_and_medium_quality_are_quick() {
    for (quality, size, expected) in [
        ("medium", "1024x1024", "base64_images, multipart"),
        ("low", "1536x1024", "base64_images, multipart"),
        ("low", "2048x1152", "base64_images, multipart_stream"),
        ("high", "1024x1024", "base64_images, multipart_stream"),
    ] {
        let request = request("gpt-image-2", size, Choices::from([("quality", quality)]));
        assert_eq!(methods(&request, &rules(), None), expected, "{quality} {size}");
    }
}

#[test]
fn a_mask_goes_by_multipart_first() {
    let masked = |request: PictureRequest| PictureRequest { mask: Some(Input::for_test(b"mask")), ..request };
    let published = FormatRules { publishes: true, ..rules() };
    let one = PictureRequest { api_kind: ApiKind::Prediction, ..masked(gpt_image_1()) };
    assert_eq!(methods(&one, &published, QUICK), "multipart, base64_images, links");
    assert_eq!(methods(&one, &published, SLOW), "multipart_stream, base64_images, links");
    // The prediction API has no mask for it. A call that may be cut is the only one, where no stream is accepted.
    let two = PictureRequest { api_kind: ApiKind::OpenAi, ..masked(gpt_image_2()) };
    assert_eq!(methods(&two, &published, QUICK), "multipart");
    assert_eq!(methods(&two, &published, SLOW), "multipart_stream, multipart");
    assert!(of(&two, &rules(), QUICK).masked);
    let linked = PictureRequest { mask: Some(link()), ..gpt_image_1() };
    assert_eq!(methods(&linked, &rules(), QUICK), "fetched multipart, base64_images");
}

#[test]
fn the_clients_addresses_go_as_they_are_before_the_gateway_fetches_them() {
    let linked = PictureRequest { inputs: vec![link(), link()], ..gpt_image_1() };
    assert_eq!(
        methods(&linked, &rules(), QUICK),
        "links, other_links, fetched base64_images, fetched multipart, fetched data_uris"
    );
    assert_eq!(of(&linked, &rules(), QUICK).inputs, InputKind::Links);
    let strict = FormatRules { mode: FirstContact::Strict, ..rules() };
    assert_eq!(methods(&linked, &strict, QUICK), "links");
    // Its mask is refused by the prediction API, so the addresses are too.
    let masked =
        PictureRequest { inputs: vec![link()], mask: Some(link()), api_kind: ApiKind::OpenAi, ..gpt_image_2() };
    assert_eq!(methods(&masked, &rules(), QUICK), "fetched multipart");
}

#[test]
fn text_to_image_has_two_apis() {
    let text = PictureRequest { task: Task::Generate, inputs: Vec::new(), ..gpt_image_2() };
    assert_eq!(methods(&text, &rules(), QUICK), "no_pictures, multipart");
    assert_eq!(methods(&text, &rules(), SLOW), "no_pictures, multipart_stream");
    let unified = FormatRules { api: ApiPolicy::Unified, ..rules() };
    let text = PictureRequest { api_kind: ApiKind::Unified, ..text };
    assert_eq!(methods(&text, &unified, QUICK), "unified");
    assert_eq!(methods(&PictureRequest { api_kind: ApiKind::Unified, ..gpt_image_2() }, &unified, QUICK), "unified");
}

#[test]
fn the_operators_choice_of_an_api_holds() {
    let predictions = FormatRules { api: ApiPolicy::Prediction, ..rules() };
    assert_eq!(methods(&gpt_image_1(), &predictions, QUICK), "base64_images, data_uris");
    let openai = FormatRules { api: ApiPolicy::OpenAi, ..rules() };
    let request = PictureRequest { api_kind: ApiKind::OpenAi, ..gpt_image_1() };
    assert_eq!(methods(&request, &openai, QUICK), "multipart");
}

#[test]
fn a_method_counts_only_if_it_has_all_that_the_client_asked_for() {
    // Validation chose the OpenAI-format endpoints for a parameter that they alone have.
    let choices = Choices::from([("quality", "medium"), ("moderation", "low")]);
    let moderated = PictureRequest {
        api_kind: ApiKind::OpenAi,
        ..explicit(request("gpt-image-2", "1024x1024", choices), &["moderation"])
    };
    assert_eq!(methods(&moderated, &rules(), QUICK), "multipart");
    // The -plus models have no quality and no square there.
    let plus = |size: &str| {
        request("gpt-image-1.5-plus", size, Choices::from([("quality", "medium"), ("background", "opaque")]))
    };
    assert_eq!(methods(&plus("1024x1024"), &rules(), QUICK), "base64_images, data_uris");
    assert_eq!(methods(&plus("1536x1024"), &rules(), QUICK), "base64_images, multipart, data_uris");
    let asked = explicit(plus("1536x1024"), &["quality"]);
    assert_eq!(methods(&asked, &rules(), QUICK), "base64_images, data_uris");
    let harmless = explicit(plus("1536x1024"), &["background"]);
    assert_eq!(methods(&harmless, &rules(), QUICK), "base64_images, multipart, data_uris");
    // Their OpenAI-format table has no `n` either.
    let several = PictureRequest { n: 2, ..plus("1536x1024") };
    assert_eq!(methods(&several, &rules(), QUICK), "base64_images, data_uris");
    // Another value than the other API's: gpt-image-1.5 has no transparency there.
    let transparent = Choices::from([("quality", "medium"), ("background", "transparent")]);
    let transparent = request("gpt-image-1.5", "1024x1024", transparent);
    assert_eq!(methods(&transparent, &rules(), QUICK), "base64_images, data_uris");
}

#[test]
fn strictly_there_is_the_method_of_the_chosen_api_alone() {
    let strict = FormatRules { mode: FirstContact::Strict, ..rules() };
    assert_eq!(methods(&gpt_image_1(), &strict, QUICK), "base64_images");
    let inputs = vec![InputTransport::Multipart, InputTransport::Links, InputTransport::Base64Images];
    let links_first = FormatRules { publishes: true, inputs, ..strict.clone() };
    assert_eq!(methods(&gpt_image_1(), &links_first, QUICK), "links");
    assert_eq!(methods(&gpt_image_1(), &FormatRules { publishes: false, ..links_first }, QUICK), "base64_images");
    let openai = PictureRequest { api_kind: ApiKind::OpenAi, ..gpt_image_1() };
    assert_eq!(methods(&openai, &strict, SLOW), "multipart");
}

#[test]
fn only_defaults_that_the_client_did_not_ask_for_are_optional() {
    let optional =
        |request: &PictureRequest| of(request, &rules(), QUICK).optional.into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        optional(&gpt_image_1()),
        "background enable_sync_mode input_fidelity moderation n output_format quality response_format"
    );
    let all = ["background", "quality", "n", "size", "moderation"];
    assert_eq!(
        optional(&explicit(gpt_image_1(), &all)),
        "enable_sync_mode input_fidelity n output_format response_format",
        "one picture is one picture, asked for or not"
    );
    assert!(!optional(&PictureRequest { n: 2, ..gpt_image_1() }).split(' ').any(|name| name == "n"));
    let high = request("gpt-image-1", "1024x1024", Choices::from([("quality", "high"), ("background", "opaque")]));
    assert!(!optional(&high).contains("quality"), "not at its default");
    let text = PictureRequest { task: Task::Generate, inputs: Vec::new(), ..gpt_image_1() };
    assert!(!optional(&text).contains("input_fidelity"), "edits only");
}

#[test]
fn a_size_that_the_client_left_open_may_be_the_other_tables() {
    let plus = |size: &str| {
        request("gpt-image-1.5-plus", size, Choices::from([("quality", "medium"), ("background", "opaque")]))
    };
    let other = |request: &PictureRequest| of(request, &rules(), QUICK).other_size.map(|size| size.to_string());
    assert_eq!(other(&plus("1024x1024")).as_deref(), Some("1254x1254"));
    assert_eq!(other(&plus("1536x1024")), None, "both tables have it");
    assert_eq!(other(&explicit(plus("1024x1024"), &["size"])), None);
    assert_eq!(other(&gpt_image_2()), None);
}

#[test]
fn the_missing_public_address_is_named_where_it_would_help() {
    assert!(of(&gpt_image_2(), &rules(), QUICK).lacks_public_url);
    assert!(!of(&gpt_image_2(), &FormatRules { publishes: true, ..rules() }, QUICK).lacks_public_url);
    let unlisted = FormatRules { inputs: vec![InputTransport::Base64Images], ..rules() };
    assert!(!of(&gpt_image_2(), &unlisted, QUICK).lacks_public_url);
    let linked = PictureRequest { inputs: vec![link()], ..gpt_image_2() };
    assert!(!of(&linked, &rules(), QUICK).lacks_public_url);
}

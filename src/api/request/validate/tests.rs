use std::sync::Arc;

use super::*;
use crate::api::request::test_support::{catalogue, png, server};
use crate::config::{ApiPolicy, ImageCheck};
use crate::model::picture::Structure;
use crate::model::{Catalogue, Digest, Picture};

mod api_choice;
mod decompression_bombs;
mod masks;

fn bytes(content: Vec<u8>) -> Input {
    let content = bytes::Bytes::from(content);
    let structure = Structure::of(&content).unwrap();
    let picture = Picture { digest: Digest::of(&content), bytes: content.len() as u64, structure };
    Input::Bytes { picture, source: Arc::new(content) }
}

fn link() -> Input {
    Input::Link("https://example.com/a.png".to_owned())
}

/// Returns a valid form with these texts set.
fn form(texts: &[(&str, &str)]) -> Form {
    let mut form = Form { images: vec![bytes(png(30, 20))], ..Form::default() };
    form.scalars.insert("prompt".to_owned(), Scalar::Text("x".to_owned()));
    for &(name, text) in texts {
        form.scalars.insert(name.to_owned(), Scalar::Text(text.to_owned()));
    }
    form
}

/// Validates for a client that may use every model.
fn check(form: Form, task: Task, requests: &RequestConfig, catalogue: &Catalogue) -> Result<ValidRequest, ApiError> {
    super::validate(
        form,
        task,
        requests,
        AvailableModels { catalogue, allowed: None, api_kinds: ApiPolicy::Auto.api_kinds() },
    )
}

#[test]
fn a_model_that_a_client_may_not_use_is_refused_also_as_the_default() {
    let (catalogue, allowed) = (catalogue(), ["gpt-image-2".to_owned(), "gpt-image-1-mini".to_owned()].into());
    let models =
        AvailableModels { catalogue: &catalogue, allowed: Some(&allowed), api_kinds: ApiPolicy::Auto.api_kinds() };
    let check = |form| super::validate(form, Task::Edit, &server().requests, models);
    assert_eq!(check(form(&[("model", "openai/gpt-image-2")])).unwrap().request.model, "gpt-image-2");
    let named = check(form(&[("model", "openai/gpt-image-1"), ("n", "99")])).unwrap_err();
    assert_eq!(
        named.to_string(),
        "This API key does not have access to the model 'openai/gpt-image-1'. It may use: 'gpt-image-1-mini' and \
         'gpt-image-2'."
    );
    let default = check(form(&[])).unwrap_err();
    assert!(default.to_string().contains("'gpt-image-1.5'"), "{default}");
    let unknown = check(form(&[("model", "dall-e-2")])).unwrap_err();
    assert!(!unknown.to_string().contains("'gpt-image-1'"), "{unknown}");
}

fn edit(form: Form) -> Result<ValidRequest, ApiError> {
    check(form, Task::Edit, &server().requests, &catalogue())
}

fn dropping(form: Form) -> Result<ValidRequest, ApiError> {
    let mut requests = server().requests;
    requests.unsupported_parameters = UnsupportedParameters::Drop;
    check(form, Task::Edit, &requests, &catalogue())
}

#[test]
fn a_valid_request_has_all_values_explicit() {
    let checked = edit(form(&[("prompt", "a\r\nb\rc")])).unwrap();
    let request = checked.request;
    assert_eq!(request.model, "gpt-image-1.5");
    assert_eq!(request.prompt, "a\nb\rc");
    assert_eq!((request.n, request.size.to_string().as_str()), (1, "1536x1024"), "by the first image");
    let choices: Vec<_> = request.choices.pairs().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(choices, ["background=opaque", "quality=medium"]);
    assert_eq!(checked.options.response_format, ResponseFormat::B64Json);
    assert!(checked.dropped.is_empty() && checked.ignored.is_empty());
}

type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn parameters_are_accepted_or_refused_by_name() {
    // Values beside a model, and the error's code and param; no code where it is accepted.
    let cases: &[Case<'_>] = &[
        (&[("model", "chatgpt-image-latest")], "", ""),
        (&[("model", "dall-e-2")], "model_not_found", "model"),
        (&[("model", "gpt-4o-image")], "unsupported_model", "model"),
        (&[("prompt", " \n")], "missing_required_parameter", "prompt"),
        (&[("n", "10")], "", ""),
        (&[("n", "2.0")], "", ""),
        (&[("n", "0")], "integer_below_min_value", "n"),
        (&[("n", "-99999999999999999999")], "integer_below_min_value", "n"),
        (&[("n", "11")], "integer_above_max_value", "n"),
        (&[("n", "99999999999999999999")], "integer_above_max_value", "n"),
        (&[("n", "two")], "invalid_type", "n"),
        (&[("n", "1.5")], "invalid_type", "n"),
        (&[("model", "gpt-image-2-plus"), ("n", "4")], "", ""),
        (&[("size", "auto")], "", ""),
        (&[("size", "512x512")], "", ""),
        (&[("size", "big")], "invalid_value", "size"),
        (&[("size", "1280x512")], "invalid_value", "size"),
        (&[("model", "gpt-image-2"), ("size", "1280x512")], "", ""),
        (&[("model", "gpt-image-2"), ("size", "4096x4096")], "invalid_value", "size"),
        (&[("quality", "auto")], "", ""),
        (&[("quality", "hd")], "", ""),
        (&[("quality", "xhigh")], "invalid_value", "quality"),
        (&[("background", "transparent")], "", ""),
        (&[("background", "green")], "invalid_value", "background"),
        (&[("model", "gpt-image-2"), ("background", "auto")], "", ""),
        (&[("model", "gpt-image-2"), ("background", "opaque")], "", ""),
        (&[("model", "gpt-image-2"), ("background", "transparent")], "unsupported_parameter", "background"),
        (&[("model", "gpt-image-2-plus"), ("quality", "auto")], "", ""),
        (&[("model", "gpt-image-2-plus"), ("quality", "high")], "unsupported_parameter", "quality"),
        (&[("output_format", "png")], "", ""),
        (&[("output_format", "auto")], "", ""),
        (&[("output_format", "jpeg")], "", ""),
        (&[("output_format", "webp"), ("output_compression", "0")], "", ""),
        (&[("output_format", "jpeg"), ("output_compression", "-1")], "integer_below_min_value", "output_compression"),
        (&[("output_format", "png"), ("output_compression", "50")], "unsupported_parameter", "output_compression"),
        (&[("output_format", "jpeg"), ("background", "transparent")], "invalid_value", "background"),
        (&[("output_format", "webp"), ("background", "transparent")], "", ""),
        (&[("output_format", "gif")], "unsupported_parameter", "output_format"),
        (&[("output_format", "svg")], "unsupported_parameter", "output_format"),
        (&[("output_format", "bmp")], "invalid_value", "output_format"),
        (&[("output_compression", "100")], "", ""),
        (&[("output_compression", "99")], "unsupported_parameter", "output_compression"),
        (&[("output_compression", "101")], "integer_above_max_value", "output_compression"),
        (&[("moderation", "auto")], "", ""),
        (&[("moderation", "low")], "", ""),
        (&[("model", "gpt-image-2-plus"), ("moderation", "low")], "unsupported_parameter", "moderation"),
        (&[("moderation", "off")], "invalid_value", "moderation"),
        (&[("input_fidelity", "low")], "", ""),
        (&[("input_fidelity", "high")], "invalid_input_fidelity_model", "input_fidelity"),
        (&[("input_fidelity", "mid")], "invalid_value", "input_fidelity"),
        (&[("stream", "false")], "", ""),
        (&[("stream", "true"), ("partial_images", "3")], "", ""),
        (&[("stream", "true"), ("response_format", "url")], "unsupported_parameter", "response_format"),
        (&[("stream", "perhaps")], "invalid_type", "stream"),
        (&[("stream", "false"), ("partial_images", "1")], "", ""),
        (&[("partial_images", "4")], "integer_above_max_value", "partial_images"),
        (&[("response_format", "url")], "", ""),
        (&[("response_format", "png")], "invalid_value", "response_format"),
        (&[("style", "vivid")], "", ""),
        (&[("complexity", "low")], "unsupported_parameter", "complexity"),
        (&[("frame_count", "9")], "unsupported_parameter", "frame_count"),
        (&[("frame_duration_ms", "200")], "unsupported_parameter", "frame_duration_ms"),
        (&[("svg", "x")], "unsupported_parameter", "svg"),
    ];
    for (texts, code, param) in cases {
        match edit(form(texts)) {
            Ok(_) => assert_eq!(*code, "", "{texts:?} was accepted"),
            Err(error) => {
                assert_eq!(error.code(), *code, "{texts:?}: {error}");
                assert!(
                    error.to_string().contains(param) || *code == "invalid_value",
                    "{texts:?} is not named: {error}"
                );
            }
        }
    }
}

#[test]
fn refusals_list_what_is_allowed() {
    let text = |texts: &[(&str, &str)]| edit(form(texts)).unwrap_err().to_string();
    assert_eq!(
        text(&[("quality", "ultra")]),
        "Invalid value: 'ultra'. Supported values are: 'low', 'medium', 'high', and 'auto'."
    );
    assert_eq!(
        text(&[("output_format", "bmp")]),
        "Invalid value: 'bmp'. Supported values are: 'png', 'jpeg', 'webp', and 'auto'."
    );
    assert!(text(&[("size", "big")]).contains("'1024x1536'"));
    assert!(text(&[("size", "1280x512")]).ends_with("and 'auto'."));
    assert!(text(&[("model", "dall-e-2")]).contains("'gpt-image-2-plus'"));
    assert!(!text(&[("model", "dall-e-2")]).contains("'gpt-4o-image'"), "only what can edit");
    assert!(text(&[("input_fidelity", "high")]).contains("server.unsupported_parameters"));
}

#[test]
fn unsupported_parameters_are_dropped_where_the_operator_says_so() {
    let mut sample = form(&[
        ("model", "gpt-image-2"),
        ("input_fidelity", "high"),
        ("background", "transparent"),
        ("output_format", "svg"),
        ("output_compression", "50"),
        ("moderation", "low"),
        ("svg", "x"),
    ]);
    sample.mask = Some(bytes(png(30, 20)));
    sample.misplaced.insert("markup");
    let checked = dropping(sample).unwrap();
    let mut dropped = checked.dropped;
    dropped.sort_unstable();
    assert_eq!(
        dropped,
        ["background", "input_fidelity", "markup", "output_compression", "output_format", "svg"],
        "and nothing that one of the APIs offers"
    );
    assert!(checked.request.mask.is_some());
    assert_eq!(checked.options.conversion, None);
    // A dropped background contradicts no format; one that the model supports does.
    let opaque = [("model", "gpt-image-2"), ("background", "transparent"), ("output_format", "jpeg")];
    let jpeg = Conversion::new(Format::Jpeg, None);
    assert_eq!(dropping(form(&opaque)).unwrap().options.conversion, Some(jpeg));
    assert_eq!(dropping(form(&opaque[1..])).unwrap_err().code(), "invalid_value");
    // Contradictions and invalid values are never dropped.
    let torn = form(&[("stream", "true"), ("response_format", "url")]);
    assert_eq!(dropping(torn).unwrap_err().code(), "unsupported_parameter");
    assert_eq!(dropping(form(&[("quality", "ultra")])).unwrap_err().code(), "invalid_value");
}

#[test]
fn values_of_a_json_body_keep_their_types() {
    let with = |name: &str, value: Scalar| {
        let mut form = form(&[]);
        form.scalars.insert(name.to_owned(), value);
        edit(form)
    };
    assert_eq!(with("n", Scalar::Number("3".to_owned())).unwrap().request.n, 3);
    assert!(with("stream", Scalar::Bool(false)).is_ok());
    assert_eq!(with("user", Scalar::Number("7".to_owned())).unwrap().options.user.as_deref(), Some("7"));
    for (name, value) in [
        ("prompt", Scalar::Number("3".to_owned())),
        ("prompt", Scalar::Array),
        ("n", Scalar::Bool(true)),
        ("model", Scalar::Object),
        ("stream", Scalar::Number("1".to_owned())),
        ("size", Scalar::Bool(true)),
        ("quality", Scalar::Array),
    ] {
        let error = with(name, value.clone()).unwrap_err();
        assert_eq!(error.code(), "invalid_type", "{name}: {value:?}");
    }
}

#[test]
fn texts_have_a_limit_in_characters() {
    let long = |name: &str, chars: usize| edit(form(&[(name, &"é".repeat(chars))]));
    assert!(long("prompt", 32_000).is_ok());
    for (name, chars) in [("prompt", 32_001), ("user", 513), ("safety_identifier", 129)] {
        assert_eq!(long(name, chars).unwrap_err().code(), "string_above_max_length", "{name}");
    }
}

#[test]
fn ignored_parameters_are_recorded() {
    let mut sample = form(&[("style", "natural")]);
    sample.note_unknown("seed");
    assert_eq!(edit(sample).unwrap().ignored, ["seed", "style"]);
}

#[test]
fn images_are_checked() {
    let with = |images: Vec<Input>| {
        let mut form = form(&[]);
        form.images = images;
        edit(form)
    };
    let picture = || bytes(png(30, 20));
    let broken = || bytes(b"\x89PNG\r\n\x1a\n".to_vec());
    let gif = || bytes(b"GIF89a\x01\0\x01\0".to_vec());
    let cases = [
        (vec![], "missing_required_parameter", "'image'"),
        (vec![picture(), bytes(Vec::new())], "invalid_image_file", "'image[1]'"),
        (vec![gif()], "unsupported_file_mimetype", "('image/gif')"),
        (vec![bytes(b"hello there".to_vec())], "unsupported_file_mimetype", "('text/plain'), because it is text"),
        (vec![bytes(b"\0\x01\x02\x03".to_vec())], "unsupported_file_mimetype", "('application/octet-stream'). Supp"),
        (vec![broken()], "invalid_image_file", "'image'"),
        (vec![picture(), link()], "invalid_value", "cannot be mixed"),
        ((0..17).map(|_| picture()).collect(), "array_above_max_length", "16"),
    ];
    for (images, code, words) in cases {
        let error = with(images).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(with((0..16).map(|_| picture()).collect()).unwrap().request.inputs.len(), 16);
    let linked = with(vec![link(), link()]).unwrap().request;
    assert_eq!(linked.size.to_string(), "1024x1024", "its size is not known");
}

#[test]
fn damaged_images_and_masks_are_refused_by_name_and_place() {
    let whole = png(30, 20);
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let with_tail = [&whole[..], b"\n"].concat();
    let with = |image: &[u8], mask: &[u8], check_images: ImageCheck| {
        let mut requests = server().requests;
        requests.image_check = check_images;
        let mut form = form(&[("model", "gpt-image-1")]);
        form.images = vec![bytes(whole.clone()), bytes(image.to_vec())];
        form.mask = Some(bytes(mask.to_vec()));
        check(form, Task::Edit, &requests, &catalogue())
    };
    assert!(with(&with_tail, &with_tail, ImageCheck::Strict).is_ok());
    assert!(with(&damaged, &damaged, ImageCheck::Off).is_ok());
    let at = whole.len() - 12;
    for (image, mask, param) in [(&damaged, &whole, "image[1]"), (&whole, &damaged, "mask")] {
        let error = with(image, mask, ImageCheck::Strict).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "Invalid image file or mode for '{param}': the checksum of PNG chunk IEND at byte {at} is wrong. \
                 Nothing was bought; check the file and send it again."
            )
        );
    }
}

#[test]
fn any_bytes_are_accepted_when_the_check_is_off() {
    let mut requests = server().requests;
    requests.image_check = ImageCheck::Off;
    let mut sample = form(&[]);
    sample.images = vec![bytes(b"something new".to_vec())];
    assert!(check(sample, Task::Edit, &requests, &catalogue()).is_ok());
    let mut sample = form(&[]);
    sample.images = vec![bytes(Vec::new())];
    let error = check(sample, Task::Edit, &requests, &catalogue()).unwrap_err();
    assert_eq!(error.code(), "invalid_image_file", "an empty file is no picture");
}

#[test]
fn an_image_may_be_too_large_for_its_model_alone() {
    let mut catalogue = catalogue();
    catalogue.models[0].parameters.image_bytes_max = 10;
    let sample = |model| form(&[("model", model)]);
    let error = check(sample("gpt-image-1"), Task::Edit, &server().requests, &catalogue).unwrap_err();
    assert_eq!(error.code(), "image_too_large");
    assert!(check(sample("gpt-image-2"), Task::Edit, &server().requests, &catalogue).is_ok());
}

#[test]
fn addresses_are_refused_where_the_model_accepts_none() {
    let mut catalogue = catalogue();
    let capability = catalogue.models[0].edit.as_mut().unwrap();
    capability.links_field = None;
    let mut sample = form(&[("model", "gpt-image-1")]);
    sample.images = vec![link()];
    let error = check(sample, Task::Edit, &server().requests, &catalogue).unwrap_err();
    assert_eq!(error.code(), "unsupported_parameter");
    assert!(error.to_string().contains("http(s) addresses"), "{error}");
}

#[test]
fn masks_must_fit_their_image() {
    let with = |model: &str, mask: Input| {
        let mut form = form(&[("model", model)]);
        form.mask = Some(mask);
        edit(form)
    };
    assert!(with("gpt-image-1", bytes(png(30, 20))).unwrap().request.mask.is_some());
    assert!(with("gpt-image-1", link()).is_ok());
    let mut jpeg = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(30, 20).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    let mut huge = png(30, 20);
    huge.resize(4_194_305, 0);
    let cases = [
        ("gpt-image-2.5-flare", bytes(png(30, 20)), "unsupported_parameter", "gpt-image-2.5-flare"),
        ("gpt-image-1", bytes(png(20, 30)), "invalid_value", "20x30"),
        ("gpt-image-1", bytes(jpeg.into_inner()), "invalid_value", "must be a PNG"),
        ("gpt-image-1", bytes(huge), "image_too_large", "4 MB"),
        ("gpt-image-1", bytes(Vec::new()), "invalid_image_file", "'mask'"),
        ("gpt-image-1", bytes(b"text".to_vec()), "unsupported_file_mimetype", "'mask'"),
    ];
    for (model, mask, code, words) in cases {
        let error = with(model, mask).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_generation_needs_no_image_and_accepts_none() {
    let generate = |form| check(form, Task::Generate, &server().requests, &catalogue());
    let mut sample = form(&[]);
    sample.images.clear();
    let request = generate(sample).unwrap().request;
    assert_eq!((request.inputs.len(), request.size.to_string().as_str()), (0, "1024x1024"));
    let mut sample = form(&[]);
    sample.images.clear();
    sample.misplaced.insert("image");
    let error = generate(sample).unwrap_err();
    assert_eq!(error.to_string(), "Unsupported parameter: 'image' is not supported here.");
}

#[test]
fn the_output_format_is_no_part_of_the_fingerprint() {
    let fingerprint = |texts: &[(&str, &str)]| {
        let request = edit(form(texts)).unwrap().request;
        crate::model::Fingerprint::of(&crate::model::ClientId("alice".into()), &request)
    };
    let plain = fingerprint(&[]);
    assert_eq!(plain, fingerprint(&[("output_format", "jpeg"), ("output_compression", "30")]));
    assert_eq!(plain, fingerprint(&[("output_format", "webp")]));
    assert_ne!(plain, fingerprint(&[("quality", "high")]));
}

use std::sync::Arc;

use super::*;
use crate::api::request::response_options::{Conversion, ResponseFormat};
use crate::api::request::test_support::{catalogue, png, server};
use crate::config::{ApiPolicy, DefaultResponseFormat, ImageCheck, UnsupportedParameters};
use crate::model::picture::Structure;
use crate::model::{Catalogue, Digest, Format, Picture};

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
        &AvailableModels { catalogue, allowed: None, api_kinds: ApiPolicy::Auto.api_kinds() },
    )
}

#[test]
fn a_model_that_a_client_may_not_use_is_refused_also_as_the_default() {
    let (catalogue, allowed) = (catalogue(), ["gpt-image-2".to_owned(), "gpt-image-1-mini".to_owned()].into());
    let allowed = std::sync::Arc::new(allowed);
    let models =
        AvailableModels { catalogue: &catalogue, allowed: Some(allowed), api_kinds: ApiPolicy::Auto.api_kinds() };
    let check = |form| super::validate(form, Task::Edit, &server().requests, &models);
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
    sample.note_misplaced("markup", "is not supported here");
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
}

#[test]
fn values_that_cannot_be_had_are_dropped_too() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("stream", "true"), ("response_format", "url")], "response_format"),
        (&[("response_format", "png")], "response_format"),
        (&[("quality", "ultra")], "quality"),
        (&[("background", "green")], "background"),
        (&[("moderation", "off")], "moderation"),
        (&[("input_fidelity", "mid")], "input_fidelity"),
        (&[("output_format", "psd")], "output_format"),
        (&[("size", "big")], "size"),
        (&[("size", "1280x512")], "size"),
        (&[("size", "8:1")], "size"),
        (&[("size", "1024x1024"), ("aspect_ratio", "16:9")], "aspect_ratio"),
        (&[("n", "1"), ("num_images", "2")], "num_images"),
        (&[("n", "null")], "n"),
        (&[("width", "1024")], "width"),
        (&[("resolution", "8K")], "resolution"),
        (&[("format", "gif")], "output_format"),
        (&[("output_format", "png"), ("format", "jpeg")], "format"),
    ];
    for (texts, name) in cases {
        let refused = edit(form(texts)).unwrap_err().to_string();
        assert!(!refused.is_empty());
        let checked = dropping(form(texts)).unwrap_or_else(|error| panic!("{texts:?}: {error}"));
        assert_eq!(checked.dropped, [*name], "{texts:?}");
        assert!(!checked.request.explicit.contains(*name), "{texts:?}");
    }
    let wins = dropping(form(&[("size", "1024x1024"), ("aspect_ratio", "16:9")])).unwrap();
    assert_eq!(wins.request.size.to_string(), "1024x1024");
    let streamed = dropping(form(&[("stream", "true"), ("response_format", "url")])).unwrap();
    assert_eq!(streamed.options.response_format, ResponseFormat::B64Json);
    // A model is never dropped.
    assert_eq!(dropping(form(&[("model", "dall-e-9")])).unwrap_err().code(), "model_not_found");
}

/// The size that a request asks for, by the words of other APIs.
fn size_of(texts: &[(&str, &str)]) -> Result<String, String> {
    edit(form(texts)).map(|valid| valid.request.size.to_string()).map_err(|error| error.to_string())
}

#[test]
fn fields_of_other_apis_shape_the_picture() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("aspect_ratio", "16:9")], "1536x864"),
        (&[("aspectRatio", "9:16")], "864x1536"),
        (&[("ratio", "3:2")], "1536x1024"),
        (&[("aspect_ratio", "1:1")], "1024x1024"),
        (&[("aspect_ratio", "auto")], "1536x1024"),
        (&[("aspect_ratio", "1536x1024")], "1536x1024"),
        (&[("size", "16:9")], "1536x864"),
        (&[("size", "2K")], "2048x1360"),
        (&[("size", "auto"), ("aspect_ratio", "2:3")], "1024x1536"),
        (&[("size", "1536x1024"), ("aspect_ratio", "3:2")], "1536x1024"),
        (&[("width", "1280"), ("height", "960")], "1280x960"),
        (&[("image_width", "1280"), ("image_height", "960")], "1280x960"),
        (&[("image_size", "1280x960")], "1280x960"),
        (&[("image_size", "landscape_16_9")], "1536x864"),
        (&[("image_size", "portrait_4_3")], "960x1280"),
        (&[("image_size.width", "1280"), ("image_size.height", "960")], "1280x960"),
        (&[("image_config.aspect_ratio", "16:9"), ("image_config.image_size", "2K")], "2048x1152"),
        (&[("imageConfig[aspectRatio]", "16:9"), ("imageConfig[imageSize]", "4K")], "3840x2160"),
        (&[("resolution", "2K"), ("aspect_ratio", "1:1")], "2048x2048"),
        (&[("resolution", "1k"), ("aspect_ratio", "1:1")], "1024x1024"),
        (&[("resolution", "1280x960")], "1280x960"),
        (&[("resolution", "4K"), ("size", "3840x2160")], "3840x2160"),
    ];
    for (texts, size) in cases {
        let texts: Vec<(&str, &str)> = texts.iter().copied().chain([("model", "gpt-image-2")]).collect();
        assert_eq!(size_of(&texts).as_deref(), Ok(*size), "{texts:?}");
    }
    assert_eq!(edit(form(&[("numberOfImages", "3")])).unwrap().request.n, 3);
    assert_eq!(edit(form(&[("n", "2"), ("batch_size", "2")])).unwrap().request.n, 2);
    let webp = edit(form(&[("output_mime_type", "image/webp")])).unwrap();
    assert_eq!(webp.options.conversion, Some(Conversion::new(Format::Webp, None)));
    let other = edit(form(&[("format", "json"), ("style", "vivid")])).unwrap();
    assert_eq!((other.options.conversion, other.ignored), (None, vec!["format".to_owned(), "style".to_owned()]));
}

#[test]
fn the_format_of_an_input_is_not_that_of_the_result() {
    for name in
        ["mime_type", "mimeType", "mime-type", "MIME_TYPE", "file_format", "fileFormat", "image_format", "imageFormat"]
    {
        let beside = edit(form(&[(name, "image/webp")])).unwrap();
        assert_eq!((beside.options.conversion, beside.ignored), (None, vec![name.to_owned()]));
        assert!(beside.renamed.is_empty(), "{:?}", beside.renamed);
        let lone = Form { images: Vec::new(), ..form(&[(name, "image/webp")]) };
        let lone = check(lone, Task::Generate, &server().requests, &catalogue()).unwrap();
        assert_eq!(lone.options.conversion, Some(Conversion::new(Format::Webp, None)), "{name}");
        assert_eq!(lone.renamed, [format!("{name}=output_format")]);
    }
    for name in [
        "format",
        "output_mime_type",
        "outputMimeType",
        "imageConfig.mimeType",
        "generationConfig.imageConfig.mimeType",
        "outputOptions[mimeType]",
        "parameters.mime_type",
        "parameters.image_format",
    ] {
        let beside = edit(form(&[(name, "image/webp")])).unwrap();
        assert_eq!(beside.options.conversion, Some(Conversion::new(Format::Webp, None)), "{name}");
    }
}

#[test]
fn what_is_left_of_a_dropped_shape_is_used() {
    type Shape<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a [&'a str], bool);
    let cases: &[Shape<'_>] = &[
        (&[("size", "1000x563"), ("aspect_ratio", "16:9")], "1536x864", &["size"], false),
        (&[("size", "1000x563"), ("aspect_ratio", "1:1")], "1024x1024", &["size"], false),
        (&[("size", "1000x563"), ("resolution", "2K"), ("ratio", "1:1")], "2048x2048", &["size"], false),
        (&[("size", "1000x563"), ("width", "1280"), ("height", "960")], "1280x960", &["size"], true),
        (&[("size", "big"), ("width", "1280"), ("height", "960")], "1280x960", &["size"], true),
        (&[("size", "big"), ("aspect_ratio", "9:16")], "864x1536", &["size"], false),
        (&[("width", "100"), ("height", "100")], "1536x1024", &["width", "height"], false),
        (&[("width", "100"), ("height", "100"), ("aspect", "16:9")], "1536x864", &["width", "height"], false),
        (&[("size", "1024x1024"), ("width", "512"), ("height", "512")], "1024x1024", &["width", "height"], true),
        (&[("image_size", "100x100"), ("size", "1:1")], "1024x1024", &["image_size"], false),
        (&[("resolution", "4K"), ("aspect_ratio", "1:1")], "1024x1024", &["resolution"], false),
        (&[("resolution", "2K"), ("aspect_ratio", "8:1")], "2048x1360", &["aspect_ratio"], false),
        (&[("aspect_ratio", "8:1")], "1536x1024", &["aspect_ratio"], false),
    ];
    for (texts, size, dropped, is_exact) in cases {
        let texts: Vec<(&str, &str)> = texts.iter().copied().chain([("model", "gpt-image-2")]).collect();
        let checked = dropping(form(&texts)).unwrap();
        assert_eq!(checked.request.size.to_string(), *size, "{texts:?}");
        assert_eq!(checked.dropped, *dropped, "{texts:?}");
        assert_eq!(checked.request.explicit.contains("size"), *is_exact, "{texts:?}");
        let read: Vec<&str> = checked.renamed.iter().filter_map(|renamed| renamed.split('=').next()).collect();
        let others = texts.iter().map(|(name, _)| *name).filter(|name| !["size", "model"].contains(name));
        let mut used: Vec<&str> = others.filter(|name| !dropped.contains(name)).collect();
        used.sort_unstable();
        assert_eq!(read, used, "{texts:?}");
    }
}

#[test]
fn contradictions_and_values_that_cannot_be_had_are_refused_by_name() {
    let cases: &[Case<'_>] = &[
        (&[("size", "1024x1024"), ("aspect_ratio", "16:9")], "'aspect_ratio'", "contradicts 'size' ('1024x1024')"),
        (&[("size", "16:9"), ("ratio", "1:1")], "'ratio'", "contradicts 'size' ('16:9')"),
        (&[("aspect_ratio", "16:9"), ("ratio", "1:1")], "'ratio'", "contradicts 'aspect_ratio'"),
        (&[("size", "1024x1024"), ("width", "512"), ("height", "512")], "'width'", "contradicts 'size'"),
        (&[("size", "1024x1024"), ("resolution", "4K")], "'resolution'", "contradicts 'size'"),
        (&[("resolution", "1K"), ("image_size", "2K")], "'resolution'", "contradicts 'image_size' ('2K')"),
        (&[("width", "1024"), ("image_width", "512"), ("height", "9")], "'image_width'", "contradicts 'width'"),
        (&[("width", "1024")], "'width'", "needs 'height'"),
        (&[("height", "1024")], "'height'", "needs 'width'"),
        (&[("width", "wide"), ("height", "9")], "'width'", "integer"),
        (&[("width", "0"), ("height", "9")], "'width'", ">= 1"),
        (&[("width", "800"), ("height", "600")], "'width'", "'800x600'"),
        (&[("image_size", "huge")], "'image_size'", "a ratio such as '16:9'"),
        (&[("resolution", "8K")], "'resolution'", "'8K'"),
        (&[("model", "gpt-image-2-plus"), ("resolution", "4K")], "'resolution'", "'4K' cannot be had"),
        (&[("aspect_ratio", "8:1")], "'aspect_ratio'", "'8:1' cannot be had"),
        (&[("resolution", "4K"), ("aspect_ratio", "1:1")], "'resolution'", "'4K' in the shape '1:1'"),
        (&[("n", "1"), ("num_images", "2")], "'num_images'", "contradicts 'n' ('1')"),
        (&[("num_images", "11")], "'num_images'", "<= 10"),
        (&[("format", "gif")], "'output_format'", "'gif'"),
        (&[("output_format", "png"), ("format", "JPEG")], "'format'", "contradicts 'output_format' ('png')"),
        (&[("quality", "undefined")], "'quality'", "the word 'undefined'"),
    ];
    for (texts, name, words) in cases {
        let error = edit(form(texts)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(words), "{texts:?}: {error}");
    }
}

#[test]
fn values_mean_the_same_in_every_spelling() {
    let fingerprint = |texts: &[(&str, &str)]| {
        let valid = edit(form(texts)).unwrap_or_else(|error| panic!("{texts:?}: {error}"));
        crate::model::Fingerprint::of(&crate::model::ClientId("alice".into()), &valid.request)
    };
    for (name, plain, others) in [
        ("size", "1024x1024", &[" 1024x1024 ", "1024X1024", "1024\u{d7}1024", "1024*1024", "1024 x 1024\r\n"][..]),
        ("size", "auto", &["AUTO", " Auto", "auto\n"]),
        ("size", "1536x1024", &["3:2", "3 : 2", "3/2", "landscape"]),
        ("model", "gpt-image-1", &["gpt-image-1\n", "GPT-Image-1", "azure/gpt-image-1", "\u{feff}gpt-image-1"]),
        ("model", "gpt-image-1.5", &["gpt-image-1.5-2025-12-16", "Gpt-Image-1.5"]),
        ("quality", "high", &["High", "high\r\n", " HIGH", "HD"]),
        ("background", "transparent", &["Transparent ", "TRANSPARENT"]),
        ("background", "opaque", &[" opaque ", "Opaque"]),
        ("output_format", "jpeg", &["JPEG", "jpg", "JPG ", "image/jpeg"]),
        ("response_format", "b64_json", &[" B64_JSON", "b64_json\n"]),
        ("n", "2", &[" 2", "2\n", "2.0"]),
    ] {
        let expected = fingerprint(&[(name, plain)]);
        for other in others {
            assert_eq!(fingerprint(&[(name, other)]), expected, "{name}={other:?}");
        }
    }
    let by_ratio = edit(form(&[("aspect_ratio", "3:2")])).unwrap().request;
    assert_eq!(fingerprint(&[("aspect_ratio", "3:2")]), fingerprint(&[("size", "1536x1024")]));
    assert!(!by_ratio.explicit.contains("size"), "a ratio leaves the size to the gateway");
    assert!(edit(form(&[("width", "1536"), ("height", "1024")])).unwrap().request.explicit.contains("size"));
}

#[test]
fn a_refused_size_says_which_sizes_there_are() {
    let text = |texts: &[(&str, &str)]| edit(form(texts)).unwrap_err().to_string();
    let free = text(&[("model", "gpt-image-2"), ("size", "big")]);
    assert!(
        free.contains("WIDTHxHEIGHT of multiples of 16") && free.contains("'auto', a ratio such as '16:9'"),
        "{free}"
    );
    let listed = text(&[("size", "big")]);
    assert!(
        listed.starts_with("Invalid value: 'big'. Supported values are: ") && !listed.contains("WIDTH"),
        "{listed}"
    );
}

#[test]
fn the_response_format_has_a_default_of_the_operator() {
    let with = |texts: &[(&str, &str)]| {
        let mut requests = server().requests;
        requests.response_format_default = DefaultResponseFormat::Url;
        check(form(texts), Task::Edit, &requests, &catalogue()).unwrap().options.response_format
    };
    assert_eq!(with(&[]), ResponseFormat::Url);
    assert_eq!(with(&[("response_format", "b64_json")]), ResponseFormat::B64Json);
    assert_eq!(with(&[("stream", "true")]), ResponseFormat::B64Json, "it never refuses a stream");
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
fn a_generation_needs_no_image_and_refuses_what_was_misplaced() {
    let generate = |form| check(form, Task::Generate, &server().requests, &catalogue());
    let mut sample = form(&[]);
    sample.images.clear();
    let request = generate(sample).unwrap().request;
    assert_eq!((request.inputs.len(), request.size.to_string().as_str()), (0, "1024x1024"));
    let mut sample = form(&[]);
    sample.images.clear();
    sample.note_misplaced("photo", "is not supported here");
    let error = generate(sample).unwrap_err();
    assert_eq!(error.to_string(), "Unsupported parameter: 'photo' is not supported here.");
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

//! Paths that differ from those of the routes: which route they mean, and what to say where they mean none.
//!
//! Programs are configured with a base address with or without `/v1`, with a slash at its end, or with the whole address of a
//! route, and append their own path to it. Where the result can mean one route only, that route serves the request.

use std::borrow::Cow;

/// Longest path that is compared with the routes, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// Longest path for which the nearest route is searched, in bytes.
const COMPARED_BYTES_MAX: usize = 48;
/// Edits between a path and the nearest route, at most.
const EDITS_MAX: usize = 3;

/// What a base address begins with.
const PREFIXES: [&str; 3] = ["v1", "api", "openai"];
/// What else a base address contains that is the whole address of a route.
const BASE_WORDS: [&str; 9] =
    ["images", "image", "edits", "edit", "generations", "generation", "chat", "completions", "responses"];

/// White space at the ends of a path, as clients encode it.
const ENCODED_SPACES: [&str; 4] = ["%20", "%0a", "%0d", "%09"];

/// The routes that a mistyped path is compared with, below `/v1/`.
const ROUTES: [(&str, &str); 10] = [
    ("POST", "images/edits"),
    ("POST", "images/generations"),
    ("POST", "chat/completions"),
    ("POST", "responses"),
    ("GET", "models"),
    ("GET", "models/{id}"),
    ("GET", "predictions"),
    ("GET", "predictions/{id}"),
    ("GET", "results/{id}/{n}"),
    ("GET", "health"),
];

/// Returns the path of the route that `path` means; `None` where it means none, or could mean several.
pub(super) fn canonical(path: &str) -> Option<String> {
    if path.len() > PATH_BYTES_MAX {
        return None;
    }
    let segments = segments(path);
    let words: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.iter().all(|word| PREFIXES.contains(word)) {
        return Some("/".to_owned());
    }
    // Of several routes in one path, the last is what the program appended to its base address.
    (0..words.len())
        .rev()
        .filter(|&at| words[..at].iter().all(|word| PREFIXES.contains(word) || BASE_WORDS.contains(word)))
        .find_map(|at| route(&words[at..], &segments[at..]))
}

/// Returns the path of the route with these segments: `words` in lower case, and as they were sent.
fn route(words: &[&str], segments: &[&str]) -> Option<String> {
    match *words {
        ["images" | "image", operation] => Some(format!("/v1/images/{}", image_operation(operation)?)),
        ["deployments", _, ref rest @ ..] => {
            let operation = match *without_prefixes(rest) {
                ["images" | "image", operation] => format!("images/{}", image_operation(operation)?),
                ["chat", "completions"] => "chat/completions".to_owned(),
                _ => return None,
            };
            Some(format!("/openai/deployments/{}/{operation}", segments[1]))
        }
        ["models" | "model"] => Some("/v1/models".to_owned()),
        ["models" | "model", ..] => Some(format!("/v1/models/{}", segments[1..].join("/"))),
        ["predictions"] => Some("/v1/predictions".to_owned()),
        ["predictions", _] => Some(format!("/v1/predictions/{}", segments[1])),
        ["results", _, _] => Some(format!("/v1/results/{}/{}", segments[1], segments[2])),
        ["inputs", _] => Some(format!("/v1/inputs/{}", segments[1])),
        ["chat", "completions"] => Some("/v1/chat/completions".to_owned()),
        ["responses"] => Some("/v1/responses".to_owned()),
        ["health" | "healthz" | "livez" | "ping"] => Some("/health".to_owned()),
        _ => None,
    }
}

fn image_operation(word: &str) -> Option<&'static str> {
    match word {
        "edits" | "edit" => Some("edits"),
        "generations" | "generation" | "generate" => Some("generations"),
        "variations" | "variation" => Some("variations"),
        _ => None,
    }
}

/// Returns the segments of a path without empty ones and without white space around them.
fn segments(path: &str) -> Vec<&str> {
    path.split('/').map(trimmed).filter(|segment| !segment.is_empty()).collect()
}

fn trimmed(mut segment: &str) -> &str {
    let is_space = |text: Option<&str>| {
        text.is_some_and(|text| ENCODED_SPACES.iter().any(|space| text.eq_ignore_ascii_case(space)))
    };
    while is_space(segment.get(..3)) {
        segment = &segment[3..];
    }
    while is_space(segment.len().checked_sub(3).and_then(|at| segment.get(at..))) {
        segment = &segment[..segment.len() - 3];
    }
    segment
}

fn without_prefixes<'a, 'b>(words: &'a [&'b str]) -> &'a [&'b str] {
    let prefixes = words.iter().take_while(|word| PREFIXES.contains(word)).count();
    &words[prefixes..]
}

/// Returns one sentence about a path that is not served: the route that it resembles, why there is none, or what there is.
pub(super) fn explain(path: &str) -> Cow<'static, str> {
    const ALL: &str = "This gateway serves POST /v1/images/edits, POST /v1/images/generations, POST \
                       /v1/chat/completions, GET /v1/models, GET /v1/predictions and GET \
                       /v1/predictions/{id}; a client's base URL ends with /v1.";
    if path.len() > PATH_BYTES_MAX {
        return ALL.into();
    }
    let lower = path.to_ascii_lowercase();
    let segments = segments(&lower);
    let words = without_prefixes(&segments);
    if let Some(sentence) = words.first().and_then(|first| not_served(first, &words[1..])) {
        return sentence;
    }
    match nearest(&words.join("/")) {
        Some((method, route)) => format!("Did you mean {method} /v1/{route}?").into(),
        None => ALL.into(),
    }
}

/// Returns a sentence about an API that this gateway does not have, by the first words of its paths.
fn not_served(first: &str, rest: &[&str]) -> Option<Cow<'static, str>> {
    let what = match first {
        "images" | "image" if rest.is_empty() => {
            return Some(
                "Use POST /v1/images/edits with pictures, or POST /v1/images/generations without them.".into(),
            );
        }
        "edits" | "edit" if rest.is_empty() => return Some("Did you mean POST /v1/images/edits?".into()),
        "generations" | "generate" if rest.is_empty() => {
            return Some("Did you mean POST /v1/images/generations?".into());
        }
        "deployments" => {
            return Some(
                "Of Azure's addresses, POST /openai/deployments/{model}/images/edits, …/images/generations and \
                 …/chat/completions are served."
                    .into(),
            );
        }
        "files" | "uploads" => {
            return Some(
                "Files are not kept here: send pictures inside the request to POST /v1/images/edits, as files, data \
                 URLs or addresses."
                    .into(),
            );
        }
        "v3" | "cli" => {
            return Some(
                "GPTProto's own API is not served here: use POST /v1/images/edits or POST /v1/images/generations."
                    .into(),
            );
        }
        "metrics" | "readyz" | "status" | "status.json" => {
            return Some("The operator's pages are at another address (operator.listen); here is GET /health.".into());
        }
        "completions" | "engines" => "Text completions are",
        "embeddings" => "Embeddings are",
        "audio" => "Speech and transcriptions are",
        "moderations" => "Moderations are",
        "batches" | "batch" => "Batches are",
        "assistants" | "threads" | "vector_stores" | "conversations" | "containers" | "evals" => {
            "Assistants, conversations and their stores are"
        }
        "fine_tuning" | "fine-tunes" | "fine_tunes" => "Fine-tuning is",
        "realtime" => "The realtime API is",
        "videos" | "video" => "Videos are",
        "messages" | "complete" => "Anthropic's API is",
        "v1beta" => "Gemini's API is",
        "sdapi" | "prompt" => "The API of Stable Diffusion programs is",
        "organization" | "dashboard" | "usage" | "billing" => "Usage and billing are",
        _ => return None,
    };
    Some(
        format!("{what} not served here: pictures are made by POST /v1/images/edits and POST /v1/images/generations.")
            .into(),
    )
}

/// Returns the route that a path below the prefixes resembles.
fn nearest(path: &str) -> Option<(&'static str, &'static str)> {
    if path.len() > COMPARED_BYTES_MAX {
        return None;
    }
    // A route may also stand behind words that are not known, as a proxy's prefix is.
    let ending = ROUTES.iter().find(|(_, route)| path.ends_with(&format!("/{route}")));
    let by_edits = || {
        let near = ROUTES.iter().map(|found| (strsim::levenshtein(path, found.1), found));
        near.filter(|&(edits, (_, route))| edits <= EDITS_MAX.min(route.len() / 3)).min_by_key(|&(edits, _)| edits)
    };
    ending.or_else(|| by_edits().map(|(_, found)| found)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_one_plain_meaning_are_served() {
        for (path, route) in [
            ("//v1/images/edits", "/v1/images/edits"),
            ("/v1//images/generations", "/v1/images/generations"),
            ("/v1/images//generations/", "/v1/images/generations"),
            ("/v1/v1/images/generations", "/v1/images/generations"),
            ("/v1/v1/v1/images/edits", "/v1/images/edits"),
            ("/api/v1/images/edits", "/v1/images/edits"),
            ("/api/images/edits", "/v1/images/edits"),
            ("/api/openai/v1/images/edits", "/v1/images/edits"),
            ("/V1/Images/Edits", "/v1/images/edits"),
            ("/v1/IMAGES/GENERATIONS", "/v1/images/generations"),
            ("/v1/openai/images/edits", "/v1/images/edits"),
            ("/v1/openai/v1/images/edits", "/v1/images/edits"),
            ("/v1/images/edit", "/v1/images/edits"),
            ("/image/edits", "/v1/images/edits"),
            ("/v1/image/generate", "/v1/images/generations"),
            ("/v1/image/generation", "/v1/images/generations"),
            ("/v1/images/variation", "/v1/images/variations"),
            ("/v1/images/generations/images/generations", "/v1/images/generations"),
            ("/v1/images/generations/v1/images/edits", "/v1/images/edits"),
            ("/v1/chat/completions/images/edits", "/v1/images/edits"),
            ("/v1/images/models", "/v1/models"),
            ("/v1/images/edits%20", "/v1/images/edits"),
            ("/v1%0A/images/edits%0d%0a", "/v1/images/edits"),
            ("/v1/model", "/v1/models"),
            ("//v1/models/openai/GPT-Image-1", "/v1/models/openai/GPT-Image-1"),
            ("/api/v1/models/health", "/v1/models/health"),
            ("//v1/predictions/pred_01ABC", "/v1/predictions/pred_01ABC"),
            ("/api/v1/results/pred_01abc/0.png", "/v1/results/pred_01abc/0.png"),
            ("/v1/v1/inputs/ABC", "/v1/inputs/ABC"),
            ("/openai/deployments/My-Model/v1/images/edits", "/openai/deployments/My-Model/images/edits"),
            ("//openai/deployments/m/images/generations", "/openai/deployments/m/images/generations"),
            ("/deployments/m/image/edit", "/openai/deployments/m/images/edits"),
            ("/openai/deployments/m/v1/chat/completions", "/openai/deployments/m/chat/completions"),
            ("//v1/chat/completions", "/v1/chat/completions"),
            ("/openai/deployments/m/v1/chat/completions/", "/openai/deployments/m/chat/completions"),
            ("/v1/v1/responses", "/v1/responses"),
            ("//", "/"),
            ("/openai/v1", "/"),
            ("/API/v1/", "/"),
            ("/v1/ping", "/health"),
            ("/Healthz", "/health"),
        ] {
            assert_eq!(canonical(path).as_deref(), Some(route), "{path}");
        }
    }

    #[test]
    fn other_paths_are_not_guessed() {
        for path in [
            "/v1/images",
            "/v1/images/edits/1",
            "/v1/edits",
            "/proxy/v1/images/edits",
            "/v1/embeddings",
            "/v1/images/upscale",
            "/v2/images/edits",
            "/v1/predictions/1/2",
            "/v1/results/pred_1",
            "/v1/files/models",
            "/openai/deployments/m/chat/edits",
            "/deployments/images/edits/x",
            "/openai/deployments/images/edits",
            "/%20x",
            "/..%2fimages/edits",
        ] {
            assert_eq!(canonical(path), None, "{path}");
        }
        assert_eq!(canonical(&format!("/{}", "v1/".repeat(200))), None, "too long");
    }

    #[test]
    fn the_others_are_explained() {
        for (path, part) in [
            ("/v1/images", "POST /v1/images/edits with pictures"),
            ("/v1/edits", "Did you mean POST /v1/images/edits?"),
            ("/generate", "Did you mean POST /v1/images/generations?"),
            ("/v1/image/editz", "Did you mean POST /v1/images/edits?"),
            ("/v1/imagesgenerations", "Did you mean POST /v1/images/generations?"),
            ("/v1/modles", "Did you mean GET /v1/models?"),
            ("/proxy/v1/images/edits", "Did you mean POST /v1/images/edits?"),
            ("/v1/chat/completion", "Did you mean POST /v1/chat/completions?"),
            ("/v1/response", "Did you mean POST /v1/responses?"),
            ("/helth", "Did you mean GET /v1/health?"),
            ("/v1/completions", "Text completions are not served here"),
            ("/v1/embeddings", "Embeddings are not served here"),
            ("/v1/audio/speech", "Speech and transcriptions"),
            ("/v1/files/file-abc/content", "Files are not kept here"),
            ("/v1/assistants", "Assistants"),
            ("/v1/threads/t/runs", "Assistants"),
            ("/v1/messages", "Anthropic's API"),
            ("/v1beta/models/gemini:generateContent", "Gemini's API"),
            ("/sdapi/v1/txt2img", "Stable Diffusion"),
            ("/api/v3/openai/gpt-image-2/text-to-image", "GPTProto's own API"),
            ("/openai/deployments", "Azure's addresses"),
            ("/openai/deployments/m/embeddings", "Azure's addresses"),
            ("/dashboard/billing/usage", "Usage and billing"),
            ("/metrics", "operator.listen"),
            ("/v1/prediction", "Did you mean GET /v1/predictions?"),
            ("/favicon.ico", "This gateway serves POST /v1/images/edits"),
            ("/v1/foo", "This gateway serves POST /v1/images/edits"),
        ] {
            let sentence = explain(path);
            assert!(sentence.contains(part), "{path}: {sentence}");
        }
        let long = "/é".repeat(5_000);
        assert!(explain(&long).starts_with("This gateway serves"));
    }
}

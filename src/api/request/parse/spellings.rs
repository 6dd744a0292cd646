//! One request in random spellings, orders and chunkings has one fingerprint; otherwise a retry would pay twice.

use std::convert::Infallible;
use std::fmt::Write;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::stream;
use proptest::prelude::*;

use super::{ParseServices, parse};
use crate::api::request::available_models::AvailableModels;
use crate::api::request::test_support::{catalogue, inputs, limits, png, server, spool};
use crate::config::ApiPolicy;
use crate::model::{ClientId, Fingerprint, Task};
use crate::storage::spool::Spool;

/// A request that is not yet written as a form or as JSON.
#[derive(Clone, Debug)]
struct SampleRequest {
    prompt: String,
    n: u8,
    quality: &'static str,
    size: &'static str,
    pictures: Vec<(u32, u32)>,
    masked: bool,
}

fn requests() -> impl Strategy<Value = SampleRequest> {
    let quality = prop::sample::select(vec!["low", "medium", "high"]);
    let size = prop::sample::select(vec!["1024x1024", "1536x1024", "512x512"]);
    let pictures = prop::collection::vec((8_u32..40, 8_u32..40), 1..4);
    let prompt = "[a-zA-Z0-9\"\\\\/{}:,; \\n\u{e4}\u{1f431}-]{0,60}x";
    (prompt, 1_u8..=10, quality, size, pictures, any::<bool>()).prop_map(
        |(prompt, n, quality, size, pictures, masked)| SampleRequest { prompt, n, quality, size, pictures, masked },
    )
}

/// An endless source of random choices (`xorshift64`).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// Shuffles the items, except that those that match `keep` stay in order among themselves.
    fn shuffle<T>(&mut self, mut items: Vec<T>, keep: impl Fn(&T) -> bool) -> Vec<T> {
        let (mut kept, mut rest): (Vec<T>, Vec<T>) = (Vec::new(), Vec::new());
        for item in items.drain(..) {
            if keep(&item) { kept.push(item) } else { rest.push(item) }
        }
        for last in (1..rest.len()).rev() {
            let other = self.below(last + 1);
            rest.swap(last, other);
        }
        for (position, item) in kept.into_iter().enumerate() {
            // Each after the previous one.
            let before = rest.iter().rposition(&keep).map_or(0, |at| at + 1);
            let at = before + self.below(rest.len() - before + 1);
            let at = if position == 0 { self.below(rest.len() + 1) } else { at };
            rest.insert(at, item);
        }
        rest
    }
}

impl SampleRequest {
    /// Returns the texts by name, with defaults and ignored names at random.
    fn texts(&self, dice: &mut Dice) -> Vec<(&'static str, String)> {
        let mut texts = vec![
            ("model", dice.one_of(&["gpt-image-1.5", "openai/gpt-image-1.5"]).to_owned()),
            ("size", self.size.to_owned()),
        ];
        if self.n > 1 || dice.coin() {
            texts.push(("n", self.n.to_string()));
        }
        if self.quality != "medium" {
            texts.push(("quality", self.quality.to_owned()));
        } else if dice.coin() {
            texts.push(("quality", dice.one_of(&["medium", "auto", "standard"]).to_owned()));
        }
        let idle = [("moderation", "auto"), ("user", "u"), ("seed", "7"), ("stream", "false"), ("background", "auto")];
        texts.extend(idle.into_iter().filter(|_| dice.coin()).map(|(name, value)| (name, value.to_owned())));
        texts
    }

    fn form(&self, dice: &mut Dice) -> (String, Vec<u8>) {
        let mut parts: Vec<(String, Vec<u8>, bool)> = Vec::new();
        let mut texts = self.texts(dice);
        let newline = dice.one_of(&["\n", "\r\n"]);
        texts.push(("prompt", self.prompt.replace('\n', newline)));
        for (name, value) in texts {
            let quoted = dice.one_of(&[format!("\"{name}\""), name.to_owned()]);
            let disposition = format!("form-data; name={quoted}");
            for _ in 0..=usize::from(dice.below(8) == 0) {
                parts.push((head(dice, &disposition, "text/plain; charset=utf-8"), value.clone().into_bytes(), false));
            }
        }
        for (position, &(width, height)) in self.pictures.iter().enumerate() {
            // Numbers ascend with the position, so that they change no order.
            let name = dice.one_of(&[
                "image".to_owned(),
                "image[]".to_owned(),
                " Image".to_owned(),
                "reference_image".to_owned(),
                "inputImages[]".to_owned(),
                format!("image[{position}]"),
                format!("image_{}", position + 1),
                format!("IMAGE.{position}"),
            ]);
            let file = dice.one_of(&[
                "; filename=\"a.jpg\"",
                "; filename=blob",
                "; filename=\"x/y.png\"; filename*=utf-8''y",
                "",
            ]);
            let disposition = format!("form-data; name=\"{name}\"{file}");
            if dice.below(4) > 0 {
                parts.push((head(dice, &disposition, "application/octet-stream"), png(width, height), true));
                continue;
            }
            // As text, or in an encoding that its head declares.
            let text = base64_simd::STANDARD.encode_to_string(png(width, height));
            let plain = format!("Content-Disposition: form-data; name=\"{name}\"");
            parts.push(match dice.below(5) {
                0 => (plain, format!("data:image/png;base64,{}", text.replace('+', " ")).into_bytes(), true),
                1 => (plain, text.into_bytes(), true),
                2 => (plain, format!("[\"{text}\"]").into_bytes(), true),
                3 => (format!("{plain}\r\nContent-Type: application/json"), format!("\"{text}\"").into_bytes(), true),
                _ => (format!("{plain}{file}\r\nContent-Transfer-Encoding: BASE64"), text.into_bytes(), true),
            });
        }
        if self.masked {
            let (width, height) = self.pictures[0];
            let name = dice.one_of(&["mask", "mask[]", "mask_image", "Masks", "maskUrl"]);
            let disposition = format!("form-data; name=\"{name}\"; filename=\"m\"");
            parts.push((head(dice, &disposition, "image/png"), png(width, height), false));
        }
        let boundary =
            dice.one_of(&["B", "----WebKitFormBoundary7MA4YWxkTrZu0gW", "=_b'0_=", &"x".repeat(70)]).to_owned();
        let mut body = Vec::new();
        for (head, bytes, _) in dice.shuffle(parts, |(_, _, is_picture)| *is_picture) {
            body.extend_from_slice(format!("--{boundary}\r\n{head}\r\n\r\n").as_bytes());
            body.extend_from_slice(&bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--{}", dice.one_of(&["", "\r\n", "\r\n\r\n"])).as_bytes());
        (format!("multipart/form-data; boundary=\"{boundary}\""), body)
    }

    fn json(&self, dice: &mut Dice) -> (String, Vec<u8>) {
        let mut members: Vec<String> = Vec::new();
        for (name, value) in self.texts(dice) {
            let bare = matches!(name, "n" | "stream") && dice.coin();
            let value = if bare { value } else { serde_json::to_string(&value).unwrap() };
            members.push(format!("\"{name}\":{value}"));
        }
        members.push(format!("\"prompt\":{}", self.escaped_prompt(dice)));
        let pictures: Vec<String> =
            self.pictures.iter().map(|&(width, height)| reference(dice, width, height)).collect();
        let name =
            dice.one_of(&["image", "images", "image[]", "image_urls", "reference_images", "inputImages", "Image "]);
        members.push(if pictures.len() == 1 && dice.coin() {
            format!("\"{name}\":{}", pictures[0])
        } else {
            format!("\"{name}\":[{}]", pictures.join(", "))
        });
        if self.masked {
            let (width, height) = self.pictures[0];
            members.push(format!("\"mask\":{}", reference(dice, width, height)));
        } else if dice.coin() {
            members.push("\"mask\":null".to_owned());
        }
        let members = dice.shuffle(members, |_| false);
        let between = dice.one_of(&[",", " ,\n\t"]);
        ("application/json".to_owned(), format!("{{{}}}", members.join(between)).into_bytes())
    }

    fn escaped_prompt(&self, dice: &mut Dice) -> String {
        let mut text = String::from("\"");
        for unit in self.prompt.encode_utf16() {
            let plain = char::from_u32(unit.into()).filter(|sign| sign.is_ascii_alphanumeric() || *sign == ' ');
            match plain.filter(|_| dice.below(4) > 0) {
                Some(sign) => text.push(sign),
                None => write!(text, "\\u{unit:04x}").unwrap(),
            }
        }
        text + "\""
    }
}

fn head(dice: &mut Dice, disposition: &str, media_type: &str) -> String {
    let disposition = format!("{}: {disposition}", dice.one_of(&["Content-Disposition", "content-disposition"]));
    match dice.below(3) {
        0 => disposition,
        1 => format!("{disposition}\r\nContent-Type: {media_type}"),
        _ => format!("Content-Type: {media_type}\r\n{disposition}"),
    }
}

fn reference(dice: &mut Dice, width: u32, height: u32) -> String {
    let text = base64_simd::STANDARD.encode_to_string(png(width, height));
    let text = match dice.below(4) {
        0 => text.replace('+', " "),
        1 => text.replace('+', "%2B").replace('=', "%3d"),
        _ => text,
    };
    let url = format!("data:{};base64,{text}", dice.one_of(&["image/png", "image/jpeg", ""]));
    match dice.below(6) {
        0 => format!("{{\"image_url\":\"{url}\"}}"),
        1 => format!("{{\"image_url\":{{\"url\":\"{url}\",\"detail\":\"high\"}}}}"),
        2 => format!("{{\"type\":\"image_url\",\"url\":\"{url}\"}}"),
        3 => format!("{{\"b64_json\":\"{text}\"}}"),
        4 => format!("\"{text}\""),
        _ => format!("\"{url}\""),
    }
}

async fn fingerprint(dice: &mut Dice, spool: &Spool, (content_type, bytes): (String, Vec<u8>)) -> Fingerprint {
    let largest = dice.one_of(&[1, 7, 100, 1 << 20]);
    let mut chunks = Vec::new();
    let mut rest = Bytes::from(bytes);
    while !rest.is_empty() {
        let size = (1 + dice.below(largest)).min(rest.len());
        chunks.push(Ok::<_, Infallible>(rest.split_to(size)));
    }
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
    let catalogue = catalogue();
    let models = AvailableModels { catalogue: &catalogue, allowed: None, api_kinds: ApiPolicy::Auto.api_kinds() };
    let body = Body::from_stream(stream::iter(chunks));
    let server = server();
    let inputs = inputs();
    let services = ParseServices { spool, server: &server, models: &models, inputs: &inputs, own_results: None };
    let valid = parse(&limits(Task::Edit), &headers, None, body, services).await.unwrap();
    Fingerprint::of(&ClientId("alice".into()), &valid.request)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_spelling_of_a_request_has_its_fingerprint(request in requests(), other in requests(), seed in 1_u64..) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_directory, spool) = spool();
        runtime.block_on(async {
            let mut dice = Dice(seed);
            let plain = request.form(&mut dice);
            let first = fingerprint(&mut dice, &spool, plain).await;
            for _ in 0..2 {
                let form = request.form(&mut dice);
                let shown = String::from_utf8_lossy(&form.1).into_owned();
                prop_assert_eq!(fingerprint(&mut dice, &spool, form).await, first, "{}", shown);
                let json = request.json(&mut dice);
                let shown = String::from_utf8_lossy(&json.1).into_owned();
                prop_assert_eq!(fingerprint(&mut dice, &spool, json).await, first, "{}", shown);
            }
            let another = other.json(&mut dice);
            let same = format!("{request:?}") == format!("{other:?}");
            prop_assert_eq!(fingerprint(&mut dice, &spool, another).await == first, same);
            Ok(())
        })?;
    }
}

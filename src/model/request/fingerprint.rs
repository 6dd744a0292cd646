//! What makes two requests equal: client, capability, model, parameters, and the bytes of the input pictures.
//!
//! Never the raw body: multipart boundaries differ on every retry of an SDK.

use std::fmt;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use super::picture_request::PictureRequest;
use crate::model::ids::{ClientId, Digest};

/// The digest of everything that determines the result of a request, within one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(Digest);

/// Changes with the meaning of the fields below, so that a result of an older version does not answer a request.
const VERSION: &str = "gptproto-gateway fingerprint 1";
/// Where the hash of the fields begins.
static KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(VERSION));
/// Bytes of the fields of most requests, without the prompt.
const FIELDS_BYTES: usize = 512;

impl Fingerprint {
    /// Computes the fingerprint of a client's request.
    pub(crate) fn of(client: &ClientId, request: &PictureRequest) -> Self {
        let mut fields = Vec::with_capacity(FIELDS_BYTES + request.prompt.len());
        let mut field = |name: &str, value: &[u8]| {
            // Lengths first, so that no two lists of fields yield the same bytes.
            for text in [name.as_bytes(), value] {
                fields.extend_from_slice(&(text.len() as u64).to_le_bytes());
                fields.extend_from_slice(text);
            }
        };
        field("client", client.0.as_bytes());
        field("task", request.task.name().as_bytes());
        field("model", request.model.as_bytes());
        field("prompt", request.prompt.as_bytes());
        field("n", &[request.n]);
        field("size", request.size.to_string().as_bytes());
        for (name, value) in request.choices.pairs() {
            field(name, value.as_bytes());
        }
        for input in &request.inputs {
            field("image", &input.fingerprint_bytes());
        }
        if let Some(mask) = &request.mask {
            field("mask", &mask.fingerprint_bytes());
        }
        Self(blake3::Hasher::new_from_context_key(&KEY).update(&fields).finalize().into())
    }
}

impl From<Digest> for Fingerprint {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::request::{ApiKind, Choices, Input, Size, Task};

    fn request() -> PictureRequest {
        PictureRequest {
            task: Task::Edit,
            model: "gpt-image-2".into(),
            prompt: "a cat".into(),
            inputs: vec![Input::for_test(b"one"), Input::for_test(b"two")],
            mask: None,
            n: 1,
            size: Size { width: 1024, height: 1024 },
            choices: Choices::from([("quality", "low")]),
            explicit: std::collections::BTreeSet::new(),
            api_kind: ApiKind::Prediction,
        }
    }

    #[test]
    fn every_part_of_a_request_changes_the_fingerprint() {
        let alice = ClientId("alice".into());
        let same = Fingerprint::of(&alice, &request());
        assert_eq!(same, Fingerprint::of(&alice, &request()));
        // A stored result answers later requests by this value: it changes only with `VERSION`.
        assert_eq!(same.to_string(), "1894813702fd9005cf18617db75b13c18925ecf4478a3c69f3edd0d2f0ab4a5a");
        let elsewhere = PictureRequest { api_kind: ApiKind::OpenAi, ..request() };
        assert_eq!(same, Fingerprint::of(&alice, &elsewhere), "the same request at another upstream API");

        let mut others = vec![Fingerprint::of(&ClientId("bob".into()), &request())];
        let mut change = |edit: fn(&mut PictureRequest)| {
            let mut other = request();
            edit(&mut other);
            others.push(Fingerprint::of(&alice, &other));
        };
        change(|r| r.task = Task::Generate);
        change(|r| r.model = "gpt-image-1".into());
        change(|r| r.prompt.push('s'));
        change(|r| r.n = 2);
        change(|r| r.size.width = 1536);
        change(|r| r.choices.set("quality", "high"));
        change(|r| r.inputs.swap(0, 1));
        change(|r| r.mask = r.inputs.pop());
        for (index, other) in others.iter().enumerate() {
            assert_ne!(same, *other, "change {index} has no effect");
        }
    }
}

//! What makes two requests the same: one client, one capability, one model, equal parameters, equal picture bytes.
//!
//! Never the raw body: multipart boundaries differ on every retry of an SDK.

use std::fmt;

use super::{ClientId, PictureRequest};

/// BLAKE3 of some bytes. Equality takes constant time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(blake3::Hash);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.0.to_hex()[..12])
    }
}

/// The identity of a request within one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(Digest);

/// Changes whenever the meaning of the fields below does, so that an old cache cannot answer a new question.
const VERSION: &str = "gptproto-gateway fingerprint 1";

impl Fingerprint {
    pub(crate) fn of(client: &ClientId, request: &PictureRequest) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(VERSION);
        let mut field = |name: &str, value: &[u8]| {
            // Both lengths first: no two lists of fields run together into the same bytes.
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
        };
        field("client", client.0.as_bytes());
        field("task", request.task.name().as_bytes());
        field("model", request.model.as_bytes());
        field("prompt", request.prompt.as_bytes());
        field("n", &[request.n]);
        field("size", request.size.to_string().as_bytes());
        for (name, value) in &request.choices {
            field(name, value.as_bytes());
        }
        for input in &request.inputs {
            field("image", &input.identity());
        }
        if let Some(mask) = &request.mask {
            field("mask", &mask.identity());
        }
        Self(hasher.finalize().into())
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
    use std::collections::BTreeMap;

    use super::super::{ApiKind, Input, Size, Task};
    use super::*;

    fn request() -> PictureRequest {
        PictureRequest {
            task: Task::Edit,
            model: "gpt-image-2".into(),
            prompt: "a cat".into(),
            inputs: vec![Input::for_test(b"one"), Input::for_test(b"two")],
            mask: None,
            n: 1,
            size: Size { width: 1024, height: 1024 },
            choices: BTreeMap::from([("quality".to_owned(), "low".to_owned())]),
            api_kind: ApiKind::Prediction,
        }
    }

    #[test]
    fn every_part_of_a_request_counts() {
        let alice = ClientId("alice".into());
        let same = Fingerprint::of(&alice, &request());
        assert_eq!(same, Fingerprint::of(&alice, &request()));
        let elsewhere = PictureRequest { api_kind: ApiKind::OpenAi, ..request() };
        assert_eq!(same, Fingerprint::of(&alice, &elsewhere), "the same wish, asked for at another door");

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
        change(|r| r.choices.insert("quality".into(), "high".into()).map_or((), drop));
        change(|r| r.inputs.swap(0, 1));
        change(|r| r.mask = r.inputs.pop());
        for (index, other) in others.iter().enumerate() {
            assert_ne!(same, *other, "change {index} does not count");
        }
    }
}

//! A JSON body, read without copying: an edit carries many megabytes of base64 in its strings.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

/// Strings longer than this are remembered by their digest.
const REMEMBERED_CHARS: usize = 40_000;

/// One JSON value whose strings borrow from the body where they can.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is no integer, or too large for one.
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<Field<'a>>),
    /// In the order of the body.
    Object(Vec<(String, Field<'a>)>),
}

impl Field<'_> {
    /// What is remembered of the value: base64 is replaced by its length and the digest of the decoded bytes.
    pub(super) fn remembered(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => json!(value),
            Self::Integer(value) => json!(value),
            Self::Number(value) => json!(value),
            Self::Text(text) => remembered_text(text),
            Self::List(values) => values.iter().map(Field::remembered).collect(),
            Self::Object(fields) => fields
                .iter()
                .map(|(key, value)| (key.clone(), value.remembered()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

fn remembered_text(text: &str) -> Value {
    match decoded(text) {
        Some(bytes) => remembered_bytes(&bytes),
        None if text.len() > REMEMBERED_CHARS * 4 => {
            json!({"text_blake3": blake3::hash(text.as_bytes()).to_hex().as_str(), "text_bytes": text.len()})
        }
        None => json!(text),
    }
}

/// What is remembered of a picture.
pub(super) fn remembered_bytes(bytes: &[u8]) -> Value {
    json!({"blake3": blake3::hash(bytes).to_hex().as_str(), "bytes": bytes.len()})
}

/// The bytes of a data URI of a picture.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let (head, data) = text.strip_prefix("data:")?.split_once(',')?;
    let media = head.strip_suffix(";base64")?;
    if !matches!(media, "image/png" | "image/jpeg" | "image/jpg" | "image/webp") {
        return None;
    }
    base64_simd::STANDARD.decode_to_vec(data).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(std::marker::PhantomData))
    }
}

struct FieldVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for FieldVisitor<'a> {
    type Value = Field<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Field::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Field::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Field::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Field::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Field::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry()? {
            fields.push(entry);
        }
        Ok(Field::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_strings_are_borrowed_and_pictures_are_remembered_by_digest() {
        let body = r#"{"prompt": "a\nb", "images": ["https://x/y.png"], "n": 2, "mask": "data:image/png;base64,AAEC"}"#;
        let field: Field<'_> = serde_json::from_str(body).unwrap();
        let Field::Object(fields) = &field else { panic!("an object") };
        assert!(matches!(&fields[1].1, Field::List(list) if matches!(list[0], Field::Text(Cow::Borrowed(_)))));
        let digest = blake3::hash(&[0, 1, 2]);
        assert_eq!(
            field.remembered(),
            json!({
                "prompt": "a\nb", "images": ["https://x/y.png"], "n": 2,
                "mask": {"blake3": digest.to_hex().as_str(), "bytes": 3},
            })
        );
    }
}

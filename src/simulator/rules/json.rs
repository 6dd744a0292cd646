//! A JSON body, parsed without copying: the strings of an edit hold many megabytes of base64.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::errors::Refusal;

/// Longer strings are replaced by their digest.
const TEXT_BYTES_MAX: usize = 160_000;

/// One JSON value whose strings borrow from the body where possible.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JsonValue<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is not an integer, or does not fit into one.
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<JsonValue<'a>>),
    /// The keys in the order of the body.
    Object(Vec<(String, JsonValue<'a>)>),
}

impl<'a> JsonValue<'a> {
    /// Parses a body.
    ///
    /// # Errors
    ///
    /// When the body is not JSON.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(|_| Refusal::invalid("Invalid JSON body"))
    }

    /// Returns the value with every picture replaced by its length and digest.
    pub(crate) fn with_digests(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => json!(value),
            Self::Integer(value) => json!(value),
            Self::Number(value) => json!(value),
            Self::Text(text) => digest_of_text(text),
            Self::List(values) => values.iter().map(JsonValue::with_digests).collect(),
            Self::Object(fields) => fields
                .iter()
                .map(|(key, value)| (key.clone(), value.with_digests()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

fn digest_of_text(text: &str) -> Value {
    match decode_data_uri(text) {
        Some(bytes) => digest_of_bytes(&bytes),
        None if text.len() > TEXT_BYTES_MAX => {
            json!({"text_blake3": blake3::hash(text.as_bytes()).to_hex().as_str(), "text_bytes": text.len()})
        }
        None => json!(text),
    }
}

/// Returns the JSON that stands for a picture.
pub(crate) fn digest_of_bytes(bytes: &[u8]) -> Value {
    json!({"blake3": blake3::hash(bytes).to_hex().as_str(), "bytes": bytes.len()})
}

/// Decodes a data URI of a picture.
pub(crate) fn decode_data_uri(text: &str) -> Option<Vec<u8>> {
    let (head, data) = text.strip_prefix("data:")?.split_once(',')?;
    let media = head.strip_suffix(";base64")?;
    if !matches!(media, "image/png" | "image/jpeg" | "image/jpg" | "image/webp") {
        return None;
    }
    base64_simd::STANDARD.decode_to_vec(data).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor(std::marker::PhantomData))
    }
}

struct JsonVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for JsonVisitor<'a> {
    type Value = JsonValue<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(JsonValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(JsonValue::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(JsonValue::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(JsonValue::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(JsonValue::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(JsonValue::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(JsonValue::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry()? {
            fields.push(entry);
        }
        Ok(JsonValue::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_strings_are_borrowed_and_pictures_become_digests() {
        let body = r#"{"prompt": "a\nb", "images": ["https://x/y.png"], "n": 2, "mask": "data:image/png;base64,AAEC"}"#;
        let field: JsonValue<'_> = serde_json::from_str(body).unwrap();
        let JsonValue::Object(fields) = &field else { panic!("not an object") };
        assert!(matches!(&fields[1].1, JsonValue::List(list) if matches!(list[0], JsonValue::Text(Cow::Borrowed(_)))));
        let digest = blake3::hash(&[0, 1, 2]);
        assert_eq!(
            field.with_digests(),
            json!({
                "prompt": "a\nb", "images": ["https://x/y.png"], "n": 2,
                "mask": {"blake3": digest.to_hex().as_str(), "bytes": 3},
            })
        );
    }
}

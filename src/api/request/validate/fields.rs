//! The fields of a request as they are meant: without the white space around them, and with choices in the catalogue's
//! spelling. All messages show the values as they are after this step, because these are compared.

use std::collections::BTreeMap;

use super::refusals::Refusals;
use crate::api::error::ApiError;
use crate::api::error::messages::is_invisible;
use crate::api::request::body::form::{Scalar, static_name};
use crate::model::Model;

type Scalars = BTreeMap<String, Scalar>;

/// Texts of people and programs, which stay as they are.
const TEXTS: [&str; 3] = ["prompt", "user", "safety_identifier"];
/// What programs write in a form for a variable that has no value.
const NULL_WORDS: [&str; 5] = ["null", "undefined", "none", "nil", "nan"];

/// Removes the white space around every value that is not a text, and values that are nothing else.
pub(super) fn trim(scalars: &mut Scalars) {
    scalars.retain(|name, value| {
        let Scalar::Text(text) = value else { return true };
        if TEXTS.contains(&name.as_str()) {
            return true;
        }
        let trimmed = text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
        if trimmed.len() != text.len() {
            *text = trimmed.to_owned();
        }
        !text.is_empty()
    });
}

/// Refuses values that are the word for a missing one, or drops them.
pub(super) fn refuse_null_words(scalars: &mut Scalars, refusals: &mut Refusals) -> Result<(), ApiError> {
    // The style is ignored in any case, so its value does not matter.
    let is_text = |name: &str| TEXTS.contains(&name) || name == "style";
    let null_words = scalars.iter().filter_map(|(name, value)| {
        let Scalar::Text(text) = value else { return None };
        (is_null_word(text) && !is_text(name)).then(|| (name.clone(), text.clone()))
    });
    for (name, word) in null_words.collect::<Vec<_>>() {
        // Parameters of an own catalogue have no constant name; their list of values refuses the word.
        let Some(param) = static_name(&name) else { continue };
        let problem = format!(
            "it is the word '{word}', probably from a variable without a value. Nothing was bought; leave the parameter out, or \
             send a value"
        );
        let refusal = ApiError::Unacceptable { param, problem: problem.into() };
        if param == "model" {
            return Err(refusal);
        }
        refusals.refuse(&name, refusal)?;
        scalars.remove(&name);
    }
    Ok(())
}

fn is_null_word(text: &str) -> bool {
    NULL_WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Spells every choice as the catalogue does, whatever its letter case.
pub(super) fn spell(scalars: &mut Scalars, model: &Model) {
    for (name, value) in scalars.iter_mut() {
        let Scalar::Text(text) = value else { continue };
        if TEXTS.contains(&name.as_str()) {
            continue;
        }
        if let Some(listed) = model.listed_value(name, text) {
            listed.clone_into(text);
        } else if is_choice(name, model) {
            if text.is_ascii() {
                text.make_ascii_lowercase();
            } else {
                *text = text.to_lowercase();
            }
        }
        if name == "output_format" {
            *text = format_name(text).to_owned();
        }
    }
}

/// Whether a parameter has a closed list of values, or names a size.
fn is_choice(name: &str, model: &Model) -> bool {
    const CHOICES: [&str; 7] =
        ["background", "input_fidelity", "moderation", "output_format", "quality", "response_format", "size"];
    CHOICES.contains(&name) || model.choice_names().any(|choice| choice == name)
}

/// Returns the name of a format, without what a media type or a file extension adds to it.
pub(super) fn format_name(text: &str) -> &str {
    let name = text.strip_prefix("image/").or_else(|| text.strip_prefix('.')).unwrap_or(text);
    match name {
        "jpg" | "pjpeg" => "jpeg",
        "svg+xml" => "svg",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::catalogue;
    use crate::config::UnsupportedParameters;

    fn scalars(pairs: &[(&str, &str)]) -> Scalars {
        pairs.iter().map(|&(name, text)| (name.to_owned(), Scalar::Text(text.to_owned()))).collect()
    }

    #[test]
    fn white_space_around_values_is_removed_and_texts_stay() {
        for text in
            [" high", "high\r\n", "\thigh ", "\u{feff}high", "high\u{a0}", "\u{200b}high\u{200b}", "\u{3000}high\u{0}"]
        {
            let mut sample = scalars(&[("quality", text), ("prompt", text), ("user", text)]);
            trim(&mut sample);
            assert_eq!(sample["quality"], Scalar::Text("high".to_owned()), "{text:?}");
            assert_eq!(sample["prompt"], Scalar::Text(text.to_owned()));
            assert_eq!(sample["user"], Scalar::Text(text.to_owned()));
        }
        let mut blank = scalars(&[("size", " \r\n"), ("prompt", " "), ("n", "\u{200b}")]);
        trim(&mut blank);
        assert_eq!(blank, scalars(&[("prompt", " ")]));
    }

    #[test]
    fn choices_are_spelled_as_in_the_catalogue() {
        let catalogue = catalogue();
        for (name, text, spelled) in [
            ("quality", "High", "high"),
            ("quality", "AUTO", "auto"),
            ("background", "Transparent", "transparent"),
            ("moderation", "Low", "low"),
            ("input_fidelity", "HIGH", "high"),
            ("output_format", "JPEG", "jpeg"),
            ("output_format", "JPG", "jpeg"),
            ("output_format", "image/PNG", "png"),
            ("output_format", ".webp", "webp"),
            ("response_format", "B64_JSON", "b64_json"),
            ("response_format", "URL", "url"),
            ("size", "Auto", "auto"),
            ("prompt", "A Cat", "A Cat"),
            ("user", "Alice", "Alice"),
        ] {
            let mut sample = scalars(&[(name, text)]);
            spell(&mut sample, catalogue.find("gpt-image-1").unwrap());
            assert_eq!(sample[name], Scalar::Text(spelled.to_owned()), "{name}={text}");
        }
        let mut own = catalogue.find("gpt-image-1").unwrap().clone();
        own.parameters.choices.get_mut("quality").unwrap().values.push("HD+".to_owned());
        let mut sample = scalars(&[("quality", "hd+")]);
        spell(&mut sample, &own);
        assert_eq!(sample["quality"], Scalar::Text("HD+".to_owned()));
    }

    #[test]
    fn the_word_for_a_missing_value_is_refused_or_dropped() {
        for word in ["null", "undefined", "None", "NaN", "NULL", "nil"] {
            for name in ["n", "size", "quality", "stream", "output_format", "aspect_ratio"] {
                let mut sample = scalars(&[(name, word), ("prompt", word), ("user", word), ("style", word)]);
                let mut refusals = Refusals::new(UnsupportedParameters::Refuse);
                let error = refuse_null_words(&mut sample, &mut refusals).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("'{name}'")) && error.contains(&format!("the word '{word}'")),
                    "{error}"
                );
                let mut refusals = Refusals::new(UnsupportedParameters::Drop);
                refuse_null_words(&mut sample, &mut refusals).unwrap();
                assert_eq!((refusals.into_dropped(), sample.len()), (vec![name.to_owned()], 3));
            }
            let mut refusals = Refusals::new(UnsupportedParameters::Drop);
            assert!(
                refuse_null_words(&mut scalars(&[("model", word)]), &mut refusals).is_err(),
                "a model is not dropped"
            );
        }
        let mut refusals = Refusals::new(UnsupportedParameters::Refuse);
        assert!(refuse_null_words(&mut scalars(&[("size", "nullx")]), &mut refusals).is_ok());
    }
}

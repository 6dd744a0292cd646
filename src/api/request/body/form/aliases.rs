//! Names that other image APIs have for what `size`, `n` and `output_format` say.
//!
//! Letter case, `_`, `-`, `.` and brackets make no difference: `aspectRatio`, `aspect-ratio` and `image_config[aspect_ratio]`
//! are the same. A name of OpenAI's may be written in these ways, too (`outputFormat`).

use std::borrow::Cow;

use super::SCALARS;

/// What a field of another API means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A size, an aspect ratio, or a resolution such as `2K`.
    Size,
    /// An aspect ratio, also as a size or a decimal.
    Ratio,
    Width,
    Height,
    /// The number of pictures.
    Count,
    /// The format of the result.
    Format,
}

impl Meaning {
    /// Returns the parameter of OpenAI's that says the same.
    pub(crate) fn parameter(self) -> &'static str {
        match self {
            Self::Size | Self::Ratio | Self::Width | Self::Height => "size",
            Self::Count => "n",
            Self::Format => "output_format",
        }
    }
}

/// The fields and their meaning. Those of one meaning are in order: where two contradict each other, the first is used if the
/// second is dropped.
const ALIASES: [(&str, Meaning); 35] = [
    ("width", Meaning::Width),
    ("image_width", Meaning::Width),
    ("height", Meaning::Height),
    ("image_height", Meaning::Height),
    ("image_size", Meaning::Size),
    ("imageSize", Meaning::Size),
    ("image_resolution", Meaning::Size),
    ("resolution", Meaning::Size),
    ("dimensions", Meaning::Size),
    ("output_size", Meaning::Size),
    ("aspect_ratio", Meaning::Ratio),
    ("aspectRatio", Meaning::Ratio),
    ("aspect", Meaning::Ratio),
    ("image_aspect_ratio", Meaning::Ratio),
    ("image_ratio", Meaning::Ratio),
    ("ratio", Meaning::Ratio),
    ("num_images", Meaning::Count),
    ("numImages", Meaning::Count),
    ("number_of_images", Meaning::Count),
    ("numberOfImages", Meaning::Count),
    ("num_images_per_prompt", Meaning::Count),
    ("num_outputs", Meaning::Count),
    ("num_samples", Meaning::Count),
    ("number_results", Meaning::Count),
    ("n_images", Meaning::Count),
    ("n_samples", Meaning::Count),
    ("image_count", Meaning::Count),
    ("sample_count", Meaning::Count),
    ("samples", Meaning::Count),
    ("batch_size", Meaning::Count),
    ("format", Meaning::Format),
    ("image_format", Meaning::Format),
    ("mime_type", Meaning::Format),
    ("output_mime_type", Meaning::Format),
    ("file_format", Meaning::Format),
];

/// Objects whose members are read as if they stood beside them, under their own name and the object's.
const CONTAINERS: [&str; 9] = [
    "dimensions",
    "generationconfig",
    "imageconfig",
    "imageoptions",
    "imagesize",
    "outputoptions",
    "parameters",
    "resolution",
    "size",
];

/// Longest name that is compared with those of the list, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Returns the meaning of a field, its name in messages, and its position in the order of precedence.
pub(crate) fn find(name: &str) -> Option<(usize, &'static str, Meaning)> {
    if SCALARS.contains(&name) {
        return None;
    }
    let exact = ALIASES.iter().position(|(alias, _)| *alias == name);
    let position = exact.or_else(|| {
        let plain = plain_name(name)?;
        let own = without_containers(&plain);
        let nested_size = own.len() < plain.len() && own == "size";
        let own = if nested_size { "imagesize" } else { own };
        ALIASES.iter().position(|(alias, _)| is_spelled(alias, own))
    })?;
    let (name, meaning) = ALIASES[position];
    Some((position, name, meaning))
}

/// Whether a field about a format, beside a picture, names the format of that picture: outside of the objects that describe the
/// result, programs that send base64 name its type so. A bare `format` is that of the result in all APIs that have it.
pub(crate) fn may_describe_input(name: &str) -> bool {
    plain_name(name).is_some_and(|name| matches!(&*name, "mimetype" | "fileformat" | "imageformat"))
}

/// Whether an object under this name may hold fields that have a meaning.
pub(crate) fn is_container(name: &str) -> bool {
    // Of OpenAI's own names, `size` is the only one.
    if name != "size" && SCALARS.contains(&name) {
        return false;
    }
    plain_name(name).is_some_and(|name| CONTAINERS.contains(&without_containers(&name)))
}

/// Returns a name in lower case, without what separates its words; `None` for one that is too long.
pub(crate) fn plain_name(name: &str) -> Option<Cow<'_, str>> {
    let is_separator = |c: char| matches!(c, '_' | '-' | '.' | '[' | ']') || c.is_whitespace();
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Some(name.into());
    }
    let mut joined: String = name.chars().filter(|&c| !is_separator(c)).collect();
    if joined.is_ascii() {
        joined.make_ascii_lowercase();
    } else {
        joined = joined.to_lowercase();
    }
    Some(joined.into())
}

/// Whether the plain name of a field of the list is `plain`.
fn is_spelled(alias: &str, plain: &str) -> bool {
    alias.bytes().filter(|&byte| byte != b'_').map(|byte| byte.to_ascii_lowercase()).eq(plain.bytes())
}

/// Removes the names of the objects that a member is in.
fn without_containers(mut name: &str) -> &str {
    // Two levels: `generationConfig.imageConfig.aspectRatio`.
    for _ in 0..2 {
        let rest = CONTAINERS.iter().filter_map(|container| name.strip_prefix(container)).find(|rest| !rest.is_empty());
        name = rest.unwrap_or(name);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_in_every_spelling() {
        for (name, meaning) in [
            ("aspect_ratio", Some(Meaning::Ratio)),
            ("aspectRatio", Some(Meaning::Ratio)),
            ("AspectRatio", Some(Meaning::Ratio)),
            ("aspect-ratio", Some(Meaning::Ratio)),
            ("ASPECT_RATIO", Some(Meaning::Ratio)),
            ("image_config.aspect_ratio", Some(Meaning::Ratio)),
            ("image_config[aspect_ratio]", Some(Meaning::Ratio)),
            ("imageConfig.aspectRatio", Some(Meaning::Ratio)),
            ("generationConfig.imageConfig.aspectRatio", Some(Meaning::Ratio)),
            ("image_config.image_size", Some(Meaning::Size)),
            ("image_config.size", Some(Meaning::Size)),
            ("image_size", Some(Meaning::Size)),
            ("image_size.width", Some(Meaning::Width)),
            ("image_size[height]", Some(Meaning::Height)),
            ("size.height", Some(Meaning::Height)),
            ("parameters.width", Some(Meaning::Width)),
            ("numberOfImages", Some(Meaning::Count)),
            ("number_of_images", Some(Meaning::Count)),
            ("outputMimeType", Some(Meaning::Format)),
            ("size", None),
            ("n", None),
            ("widths", None),
            ("seed", None),
            ("image_config", None),
            ("", None),
        ] {
            assert_eq!(find(name).map(|(_, _, meaning)| meaning), meaning, "{name}");
        }
        assert_eq!(find(&format!("{}width", "_".repeat(100))), None);
        for name in
            ["image_config", "imageConfig", "image_size", "size", "generationConfig", "generationConfig.imageConfig"]
        {
            assert!(is_container(name), "{name}");
        }
        for name in ["prompt", "image_configuration", ""] {
            assert!(!is_container(name), "{name}");
        }
    }

    #[test]
    fn names_are_listed_once() {
        let containers: Vec<_> =
            SCALARS.into_iter().filter(|name| CONTAINERS.contains(&&*plain_name(name).unwrap())).collect();
        assert_eq!(containers, ["size"]);
        for (position, (name, _)) in ALIASES.iter().enumerate() {
            assert_eq!(find(name).map(|(found, ..)| found), Some(position), "{name}");
            let plain = plain_name(name).unwrap();
            assert!(is_spelled(name, &plain), "{name}");
            assert!(
                !SCALARS.iter().any(|scalar| *plain_name(scalar).unwrap() == *plain),
                "{name} is OpenAI's own, too"
            );
        }
    }
}

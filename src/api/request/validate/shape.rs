//! The shape of the picture: `size`, and the fields of other APIs that say the same.
//!
//! A size is used as it is. An aspect ratio, alone or with a resolution such as `2K`, becomes the nearest size of the model
//! (`SizeRule::nearest`). Fields that contradict `size`, or each other, are refused by name; `auto` contradicts nothing.

use std::collections::BTreeMap;

use super::aliases::Alias;
use super::refusals::Refusals;
use super::values::text;
use crate::api::error::ApiError;
use crate::api::error::messages::clean_value;
use crate::api::request::body::form::Scalar;
use crate::api::request::body::form::aliases::Meaning;
use crate::model::catalogue::{AspectRatio, Resolution, SizeProblem, quoted_list};
use crate::model::{Capabilities, Model, Size};

type Scalars = BTreeMap<String, Scalar>;

/// Longest edge that is read, in pixels.
const EDGE_MAX: i64 = 1_000_000;

/// What one field says of the shape.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// Left to the gateway.
    Auto,
    Exact(Size),
    Ratio(AspectRatio),
    Resolution(Resolution),
}

/// A part of the shape, the field that named it, and its value.
#[derive(Debug)]
struct Named {
    shape: Shape,
    param: &'static str,
    sent: String,
    value: String,
}

/// The shape that a request asks for. Its parts do not contradict each other.
#[derive(Debug, Default)]
pub(super) struct RequestedShape {
    parts: Vec<Named>,
}

impl RequestedShape {
    /// Reads `size` and the fields of other APIs.
    ///
    /// # Errors
    ///
    /// The first field that cannot be read or contradicts another one, where nothing may be dropped.
    pub(super) fn read(
        scalars: &Scalars,
        fields: &[Alias],
        model: &Model,
        capabilities: Capabilities<'_>,
        refusals: &mut Refusals,
    ) -> Result<Self, ApiError> {
        let mut requested = Self::default();
        if let Some(value) = text(scalars, "size")? {
            match shape(value, false) {
                Some(shape) => requested.add("size", "size", shape, value.to_owned(), capabilities, refusals)?,
                None => refusals.refuse("size", not_a_size(value, capabilities))?,
            }
        }
        if let Some(Edges { width, height, size }) = edges(fields, refusals)? {
            requested.merge(width, Shape::Exact(size), size.to_string(), capabilities, refusals)?;
            refusals.drop_with(&height.sent, &width.sent);
        }
        for field in fields.iter().filter(|field| matches!(field.meaning, Meaning::Size | Meaning::Ratio)) {
            let value = field.text().unwrap_or_default();
            if let Some(shape) = shape(value, field.meaning == Meaning::Ratio) {
                requested.merge(field, shape, value.to_owned(), capabilities, refusals)?;
                continue;
            }
            let what = match field.text() {
                Some(value) => format!("'{}'", clean_value(value)),
                None => field.value.kind().to_owned(),
            };
            let problem = format!(
                "{what} names no shape that the model '{}' has. Send a ratio such as '16:9', a size such as '{}', or leave it out",
                model.id,
                capabilities.size.auto_for(None)
            );
            refusals.refuse(&field.sent, field.refusal(problem))?;
        }
        Ok(requested)
    }

    /// Whether an exact size was named.
    pub(super) fn is_exact(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.shape, Shape::Exact(_)))
    }

    /// Returns the size to buy; `like` is width and height of the first input picture. Where the parts cannot be had together
    /// and may be dropped, those that can be had are used.
    ///
    /// # Errors
    ///
    /// The field whose value the model does not have, where nothing may be dropped.
    pub(super) fn size(
        &self,
        model: &Model,
        capabilities: Capabilities<'_>,
        like: Option<(u32, u32)>,
        refusals: &mut Refusals,
    ) -> Result<Size, ApiError> {
        let rule = capabilities.size;
        let exact =
            self.parts.iter().find_map(|part| if let Shape::Exact(size) = part.shape { Some(size) } else { None });
        if let Some(size) = exact {
            return Ok(size);
        }
        let is_ratio = |part: &&Named| matches!(part.shape, Shape::Ratio(_));
        let (ratios, resolutions): (Vec<&Named>, Vec<&Named>) = self.parts.iter().partition(is_ratio);
        let ratio =
            ratios.iter().find_map(|part| if let Shape::Ratio(ratio) = part.shape { Some(ratio) } else { None });
        let resolution = resolutions
            .iter()
            .find_map(|part| if let Shape::Resolution(wanted) = part.shape { Some(wanted) } else { None });
        if ratio.is_none() && resolution.is_none() {
            return Ok(rule.auto_for(like));
        }
        if let Some(size) = rule.nearest(ratio, resolution, like) {
            return Ok(size);
        }
        let together = ratio.is_some() && resolution.is_some();
        let with_ratio = ratio.and_then(|ratio| rule.nearest(Some(ratio), None, like)).filter(|_| together);
        let with_resolution = resolution
            .and_then(|wanted| rule.nearest(None, Some(wanted), like))
            .filter(|_| together && with_ratio.is_none());
        let of_shape =
            ratios.first().filter(|_| together).map(|ratio| format!(" in the shape '{}'", clean_value(&ratio.value)));
        let unused = [(&resolutions, with_resolution.is_some()), (&ratios, with_ratio.is_some())];
        for part in unused.into_iter().filter(|(_, is_used)| !is_used).flat_map(|(parts, _)| parts) {
            let problem = format!(
                "'{}'{} cannot be had with the model '{}'. Its sizes are {}{}",
                clean_value(&part.value),
                of_shape.as_deref().filter(|_| !is_ratio(part)).unwrap_or_default(),
                model.id,
                quoted_list(rule.values.iter().map(ToString::to_string)),
                rule.custom.map(|custom| format!(", and any {custom}")).unwrap_or_default(),
            );
            refusals.refuse(&part.sent, ApiError::Unacceptable { param: part.param, problem: problem.into() })?;
        }
        Ok(with_ratio.or(with_resolution).unwrap_or_else(|| rule.auto_for(like)))
    }

    /// Adds a part, unless it is an exact size that the model does not have: what else is known is used then.
    fn add(
        &mut self,
        param: &'static str,
        sent: &str,
        shape: Shape,
        value: String,
        capabilities: Capabilities<'_>,
        refusals: &mut Refusals,
    ) -> Result<(), ApiError> {
        if let Shape::Exact(size) = shape
            && let Err(problem) = capabilities.size.check(size)
        {
            let refusal = if param == "size" {
                ApiError::BadSize(problem)
            } else {
                // "Invalid 'width': invalid size '1000x1000'. …"
                let problem = problem.to_string().replacen("Invalid", "invalid", 1);
                ApiError::Unacceptable { param, problem: problem.trim_end_matches('.').to_owned().into() }
            };
            return refusals.refuse(sent, refusal);
        }
        if shape != Shape::Auto {
            self.parts.push(Named { shape, param, sent: sent.to_owned(), value });
        }
        Ok(())
    }

    /// Adds what a field of another API says, unless it contradicts what is known.
    fn merge(
        &mut self,
        field: &Alias,
        shape: Shape,
        value: String,
        capabilities: Capabilities<'_>,
        refusals: &mut Refusals,
    ) -> Result<(), ApiError> {
        if let Some(part) = self.parts.iter().find(|part| contradict(part.shape, shape)) {
            return refusals.refuse(&field.sent, field.contradiction(&value, part.param, &part.value));
        }
        self.add(field.name, &field.sent, shape, value, capabilities, refusals)
    }
}

/// A width and a height, and the fields that named them.
#[derive(Debug)]
struct Edges<'a> {
    width: &'a Alias,
    height: &'a Alias,
    size: Size,
}

/// Reads width and height, each of which needs the other.
fn edges<'a>(fields: &'a [Alias], refusals: &mut Refusals) -> Result<Option<Edges<'a>>, ApiError> {
    let mut edge = |meaning: Meaning| -> Result<Option<(&'a Alias, u32)>, ApiError> {
        let mut known: Option<(&Alias, u32)> = None;
        for field in fields.iter().filter(|field| field.meaning == meaning) {
            let edge = match field.integer(1, EDGE_MAX) {
                Ok(edge) => u32::try_from(edge).unwrap_or(u32::MAX),
                Err(refusal) => {
                    refusals.refuse(&field.sent, refusal)?;
                    continue;
                }
            };
            match known {
                Some((other, known)) if known != edge => {
                    let refusal = field.contradiction(&edge.to_string(), other.name, &known.to_string());
                    refusals.refuse(&field.sent, refusal)?;
                }
                _ => known = Some((field, edge)),
            }
        }
        Ok(known)
    };
    match (edge(Meaning::Width)?, edge(Meaning::Height)?) {
        (Some((of_width, width)), Some((of_height, height))) => {
            Ok(Some(Edges { width: of_width, height: of_height, size: Size { width, height } }))
        }
        (Some((field, _)), None) => lone_edge(field, "height", refusals),
        (None, Some((field, _))) => lone_edge(field, "width", refusals),
        (None, None) => Ok(None),
    }
}

fn lone_edge<T>(field: &Alias, other: &str, refusals: &mut Refusals) -> Result<Option<T>, ApiError> {
    let problem = format!("it needs '{other}' beside it. Nothing was bought; send both, or 'size'");
    refusals.refuse(&field.sent, field.refusal(problem))?;
    Ok(None)
}

fn contradict(one: Shape, other: Shape) -> bool {
    match (one, other) {
        (Shape::Exact(one), Shape::Exact(other)) => one != other,
        (Shape::Ratio(one), Shape::Ratio(other)) => !one.is_about(other),
        (Shape::Resolution(one), Shape::Resolution(other)) => one != other,
        (Shape::Exact(size), Shape::Ratio(ratio)) | (Shape::Ratio(ratio), Shape::Exact(size)) => {
            !ratio.is_about(AspectRatio::of(size))
        }
        (Shape::Exact(size), Shape::Resolution(resolution)) | (Shape::Resolution(resolution), Shape::Exact(size)) => {
            !resolution.includes(size)
        }
        (Shape::Auto, _)
        | (_, Shape::Auto)
        | (Shape::Ratio(_), Shape::Resolution(_))
        | (Shape::Resolution(_), Shape::Ratio(_)) => false,
    }
}

/// Returns the refusal of a `size` that is none.
fn not_a_size(value: &str, capabilities: Capabilities<'_>) -> ApiError {
    let rule = capabilities.size;
    ApiError::BadSize(SizeProblem::NotASize { value: clean_value(value), allowed: rule.allowed(), custom: rule.custom })
}

/// Reads a size, a ratio, a resolution or a word for a shape. Where only `ratios` are meant, a size or a decimal is one, too.
fn shape(text: &str, ratios: bool) -> Option<Shape> {
    if !ratios && let Ok(size) = text.parse() {
        return Some(Shape::Exact(size));
    }
    let text: String = text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
    match text.as_str() {
        "auto" | "match_input_image" | "match_input" | "original" => return Some(Shape::Auto),
        "1k" => return Some(Shape::Resolution(Resolution::OneK)),
        "2k" => return Some(Shape::Resolution(Resolution::TwoK)),
        "4k" => return Some(Shape::Resolution(Resolution::FourK)),
        "square" | "square_hd" => return ratio("1", "1"),
        // The shapes of OpenAI's own sizes.
        "landscape" => return ratio("3", "2"),
        "portrait" => return ratio("2", "3"),
        _ => {}
    }
    if let Some((width, height)) = text.split_once([':', '/']) {
        return ratio(width, height);
    }
    if let Some((width, height)) = text.replace("px", "").split_once(['x', '×', '*']) {
        let size: Size = format!("{width}x{height}").parse().ok()?;
        return Some(if ratios {
            Shape::Ratio(AspectRatio::new(f64::from(size.width), f64::from(size.height))?)
        } else {
            Shape::Exact(size)
        });
    }
    if ratios && is_decimal(&text) {
        return ratio(&text, "1");
    }
    // `landscape_16_9`, and `portrait_4_3`, which is 3:4.
    let mut words = text.rsplit(['_', '-']);
    let (second, first) = (words.next()?, words.next()?);
    let word = words.next()?;
    if words.next().is_some() || !word.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let shape = ratio(first, second)?;
    let Shape::Ratio(wanted) = shape else { return None };
    match word {
        "portrait" if wanted.is_wide() => ratio(second, first),
        "landscape" if wanted.is_tall() => ratio(second, first),
        _ => Some(shape),
    }
}

fn ratio(width: &str, height: &str) -> Option<Shape> {
    let term = |text: &str| is_decimal(text).then(|| text.parse::<f64>().ok()).flatten();
    AspectRatio::new(term(width)?, term(height)?).map(Shape::Ratio)
}

/// Whether a text is a number in digits, with or without a point.
fn is_decimal(text: &str) -> bool {
    text.len() <= 20
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(text: &str, ratios: bool) -> String {
        match shape(text, ratios) {
            None => "none".to_owned(),
            Some(Shape::Auto) => "auto".to_owned(),
            Some(Shape::Exact(size)) => size.to_string(),
            Some(Shape::Resolution(Resolution::OneK)) => "1K".to_owned(),
            Some(Shape::Resolution(Resolution::TwoK)) => "2K".to_owned(),
            Some(Shape::Resolution(Resolution::FourK)) => "4K".to_owned(),
            Some(Shape::Ratio(ratio)) => {
                let known =
                    [(1.0, 1.0), (3.0, 2.0), (2.0, 3.0), (16.0, 9.0), (9.0, 16.0), (4.0, 3.0), (3.0, 4.0), (1.91, 1.0)];
                let found =
                    known.into_iter().find(|&(width, height)| ratio.is_about(AspectRatio::new(width, height).unwrap()));
                found.map_or("another ratio".to_owned(), |(width, height)| format!("{width}:{height}"))
            }
        }
    }

    #[test]
    fn sizes_ratios_resolutions_and_words_are_read() {
        for (text, as_size, as_ratio) in [
            ("1024x1024", "1024x1024", "1:1"),
            ("1536X1024", "1536x1024", "3:2"),
            ("1536×1024", "1536x1024", "3:2"),
            ("1536*1024", "1536x1024", "3:2"),
            ("1536 x 1024", "1536x1024", "3:2"),
            ("1536px × 1024px", "1536x1024", "3:2"),
            ("AUTO", "auto", "auto"),
            ("match_input_image", "auto", "auto"),
            ("16:9", "16:9", "16:9"),
            ("9 : 16", "9:16", "9:16"),
            ("16/9", "16:9", "16:9"),
            ("1.91:1", "1.91:1", "1.91:1"),
            ("16x9", "16x9", "16:9"),
            ("1.5", "none", "3:2"),
            ("2K", "2K", "2K"),
            ("4k", "4K", "4K"),
            ("square", "1:1", "1:1"),
            ("square_hd", "1:1", "1:1"),
            ("Landscape", "3:2", "3:2"),
            ("landscape_16_9", "16:9", "16:9"),
            ("landscape_4_3", "4:3", "4:3"),
            ("portrait_4_3", "3:4", "3:4"),
            ("portrait_16_9", "9:16", "9:16"),
            ("portrait_9_16", "9:16", "9:16"),
            ("widescreen_16_9", "16:9", "16:9"),
            ("ASPECT_16_9", "16:9", "16:9"),
            ("social-story-9-16", "none", "none"),
            ("", "none", "none"),
            ("big", "none", "none"),
            ("8K", "none", "none"),
            ("1024", "none", "none"),
            ("0x5", "none", "none"),
            ("-5x5", "none", "none"),
            ("16:", "none", "none"),
            ("0:1", "none", "none"),
            ("1e3:1", "none", "none"),
            ("inf:1", "none", "none"),
            ("1024x1024x3", "none", "none"),
        ] {
            assert_eq!((named(text, false).as_str(), named(text, true).as_str()), (as_size, as_ratio), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in "[0-9xX:/_. a-zK×*-]{0,24}", ratios: bool) {
            if let Some(Shape::Exact(size)) = shape(&text, ratios) {
                prop_assert!(!ratios && size.width > 0 && size.height > 0);
            }
        }

        #[test]
        fn white_space_and_letters_make_no_difference(
            width in 1_u32..9000,
            height in 1_u32..9000,
            separator in "[ \t]{0,2}[xX×*][ \t]{0,2}",
        ) {
            prop_assert_eq!(shape(&format!(" {width}{separator}{height} "), false), Some(Shape::Exact(Size { width, height })));
        }
    }
}

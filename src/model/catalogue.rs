//! The model catalogue: what each model of the upstream can do, takes and costs. A new model is a new table in
//! `config/models.toml`, not code.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use serde::{Deserialize, Deserializer};

use super::{ApiKind, ModelId, Price, Size, Task};

mod api;

pub(crate) use api::{Capabilities, UpstreamApi};

/// All models, as `config/models.toml` lists them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalogue {
    /// The model of a request that names none.
    pub(crate) default_model: String,
    pub(crate) models: Vec<Model>,
}

impl Catalogue {
    /// Finds a model by its id or one of its aliases.
    pub(crate) fn find(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id.as_str() == name || model.aliases.iter().any(|alias| alias == name))
    }

    /// Checks what types cannot: unique names, a default that exists, `auto` values within their own list.
    ///
    /// # Errors
    ///
    /// A sentence that names the model and the key.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut names = std::collections::BTreeSet::new();
        for model in &self.models {
            for name in std::iter::once(model.id.as_str()).chain(model.aliases.iter().map(String::as_str)) {
                if !names.insert(name) {
                    return Err(format!("model {}: the name {name} is used twice", model.id));
                }
            }
            model.check().map_err(|problem| format!("model {}: {problem}", model.id))?;
        }
        if !names.contains(self.default_model.as_str()) {
            return Err(format!("default_model: no model is called {}", self.default_model));
        }
        Ok(())
    }
}

/// One model of the upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    /// The upstream's name, and the one clients see in `GET /v1/models`.
    pub(crate) id: ModelId,
    /// Other names clients use for it.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// Unix seconds, as OpenAI's model list has it.
    pub(crate) created: i64,
    /// What a client is told when it asks for a capability the model lacks.
    #[serde(default)]
    pub(crate) note: Option<String>,
    pub(crate) price: Price,
    /// Image edits; absent where the upstream offers none on its prediction API.
    #[serde(default)]
    pub(crate) edit: Option<TaskSpec>,
    /// Text to image.
    #[serde(default)]
    pub(crate) generate: Option<TaskSpec>,
    pub(crate) parameters: Parameters,
    /// The OpenAI-format endpoints; absent where the upstream documents none for it.
    #[serde(default)]
    pub(crate) openai: Option<UpstreamApi>,
    /// The unified API.
    #[serde(default)]
    pub(crate) unified: Option<UpstreamApi>,
}

impl Model {
    pub(crate) fn capability(&self, task: Task) -> Option<&TaskSpec> {
        match task {
            Task::Edit => self.edit.as_ref(),
            Task::Generate => self.generate.as_ref(),
        }
    }

    /// What a route takes for a task; `None` where the model is not to be had that way.
    pub(crate) fn terms(&self, api_kind: ApiKind, task: Task) -> Option<Capabilities<'_>> {
        match api_kind {
            ApiKind::Prediction => {
                self.capability(task).map(|capability| Capabilities::of_predictions(task, capability, &self.parameters))
            }
            // Files travel there, and nothing else.
            ApiKind::OpenAi => self.openai.as_ref().and_then(|face| face.terms(task, &self.parameters, false)),
            ApiKind::Unified => self.unified.as_ref().and_then(|face| face.terms(task, &self.parameters, true)),
        }
    }

    /// How many pictures each prediction makes so that `n` come together.
    pub(crate) fn split(&self, api_kind: ApiKind, task: Task, n: u8) -> Vec<u8> {
        let most = self.terms(api_kind, task).and_then(|terms| terms.n_max).map_or(1, NonZeroU8::get);
        let full = usize::from(n / most);
        let rest = n % most;
        std::iter::repeat_n(most, full).chain((rest > 0).then_some(rest)).collect()
    }

    /// Names of parameters with a closed list of values, on whichever route.
    pub(crate) fn choice_names(&self) -> impl Iterator<Item = &String> {
        let faces = self.openai.iter().chain(&self.unified).flat_map(|face| face.choices.keys());
        self.parameters.choices.keys().chain(faces)
    }

    /// Whether one of these routes has it for a task.
    pub(crate) fn is_sold(&self, api_kinds: &[ApiKind], task: Task) -> bool {
        api_kinds.iter().any(|&api_kind| self.terms(api_kind, task).is_some())
    }

    /// Whether anything can be made with this model on one of these routes.
    pub(crate) fn is_available(&self, api_kinds: &[ApiKind]) -> bool {
        [Task::Edit, Task::Generate].into_iter().any(|task| self.is_sold(api_kinds, task))
    }

    fn check(&self) -> Result<(), String> {
        check_values(&self.parameters.size, &self.parameters.choices)?;
        for (name, face) in [("openai", &self.openai), ("unified", &self.unified)] {
            let Some(face) = face else { continue };
            let size = face.size.as_ref().unwrap_or(&self.parameters.size);
            check_values(size, &face.choices).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }
}

/// How one capability of a model is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskSpec {
    /// Path below `upstream.base_url`.
    pub(crate) path: String,
    /// Field for addresses of input pictures (`image` or `images`).
    #[serde(default)]
    pub(crate) links_field: Option<String>,
    /// Field for input pictures as data URIs.
    #[serde(default)]
    pub(crate) inline_field: Option<String>,
    /// Field for a mask, where the model's page documents one.
    #[serde(default)]
    pub(crate) mask_field: Option<String>,
}

/// The parameters a model takes, with their values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(crate) prompt_chars_max: usize,
    /// Largest `n` of one prediction; absent for models whose prediction API has no `n` and makes one picture.
    #[serde(default)]
    pub(crate) n_max: Option<NonZeroU8>,
    pub(crate) size: SizeRule,
    /// Parameters with a closed list of values, by name.
    #[serde(default)]
    pub(crate) choices: BTreeMap<String, Choice>,
    /// Pictures in one request.
    pub(crate) images_max: usize,
    /// Bytes of one input picture.
    pub(crate) image_bytes_max: u64,
    /// Bytes of a mask.
    pub(crate) mask_bytes_max: u64,
}

/// Checks that what `auto` stands for can be had.
fn check_values(size: &SizeRule, choices: &BTreeMap<String, Choice>) -> Result<(), String> {
    for (name, choice) in choices {
        if !choice.values.contains(&choice.auto) {
            return Err(format!("{name}.auto = {:?} is not among its values", choice.auto));
        }
    }
    if size.auto.is_empty() {
        return Err("size.auto is empty".to_owned());
    }
    if let Some(size) = size.auto.iter().find(|&&auto| size.check(auto).is_err()) {
        return Err(format!("size.auto: {size} breaks the model's own rule"));
    }
    Ok(())
}

/// A parameter with a closed list of values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    /// What is sent upstream: explicit values, and `auto` only where the answer does not have to name the choice.
    pub(crate) values: Vec<String>,
    /// What a client gets that says `auto` or nothing.
    pub(crate) auto: String,
    /// Text to image does not have it.
    #[serde(default)]
    pub(crate) edits_only: bool,
}

impl Choice {
    fn is_for(&self, task: Task) -> bool {
        task == Task::Edit || !self.edits_only
    }
}

/// Which sizes a model makes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SizeRule {
    /// For `auto` or nothing: the one nearest in shape to the first input picture; the first without input.
    #[serde(deserialize_with = "sizes")]
    pub(crate) auto: Vec<Size>,
    /// The listed sizes.
    #[serde(deserialize_with = "sizes")]
    pub(crate) values: Vec<Size>,
    /// Rules for any other size, where the model takes one.
    #[serde(default)]
    pub(crate) custom: Option<CustomSize>,
}

/// The rules of `wire/gptproto.md` §1.4.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CustomSize {
    pub(crate) edge_pixels_max: u32,
    pub(crate) edge_multiple: u32,
    /// Longest edge divided by shortest.
    pub(crate) ratio_max: u32,
    pub(crate) pixels_min: u64,
    pub(crate) pixels_max: u64,
}

/// Why a size cannot be had; texts as OpenAI words them where they are known (`wire/openai.md` §4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeProblem {
    #[error("Invalid value: '{size}'. Supported values are: {allowed}.")]
    NotListed { size: Size, allowed: String },
    #[error("Invalid size '{size}'. The longest edge must be less than or equal to {edge_pixels_max}.")]
    EdgeTooLong { size: Size, edge_pixels_max: u32 },
    #[error("Invalid size '{size}'. Width and height must be multiples of {edge_multiple}.")]
    NotMultiple { size: Size, edge_multiple: u32 },
    #[error("Invalid size '{size}'. The aspect ratio must be between 1:{ratio_max} and {ratio_max}:1.")]
    TooNarrow { size: Size, ratio_max: u32 },
    #[error(
        "Invalid size '{size}'. Requested resolution is below the current minimum pixel budget of {pixels_min} pixels."
    )]
    TooFewPixels { size: Size, pixels_min: u64 },
    #[error(
        "Invalid size '{size}'. Requested resolution exceeds the current maximum pixel budget of {pixels_max} pixels."
    )]
    TooManyPixels { size: Size, pixels_max: u64 },
}

impl SizeRule {
    /// Checks an explicit size.
    ///
    /// # Errors
    ///
    /// The first rule it breaks.
    pub(crate) fn check(&self, size: Size) -> Result<(), SizeProblem> {
        if self.values.contains(&size) {
            return Ok(());
        }
        let Some(rule) = self.custom else {
            return Err(SizeProblem::NotListed { size, allowed: self.allowed() });
        };
        let (long, short) = (size.width.max(size.height), size.width.min(size.height));
        if long > rule.edge_pixels_max {
            Err(SizeProblem::EdgeTooLong { size, edge_pixels_max: rule.edge_pixels_max })
        } else if !size.width.is_multiple_of(rule.edge_multiple) || !size.height.is_multiple_of(rule.edge_multiple) {
            Err(SizeProblem::NotMultiple { size, edge_multiple: rule.edge_multiple })
        } else if u64::from(long) > u64::from(short) * u64::from(rule.ratio_max) {
            Err(SizeProblem::TooNarrow { size, ratio_max: rule.ratio_max })
        } else if size.pixels() < rule.pixels_min {
            Err(SizeProblem::TooFewPixels { size, pixels_min: rule.pixels_min })
        } else if size.pixels() > rule.pixels_max {
            Err(SizeProblem::TooManyPixels { size, pixels_max: rule.pixels_max })
        } else {
            Ok(())
        }
    }

    /// The size for `auto`: nearest in shape to `like` (width and height of the first input picture).
    pub(crate) fn auto_for(&self, like: Option<(u32, u32)>) -> Size {
        let first = *self.auto.first().expect("checked when the catalogue was read");
        let Some((width, height)) = like else { return first };
        let wanted = (f64::from(width) / f64::from(height)).ln();
        let distance = |size: &Size| ((f64::from(size.width) / f64::from(size.height)).ln() - wanted).abs();
        self.auto.iter().copied().min_by(|one, two| distance(one).total_cmp(&distance(two))).unwrap_or(first)
    }

    /// The listed sizes as OpenAI's error texts list values.
    pub(crate) fn allowed(&self) -> String {
        quoted_list(self.values.iter().map(ToString::to_string).chain(["auto".to_owned()]))
    }
}

/// `'a', 'b', and 'c'`: values as OpenAI's error texts list them.
pub(crate) fn quoted_list(values: impl IntoIterator<Item = String>) -> String {
    let quoted: Vec<String> = values.into_iter().map(|value| format!("'{value}'")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [init @ .., last] => format!("{}, and {last}", init.join(", ")),
    }
}

fn sizes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Size>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .into_iter()
        .map(|text| text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not WIDTHxHEIGHT"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: CustomSize = CustomSize {
        edge_pixels_max: 3840,
        edge_multiple: 16,
        ratio_max: 3,
        pixels_min: 655_360,
        pixels_max: 8_294_400,
    };

    fn custom() -> SizeRule {
        let size = |text: &str| text.parse().unwrap();
        SizeRule {
            auto: vec![size("1024x1024"), size("1536x1024"), size("1024x1536")],
            values: vec![size("1024x1024")],
            custom: Some(RULE),
        }
    }

    #[test]
    fn custom_sizes_have_exact_bounds() {
        let check = |text: &str| custom().check(text.parse().unwrap());
        for good in ["3840x2160", "2160x3840", "1280x512", "1024x640", "1600x1600"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert!(matches!(check("3856x2160"), Err(SizeProblem::EdgeTooLong { .. })));
        assert!(matches!(check("1000x1000"), Err(SizeProblem::NotMultiple { .. })));
        assert!(matches!(check("3072x1008"), Err(SizeProblem::TooNarrow { .. })));
        assert!(matches!(check("1264x512"), Err(SizeProblem::TooFewPixels { .. })));
        assert!(matches!(check("3840x2176"), Err(SizeProblem::TooManyPixels { .. })));
    }

    #[test]
    fn a_listed_size_need_not_follow_the_rules() {
        let rule = SizeRule { custom: None, values: vec!["1254x1254".parse().unwrap()], ..custom() };
        assert_eq!(rule.check("1254x1254".parse().unwrap()), Ok(()));
        assert_eq!(
            rule.check("512x512".parse().unwrap()).unwrap_err().to_string(),
            "Invalid value: '512x512'. Supported values are: '1254x1254' and 'auto'."
        );
    }

    #[test]
    fn auto_follows_the_shape_of_the_input() {
        let auto = |like| custom().auto_for(like).to_string();
        assert_eq!(auto(None), "1024x1024");
        assert_eq!(auto(Some((300, 310))), "1024x1024");
        assert_eq!(auto(Some((1920, 1080))), "1536x1024");
        assert_eq!(auto(Some((600, 900))), "1024x1536");
    }
}

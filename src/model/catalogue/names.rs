//! The names of models: ids, aliases of the catalogue and of the operator, and what other programs put in front of them.
//!
//! Letter case and white space around a name are ignored. An id comes first, then the operator's aliases, which may replace
//! an alias of the catalogue, then the catalogue's.

use std::collections::BTreeMap;

use super::models::{Catalogue, Model};

/// What other programs write before a model's name, to say where it is served.
const PREFIXES: [&str; 6] = ["azure/", "azure_openai/", "gptproto/", "litellm_proxy/", "models/", "openai/"];
/// Prefixes of one name.
const PREFIXES_MAX: usize = 3;
/// Longest name that is compared with those of the catalogue letter by letter, and longest alias, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// How alike a name and a suggestion are at least, from 0 to 1.
const LIKENESS_MIN: f64 = 0.7;

/// The operator's own names of models: in lower case, with the id of the model that each stands for.
#[derive(Clone, Debug, Default)]
pub(super) struct OperatorAliases(BTreeMap<String, String>);

impl Catalogue {
    /// Returns the model with this id or alias.
    pub(crate) fn find(&self, name: &str) -> Option<&Model> {
        let mut name = name.trim();
        for _ in 0..=PREFIXES_MAX {
            if let Some(model) = self.named(name) {
                return Some(model);
            }
            name = without_prefix(name)?;
        }
        None
    }

    /// Returns the model with exactly this name, but for letter case.
    fn named(&self, name: &str) -> Option<&Model> {
        let by_id = |id: &str| self.models.iter().find(|model| model.id.as_str().eq_ignore_ascii_case(id));
        let operator = || self.operator_aliases.0.get(&name.to_ascii_lowercase()).and_then(|id| by_id(id));
        let has_alias = |model: &&Model| model.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name));
        by_id(name).or_else(operator).or_else(|| self.models.iter().find(has_alias))
    }

    /// Returns the one of some models whose name is most like a name that no model has; the newest of equals.
    pub(crate) fn nearest<'a>(name: &str, models: impl Iterator<Item = &'a Model>) -> Option<&'a Model> {
        let mut name = name.trim();
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        while let Some(rest) = without_prefix(name) {
            name = rest;
        }
        let name = without_date(name).to_ascii_lowercase();
        let like = |model: &Model| strsim::normalized_damerau_levenshtein(&name, &model.id.to_ascii_lowercase());
        let likeness = models.map(|model| (like(model), model));
        let best = likeness
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .max_by(|(one, first), (other, second)| one.total_cmp(other).then(first.created.cmp(&second.created)));
        best.map(|(_, model)| model)
    }

    /// Adds the operator's own names of models.
    ///
    /// # Errors
    ///
    /// The end of a sentence that names the alias.
    pub(crate) fn add_aliases(&mut self, aliases: &BTreeMap<String, String>) -> Result<(), String> {
        let mut added = BTreeMap::new();
        for (alias, name) in aliases {
            let is_valid = (1..=NAME_BYTES_MAX).contains(&alias.len()) && alias.bytes().all(|b| b.is_ascii_graphic());
            if !is_valid {
                return Err(format!("an alias must have 1 to {NAME_BYTES_MAX} visible ASCII characters, and no space"));
            }
            if self.models.iter().any(|model| model.id.as_str().eq_ignore_ascii_case(alias)) {
                return Err(format!("{alias:?} is the id of a model, and cannot stand for another one"));
            }
            let Some(model) = self.find(name) else {
                let nearest = Self::nearest(name, self.models.iter());
                let hint = nearest.map(|model| format!("; did you mean {:?}?", model.id.as_str())).unwrap_or_default();
                return Err(format!("{alias:?} stands for {name:?}, which is not a model of the catalogue{hint}"));
            };
            if added.insert(alias.to_ascii_lowercase(), model.id.to_string()).is_some() {
                return Err(format!("{alias:?} is there twice; letter case makes no difference"));
            }
        }
        self.operator_aliases = OperatorAliases(added);
        Ok(())
    }
}

fn without_prefix(name: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| {
        let start = name.get(..prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then(|| &name[prefix.len()..])
    })
}

/// Removes the date of a snapshot: `-2025-12-16`.
fn without_date(name: &str) -> &str {
    const FORM: &[u8] = b"-0000-00-00";
    let Some((start, date)) = name.len().checked_sub(FORM.len()).and_then(|at| name.split_at_checked(at)) else {
        return name;
    };
    let fits = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    if date.bytes().zip(FORM).all(fits) { start } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        toml::from_str(include_str!("../../../config/models.toml")).unwrap()
    }

    fn found(catalogue: &Catalogue, name: &str) -> String {
        catalogue.find(name).map(|model| model.id.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_name_is_found_in_every_spelling() {
        let catalogue = catalogue();
        for (name, id) in [
            ("gpt-image-1.5", "gpt-image-1.5"),
            ("GPT-Image-1.5", "gpt-image-1.5"),
            (" gpt-image-1\r\n", "gpt-image-1"),
            ("gpt-image-1.5-2025-12-16", "gpt-image-1.5"),
            ("openai/gpt-image-1.5-2025-12-16", "gpt-image-1.5"),
            ("gpt-image-2-2026-04-21", "gpt-image-2"),
            ("azure/gpt-image-1", "gpt-image-1"),
            ("Azure/GPT-IMAGE-1-MINI", "gpt-image-1-mini"),
            ("gptproto/gpt-image-2", "gpt-image-2"),
            ("models/gpt-image-1", "gpt-image-1"),
            ("gptproto/openai/gpt-image-2", "gpt-image-2"),
            ("litellm_proxy/openai/gpt-image-1", "gpt-image-1"),
            ("OPENAI/gpt-image-2/image-edit", "gpt-image-2"),
            ("ChatGPT-Image-Latest", "gpt-image-2"),
            ("", ""),
            ("openai/", ""),
            ("dall-e-3", ""),
            ("gpt-image-2-2026-01-01", ""),
            ("openai/openai/openai/openai/openai/gpt-image-2", ""),
            ("xopenai/gpt-image-2", ""),
            ("gpt image 1", ""),
        ] {
            assert_eq!(found(&catalogue, name), id, "{name}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let catalogue = catalogue();
        let nearest = |name: &str| {
            Catalogue::nearest(name, catalogue.models.iter()).map(|model| model.id.to_string()).unwrap_or_default()
        };
        for (name, id) in [
            ("gpt-image-15", "gpt-image-1.5"),
            ("gpt-image1.5", "gpt-image-1.5"),
            ("gpt-image-1,5", "gpt-image-1.5"),
            ("gpt-imgae-1.5", "gpt-image-1.5"),
            ("GPT_IMAGE_2", "gpt-image-2"),
            ("gpt-image-2-2026-01-01", "gpt-image-2"),
            ("azure/gpt-image-2-2026-01-01", "gpt-image-2"),
            ("gptimage2", "gpt-image-2"),
            ("gpt-image-1-minni", "gpt-image-1-mini"),
            ("gpt-image-2.5-flair", "gpt-image-2.5-flare"),
            ("dall-e-3", ""),
            ("flux-pro", ""),
            ("", ""),
        ] {
            assert_eq!(nearest(name), id, "{name}");
        }
        assert_eq!(nearest(&"gpt-image-2".repeat(1000)), "");
    }

    #[test]
    fn aliases_of_the_operator_are_checked() {
        let add = |pairs: &[(&str, &str)]| {
            let aliases = pairs.iter().map(|&(alias, name)| (alias.to_owned(), name.to_owned())).collect();
            let mut catalogue = catalogue();
            catalogue.add_aliases(&aliases).map(|()| catalogue)
        };
        let added = add(&[
            ("dall-e-3", "gpt-image-1.5"),
            ("My-Deployment", "openai/gpt-image-2"),
            ("chatgpt-image-latest", "gpt-image-1"),
        ]);
        let added = added.unwrap();
        for (name, id) in [
            ("dall-e-3", "gpt-image-1.5"),
            ("DALL-E-3", "gpt-image-1.5"),
            ("openai/dall-e-3", "gpt-image-1.5"),
            ("my-deployment", "gpt-image-2"),
            ("chatgpt-image-latest", "gpt-image-1"),
            ("gpt-image-2", "gpt-image-2"),
        ] {
            assert_eq!(found(&added, name), id, "{name}");
        }
        let long = "x".repeat(129);
        for (alias, name, words) in [
            ("gpt-image-2", "gpt-image-1", "is the id of a model"),
            ("GPT-image-2", "gpt-image-2", "is the id of a model"),
            ("dall-e-3", "gpt-image-15", "did you mean \"gpt-image-1.5\"?"),
            ("dall-e-3", "dall-e-2", "not a model of the catalogue"),
            ("", "gpt-image-2", "1 to 128"),
            ("two words", "gpt-image-2", "no space"),
            (&long, "gpt-image-2", "1 to 128"),
        ] {
            let problem = add(&[(alias, name)]).map(|_| ()).unwrap_err();
            assert!(problem.contains(words), "{alias}: {problem}");
        }
        assert!(add(&[("a", "gpt-image-1"), ("A", "gpt-image-2")]).map(|_| ()).unwrap_err().contains("twice"));
    }
}

//! Names of models: what other programs put in front of them, the dates of snapshots, and the operator's own names.
//!
//! Letter case and white space around a name are ignored.

use std::collections::BTreeMap;

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

impl OperatorAliases {
    /// Returns the id of the model that a name stands for.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// Adds a name.
    ///
    /// # Errors
    ///
    /// The end of a sentence that names it, when it is not valid or there is one already.
    pub(super) fn add(&mut self, alias: &str, id: String) -> Result<(), String> {
        let is_valid = (1..=NAME_BYTES_MAX).contains(&alias.len()) && alias.bytes().all(|b| b.is_ascii_graphic());
        if !is_valid {
            return Err(format!("an alias must have 1 to {NAME_BYTES_MAX} visible ASCII characters, and no space"));
        }
        match self.0.insert(alias.to_ascii_lowercase(), id) {
            Some(_) => Err(format!("{alias:?} is there twice; letter case makes no difference")),
            None => Ok(()),
        }
    }
}

/// Returns a name, and what is left of it without one prefix, without two, and so on.
pub(super) fn candidates(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name.trim()), |name| without_prefix(name)).take(PREFIXES_MAX + 1)
}

/// Returns how alike a name and the id of a model are, from 0 to 1; `None` where they have too little in common to suggest
/// the one for the other.
pub(super) fn likeness(name: &str, id: &str) -> Option<f64> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = without_date(candidates(name).last().unwrap_or_default()).to_ascii_lowercase();
    let likeness = strsim::normalized_damerau_levenshtein(&name, &id.to_ascii_lowercase());
    (likeness >= LIKENESS_MIN).then_some(likeness)
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

//! Named scenarios: plausible ways in which the service may differ from its documents.

use clap::ValueEnum;

use super::{Error, Scenario};

/// The scenarios by name, as tables of TOML.
const PROFILES: &str = include_str!("../../../config/profiles.toml");

/// A named scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// The service as it is documented
    Documented,
    /// Refuses pictures in `base64_images`
    NoInline,
    /// Ignores pictures in `base64_images`: a paid picture from the text alone
    InlineIgnored,
    /// The -plus models without `n`, `quality`, `background` and 1024x1024
    StrictPlus,
    /// Accepts the key raw, and refuses it as `Bearer`
    RawKey,
    /// The edge bans this client: a 403 page with error 1010 on every call
    #[value(name = "edge-403")]
    Edge403,
    /// The model gpt-image-2 is overloaded: 429
    Overloaded,
    /// The key has no permission for the model gpt-image-2: 403
    NoPermission,
    /// Ids are UUIDs
    UuidIds,
    /// A relay: other names of fields, error texts in Chinese, and another status for a model without a channel
    Relay,
    /// The edge cuts a call that is silent for 100 seconds; at the speed of the service
    SlowEdge,
}

impl Profile {
    /// Returns the name of the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Returns the scenario. Its speed is that of the profile, or else `speed`.
    ///
    /// # Errors
    ///
    /// When the table of the profile is not a valid scenario.
    pub fn scenario(self, speed: f64) -> Result<Scenario, Error> {
        let mut profiles: toml::Table = PROFILES.parse()?;
        let changes = profiles.remove(&self.name()).ok_or(Error::Value { key: "profile", rule: "one with a table" })?;
        Scenario { speed, ..Scenario::default() }.merged(serde_json::to_value(changes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_a_table_and_differs_from_the_documents() {
        let tables: toml::Table = PROFILES.parse().unwrap();
        assert_eq!(tables.len(), Profile::value_variants().len());
        for profile in Profile::value_variants() {
            let scenario = profile.scenario(20.0).unwrap();
            let documented = Scenario { speed: 20.0, ..Scenario::default() };
            assert_eq!(scenario == documented, *profile == Profile::Documented, "{profile:?}");
        }
        assert!((Profile::SlowEdge.scenario(20.0).unwrap().speed - 1.0).abs() < f64::EPSILON);
    }
}

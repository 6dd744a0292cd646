//! Client keys as the operator sees them: what is listed, and how the changes are prepared that the command line and the API
//! for the operator make.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::admission::Spent;
use crate::config::{
    ClientLimits, ClientsConfig, LimitOverrides, LimitPatch, Secret, WEIGHT_DEFAULT, check_name, check_weight,
    digest_of_key, mint_key, model_ids,
};
use crate::model::{Catalogue, ClientId, KeyId, Timestamp, Usd, parse_duration};
use crate::storage::clients::{Change, ClientPatch, ClientStoreError, StoredClient, StoredClients, StoredKey};

/// The characters of a key by which a person recognizes it: `sk-gw-` and the first four digits.
const PREFIX_CHARS: usize = 10;
/// The longest time of grace of a rotated key.
pub(crate) const GRACE_MAX: Duration = Duration::from_hours(24 * 365);
/// The latest end of a key, from now. A time that is meant in seconds and given in milliseconds is far beyond.
const EXPIRES_MAX: Duration = Duration::from_hours(24 * 365 * 100);

/// What is wrong with a change of keys. One line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyProblem {
    #[error("{param}: {problem}")]
    Invalid { param: Cow<'static, str>, problem: String },
    #[error("{0} is a client of the configuration, which is changed there: edit it, then reload")]
    OfConfiguration(String),
    #[error("nothing is to be changed; name a limit, weight, models or expires")]
    NoChange,
    #[error("{0} has several valid keys; name one by its id: {1}")]
    SeveralKeys(String, String),
    #[error(transparent)]
    Store(#[from] ClientStoreError),
}

impl KeyProblem {
    pub(crate) fn invalid(param: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> Self {
        Self::Invalid { param: param.into(), problem: problem.into() }
    }
}

/// What the operator decides about a key. Only what is `Some` is changed; a new key has the defaults for the rest.
#[derive(Clone, Debug, Default)]
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) struct KeyTerms {
    pub(crate) limits: LimitPatch,
    /// `Some(None)`: the default.
    pub(crate) weight: Option<Option<f64>>,
    /// Names of models; `Some(None)`: all of them.
    pub(crate) models: Option<Option<Vec<String>>>,
    pub(crate) expires: Option<Option<Timestamp>>,
}

impl KeyTerms {
    /// Leaves out what a key and its client have already: a form sends all that it shows.
    pub(crate) fn without_same(mut self, key: &StoredKey, client: &StoredClient) -> Self {
        self.limits = self.limits.without_same(&client.limits);
        self.weight = self.weight.filter(|weight| *weight != client.weight);
        let models = client.models.as_ref().map(|models| models.iter().cloned().collect::<Vec<_>>());
        self.models = self.models.filter(|new| *new != models);
        // It is shown to a second.
        let seconds = |time: Option<Timestamp>| time.map(Timestamp::seconds);
        self.expires = self.expires.filter(|expires| seconds(*expires) != seconds(key.expires));
        self
    }
}

/// What is needed to prepare a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRules<'a> {
    pub(crate) configured: &'a ClientsConfig,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) now: Timestamp,
}

impl KeyRules<'_> {
    /// Prepares a new client with its key.
    ///
    /// # Errors
    ///
    /// [`KeyProblem`], naming the parameter.
    pub(crate) fn create(&self, name: &str, terms: &KeyTerms) -> Result<(Change, Secret), KeyProblem> {
        check_name(name).map_err(|problem| KeyProblem::invalid("name", problem))?;
        self.require_not_configured(name)?;
        let patch = self.check(terms)?;
        let name = ClientId(name.into());
        let mut client =
            StoredClient { name: name.clone(), weight: None, limits: LimitOverrides::default(), models: None };
        patch.limits.apply(&mut client.limits);
        client.weight = patch.weight.flatten();
        client.models = patch.models.flatten();
        let (mut key, secret) = self.mint(name)?;
        key.expires = terms.expires.flatten();
        Ok((Change::CreateKey { client, key }, secret))
    }

    /// Prepares a change of a key and of the limits of its client.
    ///
    /// # Errors
    ///
    /// [`KeyProblem`], naming the parameter.
    pub(crate) fn update(&self, key: &StoredKey, terms: &KeyTerms) -> Result<Change, KeyProblem> {
        let client = self.check(terms)?;
        if !client.is_empty() {
            self.require_not_configured(&key.client.0)?;
        }
        if client.is_empty() && terms.expires.is_none() {
            return Err(KeyProblem::NoChange);
        }
        Ok(Change::UpdateKey { key: key.id, client, expires: terms.expires })
    }

    /// Prepares another key for the client of a key, which is valid for `grace` beside it.
    ///
    /// # Errors
    ///
    /// [`KeyProblem`] when the grace is too long.
    pub(crate) fn rotate(&self, key: &StoredKey, grace: Duration) -> Result<(Change, Secret), KeyProblem> {
        if grace > GRACE_MAX {
            return Err(KeyProblem::invalid("grace", "must be at most 365 days"));
        }
        let (mut new, secret) = self.mint(key.client.clone())?;
        new.expires = key.expires;
        let grace_ends = self.now.plus(grace);
        let grace_ends = key.valid_until().map_or(grace_ends, |until| until.min(grace_ends));
        Ok((Change::RotateKey { key: key.id, grace_ends, new }, secret))
    }

    /// Fails when a client is one of the configuration.
    ///
    /// # Errors
    ///
    /// [`KeyProblem::OfConfiguration`].
    pub(crate) fn require_not_configured(&self, name: &str) -> Result<(), KeyProblem> {
        if self.configured.entries.iter().any(|client| client.name == name) {
            return Err(KeyProblem::OfConfiguration(name.to_owned()));
        }
        Ok(())
    }

    /// Checks terms.
    ///
    /// # Errors
    ///
    /// [`KeyProblem::Invalid`], naming the parameter.
    pub(crate) fn check(&self, terms: &KeyTerms) -> Result<ClientPatch, KeyProblem> {
        terms.limits.check().map_err(|problem| match problem.split_once(": ") {
            Some((param, problem)) => KeyProblem::invalid(param.to_owned(), problem),
            None => KeyProblem::invalid("limits", problem),
        })?;
        if let Some(weight) = terms.weight.flatten() {
            check_weight(weight)
                .map_err(|problem| KeyProblem::invalid("weight", problem.trim_start_matches("clients.weight: ")))?;
        }
        if terms.expires.flatten().is_some_and(|expires| expires <= self.now) {
            return Err(KeyProblem::invalid("expires", "must be in the future; revoke the key to end it now"));
        }
        if terms.expires.flatten().is_some_and(|expires| expires > self.now.plus(EXPIRES_MAX)) {
            let problem = "must be within 100 years; a number is in seconds since the Unix epoch, not in milliseconds";
            return Err(KeyProblem::invalid("expires", problem));
        }
        let ids = |names: &Vec<String>| {
            model_ids(names, self.catalogue).map_err(|problem| KeyProblem::invalid("models", problem))
        };
        let models = terms.models.as_ref().map(|models| models.as_ref().map(ids).transpose()).transpose()?;
        Ok(ClientPatch { limits: terms.limits, weight: terms.weight, models })
    }

    fn mint(&self, client: ClientId) -> Result<(StoredKey, Secret), KeyProblem> {
        let minted =
            mint_key(&client.0, rand::random()).map_err(|error| KeyProblem::invalid("name", error.to_string()))?;
        let key = StoredKey {
            id: KeyId::new(self.now, rand::random()),
            client,
            prefix: minted.key.expose().chars().take(PREFIX_CHARS).collect(),
            digest: digest_of_key(minted.key.expose()),
            created: self.now,
            expires: None,
            grace_ends: None,
            revoked: None,
            last_used: None,
        };
        Ok((key, minted.key))
    }

    /// Finds a key by its id, or by the name of its client where that has one valid key.
    ///
    /// # Errors
    ///
    /// [`KeyProblem`] when there is no such key, or more than one.
    pub(crate) fn find<'a>(&self, stored: &'a StoredClients, named: &str) -> Result<&'a StoredKey, KeyProblem> {
        match self.find_all(stored, named)?[..] {
            [one] => Ok(one),
            ref several => {
                let shown = |key: &&StoredKey| {
                    let until = key.valid_until().map(|until| format!(" until {until}")).unwrap_or_default();
                    format!("{} ({}…, {}{until})", key.id, key.prefix, key.state(self.now).name())
                };
                let keys: Vec<String> = several.iter().map(shown).collect();
                Err(KeyProblem::SeveralKeys(named.to_owned(), keys.join(", ")))
            }
        }
    }

    /// Finds a key by its id, or the valid keys of a client by its name, the oldest first: at least one.
    ///
    /// # Errors
    ///
    /// [`KeyProblem`] when there is none.
    pub(crate) fn find_all<'a>(
        &self,
        stored: &'a StoredClients,
        named: &str,
    ) -> Result<Vec<&'a StoredKey>, KeyProblem> {
        if let Ok(id) = named.parse::<KeyId>() {
            let found = stored.keys.iter().find(|key| key.id == id);
            return found.map(|key| vec![key]).ok_or_else(|| ClientStoreError::NoSuchKey(named.to_owned()).into());
        }
        let of_client = stored.keys.iter().filter(|key| *key.client.0 == *named && key.state(self.now).is_valid());
        let found: Vec<_> = of_client.collect();
        if found.is_empty() {
            let name = named.strip_prefix(CONFIGURED).unwrap_or(named);
            self.require_not_configured(name)?;
            // A key in the place of its name is not repeated.
            let shown = if check_name(named).is_ok() { named } else { "of this name or id" };
            return Err(ClientStoreError::NoSuchKey(shown.to_owned()).into());
        }
        Ok(found)
    }
}

/// The start of the id under which a key of the configuration is listed.
const CONFIGURED: &str = "config:";

/// A key as it is listed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KeyView {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    /// The client.
    pub(crate) name: String,
    /// `None` for a key of the configuration, which has its digest alone.
    pub(crate) prefix: Option<String>,
    /// `active`, `rotated`, `expired` or `revoked`.
    pub(crate) status: &'static str,
    /// `run_time` or `configuration`.
    pub(crate) source: &'static str,
    /// Times are in seconds since the Unix epoch.
    pub(crate) created: Option<i64>,
    pub(crate) expires: Option<i64>,
    pub(crate) grace_ends: Option<i64>,
    pub(crate) revoked: Option<i64>,
    pub(crate) last_used: Option<i64>,
    pub(crate) limits: LimitsView,
    pub(crate) weight: f64,
    /// `None`: all of them.
    pub(crate) models: Option<Vec<String>>,
    /// By the client, with all its keys.
    pub(crate) spent: Spent,
    /// What a client of run time has of its own, where it has not the defaults.
    #[serde(skip)]
    pub(crate) own: Option<StoredClient>,
}

/// The limits in force; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct LimitsView {
    pub(crate) requests_per_minute: Option<u32>,
    pub(crate) requests_at_once: Option<u32>,
    pub(crate) predictions_at_once: Option<u32>,
    pub(crate) pictures_per_day: Option<u32>,
    pub(crate) usd_per_day: Option<f64>,
    pub(crate) usd_per_month: Option<f64>,
}

impl From<ClientLimits> for LimitsView {
    fn from(limits: ClientLimits) -> Self {
        let count = |limit: Option<std::num::NonZeroU32>| limit.map(std::num::NonZeroU32::get);
        let money = |limit: Option<Usd>| limit.map(|Usd(usd)| usd);
        Self {
            requests_per_minute: count(limits.requests_per_minute),
            requests_at_once: count(limits.requests_at_once),
            predictions_at_once: count(limits.predictions_at_once),
            pictures_per_day: count(limits.pictures_per_day),
            usd_per_day: money(limits.usd_per_day),
            usd_per_month: money(limits.usd_per_month),
        }
    }
}

impl LimitsView {
    /// Returns the limits that there are, in a few words.
    pub(crate) fn text(&self, models: Option<&[String]>) -> String {
        let count = |limit: Option<u32>, unit: &str| limit.map(|limit| format!("{limit} {unit}"));
        let money = |limit: Option<f64>, unit: &str| limit.map(|limit| format!("${limit} {unit}"));
        let parts: Vec<String> = [
            count(self.requests_per_minute, "requests/min"),
            count(self.requests_at_once, "requests at once"),
            count(self.predictions_at_once, "predictions at once"),
            count(self.pictures_per_day, "pictures/day"),
            money(self.usd_per_day, "a day"),
            money(self.usd_per_month, "a month"),
            models.map(|models| models.join(" ")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }
}

/// Returns every key: those of the configuration, then the others, the oldest first.
pub(crate) fn list_keys(rules: KeyRules<'_>, stored: &StoredClients, spent: &HashMap<ClientId, Spent>) -> Vec<KeyView> {
    let KeyRules { configured, now, .. } = rules;
    let spent = |name: &ClientId| spent.get(name).copied().unwrap_or_default();
    let of_config = configured.entries.iter().map(|client| KeyView {
        id: format!("{CONFIGURED}{}", client.name),
        object: "client_key",
        name: client.name.clone(),
        prefix: None,
        status: "active",
        source: "configuration",
        created: None,
        expires: None,
        grace_ends: None,
        revoked: None,
        last_used: None,
        limits: client.limits.into(),
        weight: client.weight,
        models: client.models.clone().map(|models| models.into_iter().collect()),
        spent: spent(&ClientId(client.name.as_str().into())),
        own: None,
    });
    let of_run_time = stored.keys.iter().map(|key| {
        let client = stored.clients.iter().find(|client| client.name == key.client);
        let own = configured.entries.iter().find(|client| client.name == *key.client.0);
        let limits = match (own, client) {
            (Some(own), _) => own.limits,
            (None, Some(client)) => client.limits.over(configured.limits),
            (None, None) => configured.limits,
        };
        let weight = own.map(|own| own.weight).or(client.and_then(|client| client.weight));
        let models = own.map_or_else(|| client.and_then(|client| client.models.as_ref()), |own| own.models.as_ref());
        let seconds = |time: Option<Timestamp>| time.map(Timestamp::seconds);
        KeyView {
            id: key.id.to_string(),
            object: "client_key",
            name: key.client.to_string(),
            prefix: Some(key.prefix.clone()),
            status: key.state(now).name(),
            source: "run_time",
            created: Some(key.created.seconds()),
            expires: seconds(key.expires),
            grace_ends: seconds(key.grace_ends),
            revoked: seconds(key.revoked),
            last_used: seconds(key.last_used),
            limits: limits.into(),
            weight: weight.unwrap_or(WEIGHT_DEFAULT),
            models: models.map(|models| models.iter().cloned().collect()),
            spent: spent(&key.client),
            own: client.cloned(),
        }
    });
    of_config.chain(of_run_time).collect()
}

/// Reads a time to come: a time or a date (UTC), or how long from now, as `30d`.
///
/// # Errors
///
/// The end of a sentence.
pub(crate) fn parse_expiry(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(duration) = parse_duration(text) {
        return Ok(now.plus(duration));
    }
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        date.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok().map(|midnight| midnight.timestamp())
    });
    let time = time.ok_or("must be a time as 2027-01-31T12:00:00Z, a date, or how long from now, as 30d or 12h")?;
    Ok(Timestamp::from_millis(time.as_millisecond()))
}

/// Reads how long a rotated key stays valid.
///
/// # Errors
///
/// The end of a sentence.
pub(crate) fn parse_grace(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("must be a number and s, m, h or d, as 90m")
}

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::*;
use crate::config::{Config, Environment};
use crate::model::{Clock, SystemClock};

fn config() -> Config {
    let variables = [("GATEWAY_CLIENT_KEYS", "alice:0123456789abcdef"), ("GATEWAY_LIMITS__USD_PER_DAY", "4")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Config::load(None, &Environment::from(variables)).unwrap()
}

fn rules(config: &Config) -> KeyRules<'_> {
    KeyRules { configured: &config.clients, catalogue: &config.catalogue, now: SystemClock.now() }
}

#[test]
fn a_new_key_has_a_prefix_and_a_digest_and_its_text_is_given_once() {
    let config = config();
    let models = Some(Some(vec!["openai/gpt-image-2".to_owned()]));
    let (change, secret) = rules(&config).create("carol", &KeyTerms { models, ..KeyTerms::default() }).unwrap();
    let Change::CreateKey { client, key } = &change else { panic!("{change:?}") };
    assert!(secret.expose().starts_with(&key.prefix) && key.prefix.len() == PREFIX_CHARS);
    assert_eq!(key.digest, digest_of_key(secret.expose()));
    assert_eq!(client.models, Some(["gpt-image-2".to_owned()].into()), "by its id");
    assert!(!format!("{change:?}").contains(secret.expose()));
}

#[test]
fn mistakes_name_the_parameter() {
    let config = config();
    let rules = rules(&config);
    let terms = |limits: &str| KeyTerms { limits: serde_json::from_str(limits).unwrap(), ..KeyTerms::default() };
    let refusal = |name: &str, terms: &KeyTerms| rules.create(name, terms).unwrap_err().to_string();
    let far = rules.now.plus(EXPIRES_MAX + Duration::from_secs(1));
    for (name, terms, named) in [
        ("carol", KeyTerms { expires: Some(Some(far)), ..KeyTerms::default() }, "expires: must be within 100 years"),
        ("", terms("{}"), "name: "),
        ("<b>", terms("{}"), "name: "),
        ("sk-gw-0123456789", terms("{}"), "name: "),
        ("alice", terms("{}"), "alice is a client of the configuration"),
        ("carol", terms(r#"{"usd_per_day": -1}"#), "limits.usd_per_day: must be a number from 0"),
        (
            "carol",
            KeyTerms { weight: Some(Some(f64::NAN)), ..KeyTerms::default() },
            "weight: must be a number from 0.001",
        ),
        ("carol", KeyTerms { expires: Some(Some(rules.now)), ..KeyTerms::default() }, "expires: must be in the future"),
        ("carol", KeyTerms { models: Some(Some(vec![])), ..KeyTerms::default() }, "models: is empty"),
        ("carol", KeyTerms { models: Some(Some(vec!["x".to_owned()])), ..KeyTerms::default() }, "models: \"x\" is not"),
    ] {
        let problem = refusal(name, &terms);
        assert!(problem.starts_with(named) && !problem.contains('\n'), "{problem}");
    }
    assert!(!refusal("sk-gw-0123456789", &terms("{}")).contains("0123456789"));
}

#[test]
fn keys_are_found_by_id_and_by_the_name_of_their_client() {
    let config = config();
    let rules = rules(&config);
    let mut stored = StoredClients::default();
    for name in ["carol", "carol", "dave"] {
        let (Change::CreateKey { client, key }, _) = rules.create(name, &KeyTerms::default()).unwrap() else {
            panic!()
        };
        stored.clients.push(client);
        stored.keys.push(key);
    }
    stored.keys[0].revoked = Some(rules.now);
    let found = |named: &str| rules.find(&stored, named).map(|key| key.id).map_err(|problem| problem.to_string());
    assert_eq!(found("carol"), Ok(stored.keys[1].id), "the valid one");
    assert_eq!(found(&stored.keys[0].id.to_string()), Ok(stored.keys[0].id));
    assert_eq!(found("erin").unwrap_err(), "there is no key erin");
    assert!(found("alice").unwrap_err().contains("of the configuration"));
    assert!(found("config:alice").unwrap_err().contains("of the configuration"));
    assert!(!found("sk-gw-0123456789").unwrap_err().contains("0123456789"));
    stored.keys[0].revoked = None;
    stored.keys[0].grace_ends = Some(rules.now.plus(Duration::from_mins(10)));
    let several = rules.find(&stored, "carol").unwrap_err().to_string();
    for key in &stored.keys[..2] {
        assert!(several.contains(&format!("{} ({}…, ", key.id, key.prefix)), "{several}");
    }
    assert!(several.contains("rotated until"), "{several}");
    let all =
        |named: &str| rules.find_all(&stored, named).map(|keys| keys.iter().map(|key| key.id).collect::<Vec<_>>());
    assert_eq!(all("carol").unwrap(), [stored.keys[0].id, stored.keys[1].id]);
    assert_eq!(all(&stored.keys[2].id.to_string()).unwrap(), [stored.keys[2].id]);
    all("erin").unwrap_err();

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let spent = crate::admission::spent_by_client(Vec::new(), &config.catalogue, &clock);
    let views = list_keys(rules, &stored, &spent);
    let json = serde_json::to_value(&views).unwrap();
    assert_eq!(json[0]["id"], "config:alice");
    assert_eq!((&json[0]["prefix"], &json[0]["source"]), (&serde_json::Value::Null, &"configuration".into()));
    assert_eq!(json[3]["name"], "dave");
    assert_eq!(json[3]["limits"]["usd_per_day"], 4.0, "the default");
    let text = json.to_string();
    assert!(stored.keys.iter().all(|key| !text.contains(&key.digest.to_string())), "no digest");
}

#[test]
fn times_to_come_and_durations_are_read() {
    let now = Timestamp::from_millis(1_790_000_000_000);
    let expiry = |text: &str| parse_expiry(text, now).map(Timestamp::seconds);
    assert_eq!(expiry("90m"), Ok(1_790_005_400));
    assert_eq!(expiry("2d"), Ok(1_790_172_800));
    assert_eq!(expiry("2026-12-24"), Ok(1_798_070_400));
    assert_eq!(expiry("2026-12-24T01:00:00+01:00"), Ok(1_798_070_400));
    for wrong in ["", "soon", "h", "1w", "-1h", "1é", "99999999999d"] {
        assert!(expiry(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_rotation_promises_no_more_time_than_the_key_has() {
    let config = config();
    let rules = rules(&config);
    let day = |days: u64| Duration::from_secs(days * 86_400);
    let terms = KeyTerms { expires: Some(Some(rules.now.plus(day(10)))), ..KeyTerms::default() };
    let (Change::CreateKey { key, .. }, _) = rules.create("carol", &terms).unwrap() else { panic!() };
    for (grace, ends) in [(day(20), day(10)), (day(1), day(1))] {
        let (Change::RotateKey { grace_ends, .. }, _) = rules.rotate(&key, grace).unwrap() else { panic!() };
        assert_eq!(grace_ends, rules.now.plus(ends));
    }
}

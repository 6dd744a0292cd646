use std::num::NonZeroU32;

use super::*;
use crate::config::tests::{load, refusal};
use crate::model::Usd;

/// A client called alice, with more `lines` in its entry.
fn alice(lines: &str) -> String {
    format!("[[clients]]\nname = \"alice\"\nkey_digest = \"{}\"\n{lines}\n", "ab".repeat(32))
}

#[test]
fn a_client_has_the_default_limits_unless_it_names_its_own() {
    let defaults = "[limits]\nrequests_per_minute = 60\npictures_per_day = 100\nusd_per_day = 10\n";
    let own = alice("pictures_per_day = 0\nusd_per_day = 2.5\nusd_per_month = 40\nweight = 3");
    let variables = [("GATEWAY_CLIENT_KEYS", "bob:0123456789abcdef"), ("GATEWAY_LIMITS__USD_PER_MONTH", "99")];
    let config = load(&format!("{defaults}{own}"), &variables).unwrap();
    let [alice, bob] = &config.clients.entries[..] else { panic!("two clients") };
    let of_bob = ClientLimits {
        requests_per_minute: NonZeroU32::new(60),
        requests_at_once: None,
        predictions_at_once: None,
        pictures_per_day: NonZeroU32::new(100),
        usd_per_day: Some(Usd(10.0)),
        usd_per_month: Some(Usd(99.0)),
    };
    assert_eq!(bob.limits, of_bob);
    let of_alice =
        ClientLimits { pictures_per_day: None, usd_per_day: Some(Usd(2.5)), usd_per_month: Some(Usd(40.0)), ..of_bob };
    assert_eq!(alice.limits, of_alice);
    assert_eq!((alice.weight, bob.weight), (3.0, 1.0));
    assert_eq!((&alice.models, &bob.models), (&None, &None));
    let sandbox = config.sandboxed("127.0.0.1:1".parse().unwrap(), "key").clients.entries.pop().unwrap();
    assert_eq!(sandbox.limits, of_bob);
    assert_eq!(load("", &[]).unwrap().clients.limits, ClientLimits::default());
}

#[test]
fn models_of_a_client_may_be_named_by_an_alias() {
    let config = load(&alice("models = [\"openai/gpt-image-2\", \"gpt-image-1\", \"gpt-image-2\"]"), &[]).unwrap();
    let models: Vec<&str> = config.clients.entries[0].models.iter().flatten().map(String::as_str).collect();
    assert_eq!(models, ["gpt-image-1", "gpt-image-2"]);
}

#[test]
fn mistakes_name_the_client_and_the_key() {
    for (lines, named) in [
        ("models = [\"dall-e-9\"]", "clients.alice.models: \"dall-e-9\" is not a model of the catalogue"),
        ("models = []", "clients.alice.models: is empty"),
        ("weight = 0", "clients.alice.weight: must be a number from 0.001 to 1000, not 0"),
        ("weight = -1.5", "clients.alice.weight"),
        ("weight = nan", "clients.alice.weight"),
        ("weight = 1001", "clients.alice.weight"),
        ("usd_per_day = inf", "clients.alice.usd_per_day"),
        ("pictures_per_day = -3", "clients.alice.pictures_per_day"),
        ("picture_per_day = 3", "picture_per_day"),
    ] {
        let error = refusal(&alice(lines), &[]);
        assert!(error.contains(named), "{error:?} does not name {named}");
    }
    assert!(refusal("[[clients]]\nname = \"a\"\nkey_digest = \"12\"", &[]).contains("key_digest"));
}

#[test]
fn keys_that_are_short_or_public_are_refused() {
    for key in ["short", "sk-sandbox", "with a blank in it"] {
        let error = refusal("", &[("GATEWAY_CLIENT_KEYS", &format!("alice:{key}"))]);
        assert!(error.starts_with("GATEWAY_CLIENT_KEYS: the key of alice "), "{error}");
    }
}

#[test]
fn a_name_is_used_once() {
    let error = refusal("", &[("GATEWAY_CLIENT_KEYS", "a:0123456789abcdef,a:fedcba9876543210")]);
    assert_eq!(error, "clients: the name a is used twice");
}

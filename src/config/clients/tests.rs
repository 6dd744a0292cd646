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
    for key in ["short", "with a blank in it", "\"quoted-quoted-quoted\"", "not-ascii-ünïcödé"] {
        let error = refusal("", &[("GATEWAY_CLIENT_KEYS", &format!("bob:0123456789abcdef,alice:{key}"))]);
        assert!(error.starts_with("GATEWAY_CLIENT_KEYS, entry 2: the key of alice "), "{error}");
        assert!(!error.contains(key), "{error}");
    }
    let public = Digest::of(b"sk-sandbox");
    let error = refusal(&format!("[[clients]]\nname = \"alice\"\nkey_digest = \"{public}\""), &[]);
    assert_eq!(error, "clients: the key of alice is the sandbox's, which is public; use another one");
}

#[test]
fn a_name_and_a_key_are_used_once() {
    let error = refusal("", &[("GATEWAY_CLIENT_KEYS", "a:0123456789abcdef,a:fedcba9876543210")]);
    assert_eq!(error, "clients: the name a is used twice");
    let error = refusal("", &[("GATEWAY_CLIENT_KEYS", "a:0123456789abcdef,b:0123456789abcdef")]);
    assert_eq!(error, "clients: a and b have the same key; give each client a key of its own");
    // One by its digest, the other in plain text.
    let digest = Digest::of(b"0123456789abcdef");
    let file = format!("[[clients]]\nname = \"a\"\nkey_digest = \"{digest}\"");
    let error = refusal(&file, &[("GATEWAY_CLIENT_KEYS", "b:0123456789abcdef")]);
    assert!(error.starts_with("clients: a and b have the same key"), "{error}");
}

#[test]
fn a_client_has_no_upstream_key() {
    for upstream in [
        ("GPTPROTO_API_KEY", "sk-0123456789abcdef"),
        ("GPTPROTO_API_KEY", "Bearer sk-0123456789abcdef"),
        ("GPTPROTO_API_KEYS", "one:sk-1,two:sk-0123456789abcdef"),
    ] {
        let error = refusal("", &[upstream, ("GATEWAY_CLIENT_KEYS", "alice:sk-0123456789abcdef")]);
        assert!(error.starts_with("clients: the key of alice is the upstream key of the account "), "{error}");
        assert!(!error.contains("0123456789abcdef"), "{error}");
    }
}

#[test]
fn a_key_in_place_of_a_name_is_not_repeated() {
    const KEY: &str = "hunter2-hunter2-hunter2";
    for variable in ["GATEWAY_CLIENT_KEYS", "GPTPROTO_API_KEYS"] {
        for value in [format!("sk-{KEY}:alice"), format!("{KEY}:alice"), format!("alice={KEY}"), format!("sk {KEY}:x")]
        {
            let result = load("", &[(variable, &value)]).map_err(|error| error.to_string());
            assert!(result.err().is_none_or(|error| !error.contains("hunter2")), "{variable}={value}");
        }
    }
    for text in [
        format!("[[clients]]\nname = \"alice\"\nkey = \"{KEY}\""),
        format!("[[clients]]\nname = \"alice\"\nkey_digest = \"{KEY}\""),
        format!("[[clients]]\nname = \"sk-{KEY}\"\nkey_digest = \"{}\"", "ab".repeat(32)),
        format!("[[clients]]\nname = \"alice\"\nkey_digest = {KEY}"),
        format!("[upstream]\napi_key = \"{KEY}\""),
        format!("[upstream]\napi = \"{KEY}\""),
        format!("[upstream]\nqueue_max = \"{KEY}\""),
        format!("[upstream]\nbase_url = \"{KEY}\""),
        format!("[upstream]\nbase_url = \"https://me:{KEY}@gptproto.com\""),
        format!("[upstream]\ninputs = [\"{KEY}\"]"),
        format!("[upstream]\nproxy = \"http://me:{KEY}@proxy.test:1\""),
        format!("[webhooks]\nallowed_origins = [\"https://me:{KEY}@x.test\"]"),
        format!("[webhooks]\nsecret = \"{KEY}\""),
        format!("upstream = \"{KEY}\""),
        format!("GPTPROTO_API_KEY = \"{KEY}\""),
        format!("GPTPROTO_API_KEY={KEY}"),
        format!("[cache]\nmode = \"{KEY}\""),
    ] {
        let error = refusal(&text, &[]);
        assert!(!error.contains("hunter2"), "{error}");
    }
    for variable in
        ["GATEWAY_API_KEY", "GATEWAY_UPSTREAM__API_KEY", "GATEWAY_CLIENT_KEY", "GATEWAY_UPSTREAM__QUEUE_MAX"]
    {
        let error = refusal("", &[(variable, KEY)]);
        assert!(error.starts_with(variable) && !error.contains("hunter2"), "{error}");
    }
}

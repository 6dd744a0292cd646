use super::status::LimitUsage;
use super::*;
use crate::config::digest_of_key;
use crate::config::{Config, Environment};
use crate::model::{Digest, SystemClock};
use crate::storage::clients::{StoredClient, StoredKey};
use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};

fn new_admission(config: &Config, stored: &StoredClients) -> Admission {
    Admission::new(&config.clients, stored, &config.server.responses, Arc::new(SystemClock), &Metrics::default())
}

#[test]
fn only_the_complete_key_is_accepted() {
    let keys = "alice:0123456789abcdef,bob:fedcba9876543210";
    let environment = Environment::from([("GATEWAY_CLIENT_KEYS".to_owned(), keys.to_owned())]);
    let config = Config::load(None, &environment).unwrap();
    let admission = new_admission(&config, &StoredClients::default());
    let name = |key: &str| admission.client(key).map(|(client, _)| client.to_string());
    assert_eq!(name("0123456789abcdef").as_deref(), Some("alice"));
    assert_eq!(name("fedcba9876543210").as_deref(), Some("bob"));
    for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "alice:0123456789abcdef"] {
        assert_eq!(name(wrong), None, "{wrong}");
    }
}

#[test]
fn waiters_are_bounded_and_their_permits_returned() {
    let mut config = Config::load(None, &Environment::new()).unwrap();
    config.server.responses.waiters_max = 1;
    let admission = new_admission(&config, &StoredClients::default());
    let client = ClientId("unlimited".into());
    let permit = admission.admit(&client, Arc::default()).unwrap();
    assert!(matches!(admission.admit(&client, Arc::default()), Err(Rejection::TooManyWaiters { .. })));
    drop(permit);
    admission.admit(&client, Arc::default()).unwrap();
}

#[test]
fn the_requests_at_once_of_one_client_are_bounded_without_affecting_others() {
    let variables = [
        ("GATEWAY_CLIENT_KEYS", "alice:0123456789abcdef,bob:fedcba9876543210"),
        ("GATEWAY_LIMITS__REQUESTS_AT_ONCE", "2"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, &Environment::from(variables)).unwrap();
    let admission = new_admission(&config, &StoredClients::default());
    let (alice, bob) = (ClientId("alice".into()), ClientId("bob".into()));
    let permits = [admission.admit(&alice, Arc::default()).unwrap(), admission.admit(&alice, Arc::default()).unwrap()];
    let Err(Rejection::LimitExceeded(exceeded)) = admission.admit(&alice, Arc::default()) else { panic!("a third") };
    assert_eq!(exceeded.limit, Limit::RequestsAtOnce);
    assert_eq!(admission.status()[0].requests_at_once, LimitUsage { used: 2, limit: Some(2) });
    admission.admit(&bob, Arc::default()).unwrap();
    drop(permits);
    admission.admit(&alice, Arc::default()).unwrap();
    assert_eq!(admission.status()[0].requests_at_once.used, 0);
}

fn stored_key(client: &str, key: &str) -> StoredKey {
    StoredKey {
        id: KeyId::new(SystemClock.now(), u128::from(key.len() as u64)),
        client: ClientId(client.into()),
        prefix: key[..8].to_owned(),
        digest: digest_of_key(key),
        created: SystemClock.now(),
        expires: None,
        grace_ends: None,
        revoked: None,
        last_used: None,
    }
}

fn stored_client(name: &str, limits: &str) -> StoredClient {
    let limits = serde_json::from_str(limits).unwrap();
    StoredClient { name: ClientId(name.into()), weight: Some(2.0), limits, models: None }
}

fn client_of(admission: &Admission, key: &str) -> Option<ClientId> {
    admission.client(key).map(|(client, _)| client)
}

/// Updates what an admission knows; in the journal is nothing.
async fn update(admission: &Admission, config: &Config, stored: &StoredClients) {
    let journal = MemoryJournal::on(&Disk::default(), Duration::ZERO, SyncMode::Full);
    admission.update(&config.clients, stored, &journal, &config.catalogue).await.unwrap();
}

#[tokio::test]
async fn keys_appear_and_vanish_and_what_was_counted_stays() {
    let variables = [("GATEWAY_CLIENT_KEYS".to_owned(), "alice:0123456789abcdef".to_owned())];
    let config = Config::load(None, &Environment::from(variables)).unwrap();
    let admission = new_admission(&config, &StoredClients::default());
    let carol = ClientId("carol".into());
    let key = "sk-gw-carol-of-run-time";
    assert_eq!((client_of(&admission, key), admission.has_key(&carol)), (None, false));

    let limited = |limits: &str, keys: Vec<StoredKey>| StoredClients {
        clients: vec![stored_client("carol", limits)],
        keys,
        ..StoredClients::default()
    };
    let stored = limited(r#"{"requests_at_once": 2, "requests_per_minute": 3}"#, vec![stored_key("carol", key)]);
    update(&admission, &config, &stored).await;
    assert_eq!(client_of(&admission, key), Some(carol.clone()));
    assert_eq!(admission.take_used_keys(), [stored.keys[0].id]);
    assert_eq!(admission.take_used_keys(), []);
    assert_eq!(admission.outlook().weights[&carol].to_bits(), 2.0_f64.to_bits());
    let permits = [(); 2].map(|()| admission.admit(&carol, Arc::default()).unwrap());
    admission.check_rate(&carol).unwrap();
    let hold = admission.reserve(&carol, CostEstimate { purchases: 1, pictures: 1, usd: Usd(0.5) }).unwrap();

    // Limits below what is in use: nothing more begins, and what ends is counted right.
    let tight = r#"{"requests_at_once": 1, "requests_per_minute": 2, "usd_per_day": 0.6}"#;
    update(&admission, &config, &limited(tight, stored.keys.clone())).await;
    assert!(admission.admit(&carol, Arc::default()).is_err());
    assert_eq!(admission.request_rate(&carol).map(|rate| rate.remaining), Some(1));
    let more = CostEstimate { purchases: 1, pictures: 1, usd: Usd(0.2) };
    assert_eq!(admission.reserve(&carol, more).unwrap_err().limit, Limit::UsdPerDay);
    drop(permits);
    let one = admission.admit(&carol, Arc::default()).unwrap();
    assert!(admission.admit(&carol, Arc::default()).is_err());
    hold.settle(1, Usd(0.1));
    drop(admission.reserve(&carol, more).unwrap());
    drop(one);

    // A key that was revoked, one that is rotated, and one that has expired.
    let now = SystemClock.now();
    let mut keys =
        vec![stored_key("carol", key), stored_key("carol", "sk-gw-carol-second"), stored_key("carol", "sk-gw-carol-3")];
    keys[0].revoked = Some(now);
    keys[1].grace_ends = Some(now.plus(Duration::from_mins(1)));
    keys[2].expires = Some(now);
    update(&admission, &config, &limited(tight, keys.clone())).await;
    assert_eq!(client_of(&admission, key), None);
    assert_eq!(client_of(&admission, "sk-gw-carol-second"), Some(carol.clone()));
    assert_eq!(client_of(&admission, "sk-gw-carol-3"), None);
    assert_eq!((admission.outlook().next_expiry, admission.has_key(&carol)), (keys[1].grace_ends, true));

    // Gone, and back: its usage counts again.
    update(&admission, &config, &StoredClients::default()).await;
    assert!(!admission.has_key(&carol) && admission.client("sk-gw-carol-second").is_none());
    let shown = admission.status().into_iter().map(|client| (client.name, client.has_key)).collect::<Vec<_>>();
    assert_eq!(
        shown,
        [("alice".to_owned(), true), ("carol".to_owned(), false)],
        "what carol has spent is still of today"
    );
    update(&admission, &config, &stored).await;
    assert!((admission.status()[1].usd_per_day.used - 0.1).abs() < 1e-9);
}

#[test]
fn a_name_of_the_configuration_keeps_its_limits() {
    let variables = [("GATEWAY_CLIENT_KEYS", "alice:0123456789abcdef"), ("GATEWAY_LIMITS__REQUESTS_PER_MINUTE", "7")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, &Environment::from(variables)).unwrap();
    let mut keys = vec![stored_key("alice", "sk-gw-alice-of-run-time"), stored_key("mallory", "0123456789abcdef")];
    keys[1].digest = Digest::of(b"0123456789abcdef");
    let clients = vec![stored_client("alice", r#"{"requests_per_minute": 1000}"#), stored_client("mallory", "{}")];
    let admission = new_admission(&config, &StoredClients { clients, keys, ..StoredClients::default() });
    let alice = ClientId("alice".into());
    assert_eq!(client_of(&admission, "sk-gw-alice-of-run-time"), Some(alice.clone()));
    assert_eq!(admission.request_rate(&alice).map(|rate| rate.limit), Some(7));
    assert_eq!(
        client_of(&admission, "0123456789abcdef"),
        Some(alice),
        "not the client that has the same key in the database"
    );
    assert_eq!(admission.request_rate(&ClientId("mallory".into())).map(|rate| rate.limit), Some(7), "the default");
}

#[tokio::test]
async fn what_was_begun_with_a_key_ends_with_that_key_alone() {
    let load = |keys: &str| {
        let variables = [("GATEWAY_CLIENT_KEYS".to_owned(), keys.to_owned())];
        Config::load(None, &Environment::from(variables)).unwrap()
    };
    let config = load("alice:0123456789abcdef,bob:fedcba9876543210");
    let (first, second) = (stored_key("carol", "sk-gw-carol-first"), stored_key("carol", "sk-gw-carol-second"));
    let stored = |keys: &[&StoredKey]| StoredClients {
        clients: vec![stored_client("carol", "{}")],
        keys: keys.iter().map(|&key| key.clone()).collect(),
        ..StoredClients::default()
    };
    let admission = new_admission(&config, &stored(&[&first]));
    let begun = |key: &str| admission.client(key).unwrap().1;
    let (of_first, of_alice, of_bob) =
        (begun("sk-gw-carol-first"), begun("0123456789abcdef"), begun("fedcba9876543210"));
    update(&admission, &config, &stored(&[&first, &second])).await;
    let of_second = begun("sk-gw-carol-second");
    assert!(of_first.is_valid() && Arc::ptr_eq(&of_first, &begun("sk-gw-carol-first")), "a rotation ends nothing");

    // The old key ends; its client and the new key go on.
    update(&admission, &config, &stored(&[&second])).await;
    tokio::time::timeout(Duration::from_secs(5), of_first.ended()).await.unwrap();
    assert!(!of_first.is_valid() && of_second.is_valid() && admission.has_key(&first.client));

    // A client that the configuration does not list any more, and one that has the key of another now.
    update(&admission, &load("bobby:fedcba9876543210"), &stored(&[&second])).await;
    assert!(!of_alice.is_valid() && !of_bob.is_valid() && of_second.is_valid());
    update(&admission, &config, &stored(&[&first, &second])).await;
    assert!(!of_alice.is_valid() && !of_first.is_valid(), "what is listed again is another one");
    assert!(begun("0123456789abcdef").is_valid() && begun("sk-gw-carol-first").is_valid());
}

#[tokio::test]
async fn a_new_client_waits_until_what_it_bought_before_is_counted_and_a_revocation_does_not() {
    let config = Config::load(None, &Environment::new()).unwrap();
    let carol = stored_key("carol", "sk-gw-carol-of-run-time");
    let dave = stored_key("dave", "sk-gw-dave-of-run-time");
    let stored = |names: &[&str], keys: &[&StoredKey]| StoredClients {
        clients: names.iter().map(|name| stored_client(name, "{}")).collect(),
        keys: keys.iter().map(|&key| key.clone()).collect(),
        ..StoredClients::default()
    };
    let admission = new_admission(&config, &stored(&["carol"], &[&carol]));
    let directory = tempfile::tempdir().unwrap();
    let unreadable = crate::storage::journal::open(&directory.path().join("journal.sqlite")).unwrap();
    unreadable.close().await;

    let next = stored(&["carol", "dave"], &[&dave]);
    admission.update(&config.clients, &next, &*unreadable, &config.catalogue).await.unwrap_err();
    assert!(admission.client("sk-gw-carol-of-run-time").is_none(), "it is revoked all the same");
    assert!(admission.client("sk-gw-dave-of-run-time").is_none(), "its quota would begin with nothing used");
    admission.update(&config.clients, &next, &*unreadable, &config.catalogue).await.unwrap_err();
    update(&admission, &config, &next).await;
    assert!(admission.client("sk-gw-dave-of-run-time").is_some(), "it is tried again");
}

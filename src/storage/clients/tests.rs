use std::time::Duration;

use super::*;
use crate::storage::journal;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn client(name: &str) -> StoredClient {
    StoredClient { name: ClientId(name.into()), weight: None, limits: LimitOverrides::default(), models: None }
}

fn key(client: &str, number: u128) -> StoredKey {
    StoredKey {
        id: KeyId::new(NOW, number),
        client: ClientId(client.into()),
        prefix: format!("sk-gw-{number}"),
        digest: Digest::of(&number.to_be_bytes()),
        created: NOW,
        expires: None,
        grace_ends: None,
        revoked: None,
        last_used: None,
    }
}

/// A journal, and the clients in it as a gateway and as a command see them.
fn opened(directory: &Path) -> (Arc<dyn journal::Journal>, Arc<dyn ClientStore>, Arc<dyn ClientStore>) {
    let path = directory.join("journal.sqlite");
    assert!(matches!(open(&path), Err(ClientStoreError::Missing(_))));
    let journal = journal::open(&path).unwrap();
    (journal, open_beside_journal(&path).unwrap(), open(&path).unwrap())
}

#[tokio::test]
async fn what_one_program_changes_the_other_sees_by_the_revision() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, gateway, command) = opened(directory.path());
    let before = gateway.revision().unwrap();
    let create = Change::CreateKey { client: client("alice"), key: key("alice", 1) };
    command.change(&create, Actor::CommandLine, &|| NOW).unwrap();
    assert!(gateway.revision().unwrap() > before);
    let state = gateway.state(NOW).unwrap();
    assert_eq!((state.clients, state.keys), (vec![client("alice")], vec![key("alice", 1)]));

    // A use is no change.
    let revision = gateway.revision().unwrap();
    gateway.record_used(&[key("alice", 1).id], later(5)).unwrap();
    assert_eq!(gateway.revision().unwrap(), revision);
    assert_eq!(command.state(NOW).unwrap().keys[0].last_used, Some(later(5)));

    gateway.close();
    assert!(matches!(gateway.revision(), Err(ClientStoreError::Storage(_))));
    drop(command);
    journal.close().await;
    let again = open(&directory.path().join("journal.sqlite")).unwrap();
    assert_eq!(again.state(NOW).unwrap().keys.len(), 1, "it is durable");
}

#[tokio::test]
async fn a_name_has_one_key_until_that_is_rotated_or_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, store, _) = opened(directory.path());
    let change = |change: Change, at| store.change(&change, Actor::Admin, &|| at);
    let create = |number| Change::CreateKey { client: client("alice"), key: key("alice", number) };
    change(create(1), NOW).unwrap();
    assert!(matches!(change(create(2), NOW), Err(ClientStoreError::NameTaken(_))));

    let first = key("alice", 1).id;
    let rotate = Change::RotateKey { key: first, grace_ends: later(60), new: key("alice", 2) };
    change(rotate, NOW).unwrap();
    let states = |at: Timestamp| {
        let keys = store.state(NOW).unwrap().keys;
        keys.iter().map(|key| key.state(at)).collect::<Vec<_>>()
    };
    assert_eq!(states(later(59)), [KeyState::Rotated, KeyState::Active]);
    assert_eq!(states(later(60)), [KeyState::Expired, KeyState::Active]);

    let second = key("alice", 2).id;
    change(Change::RevokeKey { key: second }, later(70)).unwrap();
    assert_eq!(states(later(70)), [KeyState::Expired, KeyState::Revoked]);
    let again = change(Change::RevokeKey { key: second }, later(71)).unwrap_err();
    assert!(matches!(again, ClientStoreError::KeyEnded { state: "revoked", .. }), "{again}");
    let rotated = Change::RotateKey { key: second, grace_ends: later(99), new: key("alice", 3) };
    assert!(matches!(change(rotated, later(71)), Err(ClientStoreError::KeyEnded { .. })));
    let missing = KeyId::new(NOW, 99);
    assert!(matches!(change(Change::RevokeKey { key: missing }, NOW), Err(ClientStoreError::NoSuchKey(_))));
    // No valid key is left, so the name is free, also for a clock that went back before the revocation.
    change(create(4), later(72)).unwrap();
    assert!(matches!(change(create(5), later(72)), Err(ClientStoreError::NameTaken(_))));
    assert_eq!(store.state(later(200)).unwrap().keys, [key("alice", 4)], "ended ones are left out");
}

#[tokio::test]
async fn every_change_is_in_the_audit_and_a_refused_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, store, _) = opened(directory.path());
    let id = key("alice", 1).id;
    let patch = ClientPatch {
        limits: serde_json::from_str(r#"{"usd_per_day": 2}"#).unwrap(),
        weight: Some(Some(3.0)),
        models: Some(Some(["gpt-image-2".to_owned()].into())),
    };
    let account = AccountId("one".into());
    let note = serde_json::json!({ "decision": "lost" });
    for change in [
        Change::CreateKey { client: client("alice"), key: key("alice", 1) },
        Change::UpdateKey { key: id, client: patch, expires: Some(Some(later(9))) },
        Change::RotateKey { key: id, grace_ends: later(60), new: key("alice", 2) },
        Change::RevokeKey { key: id },
        Change::PauseAccount(account.clone()),
        Change::ResumeAccount(account.clone()),
        Change::Request(Command::ForgetAccount(account.clone())),
        Change::Note { action: "purchase.resolved", subject: "pred_1.0".to_owned(), change: note },
    ] {
        store.change(&change, Actor::Admin, &|| NOW).unwrap();
    }
    store.change(&Change::RevokeKey { key: id }, Actor::Admin, &|| NOW).unwrap_err();
    let lines = store.audit(None, 100).unwrap();
    let actions: Vec<&str> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "purchase.resolved",
            "account.forgotten",
            "account.resumed",
            "account.paused",
            "key.revoked",
            "key.rotated",
            "key.changed",
            "key.created"
        ]
    );
    assert_eq!(lines[6].change["limits"]["usd_per_day"], 2.0);
    assert_eq!(lines[6].change["weight"], 3.0);
    let text = format!("{lines:?}");
    assert!(!text.contains(&key("alice", 1).digest.to_string()), "no digest: {text}");
    assert_eq!(store.audit(Some(lines[1].id), 2).unwrap(), lines[2..4]);

    let state = store.state(NOW).unwrap();
    assert_eq!(state.clients[0].weight, Some(3.0));
    assert_eq!(state.paused_accounts, BTreeSet::new());
    let [command] = &state.commands[..] else { panic!("{:?}", state.commands) };
    assert_eq!(
        (&command.command, store.command_outcome(command.id).unwrap()),
        (&Command::ForgetAccount(account), None)
    );
    store.end_command(command.id, "done", NOW).unwrap();
    store.end_command(command.id, "twice", NOW).unwrap();
    assert_eq!(store.command_outcome(command.id).unwrap().as_deref(), Some("done"));
    assert!(store.state(NOW).unwrap().commands.is_empty());
}

#[tokio::test]
async fn a_name_of_the_configuration_is_not_made_again_and_its_terms_are_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, gateway, command) = opened(directory.path());
    let change = |change: Change| command.change(&change, Actor::CommandLine, &|| NOW);
    change(Change::CreateKey { client: client("bob"), key: key("bob", 1) }).unwrap();
    let revision = gateway.revision().unwrap();
    let names = ConfigNames {
        clients: ["alice", "bob"].map(|name| ClientId(name.into())).into(),
        accounts: [AccountId("default".into())].into(),
    };
    gateway.set_configured(&names).unwrap();
    assert_eq!((gateway.revision().unwrap(), gateway.state(NOW).unwrap().configured), (revision, names));
    let refused = change(Change::CreateKey { client: client("alice"), key: key("alice", 2) }).unwrap_err();
    assert!(matches!(&refused, ClientStoreError::Configured(name) if &*name.0 == "alice"), "{refused}");
    let patch = ClientPatch { weight: Some(Some(2.0)), ..ClientPatch::default() };
    let update = |client, expires| Change::UpdateKey { key: key("bob", 1).id, client, expires };
    assert!(matches!(change(update(patch, None)), Err(ClientStoreError::Configured(_))));
    change(update(ClientPatch::default(), Some(Some(later(9))))).unwrap();
    gateway.set_configured(&ConfigNames::default()).unwrap();
    change(Change::CreateKey { client: client("alice"), key: key("alice", 2) }).unwrap();
}

#[tokio::test]
async fn keys_that_ended_long_ago_are_deleted_with_the_terms_of_their_clients() {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, store, _) = opened(directory.path());
    let change = |change: Change, at: Timestamp| store.change(&change, Actor::Admin, &|| at).unwrap();
    for (name, number) in [("alice", 1), ("bob", 2)] {
        change(Change::CreateKey { client: client(name), key: key(name, number) }, NOW);
    }
    change(Change::RevokeKey { key: key("alice", 1).id }, later(1));
    let names = |since| store.state(since).unwrap().clients.into_iter().map(|client| client.name.to_string());
    assert_eq!(names(later(5)).count(), 2, "also what she has spent is still of interest");
    let day = 24 * 3600;
    for (days, kept) in [(29, 2), (31, 1)] {
        change(Change::PauseAccount(AccountId("one".into())), later(days * day));
        assert_eq!((store.state(NOW).unwrap().keys.len(), names(NOW).count()), (kept, kept), "after {days} days");
    }
    assert_eq!(store.state(NOW).unwrap().keys, [key("bob", 2)]);
}

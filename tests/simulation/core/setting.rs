//! What all lives have in common, and what is drawn for each.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::clients::Prompt;
use super::formats::Formats;
use super::random::Random;
use crate::config::{Config, Environment, OnUnknown};
use crate::engine::jobs::rules::Rules;
use crate::model::{
    AccountId, Catalogue, Choices, ClientId, Digest, Fingerprint, IdempotencyKey, JobId, Size, Task, Timestamp,
};
use crate::polling::planner::PollPlanner;
use crate::storage::journal::JobRecord;
use crate::upstream::formats::FormatRules;

/// Values that are made once.
#[derive(Debug)]
pub(super) struct Setting {
    /// The time at which lives begin. Only differences to it matter.
    pub(super) start: Instant,
    catalogue: Arc<Catalogue>,
    pub(super) accounts: Vec<AccountId>,
    fingerprints: Vec<Fingerprint>,
    pub(super) keys: Vec<IdempotencyKey>,
    /// A job whose other fields are those of every job.
    pub(super) record: JobRecord,
    pub(super) url: url::Url,
}

impl Setting {
    pub(super) fn shared() -> &'static Self {
        static SETTING: LazyLock<Setting> = LazyLock::new(Setting::new);
        &SETTING
    }

    fn new() -> Self {
        let environment = Environment::from([("GPTPROTO_API_KEY".to_owned(), "sk-simulation".to_owned())]);
        let catalogue = Config::load(None, &environment).unwrap().catalogue;
        let fingerprints: Vec<Fingerprint> = (0..4_u8).map(|number| Digest::of(&[number]).into()).collect();
        let record = JobRecord {
            id: JobId::new(Timestamp::from_millis(0), 0),
            client: ClientId("alice".into()),
            fingerprint: fingerprints[0],
            task: Task::Generate,
            model: catalogue.models[0].id.clone(),
            size: Size { width: 1024, height: 1024 },
            choices: Choices::default(),
            n: 1,
            inputs: 0,
            shareable: true,
            idempotency_key: None,
            respond_async: false,
            created: Timestamp::from_millis(0),
            prompt: None,
        };
        Self {
            start: Instant::now(),
            catalogue: Arc::new(catalogue),
            accounts: ["first", "second", "third"].map(|name| AccountId(name.into())).into(),
            fingerprints,
            keys: ["one", "two"].map(|text| IdempotencyKey::new(text).unwrap()).into(),
            record,
            url: url::Url::parse("https://client.example/notify").unwrap(),
        }
    }

    /// Draws what the operator has configured.
    pub(super) fn rules(&self, random: &mut Random) -> Rules {
        Rules {
            catalogue: Arc::clone(&self.catalogue),
            planner: PollPlanner {
                min_interval: Duration::from_secs(1),
                max_interval: Duration::from_secs(10),
                first_poll: Duration::from_secs(2),
                poll_cost: Duration::from_millis(100),
            },
            submit_attempts_max: u32::try_from(1 + random.below(4)).unwrap(),
            on_unknown: if random.one_in(4) { OnUnknown::Resubmit } else { OnUnknown::Hold },
            deadline: Duration::from_secs(30) + random.time(300_000),
            refetch_time: Duration::from_secs(10),
            formats: FormatRules::for_test(),
        }
    }

    /// Draws what clients ask for.
    pub(super) fn prompts(&self, random: &mut Random) -> Vec<Prompt> {
        let fingerprints = &self.fingerprints[..=random.below(self.fingerprints.len())];
        let prompt = |&fingerprint: &Fingerprint| {
            let formats = Formats::options(&self.record.model, random);
            let purchases = 1 + random.below(3);
            let pictures = (0..purchases).map(|_| if random.one_in(4) { 2 } else { 1 }).collect();
            Prompt { fingerprint, formats, pictures, is_careful: !random.one_in(3), requests: 0, is_answered: false }
        };
        fingerprints.iter().map(prompt).collect()
    }
}

//! From a request to a waiter: what is stored or under way answers it, or a new job is listed.

use std::sync::Arc;

use tokio::time::Instant;

use super::job_request::{JobRequest, WaitMode};
use super::refetch::answer;
use super::waiter::{Waiter, subscribe};
use crate::budget::QueueFull;
use crate::engine::Engine;
use crate::engine::driver::start_time::{check_starts_in_time, queued_submits};
use crate::engine::driver::{Driver, Joined, Listed, QueuedJob};
use crate::engine::jobs::rules::class;
use crate::engine::jobs::{NewJob, StartTimes};
use crate::engine::reuse::{AnswerSource, ReusePolicy};
use crate::model::{CostEstimate, Failure, Fingerprint, JobId, LimitExceeded, Model, PictureRequest, Usd};
use crate::storage::journal::{JobRecord, Standing};
use crate::upstream::formats::FormatOptions;

/// Share of the purchases of a class that are done within the time that one is assumed to take.
const MOSTLY_DONE: f64 = 0.9;

/// Longest prompt that is kept, in characters.
const PROMPT_CHARS_MAX: usize = 32_000;

impl Engine {
    /// Answers from what is stored, joins what is under way, or begins to buy.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with which nothing was bought.
    pub(crate) async fn submit(&self, job: JobRequest) -> Result<Waiter, Failure> {
        let webhook = job.webhook.clone();
        let keep_until = (job.wait_mode == WaitMode::Away).then(|| self.start_by(&job));
        let mut waiter = self.find_or_start(job).await?;
        // A new job is listed as kept, and journalled with its webhook.
        let is_new = matches!(waiter.origin(), AnswerSource::Bought | AnswerSource::Bypass);
        if let Some(start_by) = keep_until.filter(|_| !is_new) {
            self.driver.change(|jobs, _| (jobs.keep(waiter.job(), start_by.into_std()), Vec::new()));
        }
        if let Some(webhook) = webhook.filter(|_| !is_new) {
            subscribe(&mut waiter, webhook).await?;
        }
        if keep_until.is_some() {
            waiter.recorded().await;
        }
        Ok(waiter)
    }

    async fn find_or_start(&self, job: JobRequest) -> Result<Waiter, Failure> {
        let Self { driver, .. } = self;
        let cache = &driver.cache;
        let fingerprint = Fingerprint::of(&job.client, &job.request);
        // Before anything is looked up: what ends from now on may be found by none of the look-ups.
        let mut seen = driver.read(|jobs| jobs.table.ends());
        if let Some(key) = &job.key {
            let start_by = self.start_by(&job);
            let keyed = driver.join(|jobs| jobs.join_by_key(&job.client, key, fingerprint, start_by.into_std()));
            if let Some(joined) = keyed? {
                return Ok(join(driver, joined));
            }
            if let Some(stored) = cache.find_by_key(&job.client, key, fingerprint).await? {
                return Ok(answer(driver, stored));
            }
        }
        if let Some(stored) = cache.take_pending_failure(fingerprint) {
            return Ok(Waiter::of_stored(driver, stored));
        }
        let policy = ReusePolicy {
            cache_allowed: cache.is_on() && !job.fresh,
            is_retry: job.is_retry,
            // A key that was used before has been answered above.
            force_new: job.fresh || job.key.is_some(),
        };
        if driver.read(|jobs| jobs.table.joinable(fingerprint, policy).is_some()) {
            let start_by = self.start_by(&job);
            if let Some(joined) = driver.join(|jobs| Ok(jobs.join(fingerprint, policy, start_by.into_std())))? {
                return Ok(join(driver, joined));
            }
        }
        if let Some(stored) = cache.find(fingerprint, policy).await? {
            return Ok(answer(driver, stored));
        }
        check_may_buy(self)?;
        let (client, model, key) = (job.client.clone(), job.request.model.clone(), job.key.clone());
        let start_by = self.start_by(&job);
        let mut queued = queue(self, job, fingerprint, start_by)?;
        let joined = loop {
            queued = match driver.list_or_join(queued, policy, seen)? {
                Listed::Joined(joined) => break joined,
                Listed::LookAgain(queued) => *queued,
            };
            seen = driver.read(|jobs| jobs.table.ends());
            if let Some(key) = &key
                && let Some(stored) = cache.find_by_key(&client, key, fingerprint).await?
            {
                return Ok(answer(driver, stored));
            }
            if let Some(stored) = cache.find(fingerprint, policy).await? {
                return Ok(answer(driver, stored));
            }
        };
        if !joined.is_new {
            return Ok(join(driver, joined));
        }
        driver.services.metrics.started(&client, &model);
        let origin = if policy.cache_allowed { AnswerSource::Bought } else { AnswerSource::Bypass };
        Ok(Waiter::of_live(driver, joined, origin))
    }

    /// Returns until when a submit of this job is of use to its client.
    fn start_by(&self, job: &JobRequest) -> Instant {
        let PictureRequest { model, task, choices, size, n, api_kind, .. } = &job.request;
        // Its purchases run side by side; the first makes as many pictures as any.
        let purchases = self.catalogue.find(model).map(|model| model.split(*api_kind, *task, *n)).unwrap_or_default();
        let class = class(model, *task, choices, *size, purchases.first().copied().unwrap_or(*n));
        let remaining = job.until.saturating_duration_since(Instant::now());
        match self.driver.latencies().done_by(&class, MOSTLY_DONE).filter(|&takes| takes <= remaining) {
            Some(takes) => job.until.checked_sub(takes).unwrap_or(job.until),
            None => job.until,
        }
    }
}

fn check_may_buy(engine: &Engine) -> Result<(), Failure> {
    if engine.driver.services.lifecycle.is_draining() {
        Err(Failure::Stopping)
    } else if engine.storage_standing() != Standing::Fine {
        Err(Failure::JournalUnavailable)
    } else if !engine.has_room() {
        Err(Failure::DiskFull)
    } else {
        Ok(())
    }
}

/// Prices a job, checks that it starts in time, reserves its client's quota and queues its purchases.
fn queue(engine: &Engine, job: JobRequest, fingerprint: Fingerprint, start_by: Instant) -> Result<QueuedJob, Failure> {
    let services = &engine.driver.services;
    let created = services.clock.now();
    let JobRequest { client, credential, request, private, key, wait_mode, webhook, .. } = job;
    let record = Arc::new(JobRecord {
        id: JobId::new(created, services.rng.bits()),
        client,
        fingerprint,
        task: request.task,
        model: request.model.clone(),
        size: request.size,
        choices: request.choices.clone(),
        n: request.n,
        inputs: u8::try_from(request.inputs.len()).unwrap_or(u8::MAX),
        shareable: !private,
        idempotency_key: key,
        respond_async: wait_mode == WaitMode::Away,
        created,
        // What must not answer later requests leaves nothing else behind either.
        prompt: (engine.keeps_prompts && !private).then(|| kept_prompt(&request.prompt)),
    });
    let Some(model) = engine.catalogue.find(&request.model) else {
        return Err(Failure::InvalidRequest { message: format!("there is no model {}", request.model) });
    };
    let pictures = split(engine, model, &request);
    let prices: Vec<Usd> =
        pictures.iter().map(|&pictures| model.price.estimate(pictures.into(), record.terms())).collect();
    let submits = queued_submits(&record, &request, &prices);
    let now = Instant::now();
    let mut expected_start = now;
    if let Some(first) = submits.first() {
        let spare = start_by.saturating_duration_since(now);
        expected_start += check_starts_in_time(&services.budget, first, spare)?;
    }
    let all_pictures = usize::from(request.n);
    let usd = prices.iter().copied().fold(Usd::default(), std::ops::Add::add);
    let cost = CostEstimate { purchases: pictures.len(), pictures: all_pictures, usd };
    let quota = engine.quotas.reserve(&record.client, cost);
    let quota = quota.map_err(|LimitExceeded { limit, retry_after }| Failure::LimitExceeded { limit, retry_after })?;
    let slots = submits.into_iter().map(|submit| services.budget.queue(submit)).collect::<Result<_, _>>();
    let slots = slots.map_err(|QueueFull { retry_after }| Failure::QueueFull { retry_after })?;
    let times = StartTimes { start_by: start_by.into_std(), expected_start: expected_start.into_std() };
    let formats = Arc::new(formats(engine, model, &request, pictures.first().copied().unwrap_or(1)));
    let job = NewJob { record, api_kind: request.api_kind, formats, pictures, webhook, times };
    Ok(QueuedJob { job, request, credential, slots, quota })
}

/// Returns a prompt as it is kept. No model takes a longer one.
fn kept_prompt(prompt: &str) -> Arc<str> {
    let end = prompt.char_indices().nth(PROMPT_CHARS_MAX).map_or(prompt.len(), |(at, _)| at);
    prompt[..end].into()
}

/// Returns the number of pictures of each purchase: one each for a model that is known to refuse `n`.
fn split(engine: &Engine, model: &Model, request: &PictureRequest) -> Vec<u8> {
    if engine.driver.read(|jobs| jobs.formats.omits(&request.model, request.task, "n")) {
        return vec![1; usize::from(request.n)];
    }
    model.split(request.api_kind, request.task, request.n)
}

/// Lists the formats that the submits of a request can be written in.
fn formats(engine: &Engine, model: &Model, request: &PictureRequest, pictures: u8) -> FormatOptions {
    let PictureRequest { task, choices, size, .. } = request;
    let class = class(&request.model, *task, choices, *size, pictures);
    let expected = engine.driver.latencies().done_by(&class, MOSTLY_DONE);
    FormatOptions::of(model, request, pictures, &engine.driver.cache.rules.formats, expected)
}

fn join(driver: &Arc<Driver>, joined: Joined) -> Waiter {
    driver.cache.count_joined(&joined.record);
    Waiter::of_live(driver, joined, AnswerSource::Joined)
}

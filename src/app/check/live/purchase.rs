//! One purchase, through the ordinary engine and its journal: one that is interrupted is followed at the next start, and
//! never made again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::observed::{ObservedUpstream, UpstreamObserver, failure_text};
use super::plan::{PurchasePlan, formats};
use super::{after, picture, rows};
use crate::app::backend::Backend;
use crate::app::check::report::{Row, Section, Verdict};
use crate::config::Config;
use crate::engine::{AnswerSource, JobEvent, JobRequest, JobStage, WaitError, WaitMode, Waiter};
use crate::lifecycle::{Grace, Lifecycle, StopSignals};
use crate::model::picture::read_full;
use crate::model::{ClientId, JobResult, PictureRequest, Size, StoredPicture};
use crate::storage;
use crate::telemetry::Metrics;
use crate::telemetry::recent::RecentRequests;
use crate::upstream::GptProto;
use crate::upstream::formats::InputMethod;

/// The client in the journal and the ledger.
const CLIENT: &str = "check";
/// Time between two signs of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Makes one purchase and adds its rows. `number` makes it a job of its own.
///
/// # Errors
///
/// When the storage or the upstream's client cannot be used; nothing was bought.
pub(super) async fn make(
    config: &Config,
    planned: &PurchasePlan,
    number: u8,
    signals: &mut StopSignals,
) -> anyhow::Result<Section> {
    let mut section = Section::new(planned.title());
    let config = planned.configuration(config);
    let Some(request) = planned.request(&config, number) else {
        section.add(Row::new(Verdict::Fault, "purchase", "the catalogue has no edit for this", "try another model"));
        return Ok(section);
    };
    let observer = Arc::new(UpstreamObserver::default());
    let lifecycle = Lifecycle::default();
    let mut service = None;
    let upstream = |gptproto: GptProto| {
        let recording = Arc::new(ObservedUpstream::new(&gptproto, &observer));
        service = Some(gptproto);
        recording as Arc<_>
    };
    let (metrics, recent) = (Metrics::default(), RecentRequests::default());
    let opened = storage::open(&config.storage, &config.cache, rand::random(), &metrics).await?;
    let backend = Backend::start(&config, opened, false, &lifecycle, &metrics, &recent, upstream).await?;
    if let Some(gptproto) = &service {
        let purchase = Purchase { config: &config, planned, backend: &backend, gptproto, observer: &observer };
        purchase.run(request, &mut section, signals).await;
    }
    lifecycle.drain(Grace { delay: Duration::ZERO, finish: config.server.shutdown.grace }).await;
    backend.storage.close().await;
    Ok(section)
}

/// A purchase with what it needs.
struct Purchase<'a> {
    config: &'a Config,
    planned: &'a PurchasePlan,
    backend: &'a Backend,
    gptproto: &'a GptProto,
    observer: &'a UpstreamObserver,
}

impl Purchase<'_> {
    async fn run(&self, request: PictureRequest, section: &mut Section, signals: &mut StopSignals) {
        let catalogue = &self.config.catalogue;
        let Some(model) = catalogue.find(&self.planned.model) else { return };
        let preferred = formats(self.config, model, &request).first().method;
        let started = Instant::now();
        let deadline = started + self.config.upstream.deadline;
        let size = request.size;
        let job = JobRequest {
            client: ClientId(CLIENT.into()),
            credential: None,
            request,
            // Not from the cache, which is off. An interrupted purchase is joined or claimed all the same.
            fresh: false,
            private: true,
            is_retry: false,
            key: None,
            until: deadline,
            wait_mode: WaitMode::Connected,
            webhook: None,
        };
        let mut waiter = match self.backend.engine.submit(job).await {
            Ok(waiter) => waiter,
            Err(failure) => return section.add(rows::failed(&failure, &failure_text(&failure), "not listed")),
        };
        let source = waiter.origin();
        let ended = tokio::select! {
            result = wait(&mut waiter, deadline) => result,
            () = signals.received(1) => Err(WaitError::Closing { upstream: waiter.upstream() }),
        };
        let ids = ids(&waiter);
        let result = match ended {
            Ok(result) => result,
            Err(error) => {
                section.add(without_result(&error, waiter.is_bought(), &ids));
                let refused = rows::refusals(&self.observer.seen());
                if !refused.is_empty() {
                    let advice = "repeat the check: it goes on from what these refusals have shown";
                    section.add(Row::new(Verdict::Note, "formats tried", refused.join(", "), advice));
                }
                return;
            }
        };
        section.add(bought(source, &ids, started.elapsed()));
        match self.verify(&result, size, preferred).await {
            Ok(facts) => {
                waiter.delivered(async { true });
                for row in rows::rows(&facts) {
                    section.add(row);
                }
                let (config, gptproto, refusal_known) = (self.config, self.gptproto, !self.planned.first_of_model);
                let after = after::After { config, gptproto, facts: &facts, refusal_known };
                after.check(&self.planned.model, section).await;
            }
            Err(problem) => section.add(Row::new(
                Verdict::Unresolved,
                "output",
                format!("{ids}: {problem}"),
                "repeat the check: the stored picture is read again, and nothing is bought",
            )),
        }
    }

    /// Reads the picture and collects what is known.
    async fn verify(&self, result: &JobResult, size: Size, preferred: InputMethod) -> Result<rows::Facts, String> {
        let picture: StoredPicture = *result.pictures.first().ok_or("the result has no picture")?;
        let opened = self.backend.engine.open(&result.pictures).await.map_err(|failure| failure_text(&failure))?;
        let source = opened.into_iter().next().ok_or("the result has no picture")?;
        let bytes = usize::try_from(picture.bytes).map_err(|error| error.to_string())?;
        let measured = tokio::task::spawn_blocking(move || {
            let bytes = read_full(&*source, 0, bytes).map_err(|error| error.to_string())?;
            Ok::<_, String>(picture::measure(&bytes))
        });
        let halves = measured.await.map_err(|error| error.to_string())??;
        let price = self.backend.catalogue.find(&self.planned.model).map(|model| model.price);
        let tokens = price.filter(|price| price.output_usd_per_million_tokens.is_some()).zip(result.usage);
        Ok(rows::Facts {
            observed: self.observer.seen(),
            preferred,
            masked: self.planned.masked,
            size,
            picture,
            halves,
            usage: result.usage,
            usd: tokens.and_then(|(price, usage)| price.by_tokens(Some(&usage))),
            estimate: self.planned.estimate,
        })
    }
}

/// Waits for the result, with a sign of progress from time to time.
async fn wait(waiter: &mut Waiter, deadline: Instant) -> Result<Arc<JobResult>, WaitError> {
    let started = Instant::now();
    let mut stage = JobStage::Queued;
    loop {
        let next = waiter.next_event(0, Some(stage), deadline);
        match tokio::time::timeout(PROGRESS_INTERVAL, next).await {
            Ok(Ok(JobEvent::StageChanged(next))) => stage = next,
            Ok(Ok(JobEvent::PurchaseResult(_) | JobEvent::End(_))) => return waiter.wait(deadline).await,
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        let word = match stage {
            JobStage::Queued => "queued",
            JobStage::Submitting => "submitting",
            JobStage::Processing => "bought, waiting for the picture",
        };
        eprintln!("  {:>4} s  {word}", started.elapsed().as_secs());
    }
}

/// Names a job at the gateway and at the upstream.
fn ids(waiter: &Waiter) -> String {
    let upstream: Vec<String> = waiter.upstream().iter().map(|id| id.as_str().to_owned()).collect();
    if upstream.is_empty() {
        waiter.job().to_string()
    } else {
        format!("{} (upstream: {})", waiter.job(), upstream.join(", "))
    }
}

fn bought(source: AnswerSource, ids: &str, elapsed: Duration) -> Row {
    match source {
        AnswerSource::Bought | AnswerSource::Bypass => {
            Row::good("purchase", format!("{ids}, {:.1} s", elapsed.as_secs_f64()))
        }
        AnswerSource::Hit(_) | AnswerSource::Joined => Row::note(
            "purchase",
            format!("{ids}: the purchase of an earlier check that was interrupted; nothing new was bought"),
        ),
    }
}

/// Returns the row of a purchase without a result.
fn without_result(error: &WaitError, bought: bool, ids: &str) -> Row {
    match error {
        WaitError::Failed(failure) => rows::failed(failure, &failure_text(failure), ids),
        WaitError::DeadlinePassed { .. } | WaitError::Closing { .. } if bought => Row::new(
            Verdict::Unresolved,
            "purchase",
            format!("{ids}: not finished yet; it is in the journal"),
            "repeat the check, or start the gateway: it is followed, and not bought again",
        ),
        WaitError::DeadlinePassed { .. } | WaitError::Closing { .. } => {
            Row::new(Verdict::Fault, "purchase", "stopped before anything was bought", "repeat the check")
        }
    }
}

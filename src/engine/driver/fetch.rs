//! Pictures of a finished purchase: downloaded, checked, stored.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Driver;
use crate::engine::jobs::event::{Event, FetchFailure, Fetched, RefetchResult};
use crate::model::{PurchaseId, StoredPicture};
use crate::storage::Results;
use crate::storage::journal::PictureBytes;
use crate::storage::results::ResultsError;
use crate::telemetry::Metrics;
use crate::upstream::{FetchError, Finished, Output, Upstream};

/// Fetches and stores outputs.
#[derive(Debug)]
pub(in crate::engine) struct Fetcher {
    pub(in crate::engine) upstream: Arc<dyn Upstream>,
    pub(in crate::engine) results: Results,
    pub(in crate::engine) picture_bytes_max: u64,
    pub(in crate::engine) download_timeout: Duration,
    pub(in crate::engine) metrics: FetchMetrics,
}

/// A picture that was stored, with its bytes where its record stores them.
type NewPicture = (StoredPicture, Option<PictureBytes>);

/// The metrics of outputs.
#[derive(Debug)]
pub(in crate::engine) struct FetchMetrics {
    unasked: Counter,
    refetches: Family<ResultLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// How pictures are fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchOptions {
    /// Before the first of them.
    pub(super) pause: Duration,
    /// A restart can fetch them again.
    pub(super) resumable: bool,
    /// All of them become files, also small ones.
    pub(super) as_files: bool,
}

/// Fetches in a task of its own, because a slow download must not delay polls. The drain waits for pictures that a
/// restart could not fetch again.
pub(super) fn start(driver: &Arc<Driver>, purchase: PurchaseId, finished: Finished, options: FetchOptions) {
    let FetchOptions { pause, resumable, as_files } = options;
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    let fetch = async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let Finished { outputs, usage } = finished;
        let (stored, trouble) = driver.fetcher.fetch_all(outputs, as_files).await;
        let (pictures, contents): (Vec<_>, Vec<_>) = stored.into_iter().unzip();
        let contents: Vec<_> = contents.into_iter().flatten().collect();
        // Files that may not have reached the disk are not recorded.
        let durable = contents.len() == pictures.len() || !driver.fetcher.results.failed();
        if !durable {
            tracing::warn!(%purchase, "a result may not have reached the disk; a restart fetches it again");
        }
        let fetched = Fetched { pictures, contents, trouble, usage, durable };
        driver.handle(Event::Fetched { purchase, fetched });
    };
    if resumable {
        lifecycle.spawn_service("fetch", fetch);
    } else {
        lifecycle.spawn("fetch", fetch);
    }
}

impl Fetcher {
    /// Fetches, checks and stores outputs. Returns the stored pictures in the order of the outputs, and the trouble of
    /// the last output that failed; of those that another round may store, if there are any.
    async fn fetch_all(&self, outputs: Vec<Output>, as_files: bool) -> (Vec<NewPicture>, Option<FetchFailure>) {
        let fetched = join_all(outputs.into_iter().map(|output| self.fetch(output, as_files))).await;
        let mut stored = Vec::new();
        let mut trouble = None;
        for result in fetched {
            match result {
                Ok(picture) => stored.push(picture),
                Err(problem) => {
                    tracing::warn!(%problem, "an output could not be stored; it is fetched again if that may help");
                    // What may pass decides whether there is another round.
                    if !matches!((&trouble, &problem), (Some(_), FetchFailure::Invalid(_))) {
                        trouble = Some(problem);
                    }
                }
            }
        }
        (stored, trouble)
    }

    async fn fetch(&self, output: Output, as_file: bool) -> Result<NewPicture, FetchFailure> {
        let timeout = self.download_timeout;
        let late = |_| Err(FetchFailure::Upstream("the download took too long".to_owned()));
        tokio::time::timeout(timeout, self.fetch_once(output, as_file)).await.unwrap_or_else(late)
    }

    async fn fetch_once(&self, output: Output, as_file: bool) -> Result<NewPicture, FetchFailure> {
        let upstream = |error: FetchError| FetchFailure::Upstream(error.to_string());
        let in_answer = matches!(output, Output::Bytes(_));
        let store = |error: ResultsError| failure(&error, in_answer);
        let mut bytes = self.upstream.fetch(output).await.map_err(upstream)?;
        let bytes_max = self.picture_bytes_max;
        let mut writer = self.results.write(bytes_max);
        while let Some(chunk) = bytes.next().await {
            writer.push(chunk.map_err(upstream)?).await.map_err(store)?;
        }
        let stored =
            if as_file { writer.finish().await.map(|stored| (stored, None)) } else { writer.finish_for_record().await };
        stored.map_err(store)
    }
}

impl FetchMetrics {
    pub(in crate::engine) fn new(metrics: &Metrics) -> Self {
        let (unasked, refetches) = (Counter::default(), Family::<ResultLabel, Counter>::default());
        for result in ["restored", "replaced", "lost"] {
            refetches.get_or_create_owned(&ResultLabel { result });
        }
        metrics.register("engine", |registry| {
            registry.register(
                "unasked_outputs",
                "Outputs beyond the number that was asked of a purchase, which are not fetched",
                Counter::clone(&unasked),
            );
            registry.register(
                "refetches",
                "Purchases whose stored pictures were damaged and fetched again, by result: restored, replaced or lost",
                Family::clone(&refetches),
            );
        });
        Self { unasked, refetches }
    }

    /// Counts outputs beyond the number that was asked of a purchase.
    pub(super) fn unasked(&self, outputs: usize) {
        self.unasked.inc_by(outputs as u64);
    }

    pub(super) fn refetched(&self, result: RefetchResult) {
        let result = match result {
            RefetchResult::Restored => "restored",
            RefetchResult::Replaced => "replaced",
            RefetchResult::Lost => "lost",
        };
        self.refetches.get_or_create(&ResultLabel { result }).inc();
    }
}

/// Returns why an output was not stored. `in_answer`: its bytes came within an answer, and are the same in each round.
fn failure(error: &ResultsError, in_answer: bool) -> FetchFailure {
    let message = error.to_string();
    match error {
        ResultsError::InvalidPicture(_) | ResultsError::TooLarge { .. } if in_answer => FetchFailure::Invalid(message),
        ResultsError::InvalidPicture(_) | ResultsError::TooLarge { .. } => FetchFailure::Upstream(message),
        ResultsError::Io(_) => FetchFailure::Storage(message),
    }
}

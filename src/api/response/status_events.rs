//! The status of a job as `prediction.status` events, for a client that follows `/v1/predictions/{id}`: at each change of its
//! stage, and at most every second at a change of its progress or of its place in the queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::prediction_object::PredictionObject;
use crate::engine::{Engine, JobStage, JobStatus, JobView};
use crate::http::StreamingBody;
use crate::model::{ClientId, Clock, JobId};

/// The shortest time between two looks at the progress of a job.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The client that follows, and the status it was last sent.
#[derive(Debug)]
pub(crate) struct StatusEvents {
    client: ClientId,
    clock: Arc<dyn Clock>,
    sent: Option<SentStatus>,
    /// When the progress is looked at again.
    look_at: Instant,
    ended: bool,
}

/// What a change of makes a new event. Expected times are left out: they change all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SentStatus {
    stage: JobStage,
    percent: Option<u8>,
    queue_position: Option<usize>,
}

impl SentStatus {
    const UNKNOWN: Self = Self { stage: JobStage::Processing, percent: None, queue_position: None };

    /// Returns the status of a view; `None` when the job has ended, which is no stage.
    fn of(view: &JobView) -> Option<Self> {
        let JobStatus::UnderWay { stage, progress } = view.summary.state.status else { return None };
        Some(Self { stage, percent: progress.percent, queue_position: progress.queue_position })
    }
}

impl StatusEvents {
    pub(crate) fn new(client: ClientId, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, sent: None, look_at: Instant::now() + LOOK_INTERVAL, ended: false }
    }

    /// Returns the stage that was sent last; a change of it makes a new event at once.
    pub(crate) fn sent(&self) -> Option<JobStage> {
        self.sent.map(|sent| sent.stage)
    }

    /// Returns when the progress is to be looked at.
    pub(crate) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// Returns the first event; `None` after it, and for a job that has ended, whose last event follows its pictures.
    pub(crate) async fn first(&mut self, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        if self.sent.is_some() {
            return None;
        }
        self.sent = Some(SentStatus::UNKNOWN);
        self.event_unless_ended(engine, job).await
    }

    /// Returns the event for a new stage.
    pub(crate) async fn changed(&mut self, stage: JobStage, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        self.sent = Some(SentStatus { stage, ..self.sent.unwrap_or(SentStatus::UNKNOWN) });
        self.event_unless_ended(engine, job).await
    }

    /// Looks at the progress; returns an event if it has changed.
    pub(crate) async fn progressed(&mut self, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        let before = self.sent;
        let event = self.event_unless_ended(engine, job).await;
        event.filter(|_| self.sent != before)
    }

    /// Returns the last event; `None` after it.
    pub(crate) async fn last(&mut self, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let view = self.view(engine, job).await?;
        Some(self.event(&view))
    }

    /// Returns the event for the present status, and notes it as sent; `None` when the job has ended.
    async fn event_unless_ended(&mut self, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        self.look_at = Instant::now() + LOOK_INTERVAL;
        let view = self.view(engine, job).await?;
        self.sent = Some(SentStatus::of(&view)?);
        Some(self.event(&view))
    }

    /// Looks the job up. A failed look-up omits the event; pictures and errors are sent all the same.
    async fn view(&self, engine: &Engine, job: JobId) -> Option<JobView> {
        engine.view(&self.client, job).await.ok().flatten()
    }

    fn event(&self, view: &JobView) -> StreamingBody {
        let object = PredictionObject::of(&view.summary, self.clock.now());
        StreamingBody::default().text("event: prediction.status\ndata: ").json(&object).text("\n\n")
    }
}

//! The status of a job as `prediction.status` events, for a client that follows `/v1/predictions/{id}`.

use std::sync::Arc;

use super::prediction_object::PredictionObject;
use crate::engine::{Engine, JobStage, JobStatus, JobView};
use crate::http::StreamingBody;
use crate::model::{ClientId, Clock, JobId};

/// The client that follows, and the status it was last sent.
#[derive(Debug)]
pub(crate) struct StatusEvents {
    client: ClientId,
    clock: Arc<dyn Clock>,
    stage: Option<JobStage>,
    ended: bool,
}

impl StatusEvents {
    pub(crate) fn new(client: ClientId, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, stage: None, ended: false }
    }

    /// Returns the stage that was sent last; a change of it makes a new event.
    pub(crate) fn sent(&self) -> Option<JobStage> {
        self.stage
    }

    /// Returns the first event; `None` after it, and for a job that has ended, whose last event follows its pictures.
    pub(crate) async fn first(&mut self, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        if self.stage.is_some() {
            return None;
        }
        self.stage = Some(JobStage::Processing);
        let view = self.view(engine, job).await?;
        let JobStatus::UnderWay { stage, .. } = view.status else { return None };
        self.stage = Some(stage);
        Some(self.event(job, &view))
    }

    /// Returns the event for a new stage.
    pub(crate) async fn changed(&mut self, stage: JobStage, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        self.stage = Some(stage);
        let view = self.view(engine, job).await?;
        // The end is the last event, and no stage.
        matches!(view.status, JobStatus::UnderWay { .. }).then(|| self.event(job, &view))
    }

    /// Returns the last event; `None` after it.
    pub(crate) async fn last(&mut self, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let view = self.view(engine, job).await?;
        Some(self.event(job, &view))
    }

    /// Looks the job up. A failed look-up omits the event; pictures and errors are sent all the same.
    async fn view(&self, engine: &Engine, job: JobId) -> Option<JobView> {
        engine.view(&self.client, job).await.ok().flatten()
    }

    fn event(&self, job: JobId, view: &JobView) -> StreamingBody {
        let object = PredictionObject::of(job, view, self.clock.now());
        StreamingBody::default().text("event: prediction.status\ndata: ").json(&object).text("\n\n")
    }
}

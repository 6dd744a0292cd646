//! Where a prediction stands, as events for whoever follows it: `prediction.status` with the prediction object.

use std::sync::Arc;

use super::object::OrderObject;
use crate::engine::{Engine, JobStage, JobStatus, JobView};
use crate::http::StreamingBody;
use crate::model::{ClientId, Clock, JobId};

/// Who is told, and what was told last.
#[derive(Debug)]
pub(in crate::api) struct Statuses {
    client: ClientId,
    clock: Arc<dyn Clock>,
    stage: Option<JobStage>,
    ended: bool,
}

impl Statuses {
    pub(in crate::api) fn new(client: ClientId, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, stage: None, ended: false }
    }

    /// The stage that was told last; changes of it are to be told.
    pub(in crate::api) fn told(&self) -> Option<JobStage> {
        self.stage
    }

    /// The first event: where it stands, unless it has ended, which is told after its pictures.
    pub(in crate::api) async fn first(&mut self, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        if self.stage.is_some() {
            return None;
        }
        self.stage = Some(JobStage::Processing);
        let look = self.look(engine, job).await?;
        let JobStatus::UnderWay { stage, .. } = look.status else { return None };
        self.stage = Some(stage);
        Some(self.event(job, &look))
    }

    /// It stands elsewhere.
    pub(in crate::api) async fn moved(
        &mut self,
        stage: JobStage,
        engine: &Engine,
        job: JobId,
    ) -> Option<StreamingBody> {
        self.stage = Some(stage);
        let look = self.look(engine, job).await?;
        // Its end is told in its turn.
        matches!(look.status, JobStatus::UnderWay { .. }).then(|| self.event(job, &look))
    }

    /// The last event: how it ended. `None` when that was told already.
    pub(in crate::api) async fn last(&mut self, engine: &Engine, job: JobId) -> Option<StreamingBody> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let look = self.look(engine, job).await?;
        Some(self.event(job, &look))
    }

    /// What cannot be looked up is not told; the pictures and the errors are.
    async fn look(&self, engine: &Engine, job: JobId) -> Option<JobView> {
        engine.view(&self.client, job).await.ok().flatten()
    }

    fn event(&self, job: JobId, look: &JobView) -> StreamingBody {
        let object = OrderObject::of(job, look, self.clock.now());
        StreamingBody::default().text("event: prediction.status\ndata: ").json(&object).text("\n\n")
    }
}

//! Where a prediction stands, as events for whoever follows it: `prediction.status` with the prediction object.

use std::sync::Arc;

use super::object::OrderObject;
use crate::engine::{Engine, Look, Stage, Standing};
use crate::model::{ClientId, Clock, OrderId};
use crate::payload::Payload;

/// Who is told, and what was told last.
#[derive(Debug)]
pub(in crate::api) struct Statuses {
    client: ClientId,
    clock: Arc<dyn Clock>,
    stage: Option<Stage>,
    ended: bool,
}

impl Statuses {
    pub(in crate::api) fn new(client: ClientId, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, stage: None, ended: false }
    }

    /// The stage that was told last; changes of it are to be told.
    pub(in crate::api) fn told(&self) -> Option<Stage> {
        self.stage
    }

    /// The first event: where it stands, unless it has ended, which is told after its pictures.
    pub(in crate::api) async fn first(&mut self, engine: &Engine, order: OrderId) -> Option<Payload> {
        if self.stage.is_some() {
            return None;
        }
        self.stage = Some(Stage::Processing);
        let look = self.look(engine, order).await?;
        let Standing::UnderWay { stage, .. } = look.standing else { return None };
        self.stage = Some(stage);
        Some(self.event(order, &look))
    }

    /// It stands elsewhere.
    pub(in crate::api) async fn moved(&mut self, stage: Stage, engine: &Engine, order: OrderId) -> Option<Payload> {
        self.stage = Some(stage);
        let look = self.look(engine, order).await?;
        // Its end is told in its turn.
        matches!(look.standing, Standing::UnderWay { .. }).then(|| self.event(order, &look))
    }

    /// The last event: how it ended. `None` when that was told already.
    pub(in crate::api) async fn last(&mut self, engine: &Engine, order: OrderId) -> Option<Payload> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let look = self.look(engine, order).await?;
        Some(self.event(order, &look))
    }

    /// What cannot be looked up is not told; the pictures and the errors are.
    async fn look(&self, engine: &Engine, order: OrderId) -> Option<Look> {
        engine.look(&self.client, order).await.ok().flatten()
    }

    fn event(&self, order: OrderId, look: &Look) -> Payload {
        let object = OrderObject::of(order, look, self.clock.now());
        Payload::default().text("event: prediction.status\ndata: ").json(&object).text("\n\n")
    }
}

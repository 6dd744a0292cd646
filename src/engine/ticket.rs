//! Waiting for an order: a ticket a request, and what it learns.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Core;
use crate::config::OnUnknown;
use crate::model::{Delivery, Failure, OrderId, UpstreamId};
use crate::storage::journal::Record;

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A stored result of that age.
    Hit(Duration),
    /// An order that another request began.
    Joined,
    /// Bought for this request.
    Bought,
    /// Bought for this request, which did not want anything else.
    Bypass,
}

/// One request that waits for an order. Dropping it forgets the waiter.
#[derive(Debug)]
pub(crate) struct Ticket {
    core: Arc<Core>,
    order: OrderId,
    origin: Origin,
    progress: watch::Receiver<Progress>,
    /// The order's answer reached somebody before.
    delivered_before: bool,
}

/// What waiters see of an order.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The upstream's names, as they become known.
    pub(super) upstream: Vec<UpstreamId>,
    pub(super) outcome: Option<Result<Arc<Delivery>, Failure>>,
}

/// Why a ticket brought no pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitError {
    Failed(Failure),
    /// The work goes on; the same request, asked again, finds it.
    OutOfPatience {
        upstream: Vec<UpstreamId>,
    },
    /// The gateway stops; the work goes on after the restart, and the same request finds it.
    Closing {
        upstream: Vec<UpstreamId>,
    },
}

impl Core {
    /// A ticket for an order, which counts as a waiter from now on.
    pub(super) fn ticket(
        self: &Arc<Self>,
        order: OrderId,
        origin: Origin,
        progress: watch::Receiver<Progress>,
    ) -> Ticket {
        self.orders.hold(order);
        Ticket { core: Arc::clone(self), order, origin, progress, delivered_before: false }
    }

    /// A ticket for what an order brought. The caller has taken hold of the order.
    pub(super) fn held_ticket(
        self: &Arc<Self>,
        delivery: Arc<Delivery>,
        origin: Origin,
        delivered_before: bool,
    ) -> Ticket {
        let order = delivery.order;
        let progress = Progress { upstream: delivery.predictions.clone(), outcome: Some(Ok(delivery)) };
        Ticket { core: Arc::clone(self), order, origin, progress: watch::channel(progress).1, delivered_before }
    }

    /// A ticket for an order that ended without pictures.
    pub(super) fn failed_ticket(self: &Arc<Self>, order: OrderId, failure: Failure) -> Ticket {
        let progress = Progress { upstream: Vec::new(), outcome: Some(Err(failure)) };
        self.ticket(order, Origin::Joined, watch::channel(progress).1)
    }
}

impl Ticket {
    pub(crate) fn order(&self) -> OrderId {
        self.order
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Waits for the outcome, at most for `patience`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]; with all but `Failed` the work goes on.
    pub(crate) async fn wait(&mut self, patience: Duration) -> Result<Arc<Delivery>, WaitError> {
        enum Woken {
            Ended(Option<Result<Arc<Delivery>, Failure>>),
            OutOfPatience,
            Closing,
        }
        let lifecycle = self.core.lifecycle.clone();
        let woken = tokio::select! {
            biased;
            ended = self.progress.wait_for(|progress| progress.outcome.is_some()) => {
                Woken::Ended(ended.ok().and_then(|progress| progress.outcome.clone()))
            }
            () = tokio::time::sleep(patience) => Woken::OutOfPatience,
            () = lifecycle.closing() => Woken::Closing,
        };
        match woken {
            Woken::Ended(Some(Ok(delivery))) => Ok(delivery),
            Woken::Ended(Some(Err(failure))) => Err(WaitError::Failed(failure)),
            Woken::OutOfPatience => Err(self.out_of_patience()),
            // The sender is gone without an outcome only when the engine is torn down.
            Woken::Closing | Woken::Ended(None) => Err(self.closing()),
        }
    }

    /// Notes that the answer reached a connection that was still there, once `written` says so. Until then, and until
    /// the journal knows, nobody else claims the result.
    pub(crate) fn delivered(self, written: impl Future<Output = bool> + Send + 'static) {
        if self.delivered_before {
            return;
        }
        let core = Arc::clone(&self.core);
        core.lifecycle.clone().spawn("delivered", async move {
            if !written.await {
                return;
            }
            let record = Record::Delivered { order: self.order, at: core.clock.now() };
            if let Err(error) = core.journal.append(record).await {
                tracing::warn!(order = %self.order, %error, "a delivery could not be journalled");
            }
            drop(self);
        });
    }

    fn out_of_patience(&self) -> WaitError {
        // Nothing bought means that nothing goes on once this waiter has left.
        if self.core.orders.is_bought(self.order) {
            WaitError::OutOfPatience { upstream: self.upstream() }
        } else {
            WaitError::Failed(match self.core.orders.record(self.order) {
                Some(record) => self.core.waited_in_vain(&record),
                // It has just been dropped.
                None => Failure::Abandoned,
            })
        }
    }

    fn closing(&self) -> WaitError {
        let orders = &self.core.orders;
        let held = self.core.settings.on_unknown == OnUnknown::Hold;
        if orders.is_submitting(self.order) && !held {
            // Its answer may not come before the end, and then a retry would pay again. Held, a retry joins what was
            // accepted, or is told what is unknown, and pays for neither.
            let message = "the gateway stopped before the answer came".to_owned();
            WaitError::Failed(Failure::OutcomeUnknown { message })
        } else if orders.is_bought(self.order) {
            WaitError::Closing { upstream: self.upstream() }
        } else {
            // What is only queued is not taken up after the restart.
            WaitError::Failed(Failure::Stopping)
        }
    }

    fn upstream(&self) -> Vec<UpstreamId> {
        self.progress.borrow().upstream.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.core.orders.release(self.order);
    }
}

//! What becomes of a prediction when its links have been fetched, or could not be.

use std::sync::Arc;

use super::{Now, World};
use crate::simulator::inputs::Input;
use crate::simulator::prediction::{cost_usd, kept_bytes, usage};
use crate::simulator::rules::Order;
use crate::simulator::scenario::Outcome;

/// The inputs of an order, with pictures in place of the addresses that were fetched.
#[derive(Debug)]
pub(in crate::simulator) struct Fetched {
    pub(in crate::simulator) inputs: Vec<Input>,
    pub(in crate::simulator) mask: Option<Input>,
}

impl World {
    /// Lets a prediction run from now on, or fail. Does nothing when the world has been reset since.
    pub(in crate::simulator) fn links_arrived(&mut self, id: &str, fetched: Result<Fetched, String>, now: Now) {
        let rules = Arc::clone(&self.scenario);
        let Some(prediction) = self.by_id.get(id).map(|&number| &mut self.predictions[number]) else {
            return;
        };
        let number = prediction.number;
        let runs_for = prediction.ends.saturating_duration_since(prediction.starts);
        prediction.starts = prediction.starts.max(now.at);
        match fetched {
            Ok(Fetched { inputs, mask }) => {
                let order = Order { inputs, mask, ..Order::clone(&prediction.order) };
                prediction.ends = prediction.starts + runs_for;
                if !prediction.charged {
                    prediction.usage = usage(&order);
                    prediction.cost_usd = cost_usd(&order, prediction.usage, &rules);
                }
                let gained = kept_bytes(&order) - kept_bytes(&prediction.order);
                prediction.order = Arc::new(order);
                self.keep_inputs(number, gained);
            }
            Err(error) => {
                prediction.outcome = Outcome::FailedLink;
                prediction.link_error = Some(error);
                prediction.ends = now.at;
                prediction.starts = now.at;
            }
        }
        if let Some(links) = &self.predictions[number].links {
            // Nobody else sets it.
            let _ = links.set(());
        }
    }
}

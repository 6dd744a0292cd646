//! The upstream: what it was made to buy, and what it does with submits and polls.

use std::time::Duration;

use super::random::Random;
use crate::budget::Pushback;
use crate::input_urls::InputUrlGuards;
use crate::model::{ApiKind, Failure, UpstreamId, Usage};
use crate::upstream::{Finished, Output, PollError, Polled, PurchaseHandle, SubmitError, Submitted};

/// The upstream. Outlives each gateway.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) bought: Vec<Bought>,
    /// Whether the network and the upstream do what they should.
    pub(super) calm: bool,
}

/// A prediction that the upstream works on.
#[derive(Debug)]
pub(super) struct Bought {
    /// The job in the order of the jobs, and the slot of the purchase.
    pub(super) job: usize,
    pub(super) slot: usize,
    pub(super) account: usize,
    /// It is known under an id, its place in the list.
    pub(super) has_id: bool,
    /// The answer came before the last byte, so it costs nothing.
    pub(super) early: bool,
    work: Work,
    polls_left: usize,
}

/// What becomes of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Pictures(usize),
    Nothing,
    Failure,
}

/// What the network and the upstream do with a submit whose last byte has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubmitFate {
    /// It has an id.
    Accepted,
    /// Its pictures come with the answer; whether with an id too.
    Finished {
        has_id: bool,
    },
    /// It never arrives.
    RequestLost,
    AnswerLost,
    Refused,
    Rejected,
}

impl SubmitFate {
    pub(super) fn is_bought(self) -> bool {
        matches!(self, Self::Accepted | Self::Finished { .. } | Self::AnswerLost)
    }
}

impl Upstream {
    pub(super) fn fate(&self, kind: ApiKind, random: &mut Random) -> SubmitFate {
        let trouble = if self.calm { 14 } else { random.below(20) };
        match (trouble, kind) {
            (0 | 1, _) => SubmitFate::AnswerLost,
            (2, _) => SubmitFate::RequestLost,
            (3 | 4, _) => SubmitFate::Refused,
            (5, _) => SubmitFate::Rejected,
            (6, ApiKind::Prediction | ApiKind::Unified) => SubmitFate::Finished { has_id: true },
            (7, _) | (_, ApiKind::OpenAi) => SubmitFate::Finished { has_id: false },
            (_, ApiKind::Prediction | ApiKind::Unified) => SubmitFate::Accepted,
        }
    }

    /// Begins to work; returns the number of the prediction.
    pub(super) fn buy(&mut self, bought: (usize, usize, usize), has_id: bool, random: &mut Random) -> usize {
        let (job, slot, account) = bought;
        let work = match random.below(16) {
            0 => Work::Failure,
            1 => Work::Nothing,
            2 => Work::Pictures(2),
            _ => Work::Pictures(1),
        };
        let polls_left = random.below(4);
        self.bought.push(Bought { job, slot, account, has_id, early: false, work, polls_left });
        self.bought.len() - 1
    }

    /// Returns the prediction of an id.
    pub(super) fn find(&self, id: &UpstreamId) -> Option<(usize, &Bought)> {
        let number: usize = id.as_str().strip_prefix('u')?.parse().ok()?;
        self.bought.get(number).filter(|bought| bought.has_id).map(|bought| (number, bought))
    }

    pub(super) fn poll(&mut self, number: usize, random: &mut Random) -> Result<Polled, PollError> {
        let bought = &mut self.bought[number];
        match if self.calm { 9 } else { random.below(10) } {
            0 => return Err(PollError::Trouble { message: "not JSON".to_owned() }),
            1 => return Err(PollError::Refused { retry_after: None }),
            2 => return Ok(Polled::Empty),
            _ => {}
        }
        if bought.polls_left > 0 {
            bought.polls_left -= 1;
            return Ok(Polled::Working);
        }
        Ok(match bought.work {
            Work::Pictures(pictures) => Polled::Finished(finished(pictures)),
            Work::Nothing => Polled::Empty,
            Work::Failure if number.is_multiple_of(2) => {
                Polled::Failed(Failure::Moderated { message: "blocked".to_owned(), bought: true })
            }
            Work::Failure => Polled::Failed(Failure::TaskFailed { message: "failed".to_owned() }),
        })
    }
}

/// Returns the id of a prediction.
pub(super) fn id_of(number: usize) -> UpstreamId {
    UpstreamId::new(&format!("u{number}")).unwrap()
}

pub(super) fn handle_of(number: usize, api_kind: ApiKind) -> PurchaseHandle {
    PurchaseHandle { id: id_of(number), poll_url: None, api_kind, input_url_guards: InputUrlGuards::default() }
}

/// Returns the answer to a submit; `number` is that of the prediction, if there is one.
pub(super) fn answer(
    fate: SubmitFate,
    number: Option<usize>,
    kind: ApiKind,
    random: &mut Random,
) -> Result<Submitted, SubmitError> {
    let handle = |has_id: bool| number.filter(|_| has_id).map(|number| handle_of(number, kind));
    match fate {
        SubmitFate::Accepted => Ok(Submitted::Accepted(handle(true).expect("it is bought"))),
        SubmitFate::Finished { has_id } => {
            Ok(Submitted::Finished { handle: handle(has_id), finished: finished(1 + random.below(2)) })
        }
        SubmitFate::RequestLost | SubmitFate::AnswerLost => {
            Err(SubmitError::Unknown { message: "no answer".to_owned() })
        }
        SubmitFate::Refused => Err(refusal(random)),
        SubmitFate::Rejected => {
            Err(SubmitError::Rejected(Failure::Moderated { message: "blocked".to_owned(), bought: false }))
        }
    }
}

/// Returns a refusal, which concerns the account, the model or the key.
pub(super) fn refusal(random: &mut Random) -> SubmitError {
    let pushback = match random.below(4) {
        0 => Pushback::Model {
            retry_after: None,
            reason: Failure::ModelUnavailable { message: "no channel".to_owned() },
        },
        1 => Pushback::Key { reason: Failure::KeyRefused { message: "no such key".to_owned() } },
        _ => Pushback::Account { retry_after: Some(Duration::from_secs(2)) },
    };
    SubmitError::Refused { pushback, message: String::new() }
}

fn finished(pictures: usize) -> Finished {
    let usage = (pictures > 1).then(Usage::default);
    Finished { outputs: vec![Output::Url(String::new()); pictures], usage }
}

//! Effects as text: one line, compact, with all that a test compares.

use std::time::Duration;

use super::script::Script;
use crate::engine::jobs::event::{Completion, Effect, EndedPurchase, JobStage, NextPoll, ProgressChange, Step};
use crate::model::{ApiKind, JobId, PurchaseId, Usd};
use crate::storage::journal::Record;
use crate::upstream::Finished;
use crate::upstream::formats::FormatChange;

impl Script {
    pub(super) fn text(&self, effects: &[Effect]) -> String {
        // What is known of formats has tests of its own.
        let shown = |effect: &&Effect| self.shows_formats || !matches!(effect, Effect::FormatsChanged(_));
        effects.iter().filter(shown).map(|effect| self.effect(effect)).collect::<Vec<_>>().join("; ")
    }

    /// Returns the number of a job, in the order of listing.
    pub(super) fn number(&self, job: JobId) -> usize {
        self.listed.iter().position(|listed| *listed == job).expect("a job that was listed")
    }

    /// The slot of a purchase; before it the number of its job, if that is another than the present one.
    fn name(&self, purchase: PurchaseId) -> String {
        if purchase.job == self.job {
            purchase.slot.to_string()
        } else {
            format!("{}.{}", self.number(purchase.job), purchase.slot)
        }
    }

    fn effect(&self, effect: &Effect) -> String {
        let name = |purchase: &PurchaseId| self.name(*purchase);
        match effect {
            Effect::Append { records, step } => {
                let texts: Vec<String> = records.iter().map(|record| self.record(record)).collect();
                check(&records[0], *step);
                let number = if let Step::Commit { submit, .. } = step { format!(" #{submit}") } else { String::new() };
                format!("journal {}{number}", texts.join(" and "))
            }
            Effect::Enqueue { purchase } => format!("enqueue {}", name(purchase)),
            Effect::ExplainDelay { purchase } => format!("explain {}", name(purchase)),
            Effect::Submit { purchase, pictures, attempt, format } => {
                let how = if self.shows_formats { format!(" as {}", format.format.describe()) } else { String::new() };
                format!("submit {} #{attempt} x{pictures}{how}", name(purchase))
            }
            Effect::SendLastByte { purchase, send: true } => format!("send {}", name(purchase)),
            Effect::SendLastByte { purchase, send: false } => format!("break off {}", name(purchase)),
            Effect::AssumeAccepted { purchase, .. } => format!("assume accepted {}", name(purchase)),
            Effect::EndSubmits { purchase } => format!("end submits {}", name(purchase)),
            Effect::ReleaseInFlight { purchase } => format!("release {}", name(purchase)),
            Effect::PlanPoll { purchase, poll } => format!("poll {}{}", name(purchase), self.poll(poll)),
            Effect::Learn(Completion { working_at, took, polls, class }) => {
                assert!(class.to_string().starts_with("painter text-to-image - +0"), "{class}");
                format!("learn {} to {}, polls {polls}", s(*working_at), s(*took))
            }
            Effect::Fetch { purchase, finished: Finished { outputs, .. }, pause, resumable } => {
                let pause = if pause.is_zero() { String::new() } else { format!(" in {}", s(*pause)) };
                let how = if *resumable { "" } else { " only once" };
                format!("fetch {} x{}{pause}{how}", name(purchase), outputs.len())
            }
            Effect::Publish { job, change } => {
                let change = match change {
                    ProgressChange::Stage(stage) => format!("stage {}", stage_name(*stage)),
                    ProgressChange::Recorded => "recorded".to_owned(),
                    ProgressChange::Upstream(upstream) => format!("upstream {upstream}"),
                    ProgressChange::Result(result) => {
                        format!("result x{}{}", result.pictures.len(), unseen(result.inputs_unseen))
                    }
                };
                if *job == self.job { change } else { format!("{}: {change}", self.number(*job)) }
            }
            Effect::ReportIdConflict { purchase, upstream, other } => {
                format!("conflict {} {upstream} {}", name(purchase), name(other))
            }
            Effect::ReportSurplus { purchase, asked, surplus } => {
                format!("surplus {} x{surplus} of {asked}", name(purchase))
            }
            Effect::FormatsChanged(changes) => {
                let text = |change: &FormatChange| format!("{} {}", change.format.describe(), change.state);
                format!("formats {}", changes.iter().map(text).collect::<Vec<_>>().join(", "))
            }
            Effect::CountLostAnswer { usd } => format!("lost answer {}", money(*usd)),
            Effect::EndPurchase(ended) => self.ended(ended),
            Effect::EndRefetch { purchase, upstream, result } => {
                assert!(upstream.is_some());
                format!("refetched {} {result:?}", name(purchase)).to_lowercase()
            }
            Effect::EndJob { record, outcome, refetched, .. } => {
                let job = if record.id == self.job { String::new() } else { format!(" {}", self.number(record.id)) };
                let job = if *refetched { format!("{job} refetched") } else { job };
                match outcome {
                    Ok(result) => {
                        let missing = match result.missing_pictures() {
                            0 => String::new(),
                            missing => format!(" missing {missing}"),
                        };
                        format!("job ended{job} x{}{missing}{}", result.pictures.len(), unseen(result.inputs_unseen))
                    }
                    Err(failure) => format!("job ended{job} {}", failure.name()),
                }
            }
        }
    }

    fn record(&self, record: &Record) -> String {
        let at = |at| assert_eq!(at, self.now().timestamp, "recorded at another time: {record:?}");
        match record {
            Record::Intent { job, api_kind, purchases } => {
                let slots: Vec<String> = purchases
                    .iter()
                    .map(|(purchase, pictures)| {
                        assert_eq!(purchase.job, job.id);
                        format!("{}x{pictures}", purchase.slot)
                    })
                    .collect();
                let api_kind = match api_kind {
                    ApiKind::Prediction => "",
                    ApiKind::OpenAi => " openai",
                    ApiKind::Unified => " unified",
                };
                format!("intent{api_kind} {}", slots.join(" "))
            }
            Record::Committing { purchase, account, at: time, .. } => {
                at(*time);
                format!("committing {} {account}", self.name(*purchase))
            }
            Record::Withdrawn { purchase } => format!("withdrawn {}", self.name(*purchase)),
            Record::Resubmitted { purchase } => format!("resubmitted {}", self.name(*purchase)),
            Record::Accepted { purchase, upstream, at: time, .. } => {
                at(*time);
                format!("accepted {} {upstream}", self.name(*purchase))
            }
            Record::Resolved { purchase, upstream, pictures, at: time, .. } => {
                at(*time);
                let upstream = upstream.as_ref().map_or_else(String::new, |upstream| format!(" {upstream}"));
                format!("resolved {} x{}{upstream}", self.name(*purchase), pictures.len())
            }
            Record::Restored { purchase, pictures } => {
                format!("restored {} x{}", self.name(*purchase), pictures.len())
            }
            Record::Failed { purchase, failure, at: time } => {
                at(*time);
                format!("failed {} {}", self.name(*purchase), failure.name())
            }
            Record::Subscribed { webhook, .. } => format!("webhook {}", webhook.url),
            Record::Delivered { .. }
            | Record::Evicted { .. }
            | Record::Deleted { .. }
            | Record::PromptExpired { .. }
            | Record::WebhookTried { .. }
            | Record::WebhookEnded { .. } => unreachable!("not a record of a live job: {record:?}"),
        }
    }

    fn poll(&self, poll: &NextPoll) -> String {
        let NextPoll { handle, account, accepted, working_at, troubles, soon, .. } = poll;
        let mut text =
            format!(" {} {account} age {}", handle.id, s(self.instant().saturating_duration_since(*accepted)));
        if !working_at.is_zero() {
            text = format!("{text} working at {}", s(*working_at));
        }
        if *troubles > 0 {
            text = format!("{text} troubles {troubles}");
        }
        if *soon {
            text += " soon";
        }
        text
    }

    fn ended(&self, ended: &EndedPurchase) -> String {
        let EndedPurchase { purchase, record, upstream, result, inputs_unseen, took, usd, counted, charge } = ended;
        let (pictures, charged) = charge;
        assert_eq!(record.id, purchase.job);
        let upstream = upstream.as_ref().map_or_else(String::new, |upstream| format!(" {upstream}"));
        let result = match result {
            Ok(pictures) => format!("x{pictures}{}", unseen(*inputs_unseen)),
            Err(failure) => failure.name().to_owned(),
        };
        let usd = usd.map_or_else(|| "$?".to_owned(), money);
        let charged = match (pictures, charged) {
            (0, Usd(usd)) if *usd == 0.0 => "free".to_owned(),
            (pictures, usd) => format!("charge x{pictures} {}", money(*usd)),
        };
        let counted = if *counted { " counted" } else { "" };
        format!("ended {}{upstream} {result} in {} {usd} {charged}{counted}", self.name(*purchase), s(*took))
    }
}

/// Asserts that the step is the one that its record guards.
fn check(record: &Record, step: Step) {
    let fits = match (record, step) {
        (Record::Intent { job, .. }, Step::Intent(listed)) => job.id == listed,
        (Record::Committing { purchase, .. }, Step::Commit { purchase: of, .. })
        | (Record::Withdrawn { purchase } | Record::Resubmitted { purchase }, Step::Withdrawal(of))
        | (Record::Accepted { purchase, .. }, Step::Acceptance(of))
        | (
            Record::Resolved { purchase, .. } | Record::Restored { purchase, .. } | Record::Failed { purchase, .. },
            Step::End(of),
        ) => *purchase == of,
        _ => false,
    };
    assert!(fits, "{record:?} does not guard {step:?}");
}

fn unseen(inputs_unseen: bool) -> &'static str {
    if inputs_unseen { " unseen" } else { "" }
}

fn s(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

fn money(Usd(usd): Usd) -> String {
    format!("${usd}")
}

fn stage_name(stage: JobStage) -> &'static str {
    match stage {
        JobStage::Queued => "queued",
        JobStage::Submitting => "submitting",
        JobStage::Processing => "processing",
    }
}

//! Each rule of the table by itself. `lives` has random upstreams.

use std::time::Duration;

use super::*;
use crate::model::{AccountId, JobId};
use crate::upstream::formats::{AuthStyle, InputMethod, RequestFormat};

mod lives;

const A: Method = (InputMethod::Base64Images, false);
const C: Method = (InputMethod::Multipart, false);
const D: Method = (InputMethod::DataUris, false);

/// The same account, model and kind of request in all tests.
pub(super) fn subject() -> FormatSubject {
    FormatSubject {
        account: AccountId("main".into()),
        model: "gpt-image-1.5".into(),
        task: Task::Edit,
        inputs: InputKind::Files,
        masked: false,
    }
}

pub(super) fn options(methods: &[Method]) -> FormatOptions {
    FormatOptions {
        model: "gpt-image-1.5".into(),
        task: Task::Edit,
        inputs: InputKind::Files,
        masked: false,
        methods: methods.to_vec(),
        optional: ["background", "n"].map(str::to_owned).into(),
        other_size: Some("1254x1254".parse().unwrap()),
        lacks_public_url: true,
    }
}

pub(super) fn purchase(number: u8) -> PurchaseId {
    PurchaseId { job: JobId::new(Timestamp::from_millis(1_790_000_000_000), 7), slot: number }
}

fn inputs_refused() -> Failure {
    Failure::InvalidRequest { message: "wrong image url".to_owned() }
}

/// A table, the purchases that use it, and the time.
struct Script {
    table: FormatTable,
    options: FormatOptions,
    tries: [FormatTries; 20],
    sent: [Option<RequestFormat>; 20],
    begun: Instant,
    elapsed: Duration,
}

impl Script {
    fn new(methods: &[Method]) -> Self {
        Self::with(FirstContact::Adapt, methods)
    }

    fn with(mode: FirstContact, methods: &[Method]) -> Self {
        Self {
            table: FormatTable::new(mode, FormatBasis::for_test("one"), StoredFormats::default()),
            options: options(methods),
            tries: Default::default(),
            sent: Default::default(),
            begun: Instant::now(),
            elapsed: Duration::ZERO,
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000).plus(self.elapsed)
    }

    fn choose(&mut self, number: u8) -> FormatChoice {
        let (now, at) = (self.begun + self.elapsed, self.at());
        let tries = &self.tries[usize::from(number)];
        let choice = self.table.choose(&subject(), &self.options, tries, purchase(number), now, at);
        if let FormatChoice::Submit(SubmitFormat { format, .. }) = &choice {
            self.sent[usize::from(number)] = Some(format.clone());
        }
        choice
    }

    /// Returns the description of the format that a purchase is submitted in, or why it is not.
    fn sends(&mut self, number: u8) -> String {
        match self.choose(number) {
            FormatChoice::Submit(submit) => submit.format.describe(),
            FormatChoice::Wait { .. } => "waits".to_owned(),
            FormatChoice::Exhausted(failure) => format!("exhausted: {}", failure.text()),
        }
    }

    fn accept(&mut self, number: u8) {
        let index = usize::from(number);
        let format = self.sent[index].clone().expect("it was sent");
        self.table.accepted(&subject(), &format, &self.tries[index], purchase(number), self.at());
    }

    fn refuse(&mut self, number: u8, refusal: FormatRefusal) -> FormatVerdict {
        self.refuse_with(number, refusal, inputs_refused())
    }

    fn refuse_with(&mut self, number: u8, refusal: FormatRefusal, failure: Failure) -> FormatVerdict {
        let (index, at) = (usize::from(number), self.at());
        let format = self.sent[index].clone().expect("it was sent");
        let tries = &mut self.tries[index];
        self.table.refused(&subject(), &self.options, &format, refusal, failure, tries, purchase(number), at)
    }

    /// Sends and gets an acceptance.
    fn buys(&mut self, number: u8) -> String {
        let sent = self.sends(number);
        self.accept(number);
        sent
    }

    /// Stops the gateway and starts another one, whose purchases are new.
    fn restart(&mut self, basis: &str) {
        // As the state file has it.
        let stored = serde_json::to_string(&self.table.stored()).unwrap();
        let stored = serde_json::from_str(&stored).unwrap();
        self.table = FormatTable::new(self.table.mode, FormatBasis::for_test(basis), stored);
        (self.tries, self.sent) = Default::default();
    }

    /// Purchase 0 finds out that A is refused and C is accepted.
    fn learn(&mut self) {
        assert_eq!(self.sends(0), "base64_images");
        assert_eq!(self.refuse(0, FormatRefusal::Inputs), FormatVerdict::TryAnother);
        assert_eq!(self.buys(0), "multipart");
        self.table.take_changes();
    }

    fn states(&self) -> Vec<(String, &'static str)> {
        self.table.rows().into_iter().map(|row| (row.method, row.state)).collect()
    }
}

fn ends_with(verdict: &FormatVerdict, text: &str) -> bool {
    matches!(verdict, FormatVerdict::End(failure) if failure.text().ends_with(text))
}

#[test]
fn a_refused_method_is_followed_by_the_next_which_is_remembered() {
    let mut script = Script::new(&[A, C, D]);
    script.learn();
    assert_eq!(script.states(), [("base64_images".to_owned(), "refused"), ("multipart".to_owned(), "proven")]);
    assert_eq!(script.buys(1), "multipart");
    script.restart("one");
    assert_eq!(script.buys(1), "multipart");
}

#[test]
fn one_purchase_at_a_time_tries_what_is_unknown() {
    let mut script = Script::new(&[A, C]);
    assert_eq!(script.sends(0), "base64_images");
    let until = script.begun + Duration::from_secs(30);
    assert_eq!(script.choose(1), FormatChoice::Wait { until });
    script.elapsed = Duration::from_secs(20);
    assert_eq!(script.choose(1), FormatChoice::Wait { until }, "the wait does not begin again");
    assert_eq!(script.sends(0), "base64_images", "asked again after a pushback, it is still the one");
    assert_eq!(script.refuse(0, FormatRefusal::Inputs), FormatVerdict::TryAnother);
    assert!(script.table.take_news());
    assert_eq!(script.sends(1), "multipart", "the next one tries what is left");
    assert_eq!(script.sends(0), "waits");
    assert!(!script.table.take_news());
    script.accept(1);
    assert!(script.table.take_news());
    assert_eq!(script.buys(0), "multipart");
    assert_eq!(script.states(), [("base64_images".to_owned(), "refused"), ("multipart".to_owned(), "proven")]);
    assert_eq!(script.table.probes.waits(), 0);
}

#[test]
fn the_next_one_does_not_send_the_key_as_it_was_refused() {
    let mut script = Script::new(&[A, C]);
    assert_eq!(script.sends(0), "base64_images");
    assert_eq!(script.sends(1), "waits");
    assert_eq!(script.refuse(0, FormatRefusal::Auth), FormatVerdict::TryAnother);
    assert_eq!(script.buys(1), "base64_images, raw key");
    assert_eq!(script.buys(0), "base64_images, raw key");

    // The first refusal was no matter of the style.
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    script.refuse(0, FormatRefusal::Auth);
    assert_eq!(script.sends(1), "base64_images, raw key");
    assert_eq!(script.refuse(1, FormatRefusal::Auth), FormatVerdict::TryAnother);
    assert_eq!(script.buys(1), "base64_images");
    assert_eq!(script.buys(0), "base64_images", "that it was refused this way counts for less than a success");
}

#[test]
fn the_next_one_tries_after_an_answer_that_says_nothing_and_after_the_wait() {
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    assert_eq!(script.sends(1), "waits");
    script.table.no_verdict(purchase(0));
    assert_eq!(script.sends(1), "base64_images");
    assert_eq!(script.sends(2), "waits");
    script.elapsed = Duration::from_secs(30);
    assert_eq!(script.sends(2), "base64_images", "nothing hangs");
    assert_eq!(script.sends(3), "waits", "purchase 1 is still the one that tries");
    script.elapsed = Duration::from_mins(11);
    assert_eq!(script.sends(4), "base64_images", "an answer this late does not come");
    assert_eq!(script.sends(5), "waits");
}

#[test]
fn the_key_of_an_account_is_tried_by_one_purchase_for_all_its_models() {
    let mut script = Script::new(&[A]);
    script.sends(0);
    let other = FormatSubject { model: "gpt-image-2".into(), ..subject() };
    let (options, now, at) = (options(&[A]), script.begun, script.at());
    let choose =
        |script: &mut Script| script.table.choose(&other, &options, &FormatTries::default(), purchase(9), now, at);
    assert!(matches!(choose(&mut script), FormatChoice::Wait { .. }));
    script.accept(0);
    assert!(matches!(choose(&mut script), FormatChoice::Submit(_)));
}

#[test]
fn a_proven_method_serves_while_another_is_tried_again() {
    let mut script = Script::new(&[A, C]);
    script.learn();
    script.elapsed = Duration::from_hours(7 * 24 - 1);
    assert_eq!(script.buys(1), "multipart");
    script.elapsed = Duration::from_hours(7 * 24);
    assert_eq!(script.sends(2), "base64_images", "the refusal has lapsed");
    assert_eq!(script.buys(3), "multipart", "without a wait");
    assert_eq!(script.refuse(2, FormatRefusal::Inputs), FormatVerdict::TryAnother);
    assert_eq!(script.buys(2), "multipart");
    assert_eq!(script.buys(4), "multipart");
}

#[test]
fn a_clock_that_is_set_back_does_not_prolong_a_refusal() {
    let mut script = Script::new(&[A, C]);
    script.elapsed = Duration::from_hours(24 * 3650);
    script.learn();
    script.elapsed = Duration::ZERO;
    assert_eq!(script.buys(1), "multipart");
    script.elapsed = Duration::from_hours(7 * 24);
    assert_eq!(script.sends(2), "base64_images");
}

#[test]
fn a_proven_method_refuses_pictures_three_times_before_it_is_doubted() {
    let mut script = Script::new(&[A, C]);
    script.buys(0);
    for number in 1..3 {
        script.sends(number);
        assert_eq!(script.refuse(number, FormatRefusal::Inputs), FormatVerdict::End(inputs_refused()));
    }
    script.buys(3);
    for number in 4..6 {
        script.sends(number);
        assert!(matches!(script.refuse(number, FormatRefusal::Inputs), FormatVerdict::End(_)), "an acceptance between");
    }
    script.sends(6);
    assert_eq!(script.refuse(6, FormatRefusal::Inputs), FormatVerdict::TryAnother);
    assert_eq!(script.buys(6), "multipart");
    assert_eq!(script.buys(7), "multipart");
}

#[test]
fn the_number_of_refusals_in_a_row_survives_a_restart() {
    let mut script = Script::new(&[A, C]);
    script.buys(0);
    for number in 1..3 {
        script.sends(number);
        script.refuse(number, FormatRefusal::Inputs);
        script.restart("one");
    }
    script.sends(3);
    assert_eq!(script.refuse(3, FormatRefusal::Inputs), FormatVerdict::TryAnother);
}

#[test]
fn pictures_that_are_refused_in_every_way_leave_nothing_behind() {
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    assert_eq!(script.refuse(0, FormatRefusal::Inputs), FormatVerdict::TryAnother);
    script.sends(0);
    let second = Failure::InvalidRequest { message: "second".to_owned() };
    let verdict = script.refuse_with(0, FormatRefusal::Inputs, second);
    let expected =
        "wrong image url. The operator of the gateway can set server.public_url, so that pictures are sent as links.";
    assert!(ends_with(&verdict, expected), "the first refusal: {verdict:?}");
    assert_eq!(script.states(), []);
    let states: Vec<_> = script.table.take_changes().into_iter().map(|change| change.state).collect();
    assert_eq!(states, ["refused", "refused", "unknown", "unknown"]);
    assert_eq!(script.buys(1), "base64_images");
}

#[test]
fn a_refusal_that_nothing_confirmed_is_tried_last() {
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    script.refuse(0, FormatRefusal::Inputs);
    script.sends(0);
    // The outcome of the second submit is unknown, or the gateway is killed.
    script.table.no_verdict(purchase(0));
    script.restart("one");
    assert_eq!(script.sends(0), "multipart");
    assert_eq!(script.refuse(0, FormatRefusal::Inputs), FormatVerdict::TryAnother);
    assert_eq!(script.buys(0), "base64_images", "it was the picture after all");
    assert_eq!(script.buys(1), "base64_images");
}

#[test]
fn a_parameter_at_its_default_is_left_out_and_the_clients_own_never() {
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    assert_eq!(script.refuse(0, FormatRefusal::Field("background".to_owned())), FormatVerdict::TryAnother);
    assert_eq!(script.buys(0), "base64_images, without background");
    assert_eq!(script.buys(1), "base64_images, without background");
    script.sends(1);
    let failure = Failure::InvalidRequest { message: "unknown parameter background".to_owned() };
    let again = script.refuse_with(1, FormatRefusal::Field("background".to_owned()), failure.clone());
    assert_eq!(again, FormatVerdict::End(failure.clone()), "it was left out already");
    script.options.optional.clear();
    assert_eq!(script.sends(2), "base64_images");
    let verdict = script.refuse_with(2, FormatRefusal::Field("background".to_owned()), failure.clone());
    assert_eq!(verdict, FormatVerdict::End(failure));
    assert!(script.table.omits(&"gpt-image-1.5".into(), Task::Edit, "background"));
    assert!(!script.table.omits(&"gpt-image-1.5".into(), Task::Generate, "background"));
    assert!(!script.table.omits(&"gpt-image-1.5".into(), Task::Edit, "n"));
}

#[test]
fn a_field_of_pictures_is_the_method_and_a_field_of_size_the_size() {
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    script.refuse(0, FormatRefusal::Field("base64_images".to_owned()));
    assert_eq!(script.sends(0), "multipart");
    script.refuse(0, FormatRefusal::Field("size".to_owned()));
    assert_eq!(script.sends(0), "multipart, size 1254x1254");
}

#[test]
fn a_parameter_is_sent_again_by_one_purchase_after_a_while() {
    let mut script = Script::new(&[A]);
    script.sends(0);
    script.refuse(0, FormatRefusal::Field("n".to_owned()));
    script.buys(0);
    script.elapsed = Duration::from_hours(7 * 24);
    assert_eq!(script.sends(1), "base64_images");
    assert_eq!(script.buys(2), "base64_images, without n", "the others go on as before");
    assert_eq!(script.refuse(1, FormatRefusal::Field("n".to_owned())), FormatVerdict::TryAnother);
    assert_eq!(script.buys(1), "base64_images, without n");
    assert_eq!(script.buys(3), "base64_images, without n");
    script.elapsed *= 2;
    assert_eq!(script.buys(4), "base64_images");
    assert_eq!(script.buys(5), "base64_images", "it is accepted now");
}

#[test]
fn the_other_tables_size_is_used_where_the_client_left_it_open() {
    let mut script = Script::new(&[A]);
    script.sends(0);
    assert_eq!(script.refuse(0, FormatRefusal::Size), FormatVerdict::TryAnother);
    assert_eq!(script.buys(0), "base64_images, size 1254x1254");
    script.restart("one");
    assert_eq!(script.buys(1), "base64_images, size 1254x1254");
    script.options.other_size = None;
    assert_eq!(script.sends(2), "base64_images");
    assert_eq!(script.refuse(2, FormatRefusal::Size), FormatVerdict::End(inputs_refused()));
}

#[test]
fn the_raw_key_is_tried_once_and_only_before_anything_was_accepted() {
    let mut script = Script::new(&[A, C]);
    let FormatChoice::Submit(first) = script.choose(0) else { panic!("it is submitted") };
    assert!(first.may_change_auth && !first.accepted_before);
    let refused = Failure::KeyRefused { message: "invalid token".to_owned() };
    assert_eq!(script.refuse_with(0, FormatRefusal::Auth, refused.clone()), FormatVerdict::TryAnother);
    let FormatChoice::Submit(second) = script.choose(0) else { panic!("it is submitted") };
    assert_eq!(second.format.describe(), "base64_images, raw key");
    assert!(!second.may_change_auth);
    script.accept(0);
    assert_eq!(script.table.knowledge.auth(&subject().account).style, AuthStyle::Raw);
    script.restart("one");
    let FormatChoice::Submit(later) = script.choose(1) else { panic!("it is submitted") };
    assert_eq!((later.format.auth, later.accepted_before, later.may_change_auth), (AuthStyle::Raw, true, false));
    assert_eq!(script.refuse_with(1, FormatRefusal::Auth, refused.clone()), FormatVerdict::End(refused.clone()));

    let mut script = Script::new(&[A, C]);
    script.sends(0);
    script.refuse_with(0, FormatRefusal::Auth, refused.clone());
    script.sends(0);
    let raw_too = Failure::KeyRefused { message: "raw too".to_owned() };
    assert_eq!(script.refuse_with(0, FormatRefusal::Auth, raw_too), FormatVerdict::End(refused));
    assert_eq!(script.table.knowledge.auth(&subject().account).style, AuthStyle::Bearer);
}

#[test]
fn a_refusal_for_another_reason_shows_that_the_key_was_read() {
    let mut script = Script::new(&[A, C, D]);
    script.sends(0);
    script.refuse(0, FormatRefusal::Auth);
    script.sends(0);
    script.refuse(0, FormatRefusal::Inputs);
    script.sends(0);
    assert!(matches!(script.refuse(0, FormatRefusal::Inputs), FormatVerdict::End(_)), "three submits");
    // D was not tried, so what was refused is remembered, and the next purchase gets further.
    assert_eq!(script.buys(1), "data_uris, raw key");
}

#[test]
fn a_refusal_without_a_reason_permits_one_other_method_and_only_at_first() {
    let mut script = Script::new(&[A, C, D]);
    script.sends(0);
    assert_eq!(script.refuse(0, FormatRefusal::Unclear), FormatVerdict::TryAnother);
    script.sends(0);
    assert!(matches!(script.refuse(0, FormatRefusal::Unclear), FormatVerdict::End(_)));
    assert_eq!(script.states(), []);
    assert_eq!(script.buys(1), "base64_images");
    script.sends(2);
    assert!(matches!(script.refuse(2, FormatRefusal::Unclear), FormatVerdict::End(_)));
    assert_eq!(script.states(), [("base64_images".to_owned(), "proven")]);
}

#[test]
fn a_method_that_was_never_accepted_may_be_refused_without_a_reason_later_too() {
    let mut script = Script::new(&[C]);
    script.buys(0);
    // A request that A can serve as well.
    script.options.methods = vec![A, C];
    assert_eq!(script.sends(1), "base64_images");
    assert_eq!(script.refuse(1, FormatRefusal::Unclear), FormatVerdict::TryAnother);
    assert_eq!(script.buys(1), "multipart");
    assert_eq!(script.buys(2), "multipart", "else every request would fail");
}

#[test]
fn a_path_is_served_for_the_api_that_has_accepted_something() {
    let mut script = Script::new(&[A, C, D]);
    let accepted_before = |script: &mut Script, number: u8| match script.choose(number) {
        FormatChoice::Submit(submit) => submit.accepted_before,
        other @ (FormatChoice::Wait { .. } | FormatChoice::Exhausted(_)) => panic!("{other:?}"),
    };
    assert!(!accepted_before(&mut script, 0));
    script.accept(0);
    assert!(accepted_before(&mut script, 1));
    let masked = FormatSubject { masked: true, ..subject() };
    let (now, at) = (script.begun, script.at());
    for (methods, expected) in [([A], true), ([D], true), ([C], false)] {
        let choice = script.table.choose(&masked, &options(&methods), &FormatTries::default(), purchase(9), now, at);
        let FormatChoice::Submit(submit) = choice else { panic!("{choice:?}") };
        assert_eq!(submit.accepted_before, expected, "{methods:?}");
    }
}

#[test]
fn three_submits_are_the_most() {
    let e = (InputMethod::Links, false);
    let mut script = Script::new(&[A, e, C, D]);
    for (sent, verdict) in [("base64_images", true), ("links", true), ("multipart", false)] {
        assert_eq!(script.sends(0), sent);
        assert_eq!(script.refuse(0, FormatRefusal::Inputs) == FormatVerdict::TryAnother, verdict, "{sent}");
    }
    assert_eq!(script.buys(1), "data_uris", "it is the only one that was not refused");
}

#[test]
fn six_fallbacks_an_hour_are_the_most_until_one_succeeds() {
    let mut script = Script::new(&[A, C]);
    let refused_twice = |script: &mut Script, number: u8| {
        script.sends(number);
        if script.refuse(number, FormatRefusal::Inputs) == FormatVerdict::TryAnother {
            script.sends(number);
            script.refuse(number, FormatRefusal::Inputs);
        }
        script.tries[usize::from(number)].len()
    };
    for number in 0..6 {
        assert_eq!(refused_twice(&mut script, number), 2, "purchase {number}");
    }
    assert_eq!(refused_twice(&mut script, 6), 1);
    script.elapsed = Duration::from_mins(59);
    // What the limit cut short is remembered as unconfirmed.
    assert_eq!(refused_twice(&mut script, 7), 1);
    script.elapsed = Duration::from_hours(1);
    assert_eq!(refused_twice(&mut script, 8), 2);
    for number in 9..14 {
        refused_twice(&mut script, number);
    }
    script.buys(14);
    assert_eq!(refused_twice(&mut script, 15), 1, "A is proven");
    script.options.methods = vec![C, D];
    assert_eq!(refused_twice(&mut script, 16), 2, "the count began again");
}

#[test]
fn a_fallback_that_is_pushed_back_counts_once() {
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    script.refuse(0, FormatRefusal::Inputs);
    for _ in 0..20 {
        assert_eq!(script.sends(0), "multipart");
    }
}

#[test]
fn where_everything_is_known_to_be_refused_one_purchase_an_hour_asks_again() {
    let mut script = Script::new(&[A, C]);
    script.learn();
    script.options.methods = vec![A];
    // It needs A, of which the table knows that it is refused.
    assert_eq!(script.sends(1), "base64_images");
    assert!(matches!(script.refuse(1, FormatRefusal::Inputs), FormatVerdict::End(_)));
    let hint =
        "wrong image url. The operator of the gateway can set server.public_url, so that pictures are sent as links.";
    assert_eq!(script.sends(2), format!("exhausted: {hint}"));
    script.elapsed = Duration::from_mins(59);
    assert!(script.sends(3).starts_with("exhausted"));
    script.elapsed = Duration::from_hours(1);
    assert_eq!(script.buys(4), "base64_images");
    assert_eq!(script.buys(5), "base64_images");
}

#[test]
fn a_suspect_method_is_the_last_choice_and_refused_after_a_second_failed_task() {
    let mut script = Script::new(&[A, C]);
    script.buys(0);
    let format = RequestFormat::documented(InputMethod::Base64Images);
    script.table.take_changes();
    script.table.suspect(&subject(), &format, FormatProblem::InputsUnseen, script.at());
    assert_eq!(script.table.take_changes()[0].state, "suspect");
    assert_eq!(script.sends(1), "multipart");
    assert_eq!(script.refuse(1, FormatRefusal::Inputs), FormatVerdict::TryAnother);
    assert_eq!(script.buys(1), "base64_images");
    assert_eq!(script.states()[0], ("base64_images".to_owned(), "suspect"), "an acceptance proves nothing of that");
    script.table.suspect(&subject(), &format, FormatProblem::InputsUnseen, script.at());
    assert_eq!(script.states()[0].1, "suspect", "some channels do not count pictures, and it delivers");
    script.table.suspect(&subject(), &format, FormatProblem::TaskFailed("wrong image url"), script.at());
    assert_eq!(script.states()[0].1, "refused");
    assert_eq!(script.states()[1], ("multipart".to_owned(), "refused"));
    script.elapsed = Duration::from_hours(7 * 24);
    assert_eq!(script.buys(2), "base64_images");
}

#[test]
fn failed_tasks_of_single_pictures_refuse_no_method_that_delivers() {
    let mut script = Script::new(&[A, C]);
    script.buys(0);
    let format = RequestFormat::documented(InputMethod::Base64Images);
    for _ in 0..5 {
        script.table.suspect(&subject(), &format, FormatProblem::TaskFailed("invalid image"), script.at());
        assert_eq!(script.states()[0], ("base64_images".to_owned(), "suspect"));
        script.table.delivered(&subject(), &format, false, script.at());
        assert_eq!(script.states()[0], ("base64_images".to_owned(), "proven"));
    }
    script.table.suspect(&subject(), &format, FormatProblem::InputsUnseen, script.at());
    script.table.delivered(&subject(), &format, false, script.at());
    assert_eq!(script.states()[0].1, "suspect", "a result without a count says nothing of that");
    script.table.delivered(&subject(), &format, true, script.at());
    assert_eq!(script.states()[0].1, "proven");
}

#[test]
fn strictly_no_other_format_is_tried() {
    let mut script = Script::with(FirstContact::Strict, &[A]);
    let FormatChoice::Submit(first) = script.choose(0) else { panic!("it is submitted") };
    assert!(!first.accepted_before && !first.may_change_auth);
    assert_eq!(script.refuse(0, FormatRefusal::Field("n".to_owned())), FormatVerdict::End(inputs_refused()));
    assert_eq!(script.sends(1), "base64_images", "without a wait");
    script.accept(1);
    script.restart("one");
    let FormatChoice::Submit(later) = script.choose(2) else { panic!("it is submitted") };
    assert!(later.accepted_before);
}

#[test]
fn what_another_account_refused_says_nothing_of_this_one() {
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    script.refuse(0, FormatRefusal::Inputs);
    let other = FormatSubject { account: AccountId("second".into()), ..subject() };
    let (now, at) = (script.begun, script.at());
    let choice = script.table.choose(&other, &script.options, &script.tries[0], purchase(0), now, at);
    let FormatChoice::Submit(submit) = choice else { panic!("{choice:?}") };
    assert_eq!(submit.format.describe(), "base64_images");
    assert_eq!(script.sends(1), "multipart", "the first account is free for others");
    script.table.accepted(&other, &submit.format, &script.tries[0], purchase(0), at);
    let rows = script.table.rows();
    let states: Vec<_> = rows.iter().map(|row| (row.account.as_str(), row.state)).collect();
    assert_eq!(states, [("main", "refused"), ("second", "proven")]);
}

#[test]
fn knowledge_of_another_version_or_catalogue_lapses() {
    let mut script = Script::new(&[A, C]);
    script.learn();
    let stored = script.table.stored();
    script.restart("two");
    assert_eq!(script.states(), []);
    assert_eq!(script.sends(0), "base64_images");
    let text = serde_json::to_string(&stored).unwrap();
    let foreign = text.replace("\"version\":1", "\"version\":2");
    assert_ne!(text, foreign);
    for unreadable in ["{}", &foreign] {
        let stored = serde_json::from_str(unreadable).unwrap();
        let table = FormatTable::new(FirstContact::Adapt, FormatBasis::for_test("one"), stored);
        assert_eq!(table.rows(), [], "{unreadable}");
    }
    // Words of a later version in a file of this one.
    let damaged = text.replace("multipart", "carrier_pigeon").replace("\"files\"", "\"scrolls\"");
    let table =
        FormatTable::new(FirstContact::Adapt, FormatBasis::for_test("one"), serde_json::from_str(&damaged).unwrap());
    assert_eq!(table.rows(), []);
}

#[test]
fn texts_of_the_upstream_are_bounded_and_printable() {
    let mut script = Script::new(&[A, C]);
    script.sends(0);
    let message = format!("bad\u{1b}[2J\r\n{}", "x".repeat(1000));
    script.refuse_with(0, FormatRefusal::Inputs, Failure::InvalidRequest { message });
    let reason = script.table.take_changes().pop().unwrap().reason;
    let row = script.table.rows().pop().unwrap().reason;
    for text in [&reason, &row] {
        assert!(text.starts_with("bad[2Jxxx") && text.chars().count() == 200, "{text}");
    }
    assert!(serde_json::to_string(&script.table.stored()).unwrap().len() < 1000);
}

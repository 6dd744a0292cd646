//! What the simulated service does: every behaviour that is uncertain or unfortunate is a switch here.
//!
//! The defaults are the best-documented behaviour. `config/simulator.toml` shows every key with its default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::faults::Fault;

/// The example scenario, which names every key and holds its default.
pub const EXAMPLE: &str = include_str!("../../config/simulator.toml");

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not TOML, or holds a key or a word that is not known.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// The JSON holds a key or a word that is not known.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A number is outside of what makes sense.
    #[error("`{key}` must be {rule}")]
    Value {
        /// The key, dotted.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

/// Everything that can be switched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Seed of latencies and of shares; ids stay random, so that two runs never share one.
    pub seed: u64,
    /// Divides every simulated duration: 100 turns 23 s into 230 ms.
    pub speed: f64,
    /// How refusals look.
    pub errors: Errors,
    /// Who may call.
    pub auth: Auth,
    /// What is sold, and how strictly a request is read.
    pub models: Models,
    /// Content policy.
    pub policy: Policy,
    /// The answer to a submit.
    pub submit: Submit,
    /// The life of a prediction.
    pub life: Life,
    /// The answer to a poll.
    pub result: Results,
    /// Pictures as they are made.
    pub pictures: Pictures,
    /// Pictures as they are served.
    pub files: Files,
    /// Rate limits.
    pub limits: Limits,
    /// Money.
    pub balance: Balance,
    /// What `enable_sync_mode` does.
    pub sync: Sync,
    /// Standing faults; one-shot faults come through the control route.
    pub faults: Faults,
    /// The small routes beside the predictions.
    pub extras: Extras,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            speed: 1.0,
            errors: Errors::default(),
            auth: Auth::default(),
            models: Models::default(),
            policy: Policy::default(),
            submit: Submit::default(),
            life: Life::default(),
            result: Results::default(),
            pictures: Pictures::default(),
            files: Files::default(),
            limits: Limits::default(),
            balance: Balance::default(),
            sync: Sync::default(),
            faults: Faults::default(),
            extras: Extras::default(),
        }
    }
}

impl Scenario {
    /// Reads a scenario; keys that are left out keep their defaults.
    ///
    /// # Errors
    ///
    /// When the text is not TOML, names an unknown key or word, or holds an impossible number.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let scenario: Self = toml::from_str(text)?;
        scenario.checked()
    }

    /// Lays a JSON object over this scenario, table by table.
    ///
    /// # Errors
    ///
    /// When the result is not a scenario.
    pub fn merged(&self, above: serde_json::Value) -> Result<Self, Error> {
        let mut below = serde_json::to_value(self)?;
        overlay(&mut below, above);
        serde_json::from_value::<Self>(below)?.checked()
    }

    fn checked(self) -> Result<Self, Error> {
        let positive = |key, number: f64| match number.is_finite() && number > 0.0 {
            true => Ok(()),
            false => Err(Error::Value {
                key,
                rule: "a positive number",
            }),
        };
        positive("speed", self.speed)?;
        let share = |key, number: f64| match (0.0..=1.0).contains(&number) {
            true => Ok(()),
            false => Err(Error::Value {
                key,
                rule: "between 0 and 1",
            }),
        };
        share("life.outcome_share", self.life.outcome_share)?;
        share("faults.submit_share", self.faults.submit_share)?;
        share("faults.poll_share", self.faults.poll_share)?;
        share("faults.download_share", self.faults.download_share)?;
        if self.files.cut_at_percent > 100 {
            return Err(Error::Value {
                key: "files.cut_at_percent",
                rule: "at most 100",
            });
        }
        for (key, status) in [
            ("models.no_channel_status", self.models.no_channel_status),
            ("result.unknown_id_status", self.result.unknown_id_status),
            ("files.expired_status", self.files.expired_status),
            ("extras.models_status", self.extras.models_status),
            ("extras.user_me_status", self.extras.user_me_status),
        ] {
            if !(200..=599).contains(&status) {
                return Err(Error::Value {
                    key,
                    rule: "an HTTP status from 200 to 599",
                });
            }
        }
        for (key, [from, to]) in [
            ("life.low_ms", self.life.low_ms),
            ("life.medium_ms", self.life.medium_ms),
            ("life.high_ms", self.life.high_ms),
        ] {
            if from > to {
                return Err(Error::Value {
                    key,
                    rule: "a range: the smaller number first",
                });
            }
        }
        Ok(self)
    }
}

/// Objects are merged key by key; anything else is replaced whole.
fn overlay(below: &mut serde_json::Value, above: serde_json::Value) {
    match (below, above) {
        (serde_json::Value::Object(below), serde_json::Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// A closed set of words, written in `snake_case`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }
    };
}

words! {
    /// Which of the known shapes refusals take.
    ErrorShape {
        /// A, except the flat shape C for a missing key.
        #[default]
        Documented,
        /// `{"error":{"message","type":"401"}}`
        A,
        /// `{"error":{"message","type":"authentication_error","code":"invalid_api_key"}}`
        B,
        /// `{"code":401,"message","type":"error"}`
        C,
        /// `{"error":{"code":401,"message"}}`
        D,
    }
}

/// `[errors]`: how refusals look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Errors {
    /// The shape of every refusal but 429.
    pub shape: ErrorShape,
}

/// `[auth]`: who may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Keys that were valid once: 403 `Invalid Token`.
    pub revoked: Vec<String>,
}

words! {
    /// What becomes of a field that the model does not know.
    Unknown {
        /// As if it had not been sent.
        #[default]
        Ignore,
        /// 400.
        Reject,
    }
}

/// `[models]`: what is sold, and how strictly a request is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Models that this account has no channel for.
    pub no_channel: Vec<String>,
    /// The status of that refusal.
    pub no_channel_status: u16,
    /// Unknown fields.
    pub unknown_fields: Unknown,
    /// `n` and `quality` on gpt-image-2-plus.
    pub plus_extras: Unknown,
    /// `mask` on a model that has none.
    pub foreign_mask: Unknown,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            no_channel: Vec::new(),
            no_channel_status: 429,
            unknown_fields: Unknown::Ignore,
            plus_extras: Unknown::Reject,
            foreign_mask: Unknown::Ignore,
        }
    }
}

words! {
    /// How content policy speaks.
    PolicyAnswer {
        /// HTTP 400, shape A with `type: "503"`.
        #[default]
        Submit400,
        /// HTTP 503.
        Submit503,
        /// The submit is accepted and the task fails.
        Task,
    }
}

/// `[policy]`: content policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// A prompt that contains one of these (in any case) is refused.
    pub words: Vec<String>,
    /// How.
    pub answer: PolicyAnswer,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            words: vec!["forbidden-picture".to_owned()],
            answer: PolicyAnswer::Submit400,
        }
    }
}

words! {
    /// The form of an accepted submit's answer.
    SubmitAnswer {
        /// The documented envelope, `urls` an object.
        #[default]
        Documented,
        /// `urls` an array.
        UrlsArray,
        /// `data` an array of one job.
        DataArray,
        /// No `id`, only `urls.get`.
        IdInUrl,
        /// The id beside the envelope, as `task_id`.
        TopLevelId,
        /// An id of the form `model:task_x`.
        ColonId,
        /// `data: [{"url"}]` at once, no id.
        ImmediateUrl,
        /// `data: [{"b64_json"}]` at once, no id.
        ImmediateB64,
        /// The envelope, already `completed` with outputs.
        Completed,
        /// HTTP 200 with `code: 500` inside; nothing is created.
        Code500,
        /// `urls.get` on another host.
        ForeignHost,
    }
}

/// `[submit]`: the answer to a submit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Submit {
    /// The form.
    pub answer: SubmitAnswer,
    /// The first status word.
    pub status: String,
    /// Pause between creating the job and answering, not scaled by `speed`.
    pub delay_ms: u64,
}

impl Default for Submit {
    fn default() -> Self {
        Self {
            answer: SubmitAnswer::Documented,
            status: "created".to_owned(),
            delay_ms: 0,
        }
    }
}

words! {
    /// How a prediction ends.
    Outcome {
        /// With pictures.
        #[default]
        Completed,
        /// `failed`, with the guideline text.
        FailedPolicy,
        /// `failed`, with a provider's text.
        FailedProvider,
        /// `failed`, with an empty error.
        FailedEmpty,
        /// `cancelled`.
        Cancelled,
        /// `timeout`.
        Timeout,
        /// `expired`.
        Expired,
        /// It never ends.
        Stuck,
    }
}

/// `[life]`: the life of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Life {
    /// Shortest and longest latency at quality low, one megapixel.
    pub low_ms: [u64; 2],
    /// The same at quality medium, which is also `auto`.
    pub medium_ms: [u64; 2],
    /// The same at quality high.
    pub high_ms: [u64; 2],
    /// Share of the latency that a job spends as created, before it is processing.
    pub created_percent: u64,
    /// How size counts: the latency grows with the square root of the pixels.
    pub size_counts: SizeCounts,
    /// Word for created.
    pub created: String,
    /// Word for processing.
    pub processing: String,
    /// Word for completed.
    pub completed: String,
    /// Word for failed.
    pub failed: String,
    /// How predictions end.
    pub outcome: Outcome,
    /// Share of the predictions that end so; the others complete.
    pub outcome_share: f64,
    /// Prompts that contain a word end as it says, before `outcome` is asked.
    pub outcome_by_word: BTreeMap<String, Outcome>,
}

words! {
    /// Whether size counts in the latency.
    SizeCounts {
        /// It does.
        #[default]
        Yes,
        /// It does not.
        No,
    }
}

impl Default for Life {
    fn default() -> Self {
        Self {
            low_ms: [21_000, 25_000],
            medium_ms: [49_000, 107_000],
            high_ms: [134_000, 147_000],
            created_percent: 5,
            size_counts: SizeCounts::Yes,
            created: "created".to_owned(),
            processing: "processing".to_owned(),
            completed: "completed".to_owned(),
            failed: "failed".to_owned(),
            outcome: Outcome::Completed,
            outcome_share: 1.0,
            outcome_by_word: BTreeMap::new(),
        }
    }
}

words! {
    /// The form of the entries of `outputs`.
    Outputs {
        /// What `response_format` asked: URLs, or bare base64.
        #[default]
        AsAsked,
        /// URLs.
        Url,
        /// Paths without scheme and host.
        RelativeUrl,
        /// Bare base64.
        Base64,
        /// Data URIs.
        DataUri,
        /// `{"url"}`
        ObjectUrl,
        /// `{"image_url"}`
        ObjectImageUrl,
        /// `{"b64_json"}`
        ObjectB64,
        /// URL, base64, data URI, object by turns.
        Mixed,
    }
}

words! {
    /// The key of `data` that holds the pictures.
    OutputsPlace {
        /// `outputs`, an array.
        #[default]
        Outputs,
        /// `output`, an array.
        Output,
        /// `images`, an array of objects.
        Images,
        /// `image_url`, one string.
        ImageUrl,
        /// `url`, one string.
        Url,
    }
}

words! {
    /// Where usage is reported.
    UsagePlace {
        /// `data.usage`
        #[default]
        Data,
        /// `data.extra_params.usage`
        ExtraParams,
        /// Nowhere.
        Absent,
    }
}

words! {
    /// The error value of a prediction that did not fail.
    NoError {
        /// `""`
        #[default]
        Empty,
        /// `null`
        Null,
        /// `{}`
        Object,
        /// No such key.
        Absent,
    }
}

words! {
    /// Where the text of a failed prediction stands.
    FailureError {
        /// `data.error`, a string.
        #[default]
        String,
        /// `data.error`, `{message, code}`.
        Object,
        /// The envelope's `message`.
        Message,
    }
}

words! {
    /// The NSFW value.
    Nsfw {
        /// `[]`
        #[default]
        Empty,
        /// `null`
        Null,
        /// `[true]`, once for each picture.
        Flagged,
        /// No such key.
        Absent,
    }
}

words! {
    /// The form of times in results.
    Timestamps {
        /// RFC 3339 with a varying number of fraction digits.
        #[default]
        Rfc3339,
        /// `YYYY-MM-DD HH:MM:SS`
        Zoneless,
    }
}

words! {
    /// The spelling of the two-word keys in results.
    KeyStyle {
        /// `has_nsfw_contents`, `created_at`
        #[default]
        Snake,
        /// `hasNsfwContents`, `createdAt`
        Camel,
    }
}

/// `[result]`: the answer to a poll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Results {
    /// The form of the entries.
    pub outputs: Outputs,
    /// Their place.
    pub outputs_place: OutputsPlace,
    /// So many pictures fewer than asked.
    pub missing_outputs: u32,
    /// So many completed answers come with empty outputs first.
    pub empty_polls: u32,
    /// Usage.
    pub usage: UsagePlace,
    /// No error.
    pub no_error: NoError,
    /// An error.
    pub failure_error: FailureError,
    /// NSFW.
    pub nsfw: Nsfw,
    /// Times.
    pub timestamps: Timestamps,
    /// Keys.
    pub keys: KeyStyle,
    /// The status for an unknown id, or for somebody else's.
    pub unknown_id_status: u16,
}

impl Default for Results {
    fn default() -> Self {
        Self {
            outputs: Outputs::AsAsked,
            outputs_place: OutputsPlace::Outputs,
            missing_outputs: 0,
            empty_polls: 0,
            usage: UsagePlace::Data,
            no_error: NoError::Empty,
            failure_error: FailureError::String,
            nsfw: Nsfw::Empty,
            timestamps: Timestamps::Rfc3339,
            keys: KeyStyle::Snake,
            unknown_id_status: 404,
        }
    }
}

words! {
    /// The encoding of the pictures.
    Format {
        /// PNG, with text chunks that tell what was asked.
        #[default]
        Png,
        /// JPEG.
        Jpeg,
        /// Lossless WebP.
        Webp,
    }
}

/// `[pictures]`: pictures as they are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pictures {
    /// The encoding.
    pub format: Format,
    /// How many are kept in memory; older ones are drawn again when asked for.
    pub kept: usize,
    /// Zero bytes appended to every picture, to test limits.
    pub padding_bytes: usize,
}

impl Default for Pictures {
    fn default() -> Self {
        Self {
            format: Format::Png,
            kept: 64,
            padding_bytes: 0,
        }
    }
}

words! {
    /// The content type of served pictures.
    ContentType {
        /// As the bytes are.
        #[default]
        Right,
        /// `application/octet-stream`
        OctetStream,
        /// `text/html`
        Html,
        /// None.
        Missing,
    }
}

words! {
    /// How a served picture is cut.
    Cut {
        /// The connection breaks there, under the full `Content-Length`.
        #[default]
        Abort,
        /// The answer ends there, well-formed: the file itself is cut.
        Short,
    }
}

/// `[files]`: pictures as they are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Origin of the URLs, such as `http://127.0.0.1:9000`; empty for the one that was called.
    pub origin: String,
    /// Life of a URL after completion, not scaled by `speed`; 0 for ever.
    pub expires_after_s: u64,
    /// The status after that.
    pub expired_status: u16,
    /// So many downloads of each picture fail with 500 first.
    pub fail_first: u32,
    /// The content type.
    pub content_type: ContentType,
    /// So many redirects come before the picture.
    pub redirects: u32,
    /// Pause between pieces of 16 KiB; 0 for none.
    pub piece_pause_ms: u64,
    /// Cut after so many bytes; 0 for not.
    pub cut_at_bytes: usize,
    /// Cut after so many hundredths; 0 for not.
    pub cut_at_percent: u8,
    /// How it is cut.
    pub cut: Cut,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            origin: String::new(),
            expires_after_s: 0,
            expired_status: 403,
            fail_first: 0,
            content_type: ContentType::Right,
            redirects: 0,
            piece_pause_ms: 0,
            cut_at_bytes: 0,
            cut_at_percent: 0,
            cut: Cut::Abort,
        }
    }
}

words! {
    /// What happens to a submit beyond the concurrency limit.
    OverConcurrent {
        /// 429.
        #[default]
        Reject,
        /// It waits, as created, for a place.
        Queue,
    }
}

words! {
    /// The `Retry-After` header of a 429.
    RetryAfter {
        /// None.
        #[default]
        Absent,
        /// In seconds, rounded up.
        Seconds,
        /// As an HTTP date.
        Date,
    }
}

words! {
    /// The shape of a 429.
    LimitShape {
        /// Shape A.
        #[default]
        A,
        /// Shape B.
        B,
    }
}

/// `[limits]`: rate limits, each for one key; 0 is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Accepted submits in a window.
    pub submits_per_minute: u32,
    /// The window, not scaled by `speed`.
    pub window_ms: u64,
    /// Predictions that have not ended.
    pub concurrent: usize,
    /// What happens beyond.
    pub over_concurrent: OverConcurrent,
    /// Polls of all predictions in a second.
    pub polls_per_second: u32,
    /// Least time between two polls of one prediction.
    pub min_poll_interval_ms: u64,
    /// Whether `speed` divides that time too.
    pub min_poll_interval: Scaled,
    /// `Retry-After`.
    pub retry_after: RetryAfter,
    /// The shape.
    pub shape: LimitShape,
}

words! {
    /// Whether a duration is divided by `speed`.
    Scaled {
        /// It is not.
        #[default]
        Unscaled,
        /// It is.
        Scaled,
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            submits_per_minute: 0,
            window_ms: 60_000,
            concurrent: 0,
            over_concurrent: OverConcurrent::Reject,
            polls_per_second: 0,
            min_poll_interval_ms: 900,
            min_poll_interval: Scaled::Unscaled,
            retry_after: RetryAfter::Absent,
            shape: LimitShape::A,
        }
    }
}

words! {
    /// When a prediction is paid.
    Charge {
        /// When it has completed.
        #[default]
        Completion,
        /// When it is accepted.
        Submit,
    }
}

words! {
    /// Whether failed predictions are paid, with `charge = "completion"`.
    ChargeFailed {
        /// They are not.
        #[default]
        No,
        /// They are.
        Yes,
    }
}

/// `[balance]`: money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Balance {
    /// What the account holds at the start; at zero or below, submits are refused.
    pub usd: f64,
    /// When a prediction is paid.
    pub charge: Charge,
    /// Whether failures are.
    pub charge_failed: ChargeFailed,
    /// Price of one picture of a model without token prices.
    pub plus_picture_usd: f64,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            usd: 100_000.0,
            charge: Charge::Completion,
            charge_failed: ChargeFailed::No,
            plus_picture_usd: 0.03,
        }
    }
}

words! {
    /// What `enable_sync_mode: true` does.
    SyncMode {
        /// The answer waits for the end.
        #[default]
        Hold,
        /// Nothing.
        Ignore,
        /// The answer waits, then says `processing` with `code: 5004`.
        GiveUp,
        /// The answer waits, then the edge cuts it with a 524 page.
        EdgeCut,
    }
}

/// `[sync]`: what `enable_sync_mode` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// The behaviour.
    pub mode: SyncMode,
    /// Patience of `give_up`, divided by `speed`.
    pub give_up_s: u64,
    /// Patience of `edge_cut`, divided by `speed`.
    pub edge_cut_s: u64,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            mode: SyncMode::Hold,
            give_up_s: 90,
            edge_cut_s: 100,
        }
    }
}

/// `[faults]`: standing faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// What happens to submits.
    pub submit: Fault,
    /// To this share of them.
    pub submit_share: f64,
    /// What happens to polls.
    pub poll: Fault,
    /// To this share of them.
    pub poll_share: f64,
    /// What happens to downloads.
    pub download: Fault,
    /// To this share of them.
    pub download_share: f64,
    /// The pause of the faults `delay` and `slow_body`, not scaled by `speed`.
    pub delay_ms: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            submit: Fault::None,
            submit_share: 1.0,
            poll: Fault::None,
            poll_share: 1.0,
            download: Fault::None,
            download_share: 1.0,
            delay_ms: 30_000,
        }
    }
}

/// `[extras]`: the small routes beside the predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extras {
    /// Status of `GET /v1/models` for a valid key.
    pub models_status: u16,
    /// Status of `GET /api/v3/user/me` for a valid key.
    pub user_me_status: u16,
}

impl Default for Extras {
    fn default() -> Self {
        Self {
            models_status: 200,
            user_me_status: 404,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_names_every_key_and_holds_the_defaults() {
        assert_eq!(Scenario::from_toml(EXAMPLE).unwrap(), Scenario::default());
        let shown: toml::Table = EXAMPLE.parse().unwrap();
        let known = toml::Table::try_from(Scenario::default()).unwrap();
        for (section, value) in known {
            match value {
                toml::Value::Table(keys) => {
                    for key in keys.keys() {
                        assert!(shown[&section].get(key).is_some(), "{section}.{key} is not shown");
                    }
                }
                _ => assert!(shown.contains_key(&section), "{section} is not shown"),
            }
        }
    }

    #[test]
    fn a_typo_names_itself() {
        let error = Scenario::from_toml("[limits]\nsubmits_per_minite = 5").unwrap_err();
        assert!(error.to_string().contains("submits_per_minite"));
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert!(Scenario::from_toml("speed = 0.0").is_err());
        assert!(Scenario::from_toml("[life]\nlow_ms = [5, 1]").is_err());
        assert!(Scenario::from_toml("[faults]\npoll_share = 2.0").is_err());
    }

    #[test]
    fn merging_replaces_only_what_is_named() {
        let merged = Scenario::default()
            .merged(serde_json::json!({"speed": 50, "limits": {"concurrent": 3}}))
            .unwrap();
        assert!((merged.speed - 50.0).abs() < f64::EPSILON);
        assert_eq!(merged.limits.concurrent, 3);
        assert_eq!(merged.limits.min_poll_interval_ms, 900);
        assert!(Scenario::default().merged(serde_json::json!({"spede": 1})).is_err());
    }
}

//! Answers of the prediction API to submits and polls.

use serde::{Deserialize, Serialize};

/// `[submit]`: the answer to a submit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Submit {
    /// The form of the answer.
    pub answer: SubmitAnswer,
    /// The form of ids.
    pub ids: IdForm,
    /// The form of the address for polls.
    pub poll_url: PollUrl,
    /// The first status word.
    pub status: String,
    /// Pause between creating the prediction and answering, in milliseconds, not scaled by `speed`.
    pub delay_ms: u64,
}

impl Default for Submit {
    fn default() -> Self {
        Self {
            answer: SubmitAnswer::Documented,
            ids: IdForm::Hex,
            poll_url: PollUrl::Absolute,
            status: "created".to_owned(),
            delay_ms: 0,
        }
    }
}

/// `[sync]`: what `enable_sync_mode` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// The behaviour.
    pub mode: SyncMode,
    /// Time limit of `give_up`, in seconds, divided by `speed`.
    pub give_up_s: u64,
    /// Time limit of `edge_cut`, in seconds, divided by `speed`.
    pub edge_cut_s: u64,
}

impl Default for Sync {
    fn default() -> Self {
        Self { mode: SyncMode::Hold, give_up_s: 90, edge_cut_s: 100 }
    }
}

/// `[result]`: the answer to a poll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Results {
    /// The form of the outputs.
    pub outputs: Outputs,
    /// The key that holds them.
    pub outputs_place: OutputsPlace,
    /// Number of pictures left out of each answer.
    pub missing_outputs: u32,
    /// Number of completed answers with empty outputs before the pictures appear.
    pub empty_polls: u32,
    /// Where usage is reported.
    pub usage: UsagePlace,
    /// How usage reports the input pictures.
    pub usage_details: UsageDetails,
    /// The key of the status word.
    pub status_key: StatusKey,
    /// The error value without an error.
    pub no_error: NoError,
    /// The error value of a failure.
    pub failure_error: FailureError,
    /// The answer that reports a failure.
    pub failure_answer: FailureAnswer,
    /// The NSFW value.
    pub nsfw: Nsfw,
    /// The form of times.
    pub timestamps: Timestamps,
    /// The spelling of two-word keys.
    pub keys: KeyStyle,
    /// The status for an unknown id, or for an id bought with another key.
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
            usage_details: UsageDetails::Full,
            status_key: StatusKey::Status,
            no_error: NoError::Empty,
            failure_error: FailureError::String,
            failure_answer: FailureAnswer::Documented,
            nsfw: Nsfw::Empty,
            timestamps: Timestamps::Rfc3339,
            keys: KeyStyle::Snake,
            unknown_id_status: 404,
        }
    }
}

choices! {
    /// The form of an accepted submit's answer.
    SubmitAnswer {
        /// The documented envelope, `urls` an object.
        #[default]
        Documented,
        /// `urls` an array.
        UrlsArray,
        /// `data` an array of one prediction.
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
        /// HTTP 200 with `code: 429` beside the id of the prediction, which was created.
        #[serde(rename = "code429_with_id")]
        Code429WithId,
        /// HTTP 400, likewise.
        #[serde(rename = "status400_with_id")]
        Status400WithId,
        /// HTTP 500, likewise.
        #[serde(rename = "status500_with_id")]
        Status500WithId,
    }
}

choices! {
    /// The form of ids.
    IdForm {
        /// 32 hexadecimal digits.
        #[default]
        Hex,
        /// A UUID with hyphens.
        Uuid,
        /// A JSON number.
        Numeric,
        /// As `hex`, under the key `taskId`.
        TaskId,
        /// `..`, which is no plain path segment.
        Dots,
        /// As `hex`; every second prediction has the id of the one before.
        Repeat,
    }
}

choices! {
    /// The form of the address for polls.
    PollUrl {
        /// With scheme and host.
        #[default]
        Absolute,
        /// A path.
        Relative,
        /// No such key.
        Absent,
    }
}

choices! {
    /// What `enable_sync_mode: true` does.
    SyncMode {
        /// The answer waits until the prediction has ended.
        #[default]
        Hold,
        /// Nothing.
        Ignore,
        /// The answer waits, then says `processing` with `code: 5004`.
        GiveUp,
        /// The answer waits, then the edge cuts the call with a 524 page.
        EdgeCut,
    }
}

choices! {
    /// The form of the entries of `outputs`.
    Outputs {
        /// The requested `response_format`: URLs, or bare base64.
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
        /// `{"uri"}`
        ObjectUri,
        /// `{"b64_json"}`
        ObjectB64,
        /// `{"b64Json"}`
        ObjectB64Camel,
        /// URL, base64, data URI and object in turn.
        Mixed,
    }
}

choices! {
    /// The key of `data` that holds the pictures.
    OutputsPlace {
        /// `outputs`, an array.
        #[default]
        Outputs,
        /// `output`, an array.
        Output,
        /// `result`, an array.
        Result,
        /// `images`, an array of objects.
        Images,
        /// `image_url`, one string.
        ImageUrl,
        /// `url`, one string.
        Url,
    }
}

choices! {
    /// Where usage is reported.
    UsagePlace {
        /// `data.usage`
        #[default]
        Data,
        /// `data.extra_params.usage`
        ExtraParams,
        /// Not reported.
        Absent,
    }
}

choices! {
    /// How usage reports the input pictures.
    UsageDetails {
        /// `input_tokens_details` with text and picture tokens.
        #[default]
        Full,
        /// No `input_tokens_details`.
        Absent,
        /// The pictures are not counted: no picture tokens in details and sums.
        NoPictures,
    }
}

choices! {
    /// The key of the status word.
    StatusKey {
        /// `status`
        #[default]
        Status,
        /// `state`
        State,
    }
}

choices! {
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

choices! {
    /// Where the error text of a failed prediction is.
    FailureError {
        /// `data.error`, a string.
        #[default]
        String,
        /// `data.error`, `{message, code}`.
        Object,
        /// The envelope's `message`.
        Message,
        /// `data.fail_reason`
        FailReason,
        /// `data.error_message`
        ErrorMessage,
        /// `data.reason`
        Reason,
    }
}

choices! {
    /// The answer that reports a failure to a poll.
    FailureAnswer {
        /// HTTP 200, and a code of success in the envelope.
        #[default]
        Documented,
        /// HTTP 400, the envelope with `code: 400`.
        #[serde(rename = "status_400")]
        Status400,
        /// HTTP 400, an error with the text alone.
        #[serde(rename = "status_400_bare")]
        Status400Bare,
        /// HTTP 200, the envelope with `code: 400`.
        #[serde(rename = "code_400")]
        Code400,
        /// HTTP 200, `code: 400` with the text alone.
        #[serde(rename = "code_400_bare")]
        Code400Bare,
    }
}

choices! {
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

choices! {
    /// The form of times in results.
    Timestamps {
        /// RFC 3339 with a varying number of fraction digits.
        #[default]
        Rfc3339,
        /// `YYYY-MM-DD HH:MM:SS`
        Zoneless,
    }
}

choices! {
    /// The spelling of the two-word keys in results.
    KeyStyle {
        /// `has_nsfw_contents`, `created_at`
        #[default]
        Snake,
        /// `hasNsfwContents`, `createdAt`
        Camel,
    }
}

impl StatusKey {
    /// Returns the key.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::State => "state",
        }
    }
}

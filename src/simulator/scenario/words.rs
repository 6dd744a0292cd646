//! The words that a scenario may use, in the order of the example.

use serde::{Deserialize, Serialize};

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
        /// `failed`, with the text about an input that cannot be fetched.
        FailedLink,
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

words! {
    /// How submits are counted against their limit.
    SubmitCounting {
        /// Those of the last window, at any moment.
        #[default]
        Sliding,
        /// Those since the last multiple of the window, after which all are allowed again.
        Fixed,
        /// A token bucket that fills evenly.
        Bucket,
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

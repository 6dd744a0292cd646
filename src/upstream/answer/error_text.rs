//! The text of an error, and what it speaks of ("Upstream facts" in `src/README.md`).
//!
//! The status alone does not decide: rejected content is documented as "503" and arrives as 400; 429 also means that a
//! model has no channel or is overloaded; 403 is a key, a balance or a model. Each class has words in English and in
//! Chinese, as relays send them, and some words count in one sense only: a "quota per minute" is a rate and no balance.

use reqwest::StatusCode;
use serde_json::Value;

use super::json;
use crate::model::Failure;
use crate::upstream::formats::FormatRefusal;

/// The longest text of the upstream that is kept, in characters. What of it a client sees is for `api` to decide.
const TEXT_CHARS_MAX: usize = 1000;

/// An error in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::upstream) struct ErrorText {
    pub(in crate::upstream) message: String,
    /// The status in the body.
    pub(in crate::upstream) code: Option<StatusCode>,
    /// The parameter that the body names as the cause.
    param: Option<String>,
    /// It is called an error, so it is one whatever the status of the answer.
    pub(in crate::upstream) is_explicit: bool,
    /// The code of the envelope is that of a success, so it is none whatever the status of the answer.
    pub(in crate::upstream) is_success: bool,
    /// All of its texts, in small letters, without the addresses in them.
    words: String,
}

impl ErrorText {
    /// Reads the error of a parsed body; `None` where there is neither a text nor an error code.
    pub(in crate::upstream) fn in_body(body: &Value) -> Option<Self> {
        let code = code_in(body);
        let is_explicit =
            code.is_some() || ["/error", "/data/error"].iter().any(|at| body.pointer(at).is_some_and(is_some));
        let envelope = number_in(body, "/code");
        let is_success = !is_explicit && envelope.is_some_and(|code| (200..300).contains(&code));
        let mut texts = texts_in(body);
        let message = texts.next();
        if message.is_none() && !is_explicit {
            return None;
        }
        let texts = message.into_iter().chain(texts).map(bounded).map(|text| without_addresses(&text));
        let words: String = texts.chain(names_in(body).map(bounded)).map(|text| text + "\n").collect();
        let param = ["/error/param", "/param"].iter().find_map(|at| body.pointer(at)?.as_str());
        Some(Self {
            message: message.map_or_else(|| "an error without a message".to_owned(), bounded),
            code,
            param: param.map(str::to_lowercase),
            is_explicit,
            is_success,
            words: words.to_lowercase(),
        })
    }

    /// Whether it is about the content of the request.
    pub(in crate::upstream) fn is_policy(&self) -> bool {
        is_policy(&self.words)
    }

    /// Whether no channel serves the model.
    pub(in crate::upstream) fn is_channel(&self) -> bool {
        const WORDS: &[&str] = &[
            "no channel",
            "channel configuration",
            "no available channel",
            "channel unavailable",
            "channel is unavailable",
            "无可用渠道",
            "無可用渠道",
            "没有可用渠道",
            "没有可用的渠道",
        ];
        // The word for a load is also the one for a payload.
        let load = self.has(&["负载", "負載"]) && !self.has(&["过大", "過大", "有效负载", "有效負載"]);
        load || self.has(WORDS)
    }

    /// Whether the model has too much to do, for all accounts.
    pub(in crate::upstream) fn is_load(&self) -> bool {
        self.has(&["overloaded", "capacity", "high demand"]) && !self.has(&["rate limit", "your account", "per minute"])
    }

    /// Whether the money of the account is used up.
    pub(in crate::upstream) fn is_balance(&self) -> bool {
        const WORDS: &[&str] = &[
            "insufficient fund",
            "insufficient credit",
            "insufficient_credit",
            "not enough credit",
            "no credit",
            "out of credit",
            "credit balance",
            "credit limit",
            "credits",
            "billing",
            "余额",
            "餘額",
            "额度",
            "額度",
            "欠费",
            "欠費",
        ];
        let balance = self.words.replace("load balanc", "").replace("white balance", "").replace("color balance", "");
        let quota = self.has(&["quota"]);
        !self.is_rate() && (balance.contains("balance") || quota || self.has(WORDS))
    }

    /// Whether too many or too fast requests are the cause.
    pub(in crate::upstream) fn is_rate(&self) -> bool {
        const WORDS: &[&str] = &[
            "too many requests",
            "rate limit",
            "rate_limit",
            "per minute",
            "per second",
            "per day",
            "concurren",
            "请求过于频繁",
            "請求過於頻繁",
            "频率",
            "頻率",
            "每分钟",
            "每分鐘",
        ];
        self.has(WORDS)
    }

    /// Whether it is about the key.
    pub(in crate::upstream) fn is_key(&self) -> bool {
        const WORDS: &[&str] = &[
            "api key",
            "api_key",
            "apikey",
            "invalid key",
            "your key",
            "the key",
            "this key",
            "access key",
            "secret key",
            "signature",
            "unauthorized",
            "authenticat",
            "credential",
            "令牌",
            "密钥",
            "密鑰",
        ];
        // Tokens are also what prompts are counted in.
        let counted = self.has(&["max_tokens", "input tokens", "output tokens", "prompt tokens", "tokens per"]);
        let token = self.has(&["token"]) && !counted;
        let account =
            self.has(&["account", "user", "账户", "用户"]) && self.has(&["banned", "suspended", "disabled", "封禁"]);
        token || account || self.has(WORDS)
    }

    /// Whether the account may not use this model, for all that the key is good for others.
    pub(in crate::upstream) fn is_model_permission(&self) -> bool {
        self.has(&["model", "模型", "resource"])
            && self.has(&["permission", "access", "not allowed", "not enabled", "无权", "無權", "权限", "權限"])
    }

    /// Returns what of the request it names; a parameter only if it is in `sent`.
    pub(in crate::upstream) fn named<'a>(&self, sent: impl Iterator<Item = &'a str>) -> Option<FormatRefusal> {
        const REFUSED: &[&str] = &[
            "unknown",
            "unexpected",
            "unsupported",
            "unrecognized",
            "unrecognised",
            "not support",
            "not allowed",
            "not permitted",
            "invalid parameter",
            "extra field",
            "extra input",
            "additional propert",
            "不支持",
            "未知",
        ];
        const WRONG: &[&str] = &[
            "required",
            "missing",
            "invalid",
            "wrong",
            "must provide",
            "must be provided",
            "not provided",
            "no image",
            "cannot be empty",
            "不能为空",
            "缺少",
            "无效",
        ];
        let is_refused = self.has(REFUSED);
        let about_picture = self.has(&["image", "picture", "input_references", "图片", "图像"]);
        let path =
            ["invalid url (", "unknown url", "unknown request url", "no route", "route not found", "cannot post"];
        if self.has(&path) {
            return Some(FormatRefusal::Path);
        }
        let size = self.names("size") && (is_refused || self.has(&["invalid", "must be", "one of"]));
        let of_file = self.has(&["file size", "bytes", " mb", "megabyte"]);
        if size && !of_file {
            return Some(FormatRefusal::Size);
        }
        if is_refused && let Some(field) = sent.into_iter().find(|field| self.names(field)) {
            return Some(FormatRefusal::Field(field.to_owned()));
        }
        let picture_field = ["image", "images", "base64_images", "mask", "input_references"];
        let refused_field = is_refused && picture_field.iter().any(|field| self.names(field));
        let unreadable =
            self.has(&["base64", "data uri", "data url"]) || self.has(&["parse url", "url parse", "parse the url"]);
        let wrong_picture = about_picture && self.has(WRONG) && !of_file;
        (refused_field || unreadable || wrong_picture).then_some(FormatRefusal::Inputs)
    }

    /// Whether it names a parameter, as a word of its own. The name of one letter must be quoted.
    fn names(&self, field: &str) -> bool {
        let of_name = |c: char| c.is_alphanumeric() || c == '_';
        let is_quote = |c: char| matches!(c, '\'' | '"' | '`' | '‘' | '’' | '“' | '”');
        self.param.as_deref() == Some(field)
            || self.words.match_indices(field).any(|(at, found)| {
                let (before, after) =
                    (self.words[..at].chars().next_back(), self.words[at + found.len()..].chars().next());
                let is_word = !before.is_some_and(of_name) && !after.is_some_and(of_name);
                is_word && (field.len() > 1 || (before.is_some_and(is_quote) && after.is_some_and(is_quote)))
            })
    }

    fn has(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.words.contains(word))
    }
}

/// Returns whether the reason of a failed task is the way in which its input pictures were sent.
pub(in crate::upstream) fn blames_inputs(reason: &str) -> bool {
    let error = ErrorText::in_body(&serde_json::json!({ "message": reason }));
    error.is_some_and(|error| error.named(std::iter::empty()) == Some(FormatRefusal::Inputs))
}

/// Returns whether the reason of a failed task is that a picture could not be fetched from its address, or that the address
/// is none.
pub(in crate::upstream) fn blames_address(reason: &str) -> bool {
    const FETCHING: &[&str] = &[
        "download",
        "fetch",
        "retrieve",
        "accessible",
        "to access",
        "not access",
        "reachable",
        "not reach",
        "resolve",
        "not load the image",
        "load image from",
        "not found",
        "timed out",
        "timeout",
        "下载",
        "下載",
        "获取",
        "访问",
    ];
    const ADDRESS: &[&str] = &["image", "picture", "url", "link", "图片", "圖片", "图像", "链接"];
    const OTHER: &[&str] = &["result", "output", "generated", "model", "channel"];
    let Some(error) = ErrorText::in_body(&serde_json::json!({ "message": reason })) else { return false };
    let fetching = error.has(FETCHING) && error.has(ADDRESS) && !error.has(OTHER);
    !error.is_policy() && (fetching || error.named(std::iter::empty()) == Some(FormatRefusal::Inputs))
}

/// Classifies a task that failed after it was accepted. Whether failed tasks are billed is not documented.
pub(in crate::upstream) fn task_failure(message: String) -> Failure {
    if is_policy(&message.to_lowercase()) {
        Failure::Moderated { message, bought: true }
    } else {
        Failure::TaskFailed { message }
    }
}

/// Returns the text of an error body, in any of the documented and observed forms; `None` for anything but JSON.
pub(in crate::upstream) fn message_of(body: &[u8]) -> Option<String> {
    message_in(&json::parse(body)?)
}

/// Returns the text of an error in a parsed body or a part of one.
pub(in crate::upstream) fn message_in(value: &Value) -> Option<String> {
    texts_in(value).next().map(bounded)
}

/// Bounds a text of the upstream, and replaces its control characters, which would break lines of the log.
pub(in crate::upstream) fn bounded(text: &str) -> String {
    bounded_to(TEXT_CHARS_MAX, text)
}

/// Does the same with another bound, in characters.
pub(in crate::upstream) fn bounded_to(chars_max: usize, text: &str) -> String {
    without_keys(text).chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max).collect()
}

/// Removes keys from a text: a service may quote the one that it refuses.
fn without_keys(text: &str) -> String {
    const PREFIX: &str = "sk-";
    const KEY_CHARS_MIN: usize = 8;
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(PREFIX) {
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).unwrap_or(after.len());
        kept.push_str(before);
        kept.push_str(PREFIX);
        kept.push_str(if end >= KEY_CHARS_MIN { "…" } else { &after[..end] });
        rest = &after[end..];
    }
    kept + rest
}

/// Removes addresses from a text: many services quote the one of a picture, and its words are those of a client. Of a data
/// URI, that it is one remains.
fn without_addresses(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '‘' | '’' | '“' | '”');
    let words = text.split_inclusive(is_end).map(|word| {
        let lower = word.to_ascii_lowercase();
        let starts = [("http://", " "), ("https://", " "), ("data:", "data uri ")];
        let found = starts.iter().filter_map(|&(start, name)| Some((lower.find(start)?, name))).min();
        found.map_or_else(|| word.to_owned(), |(at, name)| format!("{} {name}", &word[..at]))
    });
    words.collect()
}

/// Returns the texts of an error, the most telling one first.
fn texts_in(value: &Value) -> impl Iterator<Item = &str> {
    const PLACES: &[&str] = &[
        "/error/message",
        "/error/msg",
        "/error",
        "/data/error/message",
        "/data/error",
        "/message",
        "/msg",
        "/detail",
        "/detail/0/msg",
        "/errors/0/message",
        "/error_message",
        "/fail_reason",
        "/reason",
        "/error_description",
        "/data/error_message",
        "/data/fail_reason",
        "/data/reason",
    ];
    let texts = PLACES.iter().filter_map(|place| value.pointer(place)?.as_str());
    texts.map(str::trim).filter(|text| !text.is_empty())
}

/// Returns the names that an error has for programs.
fn names_in(value: &Value) -> impl Iterator<Item = &str> {
    const PLACES: &[&str] = &["/error/type", "/error/code", "/type", "/code"];
    PLACES.iter().filter_map(|place| value.pointer(place)?.as_str())
}

/// Returns the status in a body where it is not a success.
fn code_in(body: &Value) -> Option<StatusCode> {
    let status = |code: u64| u16::try_from(code).ok().filter(|code| (400..600).contains(code));
    let status = |code: u64| status(code).and_then(|code| StatusCode::from_u16(code).ok());
    // Any code of an envelope but a success is an error, also one that is no status.
    let envelope = number_in(body, "/code").filter(|code| !(200..300).contains(code) && *code != 0);
    let envelope = envelope.map(|code| status(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    let places = ["/error/code", "/error/type", "/error/status", "/status_code", "/statusCode", "/status"];
    envelope.or_else(|| places.iter().find_map(|place| status(number_in(body, place)?)))
}

/// Returns the number at a place of a body, which may be a text.
fn number_in(body: &Value, place: &str) -> Option<u64> {
    let number = body.pointer(place)?;
    number.as_u64().or_else(|| number.as_str()?.trim().parse().ok())
}

/// Whether a field holds something; a zero is the number of no error.
fn is_some(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(is_some),
    }
}

/// Whether a text of small letters is about the content of a request.
fn is_policy(words: &str) -> bool {
    const WORDS: &[&str] = &[
        "guideline",
        "safety system",
        "content policy",
        "content_policy",
        "policy violation",
        "usage policies",
        "sensitive content",
        "moderation_blocked",
        "content moderation",
        "违规",
        "違規",
    ];
    // The name of a parameter too.
    let moderation = words.contains("moderation")
        && !["parameter", "field", "argument", "propert", "unknown", "unsupported", "unrecognized", "invalid value"]
            .iter()
            .any(|word| words.contains(word));
    // "Case-sensitive" has the same word.
    let sensitive = words.replace("大小写敏感", "").replace("大小寫敏感", "").contains("敏感");
    moderation || sensitive || WORDS.iter().any(|word| words.contains(word))
}

#[cfg(test)]
mod tests;

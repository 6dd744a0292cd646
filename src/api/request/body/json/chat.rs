//! Reads the body of a chat completion: which picture the conversation asks for, and how the answer is to look.
//!
//! The last message of the user is the prompt, and its pictures are the inputs of an edit. Where it has none, the last picture
//! of the conversation is the input: one that the user sent, or one that an answer showed. A conversation without pictures asks
//! for a new one. The other parameters have the names of the image API; `text_task.rs` has the rule for requests that ask
//! for text.

use struson::reader::{JsonReader, ValueType};

use super::{Parser, ReadError, StoredBody, read_with};
use crate::api::error::ApiError;
use crate::api::request::body::form::{FieldKind, Form, FormLimits, Scalar};
use crate::api::request::body::incoming::IncomingBody;
use crate::api::request::response_options::{CompletionOptions, PictureLocation, ResponseFormat};
use crate::config::BodyConfig;
use crate::storage::spool::Spool;
use messages::{Conversation, wrong_type};
use text_task::{TextHints, TextTask, text_task};

mod markdown;
mod messages;
mod pictures;
#[cfg(test)]
mod tests;
mod text_task;

/// A conversation as a request for pictures.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) form: Form,
    pub(crate) options: CompletionOptions,
    /// Parameters that cannot be honoured, with the reason as the end of a sentence.
    pub(crate) unsupported: Vec<(&'static str, &'static str)>,
}

/// Reads a body and the pictures that it asks to edit, once the spool has room for them.
///
/// # Errors
///
/// The first fault of the body or of a value in it, and [`ApiError::TextRequested`].
pub(crate) async fn read(
    incoming: IncomingBody,
    limits: &FormLimits,
    spool: &Spool,
    announced: Option<u64>,
    bodies: &BodyConfig,
) -> Result<ChatRequest, ApiError> {
    read_with(incoming, limits, spool, announced, bodies, select_and_read).await
}

/// Finds out which pictures are needed, and then reads them.
fn select_and_read(body: &mut StoredBody) -> Result<ChatRequest, ApiError> {
    let (form, reading) = body.parse(|parser| Reading::new(parser, None).read(parser))?;
    let needed = reading.conversation.needed_pictures();
    if needed.is_empty() && !reading.has_other_pictures {
        return reading.finish(form);
    }
    // What else is wrong is found before a picture is decoded.
    reading.finish(form)?;
    let max = body.limits().images_max();
    if needed.len() > max {
        return Err(ApiError::TooManyImages { max });
    }
    let (form, reading) = body.parse(|parser| Reading::new(parser, Some(needed)).read(parser))?;
    reading.finish(form)
}

/// A body that is being read.
#[derive(Debug)]
struct Reading {
    pass: Pass,
    conversation: Conversation,
    has_messages: bool,
    /// There are pictures beside the conversation.
    has_other_pictures: bool,
    hints: TextHints,
    has_tools: bool,
    tool_choice: ToolChoice,
    options: CompletionOptions,
    unsupported: Vec<(&'static str, &'static str)>,
}

/// What a reading does with the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Counting,
    Decoding,
}

/// What `tool_choice` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToolChoice {
    Optional,
    Required,
}

impl Reading {
    /// A reading that decodes these pictures; without them, one that only counts.
    fn new(parser: &Parser<'_>, wanted: Option<std::ops::Range<usize>>) -> Self {
        Self {
            pass: if wanted.is_some() { Pass::Decoding } else { Pass::Counting },
            conversation: Conversation::new(wanted.unwrap_or_default(), parser.limits.text_bytes_max),
            has_messages: false,
            has_other_pictures: false,
            hints: TextHints::default(),
            has_tools: false,
            tool_choice: ToolChoice::Optional,
            options: CompletionOptions::default(),
            unsupported: Vec::new(),
        }
    }

    fn read(mut self, parser: &mut Parser<'_>) -> Result<Self, ReadError> {
        parser.members(|parser, name| self.member(parser, name))?;
        Ok(self)
    }

    fn member(&mut self, parser: &mut Parser<'_>, name: &str) -> Result<(), ReadError> {
        if parser.json.peek()? == ValueType::Null {
            parser.json.next_null()?;
            return Ok(());
        }
        match name {
            "messages" => {
                if std::mem::replace(&mut self.has_messages, true) {
                    return Err(ApiError::DuplicateParameter { param: name.to_owned() }.into());
                }
                self.conversation.read(parser)
            }
            "prompt" => {
                self.unsupported(parser, "prompt", "has no place here: the last message of the user is the prompt")
            }
            "audio" => self.unsupported(parser, "audio", "is not supported: the models of this gateway make pictures"),
            "tools" | "functions" => {
                self.has_tools |= parser.skip_filled()?;
                Ok(())
            }
            "tool_choice" | "function_call" => self.tool_choice(parser),
            "response_format" => self.response_format(parser),
            "modalities" => self.modalities(parser),
            "stream_options" => self.stream_options(parser),
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                let tokens = parser.scalar(name)?;
                if let Scalar::Number(text) | Scalar::Text(text) = tokens
                    && let Ok(tokens) = text.parse::<u64>()
                {
                    self.hints.tokens_max = Some(self.hints.tokens_max.map_or(tokens, |known| known.min(tokens)));
                }
                parser.form.note_unknown(name);
                Ok(())
            }
            _ => match parser.limits.field_kind(name) {
                FieldKind::Image(_) | FieldKind::Mask if self.pass == Pass::Counting => {
                    self.has_other_pictures = true;
                    parser.json.skip_value()?;
                    Ok(())
                }
                FieldKind::Image(_)
                | FieldKind::Mask
                | FieldKind::Misplaced(_)
                | FieldKind::Scalar(_)
                | FieldKind::Members
                | FieldKind::Unknown => parser.member(name),
            },
        }
    }

    fn unsupported(
        &mut self,
        parser: &mut Parser<'_>,
        name: &'static str,
        problem: &'static str,
    ) -> Result<(), ReadError> {
        if parser.skip_filled()? {
            self.unsupported.push((name, problem));
        }
        Ok(())
    }

    fn tool_choice(&mut self, parser: &mut Parser<'_>) -> Result<(), ReadError> {
        self.tool_choice = match parser.scalar("tool_choice")? {
            Scalar::Text(text) => match text.as_str() {
                "required" | "any" => ToolChoice::Required,
                _ => ToolChoice::Optional,
            },
            Scalar::Object => ToolChoice::Required,
            Scalar::Number(_) | Scalar::Bool(_) | Scalar::Array => ToolChoice::Optional,
        };
        Ok(())
    }

    /// Reads OpenAI's object, which names a kind of text; or one of the words of the image API, which says how pictures travel.
    fn response_format(&mut self, parser: &mut Parser<'_>) -> Result<(), ReadError> {
        let mut kind = None;
        match parser.json.peek()? {
            ValueType::Object => {
                parser.json.begin_object()?;
                while parser.json.has_next()? {
                    match parser.name()?.as_str() {
                        "type" => kind = Some(parser.scalar("response_format.type")?),
                        _ => parser.json.skip_value()?,
                    }
                }
                parser.json.end_object()?;
            }
            ValueType::Array | ValueType::String | ValueType::Number | ValueType::Boolean | ValueType::Null => {
                kind = Some(parser.scalar("response_format")?);
            }
        }
        match kind {
            None => {}
            Some(Scalar::Text(text)) => match text.as_str() {
                "text" | "" => {}
                "json_object" | "json_schema" => self.hints.is_json = true,
                "url" => self.options.format = Some(ResponseFormat::Url),
                "b64_json" => self.options.format = Some(ResponseFormat::B64Json),
                _ => {
                    let (param, allowed) = ("response_format".to_owned(), ["url", "b64_json", "text"]);
                    let allowed = allowed.map(str::to_owned).into();
                    return Err(ApiError::InvalidValue { param, got: text, allowed }.into());
                }
            },
            Some(other) => return Err(wrong_type("response_format".to_owned(), "an object or a string", other.kind())),
        }
        Ok(())
    }

    fn modalities(&mut self, parser: &mut Parser<'_>) -> Result<(), ReadError> {
        if parser.json.peek()? != ValueType::Array {
            let got = parser.scalar("modalities")?.kind();
            return Err(wrong_type("modalities".to_owned(), "an array of strings", got));
        }
        let (mut has_any, mut has_image) = (false, false);
        parser.json.begin_array()?;
        while parser.json.has_next()? {
            has_any = true;
            match parser.scalar("modalities")? {
                Scalar::Text(text) if text.eq_ignore_ascii_case("image") => has_image = true,
                Scalar::Text(text) if text.eq_ignore_ascii_case("text") => {}
                Scalar::Text(text) if text.eq_ignore_ascii_case("audio") => {
                    let problem = "with 'audio' is not supported: the models of this gateway make pictures";
                    self.unsupported.push(("modalities", problem));
                    has_image = true;
                }
                Scalar::Text(got) => {
                    let (param, allowed) = ("modalities".to_owned(), ["image", "text"].map(str::to_owned).into());
                    return Err(ApiError::InvalidValue { param, got, allowed }.into());
                }
                other @ (Scalar::Number(_) | Scalar::Bool(_) | Scalar::Array | Scalar::Object) => {
                    return Err(wrong_type("modalities".to_owned(), "an array of strings", other.kind()));
                }
            }
        }
        parser.json.end_array()?;
        if has_image {
            self.options.location = PictureLocation::Images;
        } else {
            self.hints.is_text_only = has_any;
        }
        Ok(())
    }

    fn stream_options(&mut self, parser: &mut Parser<'_>) -> Result<(), ReadError> {
        if parser.json.peek()? != ValueType::Object {
            let got = parser.scalar("stream_options")?.kind();
            return Err(wrong_type("stream_options".to_owned(), "an object", got));
        }
        parser.json.begin_object()?;
        while parser.json.has_next()? {
            match parser.name()?.as_str() {
                "include_usage" => {
                    self.options.include_usage = parser.scalar("stream_options")? == Scalar::Bool(true);
                }
                _ => parser.json.skip_value()?,
            }
        }
        parser.json.end_object()?;
        Ok(())
    }

    /// Checks what was read as a whole, and completes the form.
    fn finish(mut self, mut form: Form) -> Result<ChatRequest, ApiError> {
        if !self.has_messages {
            return Err(ApiError::MissingMessages);
        }
        if self.has_tools {
            match self.tool_choice {
                ToolChoice::Required => self.hints.requires_call = true,
                // An offer: an answer without a call is a right one. Open WebUI offers its tools with every message.
                ToolChoice::Optional => form.note_unknown("tools"),
            }
        }
        let prompt = self.conversation.take_prompt()?;
        let system = self.conversation.system.lossy();
        if let Some(TextTask { param, asked }) = text_task(&self.hints, &system, &prompt) {
            return Err(ApiError::TextRequested { param, asked });
        }
        for role in self.conversation.ignored_roles {
            form.note_unknown(&format!("messages.{role}"));
        }
        form.images.extend(self.conversation.selection.pictures);
        form.scalars.insert("prompt".to_owned(), Scalar::Text(prompt));
        Ok(ChatRequest { form, options: self.options, unsupported: self.unsupported })
    }
}

//! Reads the messages of a conversation: the last message of the user is the prompt, and its pictures are the inputs.

use std::io::{self, BufReader};
use std::ops::Range;

use struson::reader::{JsonReader, ValueType};

use super::markdown::{MessageText, read_text};
use super::pictures::{PictureReader, PictureSelection, Position, ReadTextError};
use super::text_task::{CHECK, asks_for_text, begins_with_task};
use crate::api::error::ApiError;
use crate::api::request::body::form::{FieldKind, Scalar};
use crate::api::request::body::json::{Parser, ReadError};

/// How much of a text is read at a time, in bytes.
const TEXT_BUFFER_BYTES: usize = 8 * 1024;
/// Types of parts that hold no picture, and nothing that could be asked for.
const TEXT_TYPES: [&str; 7] =
    ["text", "input_text", "output_text", "refusal", "thinking", "redacted_thinking", "reasoning"];
/// Types of parts that hold a picture.
const PICTURE_TYPES: [&str; 3] = ["image_url", "input_image", "image"];
/// Members that describe a text or what a program did, and hold no picture of the conversation.
const DESCRIPTIONS: [&str; 5] = ["annotations", "citations", "function_call", "metadata", "tool_calls"];
/// Most members of a message whose pictures are named.
const MISPLACED_MAX: usize = 8;

/// What is known of a conversation after it was read.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) selection: PictureSelection,
    /// The number of messages.
    messages: usize,
    /// A system or developer message, or the prompt, asks for a text.
    pub(super) asks_for_text: bool,
    /// A system message is that of [`CHECK`].
    may_be_check: bool,
    prompt: Option<UserMessage>,
    /// The position of the last picture among all.
    last_picture: Option<usize>,
    /// Names of members that hold a picture behind that one, and are not read.
    misplaced: Vec<String>,
    /// Roles of messages that are not used.
    pub(super) ignored_roles: Vec<&'static str>,
    text_bytes_max: usize,
}

/// A message of the user.
#[derive(Debug)]
struct UserMessage {
    /// Its name in errors.
    name: String,
    text: MessageText,
    /// The positions of its pictures among all of the conversation.
    pictures: Range<usize>,
    /// Names of its members that hold a picture and are not read.
    misplaced: Vec<String>,
    /// What it holds and cannot be used.
    problem: Option<String>,
}

/// A message that is being read.
#[derive(Debug)]
struct Message {
    name: String,
    role: Option<String>,
    text: MessageText,
    misplaced: Vec<String>,
    problem: Option<String>,
}

impl Message {
    /// Looks for pictures in a member that is not known.
    fn search(&mut self, parser: &mut Parser<'_>, member: &str) -> Result<(), ReadError> {
        if DESCRIPTIONS.contains(&member) {
            parser.json.skip_value()?;
            return Ok(());
        }
        // In a conversation, what is attached is a picture.
        let is_attached = member.to_ascii_lowercase().contains("attachment");
        if parser.find_picture(if is_attached { "image" } else { member })? && self.misplaced.len() < MISPLACED_MAX {
            self.misplaced.push(format!("{}.{member}", self.name));
        }
        Ok(())
    }
}

impl Conversation {
    /// A conversation of which only these pictures are kept.
    pub(super) fn new(wanted: Range<usize>, text_bytes_max: usize) -> Self {
        Self {
            selection: PictureSelection::new(wanted),
            messages: 0,
            asks_for_text: false,
            may_be_check: false,
            prompt: None,
            last_picture: None,
            misplaced: Vec::new(),
            ignored_roles: Vec::new(),
            text_bytes_max,
        }
    }

    /// Returns the positions of the pictures that the request needs: those of the prompt, or else the last one.
    pub(super) fn needed_pictures(&self) -> Range<usize> {
        let own = self.prompt.as_ref().map(|prompt| prompt.pictures.clone()).filter(|own| !own.is_empty());
        own.or_else(|| self.last_picture.map(|at| at..at + 1)).unwrap_or_default()
    }

    /// Returns the names of members that hold a picture which the request needs, in places where none is read.
    pub(super) fn misplaced_pictures(&self) -> Vec<String> {
        let Some(UserMessage { misplaced, pictures, .. }) = &self.prompt else { return Vec::new() };
        let earlier = if pictures.is_empty() { &self.misplaced[..] } else { &[] };
        misplaced.iter().chain(earlier).cloned().collect()
    }

    /// Returns the prompt.
    ///
    /// # Errors
    ///
    /// [`ApiError::Unacceptable`] where there is none, or where its message holds what cannot be used.
    pub(super) fn take_prompt(&mut self) -> Result<String, ApiError> {
        let Some(UserMessage { name, text, problem, .. }) = self.prompt.take() else {
            return Err(unacceptable("there is no message with the role 'user'; its text is the prompt"));
        };
        if let Some(problem) = problem {
            return Err(unacceptable(problem));
        }
        self.asks_for_text |= begins_with_task(&text.last_part());
        let text = without_file_names(text.into_text(format!("{name}.content"))?);
        self.asks_for_text |= begins_with_task(&text) || self.may_be_check && text == CHECK[1];
        if text.trim().is_empty() {
            return Err(unacceptable(format!("{name}, the last one of the user, has no text; its text is the prompt")));
        }
        Ok(text)
    }

    /// Reads the array of messages.
    pub(super) fn read(&mut self, parser: &mut Parser<'_>) -> Result<(), ReadError> {
        if parser.json.peek()? != ValueType::Array {
            let got = parser.scalar("messages")?.kind();
            return Err(wrong_type("messages".to_owned(), "an array of messages", got));
        }
        parser.json.begin_array()?;
        while parser.json.has_next()? {
            self.message(parser)?;
        }
        parser.json.end_array()?;
        Ok(())
    }

    fn message(&mut self, parser: &mut Parser<'_>) -> Result<(), ReadError> {
        let name = format!("messages[{}]", self.messages);
        self.messages += 1;
        if parser.json.peek()? != ValueType::Object {
            let got = parser.scalar("messages")?.kind();
            return Err(wrong_type(name, "an object", got));
        }
        let first = self.selection.count();
        let text = MessageText::new(self.text_bytes_max);
        let mut message = Message { name, role: None, text, misplaced: Vec::new(), problem: None };
        parser.json.begin_object()?;
        while parser.json.has_next()? {
            let member = parser.name()?;
            match member.as_str() {
                "role" => message.role = text_of(parser.scalar("role")?),
                "content" => self.content(parser, &mut message)?,
                _ => self.other_member(parser, &mut message, &member)?,
            }
        }
        parser.json.end_object()?;
        self.end_message(message, first..self.selection.count())?;
        Ok(())
    }

    fn end_message(&mut self, message: Message, pictures: Range<usize>) -> Result<(), ApiError> {
        let Message { name, role, text, misplaced, problem } = message;
        if matches!(role.as_deref(), Some("user" | "assistant")) {
            if !pictures.is_empty() {
                self.last_picture = pictures.clone().last();
                self.misplaced.clear();
            }
            if !misplaced.is_empty() {
                self.misplaced.clone_from(&misplaced);
            }
        }
        let ignored = match role.as_deref() {
            Some("user") => {
                self.prompt = Some(UserMessage { name, text, pictures, misplaced, problem });
                return Ok(());
            }
            Some("assistant") => return Ok(()),
            Some("system" | "developer") => {
                self.asks_for_text |= asks_for_text(&text.lossy());
                self.may_be_check |= text.lossy() == CHECK[0];
                "system"
            }
            Some("tool" | "function") => "tool",
            Some(other) => {
                let allowed = ["user", "assistant", "system", "developer", "tool"].map(str::to_owned).into();
                return Err(ApiError::InvalidValue { param: format!("{name}.role"), got: other.to_owned(), allowed });
            }
            None => return Err(unacceptable(format!("{name} has no 'role'"))),
        };
        if !self.ignored_roles.contains(&ignored) {
            self.ignored_roles.push(ignored);
        }
        Ok(())
    }

    fn content(&mut self, parser: &mut Parser<'_>, message: &mut Message) -> Result<(), ReadError> {
        match parser.json.peek()? {
            ValueType::Null => parser.json.next_null()?,
            ValueType::String => self.text(parser, message)?,
            ValueType::Array => {
                parser.json.begin_array()?;
                while parser.json.has_next()? {
                    match parser.json.peek()? {
                        ValueType::String => self.text(parser, message)?,
                        ValueType::Object => self.part(parser, message)?,
                        ValueType::Null => parser.json.next_null()?,
                        ValueType::Array | ValueType::Number | ValueType::Boolean => {
                            let got = parser.scalar("messages")?.kind();
                            return Err(wrong_type(format!("{}.content", message.name), "an array of parts", got));
                        }
                    }
                }
                parser.json.end_array()?;
            }
            ValueType::Object => self.part(parser, message)?,
            ValueType::Number | ValueType::Boolean => {
                let got = parser.scalar("messages")?.kind();
                return Err(wrong_type(format!("{}.content", message.name), "a string or an array of parts", got));
            }
        }
        Ok(())
    }

    /// Reads one part of a content.
    fn part(&mut self, parser: &mut Parser<'_>, message: &mut Message) -> Result<(), ReadError> {
        let (mut kind, mut unusable, mut has_text) = (None, None, false);
        let (first, misplaced) = (self.selection.count(), message.misplaced.len());
        parser.json.begin_object()?;
        while parser.json.has_next()? {
            let member = parser.name()?;
            if parser.json.peek()? == ValueType::Null {
                parser.json.next_null()?;
                has_text |= member == "text";
                continue;
            }
            match member.as_str() {
                "type" => kind = text_of(parser.scalar("type")?),
                "text" if parser.json.peek()? == ValueType::String => {
                    has_text = true;
                    self.text(parser, message)?;
                }
                "file" | "file_id" | "file_data" | "input_audio" | "audio" | "video_url" | "source" | "document" => {
                    message.search(parser, &member)?;
                    unusable = Some(member);
                }
                _ => self.other_member(parser, message, &member)?,
            }
        }
        parser.json.end_object()?;
        let has_picture = self.selection.count() > first;
        let is_named = message.misplaced.len() > misplaced;
        let is_used = has_text || has_picture || is_named;
        let problem = match (kind.as_deref(), unusable) {
            (_, Some(member)) => Some(format!("holds '{member}', which is not supported")),
            (Some(kind), None) if PICTURE_TYPES.contains(&kind) => {
                (!has_picture && !is_named).then(|| format!("has a part of the type '{kind}' without a picture"))
            }
            (Some(kind), None) if !TEXT_TYPES.contains(&kind) => {
                Some(format!("has a part of the type '{kind}', which is not supported"))
            }
            (Some(kind), None) => (!is_used).then(|| format!("has a part of the type '{kind}' without text")),
            (None, None) => (!is_used).then(|| "has a part without text or picture".to_owned()),
        };
        if let Some(problem) = problem {
            let name = &message.name;
            message.problem.get_or_insert(format!(
                "{name} {problem}; send text as 'text' and pictures as 'image_url', as a data URL or an http(s) address"
            ));
        }
        Ok(())
    }

    /// Reads a member of a message or part that is a picture by its name, or is not known.
    fn other_member(&mut self, parser: &mut Parser<'_>, message: &mut Message, member: &str) -> Result<(), ReadError> {
        match parser.limits.field_kind(member) {
            FieldKind::Image(_) => self.pictures(parser, message),
            FieldKind::Mask
            | FieldKind::Misplaced(_)
            | FieldKind::Scalar(_)
            | FieldKind::Members
            | FieldKind::Unknown => message.search(parser, member),
        }
    }

    /// Reads one picture or an array of them.
    fn pictures(&mut self, parser: &mut Parser<'_>, message: &mut Message) -> Result<(), ReadError> {
        if parser.json.peek()? != ValueType::Array {
            return self.picture(parser, message);
        }
        parser.json.begin_array()?;
        while parser.json.has_next()? {
            self.picture(parser, message)?;
        }
        parser.json.end_array()?;
        Ok(())
    }

    fn picture(&mut self, parser: &mut Parser<'_>, message: &Message) -> Result<(), ReadError> {
        if parser.json.peek()? == ValueType::Null {
            parser.json.next_null()?;
            return Ok(());
        }
        if self.selection.next() == Position::Passed {
            parser.json.skip_value()?;
            return Ok(());
        }
        let name = &message.name;
        let Some(picture) = parser.picture("messages", name, 0)? else {
            return Err(unacceptable(format!("a picture in {name} is an empty text")).into());
        };
        self.selection.pictures.push(picture);
        Ok(())
    }

    fn text(&mut self, parser: &mut Parser<'_>, message: &mut Message) -> Result<(), ReadError> {
        let Parser { json, meter, limits, upload, .. } = parser;
        message.text.begin_part();
        let mut source = BufReader::with_capacity(TEXT_BUFFER_BYTES, json.next_string_reader()?);
        let explain = |error: &io::Error| meter.explain_string(error);
        let selection = &mut self.selection;
        let mut pictures = PictureReader { selection, limits, upload, param: &message.name, explain: &explain };
        let read = read_text(&mut source, &mut message.text, &mut pictures);
        let rest = read.and_then(|()| io::copy(&mut source, &mut io::sink()).map_err(ReadTextError::Source));
        match rest {
            Ok(_) => Ok(()),
            Err(ReadTextError::Source(error)) => Err(meter.explain_string(&error).into()),
            Err(ReadTextError::Picture(error)) => Err(error.into()),
        }
    }
}

/// Removes the list of attached files that Open `WebUI` writes before a message, beside the pictures themselves.
fn without_file_names(text: String) -> String {
    let list = text.trim_start().strip_prefix("<attached_files>");
    match list.and_then(|list| list.split_once("</attached_files>")) {
        Some((_, message)) => message.trim_start().to_owned(),
        None => text,
    }
}

fn text_of(scalar: Scalar) -> Option<String> {
    match scalar {
        Scalar::Text(text) => Some(text),
        Scalar::Number(_) | Scalar::Bool(_) | Scalar::Array | Scalar::Object => None,
    }
}

pub(super) fn unacceptable(problem: impl Into<String>) -> ApiError {
    ApiError::Unacceptable { param: "messages", problem: problem.into().into() }
}

pub(super) fn wrong_type(param: String, expected: &'static str, got: &'static str) -> ReadError {
    ReadError::Api(ApiError::InvalidType { param, expected, got })
}

//! The rule by which a request is refused that asks for text.
//!
//! Chat programs send requests of their own to the model of a conversation: for its title, for tags, for follow-up questions, for
//! the rest of a sentence; and a test whether the model answers. Made into a picture, each would cost money that its user does
//! not know of. So they are recognised, by what they ask for or by the words in which the programs write them, and refused also
//! where the operator has unsupported parameters dropped.

/// What a request says of the answer that it wants.
#[derive(Debug, Default)]
pub(super) struct TextHints {
    /// `response_format` is JSON.
    pub(super) is_json: bool,
    /// There are tools, and `tool_choice` requires a call.
    pub(super) requires_call: bool,
    /// `modalities` without `image`.
    pub(super) is_text_only: bool,
    /// The smallest limit of the length of the answer, in tokens.
    pub(super) tokens_max: Option<u64>,
}

/// The parameter by which a request was recognised, and what it asks for, as the object of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextTask {
    pub(super) param: &'static str,
    pub(super) asked: &'static str,
}

/// An answer of fewer tokens is a test of the connection or a word: the smallest picture has more.
const PICTURE_TOKENS_MIN: u64 = 64;

/// The beginning of a prompt, and what must follow anywhere, in lower case.
const OPENINGS: [(&str, &[&str]); 15] = [
    // Open WebUI: titles, tags, follow-up questions, search queries, autocompletion.
    ("### task:", &["<chat_history>"]),
    ("### task:", &["### chat history:"]),
    ("### task:", &["### output", "json format"]),
    ("### task:", &["autocompletion system"]),
    // Open WebUI: an emoji for a spoken message, and the merger of several answers.
    ("your task is to reflect the speaker's likely facial expression", &["emoji"]),
    ("you have been provided with a set of responses from various models", &[]),
    // LibreChat.
    ("provide a concise, 5-word-or-less title for the conversation", &[]),
    ("please generate a concise, 5-word-or-less title for the conversation", &[]),
    ("analyze this conversation and provide:", &["title"]),
    // NextChat and its relatives.
    ("please generate a four to five word title summarizing our conversation", &[]),
    ("summarize the discussion briefly in 200 words or less", &[]),
    ("使用四到五个字直接返回这句话的简要主题", &[]),
    // Cherry Studio's translation, the page of llama.cpp, Chatbox.
    ("you are a translation expert. your only task is to translate", &[]),
    ("based on the following interaction, generate a short, concise title", &[]),
    ("based on the chat history, give this conversation a name", &[]),
];

/// The whole system message and the whole prompt with which Cherry Studio tests whether a model answers.
pub(super) const CHECK: [&str; 2] = ["test", "hi"];

/// Words of a system message that all occur where a program has a conversation named, in lower case.
const INSTRUCTIONS: [&[&str]; 13] = [
    &["conversation", "into a title"],
    &["title for the conversation"],
    &["title for this conversation"],
    &["title", "summariz", "conversation", "only"],
    &["title", "summaris", "conversation", "only"],
    &["generate", "title", "chat", "only"],
    &["title", "conversation", "words or less"],
    &["会话", "标题", "总结"],
    &["对话", "标题", "总结"],
    &["對話", "標題", "總結"],
    &["会話", "タイトル", "要約"],
    &["choose and return the correct tool"],
    &["question rephraser"],
];

/// How much of a text is read to find a request for a title, in characters.
const TITLE_CHARS: usize = 240;
/// The words with which a request for a title begins.
const TITLE_VERBS: [&str; 9] =
    ["generate", "create", "write", "give", "suggest", "provide", "make", "return", "produce"];
/// What may stand between the verb and the title, beside numbers.
const TITLE_ADJECTIVES: [&str; 28] = [
    "a",
    "an",
    "the",
    "me",
    "us",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "to",
    "or",
    "and",
    "very",
    "short",
    "concise",
    "brief",
    "descriptive",
    "succinct",
    "clear",
    "simple",
    "suitable",
    "single",
    "word",
    "words",
    "chat",
    "conversation",
];
/// What follows the title, if it is not an adjective itself (`title card`).
const TITLE_CONNECTIONS: [&str; 14] = [
    "for",
    "of",
    "in",
    "that",
    "which",
    "with",
    "using",
    "from",
    "based",
    "to",
    "summarizing",
    "summarising",
    "describing",
    "no",
];
/// The conversation that has the title.
const CONVERSATIONS: [&str; 20] = [
    "this conversation",
    "our conversation",
    "following conversation",
    "above conversation",
    "for the conversation",
    "of the conversation",
    "ing the conversation",
    "zes the conversation",
    "ses the conversation",
    "conversation title",
    "conversation so far",
    "chat title",
    "for this chat",
    "chat history",
    "following chat",
    "following message",
    "first message",
    "user's message",
    "this discussion",
    "following dialogue",
];

/// Returns what text a request asks for; `None` for a request for a picture. `in_messages` where a message asks for it.
pub(super) fn text_task(hints: &TextHints, in_messages: bool) -> Option<TextTask> {
    let found = |param, asked| Some(TextTask { param, asked });
    if hints.is_json {
        return found("response_format", "JSON");
    }
    if hints.requires_call {
        return found("tool_choice", "a call of a tool");
    }
    if hints.is_text_only {
        return found("modalities", "text alone");
    }
    if hints.tokens_max.is_some_and(|tokens| tokens < PICTURE_TOKENS_MIN) {
        return found("max_tokens", "a few words");
    }
    if in_messages {
        return found("messages", "a title, tags or another text about a conversation");
    }
    None
}

/// Whether a system message, or one of a developer, asks for a text.
pub(super) fn asks_for_text(message: &str) -> bool {
    let message = message.to_lowercase();
    begins_in_lower_case(&message) || INSTRUCTIONS.iter().any(|words| words.iter().all(|word| message.contains(word)))
}

/// Whether a prompt begins with a task of a program. Long prompts have the words of a task at their beginning, and the
/// conversation behind it.
pub(super) fn begins_with_task(prompt: &str) -> bool {
    begins_in_lower_case(&prompt.to_lowercase())
}

fn begins_in_lower_case(text: &str) -> bool {
    let text = text.trim_start();
    let opens = |&(opening, rest): &(&str, &[&str])| {
        text.strip_prefix(opening).is_some_and(|behind| rest.iter().all(|word| behind.contains(word)))
    };
    OPENINGS.iter().any(opens) || asks_for_title(text)
}

/// Whether a text in lower case begins with a request for the title of a conversation, in the words of any program: "generate
/// a concise 3-7 word title for this conversation".
fn asks_for_title(text: &str) -> bool {
    let text: String = text.chars().take(TITLE_CHARS).collect();
    let plain = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let mut words = text.split_whitespace().skip_while(|word| ["please", "now", "then"].contains(word));
    if !words.next().is_some_and(|verb| TITLE_VERBS.contains(&verb)) {
        return false;
    }
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) || word.ends_with("-word");
    let title = words.find(|word| {
        let word = plain(word);
        !TITLE_ADJECTIVES.contains(&word.as_str()) && !is_number(&word)
    });
    let is_title = title.is_some_and(|word| plain(word) == "title");
    let is_sentence = title.is_some_and(|word| word.ends_with(['.', ':', ',']))
        || words.next().is_some_and(|next| next.starts_with('(') || TITLE_CONNECTIONS.contains(&plain(next).as_str()));
    is_title && is_sentence && CONVERSATIONS.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(system: &str, prompt: &str) -> bool {
        asks_for_text(system) || begins_with_task(prompt)
    }

    #[test]
    fn background_tasks_of_chat_programs_are_recognised() {
        for prompt in [
            "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n### Chat History:\n\
             <chat_history>\nUSER: a cat\n</chat_history>",
            "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history.\n\n### Output:\n\
             JSON format: { \"tags\": [\"tag1\"] }\n\n### Chat History:\n<chat_history>\n</chat_history>",
            "### Task:\nSuggest 3-5 relevant follow-up questions\n### Output:\nJSON format: { \"follow_ups\": [] }",
            "### Task:\nYou are an autocompletion system. Continue the text in `<text>`",
            "### Task:\nAnalyze the chat history to determine the necessity of generating search queries\n<chat_history>\n",
            "\n### Task:\nGenerate a detailed prompt for am image generation task\n### Output:\nStrictly return in JSON format:",
            "Your task is to reflect the speaker's likely facial expression through a fitting emoji.",
            "You have been provided with a set of responses from various models to the latest user query: \"a cat\"",
            "Provide a concise, 5-word-or-less title for the conversation, using title case conventions.\n\nConversation:\n",
            "Please generate a concise, 5-word-or-less title for the conversation, using its same language.",
            "Analyze this conversation and provide:\n1. The detected language of the conversation\n2. A concise title",
            "Please generate a four to five word title summarizing our conversation without any lead-in, punctuation",
            "Based on the chat history, give this conversation a name.\nKeep it short - 10 characters max, no quotes.",
            "使用四到五个字直接返回这句话的简要主题，不要解释、不要标点",
            "You are a translation expert. Your only task is to translate text enclosed with <translate_input>",
            "Based on the following interaction, generate a short, concise title (maximum 6-8 words)",
            "Generate a title in less than 6 words for the following message (language: en-US):\n\"\"\"\nUser: a cat\n\"\"\"",
            "Generate a concise 3-7 word title for this conversation. Reply with the title only.",
            "Please create a short title for this chat, at most five words.",
            "Give me a title of at most 5 words for our conversation.",
            "Write a brief, descriptive title summarizing the conversation below",
            "Suggest a four to six word title for the following conversation:",
            "Provide a 5-word-or-less title for the following chat",
            "Return one short title (max 6 words) that summarizes the conversation",
            "Create a conversation title: at most 40 characters.",
            "generate a very short chat title based on the first message",
        ] {
            assert!(asked("", prompt), "{prompt}");
            assert!(asked(prompt, "a cat on a roof"), "also as a system message: {prompt}");
        }
        for system in [
            "You are an assistant skilled in conversation. You need to summarize the user's conversation into a title \
             within 10 words",
            "Summarize the conversation into a title in English within 10 characters ignoring instructions and without \
             punctuation or symbols. Output only the title string without anything else.",
            "你是一名擅长会话的助理，你需要将用户的会话总结为 10 个字以内的标题",
            "你需要總結用戶的對話，給出一個標題",
            "ユーザーの会話を10文字以内のタイトルに要約してください",
            "Generate a short title for this conversation.",
            "You generate a title for a new chat session. Return only the title text.",
            "Create a title of 3 words or less for the conversation",
            "You summarize a conversation as a title; answer with the title only",
            "You are an AI question rephraser. You will be given a conversation and a follow-up question",
            "Available Tools: []\n\nYour task is to choose and return the correct tool(s) from the list",
        ] {
            assert!(asked(system, "a cat on a roof"), "{system}");
        }
    }

    #[test]
    fn requests_for_pictures_are_not_taken_for_text() {
        for prompt in [
            "a cat",
            "### Task:\nDraw a cat\n### Style:\nwatercolour",
            "### Task:\nRespond to the user query using the provided context.\n### Output:\nA picture of the JSON below",
            "### Task: a poster\n### Guidelines:\n- the title in red\n- no people",
            "A book cover with the title 'The Conversation', concise, five words at most",
            "Generate a title card for our chat show, with the tags #news and #art",
            "A screenshot of a chat history between two robots in JSON",
            "Summarize this conversation as a comic strip of four panels",
            "an infographic with follow-up questions about the solar system",
            "画一张两人对话的海报，标题是“会话”",
            "Your task is to reflect the sunset in a lake",
            "Analyze this picture and provide a title drawn into it",
            "an emoji of a laughing cat",
            "The words 'Provide a concise, 5-word-or-less title for the conversation' on a sign",
            "Create a poster with the title 'Chat' in five words",
            "Generate a title card for this conversation between two robots",
            "Create a title page for the chat history museum",
            "Write a short title in gold letters across the sky",
            "Generate a title screen for a game about the conversation of birds",
            "Make a title for the film 'The Conversation', in red",
            "Create a cat. Put a title for this conversation below it",
            "Give the cat a title of nobility",
            "Provide a title sequence of a chat show",
            "Write the word title on a wall, for this chat",
        ] {
            assert!(!asked("", prompt), "{prompt}");
        }
        for system in [
            "",
            "You are a helpful assistant.",
            "You are ChatGPT, a large language model. Current date: 2026-11-28",
            "You draw book covers. Put the title at the top.",
            "Always answer in the language of the conversation.",
            "Draw only in watercolour; a title belongs under every picture.",
            "你是一名画家，标题写在图片上方",
            "You make posters for a chat show. Generate bold colours.",
            "Keep the style of the conversation so far.",
            "Summarize nothing; draw.",
        ] {
            assert!(!asked(system, "a cat on a roof"), "{system}");
        }
    }

    #[test]
    fn parameters_that_ask_for_text_are_recognised() {
        let task = |hints: TextHints| text_task(&hints, false).map(|task| task.param);
        let none = TextHints::default;
        assert_eq!(task(none()), None);
        assert_eq!(text_task(&none(), true).map(|task| task.param), Some("messages"));
        assert_eq!(task(TextHints { is_json: true, ..none() }), Some("response_format"));
        assert_eq!(task(TextHints { requires_call: true, ..none() }), Some("tool_choice"));
        assert_eq!(task(TextHints { is_text_only: true, ..none() }), Some("modalities"));
        for (tokens_max, param) in [(1, Some("max_tokens")), (63, Some("max_tokens")), (64, None), (4096, None)] {
            assert_eq!(task(TextHints { tokens_max: Some(tokens_max), ..none() }), param, "{tokens_max}");
        }
    }
}

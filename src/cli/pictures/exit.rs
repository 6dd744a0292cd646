//! Exit codes, and failures with what they mean for the money.

use serde_json::json;

use crate::cli::printer::{print, print_error};

/// How a command ended without saving all pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// Nothing was bought.
    NothingBought,
    /// It may have cost money.
    MaybeBought,
    /// Nothing was sent.
    Usage,
}

impl FailureKind {
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::NothingBought => 1,
            Self::MaybeBought => 2,
            Self::Usage => 64,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// One or two sentences.
    pub(super) message: String,
    /// The code of the server's error.
    pub(super) code: Option<String>,
    /// The parameter that the server's error names.
    pub(super) param: Option<String>,
    /// The id of the job.
    pub(super) job: Option<String>,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, param: None, job: None }
    }

    /// Makes a failure before anything was sent.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// Names the job that was concerned.
    pub(super) fn of_job(mut self, id: Option<&str>) -> Self {
        self.job = self.job.or_else(|| id.map(str::to_owned));
        self
    }

    pub(super) fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// Prints the failure: a line on standard error, or a JSON object on standard output.
    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            let object = json!({
                "error": {
                    "message": self.message,
                    "code": self.code,
                    "param": self.param,
                    "prediction": self.job,
                    "may_have_cost_money": self.kind == FailureKind::MaybeBought,
                },
                "exit_code": self.exit_code(),
            });
            print(format_args!("{object:#}\n"));
        } else {
            print_error(format_args!("gptproto-gateway: {}", printable(&self.message)));
        }
    }
}

/// Removes what could steer a terminal, or turn the order of what it shows, from a text of another program.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if is_steering(letter) { ' ' } else { letter }).collect()
}

fn is_steering(letter: char) -> bool {
    let turns =
        matches!(letter, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (letter.is_control() && letter != '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_server_cannot_steer_the_terminal() {
        assert_eq!(printable("red \u{1b}[31m\u{7} and\nnext\r"), "red  [31m  and\nnext ");
        assert_eq!(printable("gpj\u{202e}\u{2066}.png\u{200f}"), "gpj  .png ");
    }
}

//! Questions to a person, or to the lines of a pipe.

use std::io::{self, IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::cli::printer::{print, try_print};
use crate::config::Secret;

/// What Ctrl-C sends while signals are off.
const CTRL_C: u8 = 3;
/// A longer line is no answer.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Where answers come from.
#[derive(Debug)]
pub(super) struct Dialog {
    is_terminal: bool,
    /// No question is asked, and every answer is the default.
    is_silent: bool,
}

impl Dialog {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stdin().is_terminal(), is_silent: false }
    }

    pub(super) fn silent() -> Self {
        Self { is_terminal: false, is_silent: true }
    }

    /// Asks a question that is answered with yes or no.
    ///
    /// # Errors
    ///
    /// When standard input cannot be read.
    pub(super) fn confirm(&mut self, question: &str, default: bool) -> io::Result<bool> {
        if self.is_silent {
            return Ok(default);
        }
        loop {
            try_print(format_args!("{question} {} ", if default { "[Y/n]" } else { "[y/N]" }))?;
            let Some(answer) = line()? else {
                print("\n");
                return Ok(default);
            };
            match answer.trim().to_lowercase().as_str() {
                "" => return Ok(default),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => print("Please answer y or n.\n"),
            }
        }
    }

    /// Asks for a secret, which the terminal does not show. `None` at the end of the input.
    ///
    /// # Errors
    ///
    /// When standard input cannot be read, or after Ctrl-C.
    pub(super) fn secret(&mut self, question: &str) -> io::Result<Option<Secret>> {
        if self.is_silent {
            return Ok(None);
        }
        try_print(question)?;
        let hidden = if self.is_terminal { Some(HiddenInput::begin()?) } else { None };
        let line = line()?;
        drop(hidden);
        print("\n");
        if line.as_ref().is_some_and(|line| line.as_bytes().contains(&CTRL_C)) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped by Ctrl-C; nothing was written"));
        }
        Ok(line.map(|line| Secret::new(line.trim().to_owned())))
    }
}

/// Reads a line; `None` at the end of the input.
fn line() -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut input = io::stdin().lock();
    loop {
        let mut byte = [0];
        if input.read(&mut byte)? == 0 {
            break;
        }
        // Ctrl-C ends a line while it is hidden.
        bytes.push(byte[0]);
        if matches!(byte[0], b'\n' | CTRL_C) {
            break;
        }
        if bytes.len() as u64 > LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    String::from_utf8(bytes).map(Some).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// A terminal that does not show what is typed, until it is dropped. Ctrl-C ends the line in place of the process, which would
/// leave the terminal like this.
struct HiddenInput(Termios);

impl HiddenInput {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden.local_modes.insert(LocalModes::ICANON);
        hidden.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // Without a terminal there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

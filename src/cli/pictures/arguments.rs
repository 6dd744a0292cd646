//! Arguments of the terminal client.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::Secret;

const EXIT_CODES: &str = "\
Server and key: --url and --key; else OPENAI_BASE_URL and OPENAI_API_KEY; else the address of the configuration (by default \
http://127.0.0.1:8787/v1). A sandbox needs no key.

Exit codes: 0 saved; 1 failed, and nothing was bought; 2 failed or stopped, and it may have cost money, the message says more; \
64 wrong arguments, nothing was sent.";

const FORMAT_HELP: &str = "Encoding of the file [default: by the ending of --output, else png]";
const KEY_HELP: &str =
    "Client key; others on this machine can see arguments, so prefer the environment [env: OPENAI_API_KEY]";

/// Arguments of `edit`.
#[derive(Args, Debug)]
#[command(
    override_usage = "gptproto-gateway edit [OPTIONS] <FILE>... <PROMPT>",
    after_help = EXIT_CODES
)]
pub struct EditArguments {
    /// The pictures, and last the prompt in quotes; `-` reads the prompt from standard input
    #[arg(required = true, num_args = 1.., value_name = "FILE... PROMPT")]
    pub(super) words: Vec<OsString>,
    /// A PNG of the first picture's size; only where it is transparent the picture is edited
    #[arg(long, value_name = "FILE")]
    pub(super) mask: Option<PathBuf>,
    #[command(flatten)]
    pub(super) request: RequestArguments,
    #[command(flatten)]
    pub(super) result: ResultArguments,
    #[command(flatten)]
    pub(super) server: ServerArguments,
}

/// Arguments of `generate`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct GenerateArguments {
    /// What the picture shows; `-` reads it from standard input
    #[arg(value_name = "PROMPT")]
    pub(super) prompt: OsString,
    #[command(flatten)]
    pub(super) request: RequestArguments,
    #[command(flatten)]
    pub(super) result: ResultArguments,
    #[command(flatten)]
    pub(super) server: ServerArguments,
}

/// Arguments of `fetch`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct FetchArguments {
    /// Id of the job (pred_…), as `edit` shows it
    #[arg(value_name = "ID")]
    pub(super) id: String,
    #[arg(long, value_enum, value_name = "FORMAT", help = FORMAT_HELP)]
    pub(super) format: Option<FileFormat>,
    #[command(flatten)]
    pub(super) result: ResultArguments,
    #[command(flatten)]
    pub(super) server: ServerArguments,
}

/// What is asked for.
#[derive(Args, Debug)]
pub(super) struct RequestArguments {
    /// Model [default: the server's]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Size, such as 1024x1024 or auto
    #[arg(long, value_name = "SIZE")]
    pub(super) size: Option<String>,
    /// Quality: low, medium, high or auto
    #[arg(long, value_name = "QUALITY")]
    pub(super) quality: Option<String>,
    /// Number of pictures; several are saved as OUT-1, OUT-2, …
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub(super) n: u8,
    /// Background: transparent, opaque or auto
    #[arg(long, value_name = "WORD")]
    pub(super) background: Option<String>,
    #[arg(long, value_enum, value_name = "FORMAT", help = FORMAT_HELP)]
    pub(super) format: Option<FileFormat>,
    /// Make new pictures, also where the same request was answered before
    #[arg(long)]
    pub(super) fresh: bool,
}

/// Where the result goes.
#[derive(Args, Debug)]
pub(super) struct ResultArguments {
    /// File or folder for the picture [default: a name made of the input's, generated.png or ID.png, in the current folder]
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub(super) force: bool,
    /// Show the picture with the program that the system has for it
    #[arg(long)]
    pub(super) open: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

/// Which server is asked, and with which key.
#[derive(Args, Debug)]
pub(super) struct ServerArguments {
    #[arg(long, value_name = "URL", help = "Base address of the API [env: OPENAI_BASE_URL]")]
    pub(super) url: Option<String>,
    #[arg(long, value_name = "KEY", value_parser = secret, help = KEY_HELP)]
    pub(super) key: Option<Secret>,
    /// Configuration file whose address is used; see --help of the program
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[expect(clippy::unnecessary_wraps, reason = "a parser of clap returns a result")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// An encoding of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FileFormat {
    Png,
    #[value(alias = "jpg")]
    Jpeg,
    Webp,
}

impl FileFormat {
    /// Returns the value of `output_format`, which is a file ending, too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        }
    }

    /// Returns the format of a file ending.
    pub(super) fn of_ending(ending: &str) -> Option<Self> {
        match ending.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }
}

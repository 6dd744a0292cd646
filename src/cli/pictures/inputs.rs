//! The pictures and the prompt of a request, checked before anything is sent.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::exit::Failure;

/// A longer prompt on standard input is a mistake: no model takes it.
const PROMPT_BYTES_MAX: u64 = 256 * 1024;
/// A name that is less like the missing one is not suggested.
const SIMILARITY_MIN: f64 = 0.7;
/// Letters of an ending are often swapped, as in `.pgn`.
const ENDING_SIMILARITY_MIN: f64 = 0.5;

/// Pictures and prompt.
#[derive(Debug, PartialEq)]
pub(super) struct Inputs {
    pub(super) files: Vec<PathBuf>,
    pub(super) mask: Option<PathBuf>,
    pub(super) prompt: String,
}

impl Inputs {
    /// Returns the name of the first file without its ending.
    pub(super) fn stem(&self) -> String {
        let stem = self.files.first().and_then(|file| file.file_stem());
        stem.map_or_else(|| "picture".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }
}

/// Reads the arguments of an edit: files, and the prompt as the last one.
///
/// # Errors
///
/// What is missing, or why a file cannot be sent.
pub(super) fn of_edit(words: &[OsString], mask: Option<&Path>) -> Result<Inputs, Failure> {
    of_words(words, mask, &mut io::stdin()).map_err(Failure::usage)
}

/// Reads the argument of a generation.
///
/// # Errors
///
/// Why there is no prompt.
pub(super) fn of_generation(prompt: &OsStr) -> Result<Inputs, Failure> {
    let prompt = read_prompt(prompt, &mut io::stdin()).map_err(Failure::usage)?;
    Ok(Inputs { files: Vec::new(), mask: None, prompt })
}

fn of_words(words: &[OsString], mask: Option<&Path>, standard_input: &mut dyn Read) -> Result<Inputs, String> {
    let Some((prompt, files)) = words.split_last() else { return Err("the prompt is missing".to_owned()) };
    let last = Path::new(prompt);
    if prompt != "-" && last.is_file() {
        return Err(format!(
            "the prompt is missing: the last argument is the prompt, and {} is a file",
            last.display()
        ));
    }
    if files.is_empty() {
        return Err("there is no input picture: the files come first, and the prompt last; without a picture, use \
                    `gptproto-gateway generate`"
            .to_owned());
    }
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    for file in &files {
        check_file(file)?;
    }
    if let Some(mask) = mask {
        check_file(mask).map_err(|problem| format!("--mask: {problem}"))?;
    }
    let prompt = read_prompt(prompt, standard_input)?;
    Ok(Inputs { files, mask: mask.map(Path::to_owned), prompt })
}

fn check_file(path: &Path) -> Result<(), String> {
    let name = path.display();
    let opened = File::open(path).and_then(|file| file.metadata());
    match opened {
        Ok(metadata) if metadata.is_dir() => Err(format!("{name} is a folder; name its pictures")),
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => Err(format!("{name} is empty")),
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(format!("{name} is no regular file; save the picture in a file first")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(missing(path)),
        Err(error) => Err(format!("{name} cannot be read: {error}")),
    }
}

/// Says that a file is not there, and what may have been meant.
fn missing(path: &Path) -> String {
    let name = path.display();
    match similar(path) {
        Some(other) => format!("{name} does not exist; did you mean {}?", other.display()),
        None if path.extension().is_none() => {
            format!("{name} does not exist; if it is a part of the prompt, put the prompt in quotes")
        }
        None => format!("{name} does not exist"),
    }
}

/// Returns the file in the same folder whose name is most like that of a missing one.
fn similar(path: &Path) -> Option<PathBuf> {
    let wanted = Path::new(path.file_name()?);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new("."))).ok()?;
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    let rated = names.map(|name| (similarity(wanted, Path::new(&name)), name));
    let (similarity, best) = rated.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (similarity >= SIMILARITY_MIN).then(|| parent.map_or_else(|| PathBuf::from(&best), |parent| parent.join(&best)))
}

/// Returns how much the stems of two names are alike, from 0 to 1, where their endings may be meant for the same.
fn similarity(one: &Path, other: &Path) -> f64 {
    let alike = |one: Option<&OsStr>, other: Option<&OsStr>| {
        let [one, other] = [one, other].map(|part| part.unwrap_or_default().to_string_lossy().to_lowercase());
        strsim::jaro_winkler(&one, &other)
    };
    if alike(one.extension(), other.extension()) < ENDING_SIMILARITY_MIN {
        return 0.0;
    }
    alike(one.file_stem(), other.file_stem())
}

fn read_prompt(argument: &OsStr, standard_input: &mut dyn Read) -> Result<String, String> {
    let text = if argument == "-" {
        let mut text = String::new();
        let mut limited = standard_input.take(PROMPT_BYTES_MAX + 1);
        limited.read_to_string(&mut text).map_err(|error| format!("the prompt cannot be read: {error}"))?;
        if text.len() as u64 > PROMPT_BYTES_MAX {
            return Err(format!("the prompt on standard input is longer than {PROMPT_BYTES_MAX} bytes"));
        }
        text.trim_end().to_owned()
    } else {
        argument.to_str().ok_or("the prompt is not UTF-8")?.to_owned()
    };
    if text.trim().is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], standard_input: &str) -> Result<Inputs, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        of_words(&words, None, &mut standard_input.as_bytes())
    }

    #[test]
    fn the_last_argument_is_the_prompt_and_mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (cat, dog, empty) = (path("cat.png"), path("dog.png"), path("empty.png"));
        std::fs::write(&cat, "c").unwrap();
        std::fs::write(&dog, "d").unwrap();
        std::fs::write(&empty, "").unwrap();
        let two = parse(&[&cat, &dog, "make it night"], "").unwrap();
        assert_eq!((two.files.len(), two.prompt.as_str(), two.stem().as_str()), (2, "make it night", "cat"));
        assert_eq!(parse(&[&cat, "-"], " from a file\n").unwrap().prompt, " from a file");
        let typo = path("cat.pgn");
        for (words, problem) in [
            (&[typo.as_str(), "p"][..], "cat.pgn does not exist; did you mean"),
            (&[&cat, "make", "it night"], "make does not exist; if it is a part of the prompt"),
            (&[&cat], "the prompt is missing"),
            (&[&cat, &dog], "the prompt is missing"),
            (&["make it night"], "there is no input picture"),
            (&[&empty, "p"], "is empty"),
            (&[&folder.path().display().to_string(), "p"], "is a folder"),
            (&[&cat, "  "], "the prompt is empty"),
            (&[&cat, "-"], "the prompt is empty"),
        ] {
            let error = parse(words, "").unwrap_err();
            assert!(error.contains(problem), "{words:?}: {error}");
        }
        std::fs::write(path("maskopaque.png"), "m").unwrap();
        std::fs::write(path("pid"), "p").unwrap();
        for stranger in ["nope.png", "pid.fifo"] {
            let error = parse(&[&path(stranger), "p"], "").unwrap_err();
            assert!(!error.contains("did you mean"), "{error}");
        }
    }
}

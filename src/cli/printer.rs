//! Texts for a person. The reader of a pipe may have left, as `head` does, and that ends no work.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::Environment;
use crate::ledger::quoted;

const NAME: &str = "gptproto-gateway";

/// Writes a text to standard output.
pub fn print(text: impl Display) {
    let _ = try_print(text);
}

/// Writes a text to standard output.
///
/// # Errors
///
/// Why it did not arrive there.
pub(super) fn try_print(text: impl Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.to_string().as_bytes())?;
    output.flush()
}

/// Writes a line to standard error.
pub fn print_error(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Returns the program as a shell of this environment finds it: by its name, else by its path.
pub(super) fn program(environment: &Environment) -> String {
    let Ok(own) = std::env::current_exe() else { return NAME.to_owned() };
    let folders = environment.get("PATH").map(String::as_str).unwrap_or_default();
    program_in(folders, &own)
}

fn program_in(folders: &str, own: &Path) -> String {
    let found = std::env::split_paths(folders).map(|folder| folder.join(NAME)).find(|path| path.is_file());
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    if found.is_some_and(|found| canonical(&found) == canonical(own)) {
        NAME.to_owned()
    } else {
        quoted(&own.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_by_its_name_where_a_shell_finds_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (folder.path().join("my tools"), folder.path().join("other"));
        for folder in [&here, &elsewhere] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join(NAME), "").unwrap();
        }
        let own = here.join(NAME);
        assert_eq!(program_in(&format!("/nowhere:{}", here.display()), &own), NAME);
        let path = format!("'{}'", own.display());
        for folders in ["", &format!("{}:{}", elsewhere.display(), here.display())] {
            assert_eq!(program_in(folders, &own), path, "{folders:?}");
        }
    }
}

//! What packages install beside the program: manual pages and completions, made from its arguments.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::arguments::Cli;

/// The name of the program.
const PROGRAM: &str = "gptproto-gateway";

/// Returns the script that completes the program's arguments in a shell.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    script
}

/// Returns the manual page of the program; with a folder, writes the pages of the program and of every command into it, and
/// returns the names of the files.
///
/// # Errors
///
/// When the folder cannot be written to.
pub fn manual(directory: Option<&Path>) -> io::Result<Vec<u8>> {
    let command = Cli::command().name(PROGRAM);
    let Some(directory) = directory else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        return Ok(page);
    };
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)?;
    let mut names = std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.retain(|name| name.starts_with(PROGRAM));
    names.sort();
    Ok(format!("{}\n", names.join("\n")).into_bytes())
}

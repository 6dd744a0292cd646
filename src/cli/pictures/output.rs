//! The files that pictures are saved in: named and checked before anything is bought, and written whole or not at all.

use std::fmt::Display;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::arguments::FileFormat;
use crate::ledger::quoted;

/// Before the `umask` of the user.
const FILE_MODE: u32 = 0o666;

/// Where pictures are saved.
#[derive(Debug)]
pub(super) struct Output {
    base: PathBuf,
    format: Option<FileFormat>,
    replaces: bool,
    /// The name is the program's own choice, so another one does as well.
    is_default: bool,
}

impl Output {
    /// Plans the files for a number of pictures, and checks that they can be written.
    ///
    /// # Errors
    ///
    /// Why not, in one line.
    pub(super) fn planned(
        output: Option<&Path>,
        default_name: &str,
        format: Option<FileFormat>,
        count: u8,
        replaces: bool,
    ) -> Result<Self, String> {
        let default = || format!("{default_name}.{}", format.unwrap_or(FileFormat::Png).name());
        let (base, is_default) = match output {
            None => (PathBuf::from(default()), true),
            Some(path) if path.is_dir() => (path.join(default()), true),
            Some(path) => (path.to_owned(), false),
        };
        let ending = ending(&base);
        if let Some(extension) = base.extension()
            && ending.or(format).is_none()
        {
            let extension = extension.to_string_lossy();
            return Err(format!(
                "{}: no picture is saved as .{extension}; use .png, .jpg or .webp, or --format",
                base.display()
            ));
        }
        if let (Some(ending), Some(format)) = (ending, format)
            && ending != format
        {
            return Err(format!("{} does not end as --format {} does", base.display(), format.name()));
        }
        if base.file_name().is_none() {
            return Err(format!("{} is no name of a file", base.display()));
        }
        check_folder(&base)?;
        let mut output = Self { base, format: format.or(ending), replaces, is_default };
        output.base = output.free(usize::from(count));
        for path in names(&output.base, usize::from(count)) {
            output.check(&path)?;
        }
        Ok(output)
    }

    /// Returns the encoding that the names promise.
    pub(super) fn format(&self) -> Option<FileFormat> {
        self.format
    }

    /// Returns the arguments that plan the same files, as a shell reads them.
    pub(super) fn arguments(&self) -> String {
        let format = self.format.filter(|_| ending(&self.base).is_none());
        let format = format.map(|format| format!(" --format {}", format.name())).unwrap_or_default();
        let force = if self.replaces { " --force" } else { "" };
        format!(" -o {}{format}{force}", quoted(&self.base.to_string_lossy()))
    }

    /// Writes the pictures. Returns their files.
    ///
    /// # Errors
    ///
    /// Which file could not be written, and why. Those before it are there.
    pub(super) fn write(&self, pictures: &[Vec<u8>]) -> Result<Vec<PathBuf>, String> {
        let names = names(&self.free(pictures.len()), pictures.len());
        for (path, bytes) in names.iter().zip(pictures) {
            self.check(path)?;
            self.write_one(path, bytes).map_err(|error| unwritable(path, &error))?;
        }
        Ok(names)
    }

    fn write_one(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        let mut file = builder.permissions(Permissions::from_mode(FILE_MODE)).tempfile_in(folder(path))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        // Another program may have made the file meanwhile.
        let kept = if self.replaces { file.persist(path) } else { file.persist_noclobber(path) };
        kept.map(drop).map_err(|error| error.error)
    }

    /// Fails when a file is there that must not be replaced.
    fn check(&self, path: &Path) -> Result<(), String> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(format!("{} is a folder", path.display())),
            Ok(_) if !self.replaces => Err(format!("{} exists; --force replaces it", path.display())),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns the base of names that no file has yet, where the user gave none: `cat-edited.png`, `cat-edited-2.png` and so on.
    fn free(&self, count: usize) -> PathBuf {
        let is_free = |base: &PathBuf| names(base, count).iter().all(|name| name.symlink_metadata().is_err());
        let mut bases = (2_u32..).map(|number| numbered(&self.base, number));
        if !self.is_default || self.replaces || is_free(&self.base) {
            return self.base.clone();
        }
        bases.find(is_free).unwrap_or_else(|| self.base.clone())
    }
}

/// Returns the names for a number of pictures: `out.png`, or `out-1.png` and so on.
fn names(base: &Path, count: usize) -> Vec<PathBuf> {
    if count <= 1 {
        return vec![base.to_owned()];
    }
    (1..=count).map(|number| numbered(base, number)).collect()
}

/// Adds a number to a name, before its ending.
fn numbered(base: &Path, number: impl Display) -> PathBuf {
    let stem = base.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let ending = base.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    base.with_file_name(format!("{stem}-{number}{ending}"))
}

/// Returns the encoding that a name promises.
fn ending(path: &Path) -> Option<FileFormat> {
    path.extension().and_then(|ending| FileFormat::of_ending(&ending.to_string_lossy()))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Fails when no file can be made beside `path`.
fn check_folder(path: &Path) -> Result<(), String> {
    let folder = folder(path);
    if !folder.is_dir() {
        return Err(format!("the folder {} does not exist", folder.display()));
    }
    // The file is removed at once; permissions alone do not say whether the disk is writable.
    tempfile::tempfile_in(folder).map(drop).map_err(|error| unwritable(folder, &error))
}

/// Returns the message of an error, whose own text has the name of a temporary file.
fn unwritable(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be written: {}", path.display(), error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_are_numbered_and_no_file_is_replaced_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.png");
        let plan = |count, replaces| Output::planned(Some(&out), "cat-edited", None, count, replaces);
        let several = plan(2, false).unwrap();
        let files = several.write(&[vec![1], vec![2]]).unwrap();
        assert_eq!(files, [folder.path().join("out-1.png"), folder.path().join("out-2.png")]);
        assert_eq!(fs::read(&files[1]).unwrap(), [2]);
        assert!(plan(2, false).unwrap_err().contains("out-1.png exists; --force replaces it"));
        plan(2, true).unwrap().write(&[vec![3], vec![4]]).unwrap();
        assert_eq!(fs::read(&files[1]).unwrap(), [4]);

        let one = plan(1, false).unwrap();
        fs::write(&out, "made meanwhile").unwrap();
        assert!(one.write(&[vec![5]]).unwrap_err().contains("exists"));
        assert_eq!(fs::read(&out).unwrap(), b"made meanwhile");
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "nothing else is left: {names:?}");
    }

    #[test]
    fn the_ending_chooses_the_format_and_a_folder_gets_the_default_name() {
        let folder = tempfile::tempdir().unwrap();
        let plan =
            |name: &str, format| Output::planned(Some(&folder.path().join(name)), "cat-edited", format, 1, false);
        assert_eq!(plan("a.JPG", None).unwrap().format(), Some(FileFormat::Jpeg));
        assert_eq!(plan("a.dat", Some(FileFormat::Webp)).unwrap().format(), Some(FileFormat::Webp));
        assert!(plan("a.png", Some(FileFormat::Webp)).unwrap_err().contains("--format webp"));
        assert!(plan("nowhere/a.png", None).unwrap_err().contains("nowhere does not exist"));
        let inside = Output::planned(Some(folder.path()), "cat-edited", Some(FileFormat::Jpeg), 1, false).unwrap();
        assert_eq!(inside.base, folder.path().join("cat-edited.jpeg"));
        for name in ["a.gif", "a.txt", "v1.2"] {
            let error = plan(name, None).unwrap_err();
            assert!(error.contains("use .png, .jpg or .webp, or --format"), "{error}");
            plan(name, Some(FileFormat::Png)).unwrap();
        }
        plan("no-ending", None).unwrap();
    }

    #[test]
    fn a_name_that_the_user_did_not_give_is_one_that_no_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let plan = |replaces| Output::planned(Some(folder.path()), "cat-edited", None, 1, replaces).unwrap();
        let same_time = plan(false);
        let names: Vec<_> = [plan(false), same_time, plan(false)]
            .iter()
            .map(|output| output.write(&[vec![1]]).unwrap()[0].file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["cat-edited.png", "cat-edited-2.png", "cat-edited-3.png"]);
        assert_eq!(plan(true).base.file_name().unwrap(), "cat-edited.png");
    }

    #[test]
    fn the_same_files_can_be_planned_by_another_command() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        for (name, format, replaces, arguments) in [
            ("a.png", None, false, format!(" -o {place}/a.png")),
            ("a.png", Some(FileFormat::Png), true, format!(" -o {place}/a.png --force")),
            ("my a.dat", Some(FileFormat::Webp), true, format!(" -o '{place}/my a.dat' --format webp --force")),
        ] {
            let output = Output::planned(Some(&folder.path().join(name)), "cat", format, 1, replaces).unwrap();
            assert_eq!(output.arguments(), arguments);
        }
    }
}

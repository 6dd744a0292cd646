//! Copies of a data folder, and what is done to the files in it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::harness::digest;

/// A place in a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Head,
    Middle,
    End,
}

/// What is done to a file or a folder.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    /// One byte of it is inverted.
    Flip(Place),
    /// The first byte of each page of a database is inverted, but of the first page.
    FlipPages,
    /// Its second half is cut off.
    CutToHalf,
    /// It has no bytes, or no entries.
    Empty,
    /// Its last byte is cut off.
    CutByOne,
    /// It is gone.
    Remove,
    /// It is as it was earlier; gone where it did not exist then.
    Older,
    /// It is as another crash left it, earlier.
    EarlierCrash,
    /// A folder has its name.
    Folder,
    /// A file has its name.
    File,
    /// It cannot be opened: a symbolic link to itself, which stops the superuser too.
    Unreadable,
    /// It has bytes behind its end.
    Append,
    /// It has bytes that mean nothing, as many as before.
    Noise,
    /// A folder has entries that the gateway did not make.
    Foreign,
}

/// The size of a page in a database of SQLite, unless it is set.
const PAGE_BYTES: usize = 4096;

/// Bytes that are no file of any kind.
const NOISE: &[u8] = b"\x00\xffnot what was written here\n";

/// Applies a damage to `name` in `folder`. `older` and `crash` are the folder at earlier times.
pub(super) fn apply(damage: Damage, folder: &Path, name: &str, older: &Path, crash: &Path) {
    let path = folder.join(name);
    match damage {
        Damage::Remove => remove(&path),
        Damage::Empty if path.is_dir() => {
            remove(&path);
            fs::create_dir(&path).unwrap();
        }
        Damage::Older | Damage::EarlierCrash => {
            remove(&path);
            let source = if matches!(damage, Damage::Older) { older } else { crash }.join(name);
            if source.exists() {
                copy(&source, &path);
            }
        }
        Damage::Folder => {
            remove(&path);
            fs::create_dir_all(&path).unwrap();
        }
        Damage::File => {
            remove(&path);
            fs::write(&path, NOISE).unwrap();
        }
        Damage::Unreadable => {
            remove(&path);
            symlink(&path, &path).unwrap();
        }
        Damage::Foreign => {
            fs::create_dir_all(path.join("sub")).unwrap();
            for name in ["README.txt", ".hidden", "sub/file", &"a".repeat(64), &"f".repeat(64)] {
                fs::write(path.join(name), NOISE).unwrap();
            }
        }
        Damage::Flip(_)
        | Damage::FlipPages
        | Damage::CutToHalf
        | Damage::Empty
        | Damage::CutByOne
        | Damage::Append
        | Damage::Noise => {
            let mut bytes = fs::read(&path).unwrap();
            change(damage, &mut bytes);
            fs::write(&path, bytes).unwrap();
        }
    }
}

fn change(damage: Damage, bytes: &mut Vec<u8>) {
    let length = bytes.len();
    match damage {
        Damage::Flip(place) => {
            let at = match place {
                Place::Head => length.min(17) - 1,
                Place::Middle => length / 2,
                Place::End => length - 1,
            };
            bytes[at] ^= 0xff;
        }
        Damage::FlipPages => bytes.iter_mut().step_by(PAGE_BYTES).skip(1).for_each(|byte| *byte ^= 0xff),
        Damage::CutToHalf => bytes.truncate(length / 2),
        Damage::CutByOne => bytes.truncate(length - 1),
        Damage::Append => bytes.extend_from_slice(NOISE),
        Damage::Noise => *bytes = NOISE.iter().copied().cycle().take(length).collect(),
        Damage::Empty
        | Damage::Remove
        | Damage::Older
        | Damage::EarlierCrash
        | Damage::Folder
        | Damage::File
        | Damage::Unreadable
        | Damage::Foreign => bytes.clear(),
    }
}

/// Changes the last letter in every occurrence of a text.
pub(super) fn alter_text(path: &Path, text: &str) {
    let mut bytes = fs::read(path).unwrap();
    let found: Vec<usize> =
        bytes.windows(text.len()).enumerate().filter(|(_, part)| *part == text.as_bytes()).map(|(at, _)| at).collect();
    assert!(!found.is_empty(), "{text} is not in {}", path.display());
    for at in found {
        let last = &mut bytes[at + text.len() - 1];
        // A hexadecimal digit in any case.
        *last = if *last == b'0' { b'1' } else { b'0' };
    }
    fs::write(path, bytes).unwrap();
}

/// Removes a file, a link or a folder, if it is there.
pub(super) fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            // A gateway that runs may store a picture meanwhile.
            while let Err(error) = fs::remove_dir_all(path) {
                assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{}: {error}", path.display());
            }
        }
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Copies a file, or a folder with all that is in it.
pub(super) fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        let mut file = fs::File::create(to).unwrap();
        file.write_all(&fs::read(from).unwrap()).unwrap();
    }
}

/// Returns the digests of all files in a folder and below, of those that can be read.
pub(super) fn digests(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                found.push(digest(&bytes));
            }
        }
    }
    found
}

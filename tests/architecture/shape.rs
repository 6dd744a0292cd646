//! Widths of folders, lengths of files, sizes of objects.

use std::collections::BTreeMap;

use crate::tree::{Repository, Target, Tree};

/// Folders below `src` by how many files and folders they have, the widest first.
pub(crate) fn widths(repository: &Repository) -> Vec<(usize, String)> {
    let mut entries: BTreeMap<&str, usize> = BTreeMap::new();
    for path in repository.paths.iter().filter(|path| path.starts_with("src/")) {
        if let Some((folder, name)) = path.rsplit_once('/')
            && folder != "src"
            && !name.starts_with('.')
        {
            *entries.entry(folder).or_default() += 1;
        }
    }
    let mut found: Vec<_> = entries.into_iter().map(|(folder, count)| (count, folder.to_owned())).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// Folders below `src` with more than `most` entries.
pub(crate) fn check_widths(repository: &Repository, most: usize) -> Vec<String> {
    let wide = widths(repository).into_iter().filter(|(count, _)| *count > most);
    wide.map(|(count, folder)| {
        format!("{folder}: {count} entries, at most {most}. Group what belongs together in a folder.")
    })
    .collect()
}

/// Files with more than `most` lines of production code, the longest first.
pub(crate) fn long_files(tree: &Tree<'_>, most: usize) -> Vec<(usize, String)> {
    let all = tree.files.iter().map(|file| (file.production_lines(), file.path.to_owned()));
    let mut found: Vec<_> = all.filter(|(lines, _)| *lines > most).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// Files with more than `most` lines of production code; each exempted path (a prefix, with its reason) covers one.
pub(crate) fn check_lengths(tree: &Tree<'_>, most: usize, exempt: &[(&str, &str)]) -> Vec<String> {
    let mut covered = vec![false; exempt.len()];
    let mut broken = Vec::new();
    for (lines, path) in long_files(tree, most) {
        let rule = exempt.iter().position(|(prefix, _)| path.starts_with(prefix));
        if let Some(rule) = rule
            && !covered[rule]
        {
            covered[rule] = true;
            continue;
        }
        broken.push(format!(
            "{path}: {lines} lines of production code, at most {most}. Split it, or move its tests to a file of their own."
        ));
    }
    broken
}

/// A type with methods.
#[derive(Debug, Default)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) methods: usize,
    pub(crate) fields: usize,
}

/// Types of production code that have methods in an `impl` of their own, in whatever files these stand.
pub(crate) fn objects(tree: &Tree<'_>) -> Vec<Object> {
    let mut found: BTreeMap<(usize, String), Object> = BTreeMap::new();
    for block in tree.impls.iter().filter(|block| !block.test) {
        if let Target::Item(module, name) = tree.resolve(block.module, std::slice::from_ref(&block.name)) {
            found.entry((module, name)).or_default().methods += block.methods;
        }
    }
    for ty in tree.types.iter().filter(|ty| !ty.test) {
        if let Some(object) = found.get_mut(&(ty.module, ty.name.clone())) {
            object.fields = ty.fields;
            object.name.clone_from(&ty.name);
            tree.files[ty.file].path.clone_into(&mut object.path);
        }
    }
    found.into_values().filter(|object| object.methods > 0).collect()
}

#[cfg(test)]
mod planted {
    use super::*;

    #[test]
    fn a_folder_too_wide_is_found() {
        let files = [("src/a/x.rs", ""), ("src/a/y.rs", ""), ("src/a/y/z.rs", ""), ("src/b.rs", ""), ("src/c.rs", "")];
        let repository = Repository::of(&files);
        assert!(check_widths(&repository, 3).is_empty());
        let broken = check_widths(&repository, 2);
        assert!(broken.len() == 1 && broken[0].starts_with("src/a: 3 entries"), "{broken:?}");
    }

    #[test]
    fn a_file_too_long_is_found_and_its_tests_do_not_count() {
        let code = "fn f() {}\n".repeat(10);
        let with_tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
        let table = "fn f() {}\n".repeat(20);
        let files = [("src/a.rs", with_tests.as_str()), ("src/api/error.rs", &table)];
        let repository = Repository::of(&files);
        let tree = Tree::new(&repository);
        let broken = check_lengths(&tree, 10, &[]);
        assert!(broken.len() == 1 && broken[0].starts_with("src/api/error.rs: 20 lines"), "{broken:?}");
        assert!(check_lengths(&tree, 10, &[("src/api/error", "the table")]).is_empty());
        assert_eq!(check_lengths(&tree, 9, &[("src/api/error", "the table")]).len(), 1);
    }

    #[test]
    fn methods_and_fields_are_counted_over_all_files() {
        let a = "mod b;\nstruct Core<T> where T: Copy { a: Vec<(u8, u8)>, pub(crate) b: fn(x: u8) -> u8, /* c: u8 */ }\n\
                 impl<T> Core<T> { fn one(&self) { fn inner() {} } #[cfg(test)] fn two() {} }\n\
                 impl<T> Drop for Core<T> { fn drop(&mut self) {} }\n";
        let b = "use super::Core;\nimpl<F: Fn() -> u8> Core<F> { pub(super) fn three(&self) {} }";
        let repository = Repository::of(&[("src/a.rs", a), ("src/a/b.rs", b)]);
        let found = objects(&Tree::new(&repository));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].methods, found[0].fields), ("Core", 2, 2));
    }
}

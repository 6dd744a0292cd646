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

/// How large an object may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectLimits {
    pub(crate) methods: usize,
    pub(crate) fields: usize,
    /// A struct with fewer methods is a value, such as a row of a table, and may have any number of fields.
    pub(crate) value_below: usize,
}

impl ObjectLimits {
    fn holds(self, object: &Object) -> bool {
        object.methods <= self.methods && (object.methods < self.value_below || object.fields <= self.fields)
    }
}

/// Objects beyond the limits, those with the most methods first.
pub(crate) fn large_objects(tree: &Tree<'_>, limits: ObjectLimits) -> Vec<Object> {
    let mut found: Vec<_> = objects(tree).into_iter().filter(|object| !limits.holds(object)).collect();
    found.sort_by(|a, b| (b.methods, b.fields, &a.path, &a.name).cmp(&(a.methods, a.fields, &b.path, &b.name)));
    found
}

/// Objects beyond the limits. An exemption names one by the start of its path and its name, and gives the reason; it is
/// reported when no such object is beyond the limits.
pub(crate) fn check_objects(tree: &Tree<'_>, limits: ObjectLimits, exempt: &[(&str, &str, &str)]) -> Vec<String> {
    let found = large_objects(tree, limits);
    let covers =
        |&(path, name, _): &(&str, &str, &str), object: &Object| object.path.starts_with(path) && object.name == name;
    let broken = found.iter().filter(|object| !exempt.iter().any(|rule| covers(rule, object))).map(|object| {
        let Object { name, path, methods, fields } = object;
        format!(
            "{path}: {name} has {methods} methods and {fields} fields, at most {} and {}. Give what is used together a type of its own.",
            limits.methods, limits.fields
        )
    });
    let stale = exempt.iter().filter(|rule| !found.iter().any(|object| covers(rule, object))).map(|(path, name, _)| {
        format!("{name} in {path} is exempt, and no such object is too large: remove the exemption.")
    });
    broken.chain(stale).collect()
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

    #[test]
    fn an_object_too_large_is_found_and_a_value_is_not() {
        let methods = |name: &str, count: usize| {
            let methods = (0..count).map(|n| format!("fn f{n}(&self) {{}} ")).collect::<Vec<_>>().concat();
            format!("impl {name} {{ {methods} }}\n")
        };
        let fields = "struct Wide { a: u8, b: u8, c: u8 }\nstruct Row { a: u8, b: u8, c: u8 }\nstruct Busy(u8);\n";
        let text = [fields, &methods("Wide", 2), &methods("Row", 1), &methods("Busy", 3), &methods("Busy", 1)].concat();
        let repository = Repository::of(&[("src/a/b.rs", text.as_str())]);
        let tree = Tree::new(&repository);
        let limits = ObjectLimits { methods: 3, fields: 2, value_below: 2 };
        let broken = check_objects(&tree, limits, &[]);
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].starts_with("src/a/b.rs: Busy has 4 methods and 0 fields, at most 3 and 2."), "{broken:?}");
        assert!(broken[1].starts_with("src/a/b.rs: Wide has 2 methods and 3 fields"), "{broken:?}");
        assert!(check_objects(&tree, ObjectLimits { methods: 4, fields: 3, value_below: 2 }, &[]).is_empty());

        let exempt = [("src/a", "Busy", "planted"), ("src/a", "Wide", "planted")];
        assert!(check_objects(&tree, limits, &exempt).is_empty());
        let other_folder = check_objects(&tree, limits, &[exempt[0], ("src/c", "Wide", "planted")]);
        assert_eq!(other_folder.len(), 2, "{other_folder:?}");
        assert!(other_folder[0].contains(": Wide has") && other_folder[1].starts_with("Wide in src/c is exempt"));
    }
}

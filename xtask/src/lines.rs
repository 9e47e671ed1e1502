//! `cargo xtask lines`: lines of Rust code per crate, source and tests apart.
//!
//! A line counts unless it is blank or only a comment. Tests are what lies under a crate's `tests/` or `clients/`,
//! files named `tests.rs`, and modules under `#[cfg(test)]`. The count reads lines, not syntax: a
//! line of a text literal that begins with `//` is taken for a comment.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Result, Workspace};

pub fn run(workspace: &Workspace) -> Result<()> {
    let mut crates = folders(&workspace.root.join("crates"))?;
    crates.push(workspace.root.join("xtask"));
    let mut total = Count::default();
    println!("{:<22} {:>8} {:>8}", "crate", "source", "tests");
    for folder in crates {
        let count = count_crate(&folder)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name:<22} {:>8} {:>8}", count.source, count.tests);
        total.add(&count);
    }
    println!("{:<22} {:>8} {:>8}", "all", total.source, total.tests);
    Ok(())
}

#[derive(Debug, Default, PartialEq)]
struct Count {
    source: usize,
    tests: usize,
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.source += other.source;
        self.tests += other.tests;
    }

    fn all_tests(self) -> Self {
        Self { source: 0, tests: self.source + self.tests }
    }
}

fn count_crate(folder: &Path) -> Result<Count> {
    let mut count = Count::default();
    for file in rust_files(folder)? {
        let in_file = count_text(&fs::read_to_string(&file)?);
        let in_tests = ["tests", "clients"].iter().any(|tests| file.starts_with(folder.join(tests)));
        let is_test = in_tests || file.ends_with("tests.rs");
        count.add(&if is_test { in_file.all_tests() } else { in_file });
    }
    Ok(count)
}

/// Counts one file. rustfmt closes a module at the indentation at which it opened, which is how the
/// end of a test module is found.
fn count_text(text: &str) -> Count {
    let mut count = Count::default();
    let mut in_comment = false;
    let mut closing: Option<String> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim();
        let opens_comment = code.starts_with("/*");
        if in_comment || opens_comment {
            in_comment = !code.contains("*/");
            continue;
        }
        if code.is_empty() || code.starts_with("//") {
            continue;
        }
        if code == "#[cfg(test)]" && closing.is_none() {
            count.tests += 1;
            let Some(next) = lines.next() else { break };
            count.tests += 1;
            if next.ends_with('{') {
                let indent = next.len() - next.trim_start().len();
                closing = Some(format!("{}}}", " ".repeat(indent)));
            }
            continue;
        }
        if closing.is_none() {
            count.source += 1;
            continue;
        }
        count.tests += 1;
        if closing.as_deref() == Some(line) {
            closing = None;
        }
    }
    count
}

/// Every Rust file of a crate, without what was built or downloaded.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != "node_modules" {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn folders(parent: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_and_comments_do_not_count() {
        let text = "//! Head.\n\n/* one\n two */\nfn a() {} // yes\n    // no\n";
        let expected = Count { source: 1, tests: 0 };
        assert_eq!(count_text(text), expected);
    }

    #[test]
    fn a_test_module_ends_where_its_brace_closes() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        let expected = Count { source: 2, tests: 5 };
        assert_eq!(count_text(text), expected);
    }
}

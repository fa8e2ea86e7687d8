//! Every file starts with a short header (rows of a table do not count); `lib.rs` and `mod.rs` hold no logic; every
//! TODO names its issue.

use super::source::{Source, Tree};

const HEADER_LINES: usize = 10;
const UNFINISHED: &[&str] = &["TODO", "FIXME"];
/// The allowed beginnings of lines in a file without logic.
const DECLARATIONS: &[&str] = &[
    "//",
    "mod ",
    "pub mod ",
    "use ",
    "pub use ",
    "pub(crate) mod ",
    "#[",
    "#![",
    "pub type ",
];

pub fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for source in &tree.sources {
        header(source, &mut problems);
        if is_table_of_contents(source) {
            declarations(source, &mut problems);
        }
        unfinished(source, &mut problems);
    }
    problems
}

fn header(source: &Source, problems: &mut Vec<String>) {
    let lines = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .filter(|line| !line.starts_with("//! |"))
        .count();
    if lines == 0 {
        problems.push(format!(
            "{} has no header; say in `//!` lines what it owns and what must hold",
            source.path
        ));
    }
    if lines > HEADER_LINES {
        problems.push(format!(
            "{} has a header of {lines} lines, at most {HEADER_LINES}; move the rest to what it describes",
            source.path
        ));
    }
}

fn is_table_of_contents(source: &Source) -> bool {
    source.path.starts_with("crates/")
        && (source.path.ends_with("/lib.rs") || source.path.ends_with("/mod.rs"))
        && !source.is_tests()
        && !source.is_generated()
}

fn declarations(source: &Source, problems: &mut Vec<String>) {
    let mut depth = 0_i32;
    for (number, line) in source.product() {
        let starts = DECLARATIONS.iter().any(|start| line.starts_with(start));
        if depth == 0 && !starts && !line.trim().is_empty() {
            problems.push(format!(
                "{}:{number} is more than a header, module list and exports; move it into a module",
                source.path
            ));
            return;
        }
        if !line.trim_start().starts_with("//") {
            depth += balance(line);
        }
    }
}

/// Opening brackets minus closing brackets.
fn balance(line: &str) -> i32 {
    line.chars()
        .map(|letter| match letter {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        })
        .sum()
}

fn unfinished(source: &Source, problems: &mut Vec<String>) {
    if source.path.starts_with("xtask/src/tidy/") {
        return;
    }
    for (number, line) in (1..).zip(source.text.lines()) {
        let comment = line.split_once("//").map_or("", |(_, comment)| comment);
        let said = UNFINISHED.iter().any(|word| comment.contains(word));
        if said && !comment.contains("issue ") {
            problems.push(format!(
                "{}:{number} leaves something undone; finish it, or name the issue (`TODO issue 12: …`)",
                source.path
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{declarations, header, unfinished};
    use crate::tidy::source::Source;

    fn problems(text: &str, rule: fn(&Source, &mut Vec<String>)) -> usize {
        let source = Source {
            path: "crates/x/src/lib.rs".to_owned(),
            text: text.to_owned(),
        };
        let mut problems = Vec::new();
        rule(&source, &mut problems);
        problems.len()
    }

    #[test]
    fn logic_among_the_modules_is_found() {
        let list = "//! X.\n\nmod a;\npub use a::{\n    B,\n};\n#[expect(\n    x,\n)]\nmod c;\n";
        assert_eq!(problems(list, declarations), 0);
        assert_eq!(problems("//! X.\n\nfn f() {}\n", declarations), 1);
    }

    #[test]
    fn headers_are_there_and_short() {
        assert_eq!(problems("use x;\n", header), 1);
        assert_eq!(problems(&"//! x\n".repeat(10), header), 0);
        assert_eq!(problems(&"//! x\n".repeat(11), header), 1);
    }

    #[test]
    fn what_is_left_undone_names_its_issue() {
        assert_eq!(problems("// TODO later\n", unfinished), 1);
        assert_eq!(problems("// TODO issue 7: more\n", unfinished), 0);
    }
}

//! Functions take at most five parameters. `self` counts. The members of a tuple count separately, because a tuple
//! names nothing.

use super::exceptions::{self, PARAMETERS};
use super::source::{Source, Tree};

const MOST: usize = 5;

pub fn check(tree: &Tree) -> Vec<String> {
    let by_hand = tree.sources.iter().filter(|source| !source.is_generated());
    let found = by_hand.flat_map(|source| {
        let functions = functions(source).into_iter();
        let many = functions.filter(|(_, count)| *count > MOST);
        many.map(|(name, count)| (format!("{}::{name}", source.path), count))
    });
    exceptions::judge(PARAMETERS, found, |place, count| {
        format!(
            "{place} takes {count} parameters, tuples counted by their members; at most {MOST}: use a struct, or give it \
             less to do"
        )
    })
}

/// The functions of a file, with the number of their parameters.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
    let code = code.join("\n");
    let mut functions = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("fn ") {
        let is_word = rest[..at].ends_with([' ', '\n']) || at == 0;
        rest = &rest[at + 3..];
        let end = rest
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .unwrap_or(0);
        let (name, after) = rest.split_at(end);
        if is_word
            && !name.is_empty()
            && let Some(parameters) = parameters(after)
        {
            functions.push((name.to_owned(), count(parameters)));
        }
    }
    functions
}

/// The text between the parentheses of a function; generics may come first.
fn parameters(after_name: &str) -> Option<&str> {
    let mut angles = 0_usize;
    let mut before = ' ';
    for (at, letter) in after_name.char_indices() {
        match letter {
            '<' => angles += 1,
            // The `>` of an arrow is not a bracket.
            '>' if before != '-' => angles = angles.saturating_sub(1),
            '(' if angles == 0 => return balanced(&after_name[at..]),
            '{' | ';' if angles == 0 => return None,
            _ => {}
        }
        before = letter;
    }
    None
}

/// The inside of the parentheses that `text` begins with.
fn balanced(text: &str) -> Option<&str> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text.get(1..at);
        }
    }
    None
}

/// The number of parameters; each member of a tuple pattern counts.
fn count(parameters: &str) -> usize {
    let each = split(parameters);
    each.map(|parameter| {
        let pattern = parameter.trim().trim_start_matches("mut ");
        match balanced(pattern) {
            Some(members) if pattern.starts_with('(') => count(members),
            _ => 1,
        }
    })
    .sum()
}

/// Splits at commas outside of brackets; drops empty parts.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    let mut before = ' ';
    let parts = list.split(move |letter| {
        match letter {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if before != '-' && before != '=' => depth -= 1,
            _ => {}
        }
        before = letter;
        letter == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::functions;
    use crate::tidy::source::Source;

    fn counts(text: &str) -> Vec<(String, usize)> {
        functions(&Source {
            path: "crates/log/src/x.rs".to_owned(),
            text: text.to_owned(),
        })
    }

    #[test]
    fn a_tuple_counts_by_its_members() {
        let text = "fn a(&self, (b, (c, d)): (B, (C, D)), e: (E, F)) {}\n\
                    pub fn f<T: Fn(A, B) -> C>(\n    g: T,\n    h: BTreeMap<A, B>,\n) -> (A, B) {}\n";
        assert_eq!(counts(text), [("a".to_owned(), 5), ("f".to_owned(), 2)]);
    }

    #[test]
    fn comments_and_types_are_no_functions() {
        assert_eq!(counts("// fn a(b: B)\ntype F = fn(A, B);\n"), []);
    }
}

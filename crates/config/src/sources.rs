//! The texts a configuration was read from, and where each value was written.

use crate::diagnostic::Diagnostic;
use crate::problem::{Place, Problem, Severity};
use crate::tree::{Mark, Member, Node, SourceId};

/// Keys whose values never appear in a report.
const SECRET_KEYS: [&str; 8] =
    ["auth_credentials", "client_secret", "private_key", "secret", "password", "token", "proxy", "url"];

/// One text.
#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
}

/// All texts, and the tree made of them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
    root: Option<Node>,
}

impl Sources {
    pub(crate) fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        self.files.push(Source { name: name.into(), text: text.into() });
        self.files.len() - 1
    }

    pub(crate) fn set_root(&mut self, root: Node) {
        self.root = Some(root);
    }

    pub(crate) fn place(&self, mark: Mark) -> Option<Place> {
        let source = self.files.get(mark.source)?;
        Some(Place { file: source.name.clone(), line: mark.line, column: mark.column, length: mark.length })
    }

    /// Gives a finding of another crate its place.
    pub fn locate(&self, diagnostic: &Diagnostic, severity: Severity) -> Problem {
        let mark = self.mark_of(&diagnostic.path).map(|mark| match &diagnostic.position {
            Some(inner) => self.inside(mark, inner.line, inner.column),
            None => mark,
        });
        Problem {
            severity,
            code: diagnostic.code,
            message: diagnostic.message.clone(),
            suggestion: diagnostic.suggestion.clone(),
            path: diagnostic.path.clone(),
            // What is nowhere written belongs to the file as a whole.
            place: self.place(mark.unwrap_or(Mark { source: 0, line: 1, column: 1, length: 0 })),
            snippet: None,
        }
    }

    /// Where the value of a path was written, or the nearest value around it that was.
    fn mark_of(&self, path: &str) -> Option<Mark> {
        let mut node = self.root.as_ref()?;
        let mut mark = None;
        for step in steps(path) {
            let next = match step {
                Step::Key(key) => node.get(&key).map(|Member { key_mark, node, .. }| (*key_mark, node)),
                Step::Index(index) => node.items().get(index).map(|node| (node.mark, node)),
            };
            let Some((found, below)) = next else { break };
            // A scalar is underlined itself, a list or mapping by its key.
            mark = Some(if below.members().is_empty() && below.items().is_empty() { below.mark } else { found });
            node = below;
        }
        mark
    }

    /// A place inside a text value. A block scalar (`|`, `>`) begins on the next line, indented.
    fn inside(&self, mark: Mark, line: usize, column: usize) -> Mark {
        let Some(source) = self.files.get(mark.source) else { return mark };
        let lines: Vec<&str> = source.text.lines().collect();
        let first = lines.get(mark.line - 1).copied().unwrap_or_default();
        let opening: String = first.chars().skip(mark.column - 1).collect();
        // The mark of a block scalar is its header or its first line, depending on the parser.
        let start = if is_block_header(&opening) {
            mark.line + 1
        } else if mark.line > 1 && lines.get(mark.line - 2).is_some_and(|above| is_block_header(above)) {
            mark.line
        } else if line == 1 {
            let quote = usize::from(opening.starts_with(['"', '\'']));
            return Mark { column: mark.column + quote + column - 1, length: 1, ..mark };
        } else {
            return mark;
        };
        let indent = lines.get(start - 1).map_or(0, |text| text.chars().take_while(|c| *c == ' ').count());
        Mark { source: mark.source, line: start + line - 1, column: indent + column, length: 1 }
    }

    /// The line of a place, with secrets masked.
    pub(crate) fn snippet(&self, place: &Place) -> Option<String> {
        if place.length == 0 {
            return None;
        }
        let source = self.files.iter().find(|source| source.name == place.file)?;
        let line = source.text.lines().nth(place.line - 1)?;
        Some(mask(line).chars().take(200).collect())
    }

    /// Adds the line of the file to every problem that has a place.
    pub fn with_snippets(&self, mut problems: Vec<Problem>) -> Vec<Problem> {
        for problem in &mut problems {
            problem.snippet = problem.place.as_ref().and_then(|place| self.snippet(place));
        }
        problems
    }
}

/// Replaces literal secrets; references such as `${env:NAME}` stay readable.
fn mask(line: &str) -> String {
    let line = mask_user_information(line);
    let ends = ["_TOKEN", "_KEY", "_SECRET", "_PASSWORD"];
    let mut searched = 0;
    while let Some(colon) = line.get(searched..).and_then(|rest| rest.find(':')).map(|at| at + searched) {
        let (before, after) = line.split_at(colon);
        let key = before.trim_end().trim_end_matches(['"', '\'']);
        let start = key.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
        let key = key.get(start..).unwrap_or_default();
        let value = after.get(1..).unwrap_or_default().trim();
        // The names of service tokens are no secrets.
        let secret = key != "service_token"
            && (SECRET_KEYS.iter().any(|secret| key.eq_ignore_ascii_case(secret))
                || ends.iter().any(|end| key.to_ascii_uppercase().ends_with(end)));
        let harmless = value.is_empty() || value.contains("${") || matches!(value, "|" | ">" | "|-" | ">-");
        if secret && !harmless {
            return format!("{before}: …");
        }
        searched = colon + 1;
    }
    line
}

/// `https://user:password@host` becomes `https://…@host`.
fn mask_user_information(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let authority = after.find(['/', ' ', '"', '\'', ',', '}']).unwrap_or(after.len());
        match after.get(..authority).and_then(|text| text.rfind('@')) {
            Some(end) => {
                out.push('…');
                rest = after.get(end..).unwrap_or_default();
            }
            None => rest = after,
        }
    }
    out + rest
}

/// `cedar: |`, `|-`, `>2`: the value begins on the next line.
fn is_block_header(line: &str) -> bool {
    let line = line.trim_end().trim_end_matches(['-', '+']).trim_end_matches(|c: char| c.is_ascii_digit());
    line.ends_with(['|', '>'])
}

enum Step {
    Key(String),
    Index(usize),
}

/// `servers[2].command.env.A` → servers, 2, command, env, A.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let mut pieces = part.split('[');
        if let Some(key) = pieces.next().filter(|key| !key.is_empty()) {
            steps.push(Step::Key(key.to_owned()));
        }
        for piece in pieces {
            if let Ok(index) = piece.trim_end_matches(']').parse() {
                steps.push(Step::Index(index));
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u4_secrets_are_masked_in_snippets() {
        for (line, shown) in [
            ("    auth_credentials: hunter2", "    auth_credentials: …"),
            ("    auth_credentials: ${env:TOKEN}", "    auth_credentials: ${env:TOKEN}"),
            ("      API_KEY: abc", "      API_KEY: …"),
            ("  - name: x", "  - name: x"),
            ("url: postgres://u:p@h/d", "url: …"),
            ("  - { server_id: a, auth_credentials: hunter2 }", "  - { server_id: a, auth_credentials: …"),
            ("public_url: https://u:p@h/x, http://h", "public_url: https://…@h/x, http://h"),
            ("a: https://h/p@q", "a: https://h/p@q"),
            ("no colon", "no colon"),
        ] {
            assert_eq!(mask(line), shown);
        }
    }
}

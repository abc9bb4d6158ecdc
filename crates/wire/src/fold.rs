//! Names that a lax parser takes for another.

/// True when `name` is not `known` but a parser that ignores case would take it for
/// it. Some JSON libraries (Go's `encoding/json`) do, by Unicode simple folding, so
/// `Name` or `param\u017f` beside `name` or `params` would show the policy one value
/// and the server another.
pub(crate) fn folds_to(name: &str, known: &str) -> bool {
    if name == known {
        return false;
    }
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(known);
    }
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(known.chars().map(fold))
}

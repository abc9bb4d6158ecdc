//! Texts that somebody else chose (names of clients, of people, of providers), made fit to
//! be shown: they can neither take over the page nor pretend to be part of it. Markup is
//! not dealt with here; the templates escape everything.

/// Longest name on a page, characters.
pub(crate) const NAME: usize = 60;
/// Longest sentence on a page, characters.
pub(crate) const SENTENCE: usize = 600;

/// One line of at most `max` characters. Control characters, characters that turn the
/// direction of what follows, and invisible ones are left out; white space is one space;
/// of marks stacked on one letter at most two stay.
pub(crate) fn shown(text: &str, max: usize) -> String {
    let mut out = String::new();
    let (mut count, mut marks, mut space) = (0, 0, false);
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            space = count > 0;
            continue;
        }
        if is_invisible(c) {
            continue;
        }
        marks = if is_mark(c) { marks + 1 } else { 0 };
        if marks > 2 {
            continue;
        }
        if count + usize::from(space) >= max {
            out.push('…');
            break;
        }
        if std::mem::take(&mut space) {
            out.push(' ');
            count += 1;
        }
        out.push(c);
        count += 1;
    }
    out
}

/// [`shown`] as a name, or `otherwise` when nothing is left of it.
pub(crate) fn name(text: &str, otherwise: &str) -> String {
    let name = shown(text, NAME);
    if name.chars().any(char::is_alphanumeric) { name } else { otherwise.to_owned() }
}

/// Marks of direction, zero width, tags and fillers: what can make two texts look alike or
/// a text read differently from what it is.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a19_names_cannot_turn_hide_or_flood() {
        for (given, wanted) in [
            ("Claude Code", "Claude Code"),
            ("  two\t\n lines\r\n", "two lines"),
            ("evil\u{202e}txt.edulc\u{202c}", "eviltxt.edulc"),
            ("a\u{2066}b\u{2069}c\u{200f}d\u{61c}", "abcd"),
            ("Cl\u{200b}au\u{ad}de\u{feff}", "Claude"),
            ("x\u{0}\u{1b}[31m", "x [31m"),
            ("e\u{301}\u{301}\u{301}\u{301}\u{301}", "e\u{301}\u{301}"),
            ("\u{e0041}\u{e0042}", ""),
            ("Überprüfung 工具 🦀", "Überprüfung 工具 🦀"),
        ] {
            assert_eq!(shown(given, 40), wanted, "{given:?}");
        }
    }

    #[test]
    fn a19_long_names_are_cut() {
        let cut = shown(&"ä".repeat(10_000), NAME);
        assert_eq!(cut.chars().count(), NAME + 1);
        assert!(cut.ends_with('…'));
        assert_eq!(shown("abc", 3), "abc");
        assert_eq!(shown("a bc", 3), "a b…");
        assert_eq!(shown("ab c", 3), "ab…");
        // Nothing but marks does not grow either.
        assert!(shown(&"\u{301}".repeat(10_000), NAME).chars().count() <= 2);
    }

    #[test]
    fn a19_a_name_of_nothing_is_said_to_be_none() {
        for nothing in ["", "   ", "\u{202e}\u{200b}", "\u{3164}\u{3164}", "--- ... ---"] {
            assert_eq!(name(nothing, "no name"), "no name", "{nothing:?}");
        }
    }
}

//! Texts that somebody else wrote, made visible: nothing in them acts on a page, a terminal or a
//! line of text, and nothing of them is left out.

/// Every character that shows nothing, turns the direction of others or acts on terminals as
/// `\u{202e}`; all others as they are. Lines stay lines.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_hidden(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// [`visible`] in one line of at most `max` characters; what is cut is said to be.
pub fn brief(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count >= max {
            out.push('…');
            break;
        }
        if is_hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c != ' ' && c.is_whitespace())
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

/// JSON text with line breaks and indents and otherwise as it was sent: every number, member and
/// escape keeps its spelling, so that nothing is shown that is not sent.
pub(crate) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(64)));
    };
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{brief, indented, visible};

    #[test]
    fn w12_hidden_characters_are_shown() {
        for (given, wanted) in [
            ("plain <b>&amp;</b> Ü 工具", "plain <b>&amp;</b> Ü 工具"),
            ("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("a\tb\r\nc", "a\\u{9}b\\u{d}\nc"),
            ("\u{2028}\u{e0041}", "\\u{2028}\\u{e0041}"),
        ] {
            assert_eq!(visible(given), wanted, "{given:?}");
        }
        assert_eq!(brief("one\ntwo three", 7), "one\\u{a}two…");
    }

    #[test]
    fn w12_arguments_keep_their_spelling() {
        let sent = r#"{"n":1e400,"big":12345678901234567890123,"n":2,"s":"a, {\"b\": [1]}\\","e":{},"l":[ ],"d":[1,{"x":null}]}"#;
        let shown = indented(sent);
        for kept in ["1e400", "12345678901234567890123", "\"n\": 2", r#""a, {\"b\": [1]}\\""#, "\"e\": {}", "\"l\": []"]
        {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
        let squeezed: String = shown.lines().map(str::trim_start).collect();
        assert_eq!(squeezed.replace(": ", ":"), sent.replace("[ ]", "[]").replace(": ", ":"));
        // Whatever it is given, it ends.
        for odd in ["", "]]]", "{", "\"", "[[[[", "\\\"{"] {
            indented(odd);
        }
        assert!(indented(&"[".repeat(10_000)).len() < 3_000_000);
    }
}

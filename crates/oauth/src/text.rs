//! Texts of other servers, made fit to be shown and recorded.

/// The text without control characters and without characters that change the direction
/// or are invisible, cut to `max` characters. HTML is for the page to escape.
pub fn printable(text: &str, max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().filter(|c| !hidden(*c)).take(max).collect()
}

/// An error code as it may be shown and recorded; anything else than a word becomes `unknown`.
pub fn error_word(text: &str) -> String {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(good) { text.to_owned() } else { "unknown".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_hostile_texts_lose_what_hides_or_turns() {
        assert_eq!(printable("a\r\nb\u{202e}c\u{200b}d\u{0}\u{feff}\u{e0041}", 100), "abcd");
        assert_eq!(printable("<b>é", 3), "<b>");
        assert_eq!(error_word("access_denied"), "access_denied");
        for bad in ["", "a b", "<script>", "a\n", &"x".repeat(65), "é"] {
            assert_eq!(error_word(bad), "unknown", "{bad:?}");
        }
    }
}

//! The tag of a server: whom an assertion is for.

use aws_lc_rs::digest::{SHA256, digest};

/// Longest configured tag, bytes.
const MAX: usize = 256;

/// The tag of a server that has none configured: 64 hexadecimal digits that depend on the
/// installation (its public URL without final slash) and the id of the server, and on
/// nothing else, so that it stays when the server's own address changes.
pub fn derived_audience(public_url: &str, server: &str) -> String {
    let text = format!("bartizan audience v1\n{}\n{server}", public_url.trim_end_matches('/'));
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text can be the configured tag of a server: 1 to 256 printable ASCII
/// characters without blanks.
pub fn check_audience(text: &str) -> bool {
    (1..=MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a13_the_tag_of_a_server_is_stable_and_its_own() {
        let tag = derived_audience("https://gw.example", "github");
        assert_eq!(tag, derived_audience("https://gw.example/", "github"));
        assert!(tag.len() == 64 && check_audience(&tag));
        assert_ne!(tag, derived_audience("https://gw.example", "github2"));
        assert_ne!(tag, derived_audience("https://other.example", "github"));
        // Where one part ends and the next begins is not for a name to choose.
        assert_ne!(derived_audience("https://a", "b"), derived_audience("https://a\nb", ""));
        for bad in ["", "a b", "a\n", "\u{e4}", &"x".repeat(257)] {
            assert!(!check_audience(bad), "{bad:?}");
        }
    }
}

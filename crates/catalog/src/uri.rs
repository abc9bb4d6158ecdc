//! Resource URIs on portals: which server a URI belongs to is part of the URI, so that
//! equal URIs of two servers stay apart and a read can be routed (feature row P12).
//!
//! `file:///a/b` of server `git` becomes `bartizan+uri://git/file:///a/b`; the original
//! follows byte for byte, so templates stay expandable. `ui://` URIs stay `ui://` URIs,
//! because hosts treat them specially: `ui://board/main` becomes `ui://git/board/main`.

mod normal;

pub use normal::normal;

use bartizan_model::ServerId;

const PREFIX: &str = "bartizan+uri://";
const UI: &str = "ui://";

/// The URI (or URI template) of a server's resource, as a portal shows it.
pub fn wrap(server: &ServerId, uri: &str) -> String {
    match uri.strip_prefix(UI) {
        Some(rest) => [UI, server.as_str(), "/", rest].concat(),
        None => [PREFIX, server.as_str(), "/", uri].concat(),
    }
}

/// Server and original URI of a URI that a portal showed; `None` for any other text.
pub fn unwrap(uri: &str) -> Option<(ServerId, String)> {
    let (rest, scheme) = match uri.strip_prefix(PREFIX) {
        Some(rest) => (rest, ""),
        None => (uri.strip_prefix(UI)?, UI),
    };
    let (server, original) = rest.split_once('/')?;
    // A wrapped `ui://` URI never has this form, so each original has one wrapped form.
    if scheme.is_empty() && original.starts_with(UI) {
        return None;
    }
    Some((ServerId::parse(server).ok()?, [scheme, original].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> ServerId {
        ServerId::parse(text).unwrap()
    }

    #[test]
    fn p12_uris_are_wrapped_reversibly() {
        for (uri, wrapped) in [
            ("file:///a/b?x=1#y", "bartizan+uri://a_b-c/file:///a/b?x=1#y"),
            ("ui://board/main", "ui://a_b-c/board/main"),
            ("ui://", "ui://a_b-c/"),
            ("file:///{path}{?q*}", "bartizan+uri://a_b-c/file:///{path}{?q*}"),
            ("ui://{+page}", "ui://a_b-c/{+page}"),
            ("bartizan+uri://x/y:z", "bartizan+uri://a_b-c/bartizan+uri://x/y:z"),
            ("", "bartizan+uri://a_b-c/"),
            ("not a uri", "bartizan+uri://a_b-c/not a uri"),
            ("UI://Board", "bartizan+uri://a_b-c/UI://Board"),
        ] {
            assert_eq!(wrap(&id("a_b-c"), uri), wrapped);
            assert_eq!(unwrap(wrapped), Some((id("a_b-c"), uri.to_owned())));
        }
    }

    #[test]
    fn p12_other_uris_belong_to_no_server() {
        for uri in [
            "file:///a",
            "bartizan+uri://git",
            "bartizan+uri:///file:///a",
            "bartizan+uri://G/x",
            "bartizan+uri://a.b/x",
            "bartizan+uri://git/ui://x",
            "ui://git",
            "ui:///x",
            "ui://UPPER/x",
            "BARTIZAN+URI://git/x",
            "",
        ] {
            assert_eq!(unwrap(uri), None, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn p12_wrapping_round_trips(server in "[a-z0-9_]{1,8}(-[a-z0-9_]{1,8}){0,2}", uri in any::<String>()) {
            let server = id(&server);
            prop_assert_eq!(unwrap(&wrap(&server, &uri)), Some((server, uri)));
        }

        #[test]
        fn p12_each_wrapped_uri_has_one_spelling(text in "(bartizan\\+uri|ui)://[a-z_-]{0,3}/?.{0,12}") {
            if let Some((server, uri)) = unwrap(&text) {
                prop_assert_eq!(wrap(&server, &uri), text);
            }
        }
    }
}

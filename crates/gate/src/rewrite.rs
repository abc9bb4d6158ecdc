//! Resource URIs of a portal: wrapped on the way out, unwrapped on the way in
//! (feature row P12). Only messages that can hold one are looked into; everything
//! else passes byte for byte.

use bartizan_catalog::uri;
use bartizan_model::ServerId;
use bartizan_wire::{RawJson, splice};
use memchr::memmem;

/// A result of a server, as a portal shows it.
pub(crate) fn result(method: &str, server: &ServerId, raw: &RawJson) -> RawJson {
    if memmem::find(raw.as_bytes(), b"\"uri\"").is_none() {
        return raw.clone();
    }
    match method {
        "tools/call" => in_array(raw, "content", |item| content(server, item)),
        "prompts/get" => in_array(raw, "messages", |message| message_content(server, message)),
        "resources/read" => in_array(raw, "contents", |item| uri_member(server, item, "uri")),
        _ => raw.clone(),
    }
}

/// `params` of `notifications/resources/updated`, as a portal shows them.
pub(crate) fn updated(server: &ServerId, params: &RawJson) -> RawJson {
    uri_member(server, params, "uri")
}

/// Wraps one string member.
pub(crate) fn uri_member(server: &ServerId, object: &RawJson, key: &str) -> RawJson {
    match splice::get(object, key).as_ref().and_then(RawJson::as_string) {
        Some(found) => splice::set(object, key, &RawJson::string(&uri::wrap(server, &found))),
        None => object.clone(),
    }
}

fn in_array(raw: &RawJson, key: &str, mut edit: impl FnMut(&RawJson) -> RawJson) -> RawJson {
    match splice::get(raw, key) {
        Some(array) => {
            let edited = splice::map_items(&array, |item| Some(edit(item)));
            if edited == array { raw.clone() } else { splice::set(raw, key, &edited) }
        }
        None => raw.clone(),
    }
}

/// A content block: `resource_link` has a URI, `resource` holds one inside.
fn content(server: &ServerId, item: &RawJson) -> RawJson {
    match splice::get(item, "type").as_ref().and_then(RawJson::as_string).as_deref() {
        Some("resource_link") => uri_member(server, item, "uri"),
        Some("resource") => match splice::get(item, "resource") {
            Some(inner) => splice::set(item, "resource", &uri_member(server, &inner, "uri")),
            None => item.clone(),
        },
        _ => item.clone(),
    }
}

/// A prompt message: one block, or several.
fn message_content(server: &ServerId, message: &RawJson) -> RawJson {
    match splice::get(message, "content") {
        Some(one) if one.is_object() => splice::set(message, "content", &content(server, &one)),
        Some(_) => in_array(message, "content", |item| content(server, item)),
        None => message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::try_from(text).unwrap()
    }

    fn git() -> ServerId {
        ServerId::parse("git").unwrap()
    }

    #[test]
    fn p12_uris_in_results_are_wrapped() {
        let link = uri::wrap(&git(), "file:///a");
        let cases = [
            (
                "tools/call",
                r#"{"content":[{"type":"text","text":"x","n":1.0},{"type":"resource_link","uri":"file:///a"}]}"#,
                format!(
                    r#"{{"content":[{{"type":"text","text":"x","n":1.0}},{{"type":"resource_link","uri":"{link}"}}]}}"#
                ),
            ),
            (
                "tools/call",
                r#"{"content":[{"type":"resource","resource":{"uri":"file:///a","text":"t"}}]}"#,
                format!(r#"{{"content":[{{"type":"resource","resource":{{"uri":"{link}","text":"t"}}}}]}}"#),
            ),
            (
                "prompts/get",
                r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"file:///a"}}}]}"#,
                format!(
                    r#"{{"messages":[{{"role":"user","content":{{"type":"resource","resource":{{"uri":"{link}"}}}}}}]}}"#
                ),
            ),
            (
                "resources/read",
                r#"{"contents":[{"uri":"file:///a","text":"t"}]}"#,
                format!(r#"{{"contents":[{{"uri":"{link}","text":"t"}}]}}"#),
            ),
        ];
        for (method, before, after) in cases {
            assert_eq!(result(method, &git(), &raw(before)).as_str(), after, "{method}");
        }
    }

    #[test]
    fn p30_what_holds_no_uri_is_untouched() {
        for (method, text) in [
            ("tools/call", r#"{ "content" : [ {"type":"text","text":"see \"uri\" here"} ], "x":1.50 }"#),
            ("tools/call", r#"{"structuredContent":{"uri":"file:///a"},"content":[]}"#),
            ("tools/call", r#"{"content":"odd","uri":1}"#),
            ("tools/call", r#"{"content":[null,7,{"type":"resource_link","uri":5},{"type":"resource"}],"uri":1}"#),
            ("completion/complete", r#"{"completion":{"values":["a"]},"uri":"file:///a"}"#),
        ] {
            assert_eq!(result(method, &git(), &raw(text)).as_str(), text);
        }
    }
}

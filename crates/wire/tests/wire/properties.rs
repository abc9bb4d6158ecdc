//! The fuzz targets over generated input: JSON in odd spellings, JSON with a byte
//! changed, and plain noise. CI runs these; `fuzz/` runs the same targets without end.

use proptest::prelude::*;

use crate::support::{json, object};
use crate::targets;

fn run_all(data: &[u8]) {
    for (_, target) in targets::ALL {
        target(data);
    }
}

/// A whole message with generated members.
fn envelope() -> impl Strategy<Value = String> {
    let method =
        prop::sample::select(vec!["tools/call", "tools/list", "resources/read", "notifications/x", "vendor/y"]);
    let id = prop::sample::select(vec!["1", "\"a\"", "1.0", "-3", "\"\\u0061\"", "null", "1.5"]);
    (method, id, object(), 0..4).prop_map(|(method, id, members, kind)| match kind {
        0 => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{members}}}"#),
        1 => format!(r#" {{"params":{members} ,"method":"{method}", "jsonrpc" : "2.0"}}"#),
        2 => format!(r#"{{"jsonrpc":"2.0","result":{members},"id":{id}}}"#),
        _ => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{members}}}"#),
    })
}

/// An object with members the translation looks at.
fn known_members() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "_meta",
        "tools",
        "name",
        "arguments",
        "resultType",
        "ttlMs",
        "cacheScope",
        "structuredContent",
        "content",
        "inputRequests",
        "requestState",
        "inputResponses",
        "capabilities",
        "serverInfo",
        "extensions",
        "elicitation",
        "notifications",
        "code",
        "message",
        "data",
        "uri",
        "cursor",
        "io.modelcontextprotocol/clientCapabilities",
        "io.modelcontextprotocol/serverInfo",
        "x-mcp-header",
        "properties",
        "type",
        "outputSchema",
        "execution",
        "elicitations",
        "url",
        "mode",
        "method",
        "params",
    ]);
    let leaf = prop_oneof![
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("\"complete\"".to_owned()),
        Just("\"input_required\"".to_owned()),
        Just("\"url\"".to_owned()),
        Just("\"elicitation/create\"".to_owned()),
        Just("-32042".to_owned()),
        Just("-32002".to_owned()),
        Just("\"string\"".to_owned()),
        Just("null".to_owned()),
        json(),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        let members = prop::collection::vec((key.clone(), inner.clone()), 0..5).prop_map(|members| {
            let members: Vec<_> = members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![3 => members, 1 => prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(",")))]
    })
}

proptest! {
    #[test]
    fn o15_targets_hold_for_json(text in json()) {
        run_all(text.as_bytes());
    }

    #[test]
    fn o15_targets_hold_for_messages(text in envelope()) {
        run_all(text.as_bytes());
    }

    #[test]
    fn o15_targets_hold_for_protocol_objects(text in known_members()) {
        run_all(text.as_bytes());
    }

    #[test]
    fn o15_targets_hold_for_damaged_messages(text in envelope(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        run_all(&bytes);
    }

    #[test]
    fn o15_targets_hold_for_noise(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        run_all(&bytes);
    }

    #[test]
    fn o15_targets_hold_for_json_like_noise(text in "[{}\\[\\]\":,0-9eE.+\\-\\\\ untrfalse\n]{0,60}") {
        run_all(text.as_bytes());
    }
}

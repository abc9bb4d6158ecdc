//! What the fuzzer runs, and what the tests run over corpus and generated input. Each
//! function takes any bytes, must not panic by itself, and checks what must hold.

use bartizan_wire::translate::{self, Hop};
use bartizan_wire::{
    ClientProfile, Era, Kind, Limits, Message, Meta, Params, RawJson, RequestId, Revision, RpcError, ask, build,
    canonical, era, headers, list, listen, method, splice, sse,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

const DEEP: Limits = Limits { depth: 512 };

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const ALL: &[(&str, Target)] = &[
    ("envelope", envelope),
    ("sse", sse_stream),
    ("headers", header_values),
    ("params", request_params),
    ("splice", splices),
    ("canonical", canonical_form),
    ("translate", translations),
];

/// The envelope accepts JSON only, exactly where serde_json does, and gives back what it got.
pub fn envelope(data: &[u8]) {
    let ours = RawJson::parse(Bytes::copy_from_slice(data), &DEEP);
    let theirs = serde_json::from_slice::<Box<serde_json::value::RawValue>>(data);
    match (&ours, &theirs) {
        (Ok(raw), Ok(theirs)) => assert_eq!(raw.as_str(), theirs.get().trim()),
        (Err(bartizan_wire::JsonError::Depth), _) | (Err(_), Err(_)) => {}
        _ => panic!("we say {ours:?}, serde_json says {theirs:?}"),
    }
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(batch) = Message::parse_batch(bytes.clone(), &Limits::default()) {
        assert!(!batch.is_empty());
    }
    let Ok(message) = Message::parse(bytes.clone(), &Limits::default()) else { return };
    assert_eq!(message.raw(), &bytes);
    assert_eq!(message.method().is_some(), matches!(message.kind(), Kind::Request | Kind::Notification));
    assert_eq!(message.result().is_some(), message.kind() == Kind::Response);
    assert_eq!(message.error().is_some(), message.kind() == Kind::Error);
    if let Some(error) = message.error() {
        assert_eq!(Some(error.to_raw()), message.raw_error());
    }
    if let Some(id) = message.id() {
        assert_eq!(message.with_id(id), bytes);
        let renamed = message.with_id(&RequestId::number(7));
        let renamed = Message::parse(renamed, &Limits::default()).expect("still a message");
        assert_eq!(renamed.id(), Some(&RequestId::number(7)));
        assert_eq!(renamed.with_id(id), bytes);
    }
    let rebuilt = match (message.kind(), message.id(), message.method()) {
        (Kind::Request, Some(id), Some(method)) => build::request(id, method, message.params().as_ref()),
        (Kind::Notification, _, Some(method)) => build::notification(method, message.params().as_ref()),
        (Kind::Response, Some(id), _) => build::response(id, &message.result().expect("a result")),
        (Kind::Error, id, _) => build::error(id, &message.error().expect("an error")),
        _ => panic!("a kind without its members"),
    };
    let rebuilt = Message::parse(rebuilt, &Limits::default()).expect("what is built can be read");
    assert_eq!((rebuilt.kind(), rebuilt.id(), rebuilt.method()), (message.kind(), message.id(), message.method()));
    assert_eq!(
        (rebuilt.params(), rebuilt.result(), rebuilt.raw_error()),
        (message.params(), message.result(), message.raw_error())
    );
}

/// Chunking never matters; what is encoded can be decoded; memory is bounded.
pub fn sse_stream(data: &[u8]) {
    let max = 256 + data.first().map_or(0, |b| usize::from(*b) * 16);
    let mut whole = sse::Decoder::new(max);
    let mut split = sse::Decoder::new(max);
    let one = whole.push(data);
    let mut many = Ok(Vec::new());
    let step = data.last().map_or(1, |b| usize::from(*b % 7) + 1);
    for chunk in data.chunks(step) {
        match (split.push(chunk), &mut many) {
            (Ok(events), Ok(all)) => all.extend(events),
            (Err(e), all) => {
                *all = Err(e);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(one, many);
    for event in one.unwrap_or_default() {
        assert!(event.data.len() <= max);
        let back = sse::Decoder::new(usize::MAX).push(&sse::encode(&event)).expect("no limit");
        if !event.data.contains(&b'\r') && event.event.as_deref() != Some("") {
            let plain = event.event.is_none() && event.retry.is_none() && event.id.is_none() && event.data.is_empty();
            assert_eq!(back, if plain { vec![] } else { vec![event] });
        }
    }
}

/// Any text survives the value codec; any bytes are decoded or refused.
pub fn header_values(data: &[u8]) {
    let _ = headers::decode_value(data);
    let text = String::from_utf8_lossy(data);
    assert_eq!(headers::decode_value(headers::encode_value(&text).as_bytes()).as_deref(), Ok(&*text));
    assert_eq!(headers::header_value(&text), headers::encode_value(&text));

    let mut map = HeaderMap::new();
    let names =
        [headers::PROTOCOL_VERSION, headers::METHOD, headers::NAME, http::HeaderName::from_static("mcp-param-a")];
    for (name, part) in names.iter().zip(data.split(|b| *b == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(part) {
            map.append(name, value);
        }
    }
    let version = headers::protocol_version(&map);
    for session in [era::Session::Absent, era::Session::Known, era::Session::Unknown] {
        let _ = era::detect(None, version, &text, session);
        let _ = era::detect(version, version, &text, session);
    }
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":1.0}}}"#;
    let message = Message::parse(Bytes::from_static(call), &Limits::default()).expect("a request");
    let params = Params::of(&message).expect("params");
    let _ = headers::check(&map, &message, &params);
    if let Ok(schema) = RawJson::parse(Bytes::copy_from_slice(data), &Limits::default())
        && let Ok(annotated) = headers::param_headers(&schema)
    {
        let _ = headers::check_params(&map, &annotated, params.arguments.as_ref());
        let built: HeaderMap = headers::param_values(&annotated, Some(&schema)).into_iter().collect();
        assert_eq!(headers::check_params(&built, &annotated, Some(&schema)), Ok(()));
    }
}

/// Accepted params have one meaning: serde_json reads the same values.
pub fn request_params(data: &[u8]) {
    let Ok(raw) = RawJson::parse(Bytes::copy_from_slice(data), &Limits::default()) else { return };
    let unique = raw.check_unique();
    let Ok(params) = Params::parse(&raw) else { return };
    if raw.is_object() {
        assert_eq!(unique, Ok(()), "ambiguous params were accepted");
    }
    for info in method::METHODS {
        let _ = params.check(info.name);
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        let text = |key: &str| value.get(key).and_then(|v| v.as_str().map(str::to_owned));
        assert_eq!(params.name, text("name"));
        assert_eq!(params.uri, text("uri"));
        assert_eq!(params.cursor, text("cursor"));
        assert_eq!(params.request_state, text("requestState"));
    }
    if let Some(meta) = &params.meta {
        let _ = ClientProfile::modern(Revision::V2026_07_28, meta);
    }
    if let Ok(profile) = ClientProfile::legacy(&params) {
        let _ = (profile.capability_digest(), profile.client_name(), profile.declares("elicitation.form"));
    }
    let _ = Meta::parse(&raw);
    if let Some(filter) = params.notifications.as_ref().and_then(|raw| listen::Filter::parse(raw).ok()) {
        assert_eq!(listen::Filter::parse(&filter.to_raw()), Ok(filter.clone()));
        assert_eq!(filter.union(&filter).is_empty(), filter.is_empty());
    }
}

/// Edits do what the same edits on a parsed value do, and touch nothing else.
pub fn splices(data: &[u8]) {
    let Ok(raw) = RawJson::parse(Bytes::copy_from_slice(data), &Limits::default()) else { return };
    let new = RawJson::string("new");
    let members = splice::members(&raw);
    for (key, value) in &members {
        if key.contains('\u{fffd}') {
            continue;
        }
        assert_eq!(splice::get(&raw, key).as_ref().map(RawJson::kind), last(&members, key).map(RawJson::kind));
        if members.iter().filter(|(other, _)| other == key).count() == 1 {
            assert_eq!(splice::set(&raw, key, value), raw);
            let changed = splice::set(&raw, key, &new);
            assert_eq!(splice::set(&changed, key, value), raw);
        }
    }
    let keys: Vec<&str> = members
        .iter()
        .map(|(key, _)| key.as_str())
        .chain(["fresh", ""])
        .filter(|k| !k.contains('\u{fffd}'))
        .take(6)
        .collect();
    for key in keys {
        let (set, removed) = (splice::set(&raw, key, &new), splice::remove(&raw, key));
        for edited in [&set, &removed] {
            assert_eq!(RawJson::parse(edited.bytes().clone(), &DEEP).as_ref(), Ok(edited));
        }
        if raw.is_object() {
            assert_eq!(splice::get(&set, key), Some(new.clone()));
            assert_eq!(splice::get(&removed, key), None);
        }
        let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(data) else { continue };
        let Some(object) = value.as_object_mut() else { continue };
        if raw.check_unique().is_ok() {
            let mut without = object.clone();
            without.shift_remove(key);
            object.insert(key.to_owned(), "new".into());
            assert_eq!(set.to::<serde_json::Value>().ok(), Some(value));
            assert_eq!(removed.to::<serde_json::Value>().ok(), Some(without.into()));
        }
    }
    let path = splice::set_path(&raw, &["a", "b"], &new);
    if raw.is_object() {
        assert_eq!(splice::get_path(&path, &["a", "b"]), Some(new));
    }
    assert_eq!(splice::map_items(&raw, |item| Some(item.clone())), raw);
}

fn last<'a>(members: &'a [(String, RawJson)], key: &str) -> Option<&'a RawJson> {
    members.iter().rev().find(|(other, _)| other == key).map(|(_, value)| value)
}

/// The canonical form is a fixed point and means the same.
pub fn canonical_form(data: &[u8]) {
    let Ok(raw) = RawJson::parse(Bytes::copy_from_slice(data), &DEEP) else { return };
    let form = canonical::rfc8785(&raw);
    let again = RawJson::parse(form.clone(), &DEEP).expect("canonical JSON is JSON");
    assert_eq!(canonical::rfc8785(&again), form);
    if let (Ok(a), Ok(b)) = (raw.to::<serde_json::Value>(), again.to::<serde_json::Value>()) {
        assert!(same_value(&a, &b), "{a} became {b}");
    }
}

/// Equal as JSON values. Numbers are compared as doubles, up to the last place, in
/// which serde_json's reader is not exact.
fn same_value(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
            (a - b).abs() <= a.abs().max(b.abs()) * 4.0 * f64::EPSILON
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b)))
        }
        _ => a == b,
    }
}

/// Every translation of any value is JSON again, and between equal eras nothing changes.
pub fn translations(data: &[u8]) {
    let Ok(raw) = RawJson::parse(Bytes::copy_from_slice(data), &Limits::default()) else { return };
    let own = RawJson::empty_object();
    let ok = |out: &RawJson| assert_eq!(RawJson::parse(out.bytes().clone(), &DEEP).as_ref(), Ok(out));
    let pairs = [
        (Revision::V2025_06_18, Revision::V2025_11_25),
        (Revision::V2025_11_25, Revision::V2026_07_28),
        (Revision::V2026_07_28, Revision::V2025_11_25),
        (Revision::V2026_07_28, Revision::V2026_07_28),
    ];
    for (revision, upstream) in pairs {
        let client = ClientProfile { capabilities: raw.clone(), ..ClientProfile::plain(revision) };
        let hop = Hop { capabilities: Some(&raw), server_info: Some(&raw), ..Hop::new(&client, upstream) };
        for method in ["tools/call", "tools/list", "resources/read", "vendor/x"] {
            let params = translate::params(&hop, method, Some(&raw)).expect("params stay");
            let result = translate::result_to(&hop, method, &raw);
            ok(&params);
            ok(&result);
            if hop.same_era() {
                assert_eq!(params, raw);
                if revision.era() == Era::Legacy {
                    assert_eq!(result, raw);
                }
            }
            match translate::error_to(&hop, method, Some("u"), RpcError::from_raw(&raw)) {
                translate::Translated::Error(error) => ok(&error.to_raw()),
                translate::Translated::InputRequired(asks) => assert!(asks.iter().all(|ask| ask.fits(&client))),
            }
            if let Some(page) = list::Page::parse(method, &raw) {
                ok(&page.to_raw(method, Era::Modern));
            }
        }
        for method in ["notifications/message", "notifications/progress"] {
            if let Some(out) = translate::notification(&hop, method, &raw) {
                ok(&out);
            }
        }
        questions(&raw, &client);
    }
    ok(&translate::discover_to_initialize(&raw, Revision::V2025_11_25, &own));
    ok(&translate::initialize_to_discover(&raw));
    ok(&translate::capabilities_to_modern(&raw));
}

fn questions(raw: &RawJson, client: &ClientProfile) {
    let Ok(input) = translate::InputRequired::parse(raw) else { return };
    assert_eq!(translate::InputRequired::parse(&input.to_raw()), Ok(input.clone()));
    for question in &input.asks {
        let _ = translate::ask_to_legacy(question, client, "e");
        let _ = translate::ask_to_modern(question, client);
    }
    if let Some(required) = ask::missing_capabilities(client, &input.asks) {
        assert!(required.is_object());
    }
    let answers: Vec<_> = input.asks.iter().map(|ask| (ask.key.clone(), raw.clone())).collect();
    let retry = translate::retry_params(Some(raw), &answers, input.request_state.as_deref());
    let stripped = translate::strip_retry(&retry);
    assert!(stripped.get("inputResponses").is_none() && stripped.get("requestState").is_none());
}

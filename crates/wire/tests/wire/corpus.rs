//! The golden corpus (P30): whole messages with members nobody knows at every level
//! go through byte for byte; between the eras exactly the written differences appear.

use std::path::{Path, PathBuf};

use bartizan_wire::sse::{Decoder, Event, encode};
use bartizan_wire::translate::{Hop, Translated, error_to, notification, params, result_to};
use bartizan_wire::{
    ClientProfile, Kind, Limits, Message, Params, RawJson, RequestId, Revision, RpcError, build, splice,
};
use bytes::Bytes;

use crate::targets;

fn files(folder: &str) -> Vec<(PathBuf, Bytes)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut found: Vec<_> =
        std::fs::read_dir(&folder).expect("the corpus").map(|e| e.expect("an entry").path()).collect();
    found.sort();
    assert!(found.len() >= 8, "{} is nearly empty", folder.display());
    found.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("readable").into())).collect()
}

#[test]
fn p30_corpus_messages_pass_byte_for_byte() {
    for (path, bytes) in files("forward") {
        let name = path.display();
        let message = Message::parse(bytes.clone(), &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(message.raw(), &bytes, "{name}");
        // Its way out and back under another id.
        if let Some(id) = message.id() {
            let own = message.with_id(&RequestId::number(1 << 40));
            assert_eq!(Message::parse(own, &Limits::default()).expect("still a message").with_id(id), bytes, "{name}");
        }
        // Over an event stream.
        let line = bartizan_wire::raw::one_line(&bytes);
        let events = Decoder::new(1 << 20).push(&encode(&Event::message(line.clone()))).expect("fits");
        assert_eq!(events, [Event::message(line)], "{name}");
        // In a new envelope the members stay what they were.
        let rebuilt = match (message.kind(), message.id()) {
            (Kind::Request, Some(id)) => {
                build::request(id, message.method().expect("method"), message.params().as_ref())
            }
            (Kind::Notification, _) => {
                build::notification(message.method().expect("method"), message.params().as_ref())
            }
            (Kind::Response, Some(id)) => build::response(id, &message.result().expect("result")),
            (Kind::Error, id) => build::error(id, &message.error().expect("error")),
            _ => panic!("{name}"),
        };
        let rebuilt = Message::parse(rebuilt, &Limits::default()).expect("a message");
        assert_eq!(rebuilt.params(), message.params(), "{name}");
        assert_eq!(rebuilt.result(), message.result(), "{name}");
        assert_eq!(rebuilt.raw_error(), message.raw_error(), "{name}");
    }
}

#[test]
fn p30_corpus_members_pass_same_era_translation() {
    for (path, bytes) in files("forward") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let message = Message::parse(bytes, &Limits::default()).expect("a message");
        let revision = if name.starts_with("modern-") { Revision::V2026_07_28 } else { Revision::V2025_11_25 };
        let client = ClientProfile::plain(revision);
        let hop = Hop::new(&client, revision);
        // Results do not say what they answer: the file name does, after `--`.
        let answered = name.split("--").nth(1).map(|rest| rest.trim_end_matches(".json").replace('.', "/"));
        let method = message.method().map(str::to_owned).or(answered).unwrap_or_default();
        assert_eq!(params(&hop, &method, message.params().as_ref()), message.params(), "{name}");
        if let Some(result) = message.result() {
            assert_eq!(result_to(&hop, &method, &result), result, "{name}");
        }
        if let Some(error) = message.error() {
            let Translated::Error(out) = error_to(&hop, &method, None, error) else { panic!("{name}") };
            assert_eq!(Some(out.to_raw()), message.raw_error(), "{name}");
        }
        if message.kind() == Kind::Notification
            && let Some(params) = message.params()
            && method != "notifications/message"
        {
            assert_eq!(notification(&hop, &method, &params), Some(params), "{name}");
        }
        if let Some(raw) = message.params() {
            Params::parse(&raw).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
fn p30_corpus_every_member_can_be_set_to_itself() {
    fn walk(raw: &RawJson, name: &str) {
        for (key, value) in splice::members(raw) {
            if !key.contains('\u{fffd}') {
                assert_eq!(splice::set(raw, &key, &value), *raw, "{name}: {key}");
                let added = splice::set(raw, "zz-new", &value);
                let kept = splice::remove(&added, "zz-new");
                assert_eq!(kept, *raw, "{name}: {key}");
            }
            walk(&value, name);
        }
        for item in splice::items(raw) {
            walk(&item, name);
        }
    }
    for (path, bytes) in files("forward") {
        walk(&RawJson::parse(bytes, &Limits::default()).expect("JSON"), &path.display().to_string());
    }
}

#[test]
fn p7_corpus_between_the_eras_only_the_written_differences() {
    for (path, bytes) in files("cross") {
        let name = path.display();
        let case = RawJson::parse(bytes, &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = |key: &str| case.get(key).and_then(|v| v.as_string().map(String::from));
        let revision = |key: &str| Revision::parse(&text(key).expect(key)).expect("a revision");
        let client = ClientProfile {
            capabilities: case.get("clientCapabilities").unwrap_or_else(RawJson::empty_object),
            client_info: case.get("clientInfo"),
            ..ClientProfile::plain(revision("client"))
        };
        let (capabilities, info) = (case.get("serverCapabilities"), case.get("serverInfo"));
        let hop = Hop {
            capabilities: capabilities.as_ref(),
            server_info: info.as_ref(),
            ..Hop::new(&client, revision("server"))
        };
        let (method, given) = (text("method").expect("method"), case.get("given").expect("given"));
        let got = match text("part").expect("part").as_str() {
            "params" => params(&hop, &method, Some(&given)),
            "result" => Some(result_to(&hop, &method, &given)),
            "notification" => notification(&hop, &method, &given),
            "error" => match error_to(&hop, &method, text("uri").as_deref(), RpcError::from_raw(&given)) {
                Translated::Error(error) => Some(error.to_raw()),
                Translated::InputRequired(_) => panic!("{name}"),
            },
            other => panic!("{name}: {other}"),
        };
        let want = case.get("want").expect("want");
        assert_eq!(got.unwrap_or_else(RawJson::null).as_str(), want.as_str(), "{name}");
    }
}

#[test]
fn o15_hostile_corpus_is_refused_or_survived() {
    for (path, bytes) in files("hostile") {
        let refused = Message::parse(bytes.clone(), &Limits::default()).is_err();
        let ambiguous =
            Message::parse(bytes.clone(), &Limits::default()).ok().is_some_and(|message| Params::of(&message).is_err());
        assert!(refused || ambiguous, "{} was accepted", path.display());
    }
}

#[test]
fn o15_targets_hold_over_the_corpus() {
    for folder in ["forward", "cross", "hostile"] {
        for (_, bytes) in files(folder) {
            for (_, target) in targets::ALL {
                target(&bytes);
                // Cut anywhere, as a broken connection leaves it.
                for end in (0..bytes.len()).step_by(1 + bytes.len() / 40) {
                    target(&bytes[..end]);
                }
            }
        }
    }
}

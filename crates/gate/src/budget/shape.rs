//! Cutting results. Tokens are estimated: four ASCII characters to a token, one for every other
//! character, which is near what models count for English and never far below for the rest.
//! Numbers keep their spelling.

use std::borrow::Cow;

use bartizan_wire::{JsonKind, RawJson, splice};

/// Quarters of a token.
const ASCII: usize = 1;
const OTHER: usize = 4;
/// Most pages of one result; what is longer ends there, and says so.
const MOST_PAGES: usize = 2_000;
/// Most blocks of a result that are looked at, and most members of one object.
const MOST: usize = 4_096;
/// Longest page, tokens: sealed, a page of such characters as cost one token each is still one part.
const LONGEST_PAGE: usize = 90_000;
/// Longest texts and lists that are left inside structured content, step by step.
const STEPS: [(usize, usize); 8] = [(8_192, 512), (2_048, 128), (512, 64), (256, 16), (64, 8), (32, 2), (8, 1), (0, 0)];

/// A result cut to its budget.
pub(super) struct Cut {
    /// The result, whose long members are to be replaced.
    pub(super) rest: RawJson,
    /// What fits of `content`.
    pub(super) content: Vec<RawJson>,
    /// What fits of `structuredContent`, if there is any.
    pub(super) structured: Option<RawJson>,
}

impl Cut {
    /// Tokens of the data.
    pub(super) fn structured_tokens(&self) -> usize {
        self.structured.as_ref().map_or(0, |structured| estimate(structured.as_str()))
    }
}

fn quarters(text: &str) -> usize {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let other = text.chars().count() - ascii;
    ascii * ASCII + other * OTHER
}

fn estimate(text: &str) -> usize {
    quarters(text).div_ceil(4)
}

/// Tokens of what a model reads of a result.
pub(super) fn tokens(result: &RawJson) -> usize {
    let [content, structured] = splice::pick(result, ["content", "structuredContent"]);
    content.iter().chain(&structured).map(|part| estimate(part.as_str())).sum()
}

/// The beginning of a text that fits, at a character.
fn beginning(text: &str, tokens: usize) -> &str {
    let mut left = tokens.saturating_mul(4);
    for (at, c) in text.char_indices() {
        let cost = if c.is_ascii() { ASCII } else { OTHER };
        if cost > left {
            return text.get(..at).unwrap_or_default();
        }
        left -= cost;
    }
    text
}

/// Cuts a result to a budget.
pub(super) fn cut(result: &RawJson, tokens: usize) -> Cut {
    let [content, structured] = splice::pick(result, ["content", "structuredContent"]);
    let blocks = content.as_ref().map(|content| splice::first_items(content, MOST)).unwrap_or_default();
    let needs = structured.as_ref().map_or(0, |structured| estimate(structured.as_str()));
    // Text and data mostly say the same: each gets its half, and what the other leaves.
    let said: usize = blocks.iter().map(|block| estimate(block.as_str())).sum();
    let half = tokens / 2;
    let for_structured = if structured.is_none() { 0 } else { half.max(tokens.saturating_sub(said)).min(needs) };
    let structured = structured.map(|structured| shrink(&structured, for_structured));
    let used = structured.as_ref().map_or(0, |structured| estimate(structured.as_str()));
    Cut { rest: result.clone(), content: fitting(&blocks, tokens.saturating_sub(used)), structured }
}

fn fitting(blocks: &[RawJson], tokens: usize) -> Vec<RawJson> {
    let mut left = tokens;
    let mut kept = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let cost = estimate(block.as_str());
        if cost <= left {
            left -= cost;
            kept.push(block.clone());
            continue;
        }
        match words(block) {
            Some(text) => {
                let text = beginning(&text, left);
                if !text.is_empty() {
                    kept.push(splice::set(block, "text", &RawJson::string(text)));
                }
                break;
            }
            None => {
                let instead = super::text(&left_out(block));
                let cost = estimate(instead.as_str());
                if cost > left {
                    kept.push(super::text(&format!("[{} blocks left out]", blocks.len() - at)));
                    break;
                }
                left -= cost;
                kept.push(instead);
            }
        }
    }
    kept
}

/// The words of a text block.
fn words(block: &RawJson) -> Option<String> {
    let is_text = splice::get(block, "type").is_some_and(|kind| kind.as_string().as_deref() == Some("text"));
    let text = splice::get(block, "text").filter(|_| is_text)?;
    text.as_string().map(Cow::into_owned)
}

/// Stands for a block that is no text.
fn left_out(block: &RawJson) -> String {
    let word = |key: &str| {
        let value = splice::get(block, key)?;
        let value = value.as_string()?;
        Some(value.chars().filter(|c| !c.is_control()).take(64).collect::<String>())
    };
    let what = word("mimeType").or_else(|| word("type")).unwrap_or_else(|| "block".to_owned());
    format!("[{what} of {} bytes left out]", block.len())
}

/// Data that fits, of the same form: texts and lists become shorter, members stay as long as
/// they can.
fn shrink(value: &RawJson, tokens: usize) -> RawJson {
    let fits = |value: &RawJson| estimate(value.as_str()) <= tokens;
    let mut value = value.clone();
    for (longest, most) in STEPS {
        if fits(&value) {
            return value;
        }
        value = shorter(&value, longest, most);
    }
    if fits(&value) {
        return value;
    }
    match value.kind() {
        JsonKind::Object => {}
        JsonKind::Array => return RawJson::array([]),
        JsonKind::String => return RawJson::string(""),
        _ => return RawJson::null(),
    }
    // So many members that even empty they are too long.
    let mut left = tokens.saturating_mul(4).saturating_sub(2);
    let members = splice::first_members(&value, MOST);
    let fitting = members.iter().take_while(|(key, value)| {
        let cost = quarters(key) + quarters(value.as_str()) + 4;
        let fits = cost <= left;
        left = left.saturating_sub(cost);
        fits
    });
    RawJson::object(fitting.map(|(key, value)| (key.as_str(), value)).collect::<Vec<_>>())
}

fn shorter(value: &RawJson, longest: usize, most: usize) -> RawJson {
    match value.kind() {
        JsonKind::String => match value.as_string() {
            Some(text) if text.len() > longest => {
                RawJson::string(text.get(..text.floor_char_boundary(longest)).unwrap_or_default())
            }
            _ => value.clone(),
        },
        JsonKind::Array => {
            let items: Vec<RawJson> =
                splice::first_items(value, most).iter().map(|item| shorter(item, longest, most)).collect();
            RawJson::array(&items)
        }
        JsonKind::Object => {
            let members: Vec<(String, RawJson)> = splice::first_members(value, MOST)
                .into_iter()
                .map(|(key, value)| (key, shorter(&value, longest, most)))
                .collect();
            RawJson::object(members.iter().map(|(key, value)| (key.as_str(), value)))
        }
        _ => value.clone(),
    }
}

/// Everything a result says as text, in pieces that fit.
pub(super) fn pages(result: &RawJson, tokens: usize) -> Vec<String> {
    let (_, whole) = whole(result);
    let mut rest = whole.as_str();
    let mut pages = Vec::new();
    while !rest.is_empty() {
        if pages.len() == MOST_PAGES {
            pages.push(format!("[The rest, {} bytes, is too long for pages.]", rest.len()));
            break;
        }
        let page = beginning(rest, tokens.clamp(1, LONGEST_PAGE));
        pages.push(page.to_owned());
        rest = rest.get(page.len()..).unwrap_or_default();
    }
    pages
}

/// Everything a result says as one text, and its media type.
pub(super) fn whole(result: &RawJson) -> (&'static str, String) {
    let [content, structured] = splice::pick(result, ["content", "structuredContent"]);
    let blocks = content.as_ref().map(|content| splice::first_items(content, MOST)).unwrap_or_default();
    if blocks.len() == MOST {
        return ("application/json", result.as_str().to_owned());
    }
    let texts: Vec<String> = blocks.iter().filter_map(words).collect();
    match (&structured, blocks.len() == texts.len()) {
        // The text of a block beside data mostly is the data.
        (Some(structured), true) if texts.len() <= 1 => ("application/json", structured.as_str().to_owned()),
        (None, true) => ("text/plain", texts.join("\n\n")),
        _ => ("application/json", result.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use bartizan_wire::Limits;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn raw(value: &Value) -> RawJson {
        RawJson::from(value)
    }

    fn valid(value: &RawJson) -> Value {
        RawJson::parse(value.as_str().to_owned(), &Limits::default()).unwrap();
        serde_json::from_str(value.as_str()).unwrap()
    }

    #[test]
    fn p52_structured_content_keeps_its_form() {
        let long = json!({
            "rows": (0..9_000).map(|n| json!({"id": n, "name": "x".repeat(40)})).collect::<Vec<_>>(),
            "next": null, "total": 12_345_678_901_234_567_890_u64, "text": "ü".repeat(9_000),
        });
        for tokens in [40, 100, 1_000, 20_000] {
            let small = shrink(&raw(&long), tokens);
            assert!(estimate(small.as_str()) <= tokens, "{tokens}: {}", small.len());
            let value = valid(&small);
            assert!(value["rows"].is_array() && value["text"].is_string() && value["next"].is_null());
            assert_eq!(value["total"], long["total"]);
        }
        let wide: Value = (0..5_000).map(|n| (format!("key{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
        let small = shrink(&raw(&wide), 50);
        assert!(estimate(small.as_str()) <= 50 && valid(&small)["key0"] == 0);
        assert_eq!(shrink(&raw(&json!("x".repeat(10_000))), 10).kind(), JsonKind::String);
        // A number that is spelled as no library would.
        let odd = RawJson::parse(format!(r#"{{"n":1.000e2,"t":"{}"}}"#, "x".repeat(999)), &Limits::default()).unwrap();
        assert!(shrink(&odd, 20).as_str().contains("1.000e2"));
    }

    #[test]
    fn p52_a_flood_of_blocks_or_members_stays_small() {
        let parse = |text: String| RawJson::parse(text, &Limits::default()).unwrap();
        for flood in ["{},", r#"{"type":"image","data":"x"},"#, "0,"] {
            let many = flood.repeat(4_000_000 / flood.len());
            let result = parse(format!(r#"{{"content":[{many}{{}}],"structuredContent":{{"list":[{many}{{}}]}}}}"#));
            let cut = cut(&result, 500);
            let size: usize = cut.content.iter().map(RawJson::len).sum();
            assert!(size < 6_000 && cut.structured.unwrap().len() < 3_000, "{flood}: {size}");
        }
        let members: String = (0..300_000).map(|n| format!("\"k{n}\":[],")).collect();
        assert!(estimate(shrink(&parse(format!("{{{members}\"z\":0}}")), 100).as_str()) <= 100);
        assert!(shrink(&parse("9".repeat(100_000)), 100).is_null());
    }

    #[test]
    fn p52_blocks_are_cut_at_characters_and_others_are_named() {
        let result = raw(&json!({"content": [
            {"type": "text", "text": "short"},
            {"type": "image", "mimeType": "image/png\u{1b}[2J", "data": "A".repeat(100_000)},
            {"type": "text", "text": "日本語".repeat(2_000)},
            {"type": "text", "text": "never"},
        ], "isError": false}));
        let cut = cut(&result, 200);
        let texts: Vec<String> = cut.content.iter().map(|block| words(block).unwrap()).collect();
        assert_eq!(texts[0], "short");
        assert_eq!(texts[1], "[image/png[2J of 100058 bytes left out]");
        assert!(texts[2].starts_with("日本語") && texts.len() == 3);
        assert!(cut.content.iter().map(|block| estimate(block.as_str())).sum::<usize>() <= 230);
    }

    proptest! {
        #[test]
        fn p52_pages_put_together_are_the_whole(text in ".{0,400}", tokens in 1_usize..40) {
            let result = raw(&json!({"content": [{"type": "text", "text": text}]}));
            let pages = pages(&result, tokens);
            prop_assert_eq!(pages.concat(), text);
            prop_assert!(pages.iter().all(|page| estimate(page) <= tokens));
        }

        #[test]
        fn p52_what_is_cut_stays_json_and_within(
            texts in prop::collection::vec(".{0,60}", 0..6), tokens in 1_usize..200, data in "[a-z\"\\\\é]{0,200}",
        ) {
            let blocks: Vec<Value> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
            let result = raw(&json!({"content": blocks, "structuredContent": {"list": texts, "data": data}}));
            let cut = cut(&result, tokens);
            let structured = cut.structured.unwrap();
            prop_assert!(valid(&structured).is_object());
            prop_assert!(estimate(structured.as_str()) <= tokens.max(1));
            for block in &cut.content { valid(block); }
        }
    }
}

//! `bartizan explain-code`.

use bartizan_config::suggest::nearest;
use serde_json::json;

use crate::codes;
use crate::output::{Done, Failure, OK, Out};

pub(crate) fn run(code: Option<&str>, out: Out) -> Done {
    let Some(code) = code else {
        let pages = codes::pages();
        let list: Vec<_> = pages.iter().map(|page| json!({"code": page.code, "refusal": page.refusal})).collect();
        out.either(&json!({"codes": list}), || pages.iter().map(|page| format!("{}\n", page.code)).collect());
        return Ok(OK);
    };
    match codes::find(code) {
        Some(page) => {
            let value = json!({"code": page.code, "refusal": page.refusal, "page": page.text});
            out.either(&value, || format!("{}\n", page.text.trim_end()));
            Ok(OK)
        }
        None => {
            let pages = codes::pages();
            let near = nearest(code, pages.iter().map(|page| page.code.as_str()));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let shown: String = code.chars().take(60).collect();
            Err(Failure::refused("unknown_code", format!("there is no code `{shown}`{hint}")))
        }
    }
}

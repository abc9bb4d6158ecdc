//! `pat_user`: a token that each person types on a page.

use bartizan_catalog::ServerSpec;
use bartizan_identity::{Action, PageProblem};
use bartizan_model::{Principal, Secret};
use http::StatusCode;

use crate::account::{ClientKind, PAT, Place, Stored};
use crate::accounts::{AccountError, Inner};

/// Longest token, bytes: it becomes a header.
const MAX_TOKEN: usize = 8192;

fn problem(text: &'static str) -> PageProblem {
    PageProblem::new(StatusCode::BAD_REQUEST, "connect_token", "This is not a token", text)
        .hint("Copy it once more, all of it and nothing else.")
}

/// What was typed, if it can be a header: nothing in it may begin another one.
fn check(text: &str) -> Result<&str, PageProblem> {
    let token = text.trim();
    if token.is_empty() {
        return Err(problem("Nothing was typed."));
    }
    if token.len() > MAX_TOKEN {
        return Err(problem("It is too long."));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(problem("It has a space, a line break or a character that tokens do not have."));
    }
    Ok(token)
}

pub(super) async fn store(
    inner: &Inner,
    spec: &ServerSpec,
    principal: &Principal,
    token: &Secret<String>,
) -> Result<(), PageProblem> {
    let place = Place::of(spec, principal).map_err(PageProblem::from)?;
    if !place.is_pat() {
        return Err(AccountError::Misconfigured("the server takes no typed tokens".to_owned()).into());
    }
    let token = check(token.expose())?;
    let now = inner.deps.clock.now_ms();
    let stored = Stored {
        access: Some(token.to_owned()),
        refresh: None,
        issued_ms: now,
        expires_ms: None,
        issuer: PAT.to_owned(),
        server_url: place.url.to_owned(),
        resource: String::new(),
        client_kind: ClientKind::Configured,
        client_id: String::new(),
        scopes: String::new(),
        connected_ms: now,
        whom: None,
    };
    let done = inner.store_connected(&place, &stored).await;
    inner.event(&place, Action::Connect, done.is_ok(), PAT, None);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p17_a_typed_token_cannot_smuggle_a_header() {
        for good in ["ghp_abc", " ghp_abc\r\n", "a:b/c+d==", "\tx\t"] {
            assert_eq!(check(good).unwrap(), good.trim(), "{good:?}");
        }
        for bad in ["", "  ", "a b", "a\r\nX-Admin: 1", "a\nb", "a\0b", "t\u{f6}ken", "a\u{85}b", &"x".repeat(8193)] {
            let refused = check(bad).unwrap_err();
            assert!(!format!("{refused:?}").contains("X-Admin"), "{refused:?}");
        }
    }
}

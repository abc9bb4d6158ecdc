//! What the fuzzer runs, and what the tests run over corpus and generated input: takes any
//! bytes, must not panic by itself, and checks what must hold.

use bartizan_scim::fuzz;

/// A user with something in every kind of attribute.
pub const USER: &str = r#"{
  "userName": "Ana@corp.example", "title": "Dr", "active": true, "externalId": "0-Aa",
  "name": {"givenName": "Ana", "familyName": "O'Brien \"B\""},
  "emails": [{"value": "ana@corp.example", "type": "work", "primary": true}, {"value": "a@home.example", "type": "home"}],
  "addresses": [{"locality": "Malm\u00f6"}],
  "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "Tours", "manager": {"value": "7"}}
}"#;

/// Longest filter that is read, bytes.
const MAX_LENGTH: usize = 4_096;

/// A filter on the first line, and a user on the others. What is read as a filter is one
/// whole: it means in brackets what it means alone, so that nothing in it closes a bracket of
/// a larger one; and it fits or it does not.
pub fn filters(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (filter, user) = text.split_once('\n').unwrap_or((text, USER));
    for user in [user, USER] {
        let Some(fits) = fuzz(filter, user) else { continue };
        assert!(filter.len() <= MAX_LENGTH, "{} bytes are read", filter.len());
        for (larger, wanted) in [
            (format!("({filter})"), fits),
            (format!("not ({filter})"), !fits),
            (format!("({filter}) and ({filter})"), fits),
            (format!("({filter}) and not ({filter})"), false),
            (format!("not ({filter}) or ({filter})"), true),
            (format!("title pr and not (title pr) or {filter}"), fits),
        ] {
            // It may be too long or too deep now.
            if let Some(found) = fuzz(&larger, user) {
                assert_eq!(found, wanted, "{larger:?} of {user}");
            }
        }
    }
}

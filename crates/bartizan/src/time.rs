//! Times for people: UTC, RFC 3339.

pub(crate) use bartizan_model::clock::rfc3339;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_with_the_parser_of_grants() {
        for ms in [0, 951_782_400_000, 1_785_196_800_123, -1, 4_102_444_799_999] {
            let text = rfc3339(ms);
            assert_eq!(bartizan_policy::parse_rfc3339(&text), Some(ms), "{text}");
        }
    }
}

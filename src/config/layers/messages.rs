//! What the parsers of TOML say, in plain words. A value is not repeated: it may be a secret in the wrong place.

/// Returns the message of a parser's error as the end of a sentence.
pub(in crate::config) fn in_plain_words(message: &str) -> String {
    let message = message.trim();
    if let Some((_, expected)) = split_after(message, "unknown variant ") {
        return format!("must be {}", quoted(expected));
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return format!("unknown key {}", rest.split('`').next().unwrap_or_default());
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        return format!("{} is missing", rest.trim_end_matches('`'));
    }
    if let Some((_, expected)) = split_after(message, "invalid type: ") {
        return format!("must be {}", type_name(expected));
    }
    if let Some((_, expected)) = split_after(message, "invalid value: ") {
        return format!("is out of range: it must be {}", type_name(expected));
    }
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Splits `{prefix}{found}, expected {expected}`.
fn split_after<'a>(message: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(prefix)?.rsplit_once(", expected ")
}

/// Turns "one of `a`, `b`" and "`a` or `b`" into a list in the quotes of TOML.
fn quoted(expected: &str) -> String {
    expected.replace('`', "\"")
}

/// Returns the words for a type that a parser expected.
fn type_name(expected: &str) -> &str {
    match expected {
        "a string" | "string" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i64" => "a whole number",
        "f64" => "a number",
        named if named.starts_with("struct ") => "a table",
        nonzero if nonzero.starts_with("a nonzero") => "a whole number above 0",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::in_plain_words;

    #[test]
    fn values_are_not_repeated() {
        for (said, plain) in [
            ("unknown variant `sk-1`, expected `on` or `off`", "must be \"on\" or \"off\""),
            ("unknown variant `sk-1, expected x`, expected one of `a`, `b`, `c`", "must be one of \"a\", \"b\", \"c\""),
            ("unknown field `key`, expected one of `name`, `weight`", "unknown key key"),
            ("missing field `name`", "name is missing"),
            ("invalid type: string \"sk-1\", expected u32", "must be a whole number that is not negative"),
            ("invalid type: string \"a, expected b\", expected a boolean", "must be true or false"),
            (
                "invalid value: integer `-1`, expected u64",
                "is out of range: it must be a whole number that is not negative",
            ),
            ("invalid type: integer `5`, expected struct Price", "must be a table"),
            ("\"1x\" is not\nWIDTHxHEIGHT\n", "\"1x\" is not WIDTHxHEIGHT"),
        ] {
            assert_eq!(in_plain_words(said), plain);
        }
    }
}

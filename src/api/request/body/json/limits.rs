//! Limits the nesting and the number of values of a body while it arrives, so that it is refused before it is stored.
//!
//! This is no parser: it tells strings from the rest and counts brackets and commas. Whether the body is JSON is found when
//! it is parsed.

use memchr::memchr2;

use super::BYTE_ORDER_MARK;
use super::problems::no_object;
use crate::api::error::ApiError;

/// Counts depth and values of a JSON body.
#[derive(Debug)]
pub(super) struct JsonLimits {
    depth: u32,
    depth_max: u32,
    values: u32,
    values_max: u32,
    state: ScanState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanState {
    /// Only white space so far, behind this many bytes of a byte order mark.
    Start(usize),
    Outside,
    InString,
    /// After a backslash.
    Escaped,
}

impl JsonLimits {
    pub(super) fn new(depth_max: u32, values_max: u32) -> Self {
        Self { depth: 0, depth_max, values: 0, values_max, state: ScanState::Start(0) }
    }

    /// Checks the next bytes.
    ///
    /// # Errors
    ///
    /// [`ApiError::MalformedBody`], naming the limit.
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> Result<(), ApiError> {
        while let Some((&first, rest)) = bytes.split_first() {
            bytes = match self.state {
                ScanState::Escaped => {
                    self.state = ScanState::InString;
                    rest
                }
                ScanState::InString => match memchr2(b'"', b'\\', bytes) {
                    Some(at) => {
                        self.state = if bytes[at] == b'"' { ScanState::Outside } else { ScanState::Escaped };
                        &bytes[at + 1..]
                    }
                    None => return Ok(()),
                },
                ScanState::Start(count) if BYTE_ORDER_MARK.get(count) == Some(&first) => {
                    self.state = ScanState::Start(count + 1);
                    rest
                }
                ScanState::Start(_) if first.is_ascii_whitespace() => rest,
                ScanState::Start(_) if first != b'{' => return Err(malformed(no_object(first).to_owned())),
                ScanState::Start(_) | ScanState::Outside => {
                    self.outside(first)?;
                    rest
                }
            };
        }
        Ok(())
    }

    /// Whether there was nothing but white space.
    pub(super) fn is_blank(&self) -> bool {
        matches!(self.state, ScanState::Start(_))
    }

    fn outside(&mut self, byte: u8) -> Result<(), ApiError> {
        self.state = ScanState::Outside;
        match byte {
            b'"' => self.state = ScanState::InString,
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > self.depth_max {
                    return Err(malformed(format!(
                        "it is nested deeper than {} levels (server.json_depth_max)",
                        self.depth_max
                    )));
                }
                self.count()?;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' => self.count()?,
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), ApiError> {
        self.values += 1;
        if self.values > self.values_max {
            return Err(malformed(format!("it has more than {} values (server.json_values_max)", self.values_max)));
        }
        Ok(())
    }
}

fn malformed(problem: String) -> ApiError {
    ApiError::MalformedBody { problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8], chunk: usize) -> String {
        let mut structure = JsonLimits::new(4, 10);
        let checked = body.chunks(chunk).try_for_each(|chunk| structure.check(chunk));
        checked.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn limits_hold_however_a_body_is_chunked() {
        let cases = [
            (r#"{"a":[[[1]]]}"#, ""),
            (r#"{"a":[[[[1]]]]}"#, "json_depth_max"),
            (r#"{"a":"[[[[[[[[[[[[,,,,,,,,,,,,,,,\"[[[[[[[[[[\\","b":[[[1]]]}"#, ""),
            (r#"{"a":[1,2,3,4,5,6,7,8,9]}"#, ""),
            (r#"{"a":[1,2,3,4,5,6,7,8,9,10]}"#, "json_values_max"),
            (r#"{"a":{},"b":{},"c":{},"d":{},"e":{},"f":{}}"#, "json_values_max"),
            ("\n\t {", ""),
            (" [1]", "a JSON array"),
            ("\"{", "a JSON string"),
            ("\u{feff} {", ""),
            ("}}}}{{{{", "not a JSON object"),
            ("{]]]]]}}}[[[[", ""),
        ];
        for (body, expected) in cases {
            for chunk in 1..=body.len() {
                let got = message(body.as_bytes(), chunk);
                assert_eq!(got.is_empty(), expected.is_empty(), "{body} by {chunk}: {got}");
                assert!(got.contains(expected), "{body} by {chunk}: {got}");
            }
        }
    }
}

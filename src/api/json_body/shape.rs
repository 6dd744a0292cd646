//! How deep a body is nested and how much is in it, counted while it arrives: what goes too far is refused at once, and
//! not when all of it has been stored.
//!
//! This is no parser. It tells strings from the rest and counts brackets and commas; whether the whole is JSON is found by
//! reading it.

use memchr::memchr2;

use crate::api::error::ApiError;

/// What was seen of a body so far.
#[derive(Debug)]
pub(super) struct Shape {
    depth: u32,
    depth_max: u32,
    values: u32,
    values_max: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing but white space has come.
    Start,
    Outside,
    InString,
    /// Behind a backslash.
    Escaped,
}

impl Shape {
    pub(super) fn new(depth_max: u32, values_max: u32) -> Self {
        Self { depth: 0, depth_max, values: 0, values_max, place: Place::Start }
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    ///
    /// [`ApiError::MalformedBody`], naming the limit.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), ApiError> {
        while let Some((&first, rest)) = bytes.split_first() {
            bytes = match self.place {
                Place::Escaped => {
                    self.place = Place::InString;
                    rest
                }
                Place::InString => match memchr2(b'"', b'\\', bytes) {
                    Some(at) => {
                        self.place = if bytes[at] == b'"' { Place::Outside } else { Place::Escaped };
                        &bytes[at + 1..]
                    }
                    None => return Ok(()),
                },
                Place::Start if first.is_ascii_whitespace() => rest,
                Place::Start if first != b'{' => return Err(malformed("it is not a JSON object".to_owned())),
                Place::Start | Place::Outside => {
                    self.outside(first)?;
                    rest
                }
            };
        }
        Ok(())
    }

    fn outside(&mut self, byte: u8) -> Result<(), ApiError> {
        self.place = Place::Outside;
        match byte {
            b'"' => self.place = Place::InString,
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

    fn verdict(body: &[u8], chunk: usize) -> String {
        let mut shape = Shape::new(4, 10);
        let taken = body.chunks(chunk).try_for_each(|chunk| shape.take(chunk));
        taken.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn limits_hold_however_a_body_is_cut() {
        let cases = [
            (r#"{"a":[[[1]]]}"#, ""),
            (r#"{"a":[[[[1]]]]}"#, "json_depth_max"),
            (r#"{"a":"[[[[[[[[[[[[,,,,,,,,,,,,,,,\"[[[[[[[[[[\\","b":[[[1]]]}"#, ""),
            (r#"{"a":[1,2,3,4,5,6,7,8,9]}"#, ""),
            (r#"{"a":[1,2,3,4,5,6,7,8,9,10]}"#, "json_values_max"),
            (r#"{"a":{},"b":{},"c":{},"d":{},"e":{},"f":{}}"#, "json_values_max"),
            ("\n\t {", ""),
            (" [1]", "not a JSON object"),
            ("\"{", "not a JSON object"),
            ("}}}}{{{{", "not a JSON object"),
            ("{]]]]]}}}[[[[", ""),
        ];
        for (body, expected) in cases {
            for chunk in 1..=body.len() {
                let got = verdict(body.as_bytes(), chunk);
                assert_eq!(got.is_empty(), expected.is_empty(), "{body} by {chunk}: {got}");
                assert!(got.contains(expected), "{body} by {chunk}: {got}");
            }
        }
    }
}

//! The error codes of the client API, from the table in `src/api/error/errors.md`, which a test holds to the code.

/// The table as people read it.
const TABLE: &str = include_str!("../api/error/errors.md");

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorCode<'a> {
    /// The kind of error; several rows may have the same.
    pub(super) name: &'a str,
    pub(super) status: &'a str,
    pub(super) error_type: &'a str,
    pub(super) code: &'a str,
    /// `true` or `false`, perhaps with the name of another header.
    pub(super) retry: &'a str,
    /// Whether a retry can pay again.
    pub(super) pays_again: &'a str,
}

impl<'a> ErrorCode<'a> {
    /// Reads an error of the operator's listener, `404 not_found`; `None` for the name of a row.
    pub(super) fn of_operator(text: &'a str) -> Option<Self> {
        let (status, code) = text.split_once(' ')?;
        let number: u16 = status.parse().ok()?;
        let error_type = if number < 500 { "invalid_request_error" } else { "server_error" };
        let retry = if number == 429 { "with retry-after" } else { "" };
        Some(Self { name: text, status, error_type, code, retry, pays_again: "" })
    }

    /// Whether it is a line of text, and no JSON.
    pub(super) fn is_text(self) -> bool {
        self.code == "text"
    }

    pub(super) fn has_retry_after(self) -> bool {
        self.retry.contains("retry-after")
    }

    /// Whether the answer names the job that goes on.
    pub(super) fn names_job(self) -> bool {
        self.pays_again.contains("joins")
    }
}

/// Returns all rows, in the order of the table.
pub(super) fn all() -> impl Iterator<Item = ErrorCode<'static>> {
    TABLE.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [name, status, error_type, code, _, retry, pays_again] = cells[..] else { return None };
        // The heading and the rule below it have no number.
        status.parse::<u16>().ok()?;
        let [error_type, code] = [error_type, code].map(|text| text.trim_matches('`'));
        Some(ErrorCode { name, status, error_type, code, retry, pays_again })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_read() {
        let lines = TABLE.lines().filter(|line| line.starts_with('|')).count();
        assert_eq!(all().count(), lines - 2, "all lines but the heading and the rule below it");
        let wrong = all().find(|row| row.name == "WrongKey").unwrap();
        assert_eq!((wrong.status, wrong.error_type, wrong.code), ("401", "invalid_request_error", "invalid_api_key"));
        assert!(all().any(|row| row.name == "Restarting" && row.names_job() && row.has_retry_after()));
    }
}

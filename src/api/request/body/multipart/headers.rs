//! The head of a part, line by line.

use super::splitter::SplitError;

/// Most lines of a head.
const HEADERS_MAX: usize = 32;

/// The headers of a part that say something of its bytes. Of several of one name, the last counts.
#[derive(Debug, Default)]
pub(super) struct PartHeaders<'h> {
    pub(super) disposition: Option<&'h [u8]>,
    pub(super) content_type: Option<&'h [u8]>,
    pub(super) transfer_encoding: Option<&'h [u8]>,
}

impl<'h> PartHeaders<'h> {
    pub(super) fn parse(head: &'h [u8]) -> Result<Self, SplitError> {
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(head, &mut lines) else {
            return Err(SplitError::UnreadableHead);
        };
        let mut headers = Self::default();
        for line in lines {
            let is_named = |name: &str| line.name.eq_ignore_ascii_case(name);
            if is_named("content-disposition") {
                headers.disposition = Some(line.value);
            } else if is_named("content-type") {
                headers.content_type = Some(line.value);
            } else if is_named("content-transfer-encoding") {
                headers.transfer_encoding = Some(line.value);
            }
        }
        Ok(headers)
    }
}

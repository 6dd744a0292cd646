//! The edge in front of the service, which refuses calls before the service sees them.

use serde::{Deserialize, Serialize};

/// `[edge]`: calls that the edge refuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edge {
    /// The page in place of an answer.
    pub page: EdgePage,
    /// The paths that are refused, by their beginning; empty for all but downloads.
    pub paths: Vec<String>,
    /// Bytes of a body that `page_413` accepts.
    pub body_bytes_max: usize,
}

choices! {
    /// The page with which the edge refuses a call.
    EdgePage {
        /// None: the call reaches the service.
        #[default]
        None,
        /// 403, HTML, error 1010: the client is banned.
        #[serde(rename = "page_403_1010")]
        Page403Banned,
        /// The same as plain text: `error code: 1010`.
        #[serde(rename = "text_403_1010")]
        Text403Banned,
        /// 403, HTML, with `cf-mitigated: challenge`.
        #[serde(rename = "page_403_challenge")]
        Page403Challenge,
        /// 403, HTML, without a code.
        #[serde(rename = "page_403")]
        Page403,
        /// 404, HTML.
        #[serde(rename = "page_404")]
        Page404,
        /// 405, HTML.
        #[serde(rename = "page_405")]
        Page405,
        /// 408, HTML.
        #[serde(rename = "page_408")]
        Page408,
        /// 409, HTML.
        #[serde(rename = "page_409")]
        Page409,
        /// 413, HTML, for bodies above `body_bytes_max`.
        #[serde(rename = "page_413")]
        Page413,
        /// 425, HTML.
        #[serde(rename = "page_425")]
        Page425,
        /// 499, HTML.
        #[serde(rename = "page_499")]
        Page499,
    }
}

impl EdgePage {
    /// Returns the status; none where the call reaches the service.
    pub(crate) fn status(self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::Page403Banned | Self::Text403Banned | Self::Page403Challenge | Self::Page403 => Some(403),
            Self::Page404 => Some(404),
            Self::Page405 => Some(405),
            Self::Page408 => Some(408),
            Self::Page409 => Some(409),
            Self::Page413 => Some(413),
            Self::Page425 => Some(425),
            Self::Page499 => Some(499),
        }
    }
}

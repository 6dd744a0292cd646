//! Where clients reach the gateway, and by which names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::unix_socket::{self, FileMode};
use super::{Error, PageOrigin};
use crate::config::{optional_path, optional_url, seconds};
use crate::model::{HostName, unreachable_from_outside};

/// The addresses of the client listener, and those that clients are given.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AddressConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) hosts: Vec<HostName>,
    pub(crate) cors_origins: Vec<PageOrigin>,
    #[serde(deserialize_with = "optional_url")]
    pub(crate) public_url: Option<Url>,
    #[serde(rename = "result_url_ttl_s", deserialize_with = "seconds")]
    pub(crate) result_url_ttl: Duration,
    #[serde(deserialize_with = "optional_path")]
    pub(crate) unix_socket: Option<PathBuf>,
    pub(crate) unix_socket_mode: FileMode,
    pub(crate) picture_addresses: PictureAddresses,
}

/// Which addresses of pictures the upstream may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PictureAddresses {
    /// Those that can be reached from outside.
    Public,
    /// The upstream is in the same network.
    Any,
}

impl AddressConfig {
    /// Returns whether the upstream may be able to reach the host of an address.
    pub(crate) fn is_reachable(&self, address: &Url) -> bool {
        match self.picture_addresses {
            PictureAddresses::Any => address.has_host(),
            PictureAddresses::Public => address.host_str().is_some_and(|host| unreachable_from_outside(host).is_none()),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.unix_socket.as_deref().map_or(Ok(()), unix_socket::check_path)
    }
}

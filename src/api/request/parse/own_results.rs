//! Pictures that a request gives as addresses: those of the gateway's own results become the stored bytes, and those that
//! the image service cannot reach are refused.
//!
//! An address of a result is a capability and leads to this gateway, so it is never passed on. Its signature is the proof
//! that it is one; the host does not matter, because a gateway has many names.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use url::Url;

use super::ParseServices;
use crate::api::error::ApiError;
use crate::api::request::body::form::{Form, image_name};
use crate::config::PictureAddresses;
use crate::model::picture::read_full;
use crate::model::{ByteSource, Input, unreachable_from_outside};
use crate::storage::spool::Upload;

/// Bytes that are copied at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// The gateway's own results, by their addresses.
pub(crate) trait OwnResults: fmt::Debug + Sync {
    /// Returns the picture of an address, as `GET` of it would.
    fn open<'a>(&'a self, address: &'a Url) -> BoxFuture<'a, Result<OwnAddress, ApiError>>;

    /// Returns whether the operator lists a host as a name of this gateway.
    fn lists_host(&self, host: &str) -> bool;
}

/// What an address is to this gateway.
#[derive(Debug)]
pub(crate) enum OwnAddress {
    Result(Arc<dyn ByteSource>),
    /// It is one of this gateway's, but leads to no picture; why, as the end of a sentence.
    Invalid(&'static str),
    /// It looks like one, and nothing proves that this gateway made it; why it would be refused.
    Doubtful(&'static str),
    Foreign,
}

/// Puts the pictures of the gateway's own results in the place of their addresses, and checks the other addresses.
///
/// # Errors
///
/// [`ApiError::BadPictureAddress`] for the first that leads nowhere; those of the spool and of the store.
pub(super) async fn resolve(form: &mut Form, services: ParseServices<'_>) -> Result<(), ApiError> {
    let images = form.images.iter_mut().enumerate().map(|(index, input)| (Some(index), input));
    let mask = form.mask.iter_mut().map(|mask| (None, mask));
    let mut upload = None;
    for (index, input) in images.chain(mask) {
        let Input::Link(text) = &*input else { continue };
        let param = index.map_or("mask".to_owned(), image_name);
        let refused = |problem: &str| ApiError::BadPictureAddress { param: param.clone(), problem: problem.to_owned() };
        let address: Url = text.parse().map_err(|_| refused("the address is not a valid URL"))?;
        let own = match services.own_results {
            Some(results) => results.open(&address).await?,
            None => OwnAddress::Foreign,
        };
        let source = match own {
            OwnAddress::Result(source) => source,
            OwnAddress::Invalid(problem) => return Err(refused(problem)),
            OwnAddress::Doubtful(problem) if is_own_host(&address, services) => {
                return Err(refused(problem));
            }
            OwnAddress::Doubtful(_) | OwnAddress::Foreign => {
                check(&address, services.server.addresses.picture_addresses).map_err(|problem| refused(&problem))?;
                continue;
            }
        };
        let failed = |error| ApiError::from_spool(error, &param);
        let upload: &mut Upload = match &mut upload {
            Some(upload) => upload,
            None => upload.insert(services.spool.upload(None).await.map_err(failed)?),
        };
        let mut writer = upload.picture(services.server.bodies.bytes_max);
        let mut offset = 0;
        while offset < source.size() {
            let chunk = read(&source, offset).await?;
            offset += chunk.len() as u64;
            writer.write(chunk).await.map_err(failed)?;
        }
        let (picture, source) = writer.finish().await.map_err(failed)?;
        *input = Input::Bytes { picture, source };
    }
    Ok(())
}

/// Reads a piece, off the asynchronous threads where it is not in memory.
async fn read(source: &Arc<dyn ByteSource>, offset: u64) -> Result<Bytes, ApiError> {
    if let Some(bytes) = source.in_memory() {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        return Ok(bytes.slice(start..));
    }
    let source = Arc::clone(source);
    let piece = tokio::task::spawn_blocking(move || read_full(&*source, offset, CHUNK_BYTES)).await;
    let problem = |error: String| ApiError::internal(format!("a stored picture cannot be read: {error}"));
    let piece = piece.map_err(|error| problem(error.to_string()))?.map_err(|error| problem(error.to_string()))?;
    if piece.is_empty() {
        return Err(problem("it was cut while it was read".to_owned()));
    }
    Ok(piece.into())
}

/// Returns whether the host of an address is one under which clients reach this gateway.
fn is_own_host(address: &Url, services: ParseServices<'_>) -> bool {
    let Some(host) = address.host_str() else { return false };
    let public = services.server.addresses.public_url.as_ref().and_then(Url::host_str);
    public.is_some_and(|public| public == host.trim_end_matches('.'))
        || services.own_results.is_some_and(|results| results.lists_host(host))
        || unreachable_from_outside(host).is_some()
}

/// Checks that the image service may be able to reach an address.
///
/// # Errors
///
/// Why not, as the beginning of a sentence. Of the address, only the host is repeated.
fn check(address: &Url, allowed: PictureAddresses) -> Result<(), String> {
    if !address.username().is_empty() || address.password().is_some() {
        return Err(
            "the address contains a user name or a password, which would be passed on to the image service".to_owned()
        );
    }
    let Some(host) = address.host_str() else { return Err("the address names no host".to_owned()) };
    if address.port() == Some(0) {
        return Err("the address has the port 0, which no server has".to_owned());
    }
    match allowed.unreachable(host) {
        Some(class) => Err(format!(
            "the image service cannot reach the host '{}', {class}",
            host.chars().take(100).collect::<String>()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_the_service_cannot_reach_are_refused_with_the_reason() {
        for (address, part) in [
            ("http://localhost:9/a.png", "'localhost', the machine of the reader itself"),
            ("http://LOCALHOST./a.png", "machine of the reader"),
            ("https://app.localhost/a.png", "machine of the reader"),
            ("http://127.0.0.1:8188/view?filename=a.png", "'127.0.0.1', a loopback address"),
            ("http://127.1/a.png", "a loopback address"),
            ("http://localhost../a.png", "machine of the reader"),
            ("http://10.0.0.1../a.png", "a private address"),
            ("http://minio../a.png", "a name of a local network"),
            ("http://a..b/a.png", "which is no name"),
            ("http://.example.com/a.png", "which is no name"),
            ("http://2130706433/a.png", "'127.0.0.1', a loopback address"),
            ("http://0x7f000001/a.png", "a loopback address"),
            ("http://0177.0.0.1/a.png", "a loopback address"),
            ("http://0/a.png", "a reserved address"),
            ("http://[::1]/a.png", "a loopback address"),
            ("http://[::ffff:192.168.0.1]/a.png", "a private address"),
            ("http://10.1.2.3/a.png", "a private address"),
            ("https://192.168.1.20/a.png", "a private address"),
            ("http://172.17.0.1:3000/a.png", "a private address"),
            ("http://169.254.169.254/latest/meta-data", "metadata service"),
            ("http://169.254.7.7/a.png", "a link-local address"),
            ("http://100.64.1.1/a.png", "carrier's NAT"),
            ("http://198.18.0.5/a.png", "fake-IP"),
            ("http://[fd12::1]/a.png", "a private address"),
            ("http://nas.local/a.png", "a name of a local network"),
            ("http://minio.internal/a.png", "a name of a local network"),
            ("http://minio:9000/a.png", "a name of a local network"),
            ("http://host.docker.internal/a.png", "a name of a local network"),
            ("https://me:secret@example.com/a.png", "a user name or a password"),
            ("https://me@example.com/a.png", "a user name or a password"),
            ("https://:secret@example.com/a.png", "a user name or a password"),
            ("https://example.com:0/a.png", "port 0"),
        ] {
            let problem = check(&address.parse().unwrap(), PictureAddresses::Public).unwrap_err();
            assert!(problem.contains(part), "{address}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn addresses_that_may_be_reached_are_passed_on() {
        for address in [
            "https://example.com/a.png",
            "http://example.com:8080/a.png?x=1",
            "https://8.8.8.8/a.png",
            "https://[2606:4700::1111]/a.png",
            "https://xn--bcher-kva.example/a.png",
            "https://localhost.example.com/a.png",
        ] {
            assert_eq!(check(&address.parse().unwrap(), PictureAddresses::Public), Ok(()), "{address}");
        }
        for address in ["http://minio:9000/a.png", "http://10.1.2.3/a.png", "http://localhost/a.png"] {
            assert_eq!(check(&address.parse().unwrap(), PictureAddresses::Any), Ok(()), "{address}");
        }
        for address in ["http://me:secret@minio/a.png", "http://minio:0/a.png"] {
            assert!(check(&address.parse().unwrap(), PictureAddresses::Any).is_err(), "{address}");
        }
    }
}

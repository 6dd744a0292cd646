//! Addresses of results: signed, expiring, and invalid once altered.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::HOST;
use url::Url;

use crate::api::error::ApiError;
use crate::api::request::response_options::Conversion;
use crate::config::{AddressConfig, ServerConfig};
use crate::model::{Digest, JobId, Timestamp};

/// Signs and checks the addresses of `response_format: url`.
#[derive(Clone)]
pub(crate) struct Signer {
    key: [u8; 32],
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Returns the address of one picture of a job below `base`, which expires after `ttl`.
    fn address(
        &self,
        base: &Url,
        job: JobId,
        index: usize,
        conversion: Option<Conversion>,
        now: Timestamp,
        ttl: Duration,
    ) -> Url {
        let expires = now.plus(ttl).seconds();
        let mut url = base.clone();
        url.set_path(&format!("{}/v1/results/{job}/{index}", base.path().trim_end_matches('/')));
        let mut query = url.query_pairs_mut();
        if let Some(Conversion { format, compression }) = conversion {
            query.append_pair("format", format.name());
            if let Some(compression) = compression {
                query.append_pair("compression", &compression.to_string());
            }
        }
        query.append_pair("expires", &expires.to_string());
        query.append_pair("signature", &self.sign(job, index, conversion, expires).to_string());
        drop(query);
        url
    }

    /// Checks an address.
    ///
    /// # Errors
    ///
    /// [`ApiError::ResultAddressInvalid`] for one that was altered or has expired, without saying which.
    pub(crate) fn check(
        &self,
        job: JobId,
        index: usize,
        conversion: Option<Conversion>,
        expires: i64,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        // Digests compare in constant time.
        let genuine =
            Digest::from_hex(signature).is_some_and(|given| given == self.sign(job, index, conversion, expires));
        if genuine && now.seconds() < expires { Ok(()) } else { Err(ApiError::ResultAddressInvalid) }
    }

    fn sign(&self, job: JobId, index: usize, conversion: Option<Conversion>, expires: i64) -> Digest {
        // Nothing is appended without a conversion: addresses stay valid over an update of the gateway.
        let conversion = conversion.map_or_else(String::new, |Conversion { format, compression }| {
            format!(" {} {}", format.name(), compression.unwrap_or(100))
        });
        blake3::keyed_hash(&self.key, format!("result {job} {index} {expires}{conversion}").as_bytes()).into()
    }
}

/// Knows where clients reach the gateway, and so where its results are.
#[derive(Clone, Debug)]
pub(crate) struct ResultUrlBuilder {
    signer: Signer,
    /// `server.public_url`.
    public_url: Option<Url>,
    /// Where neither `public_url` nor a `Host` header names the gateway.
    listen: SocketAddr,
    scheme: &'static str,
    ttl: Duration,
}

impl ResultUrlBuilder {
    pub(crate) fn new(signer: Signer, server: &ServerConfig) -> Self {
        let AddressConfig { public_url, listen, result_url_ttl, .. } = &server.addresses;
        Self {
            signer,
            public_url: public_url.clone(),
            listen: *listen,
            scheme: server.tls.scheme(),
            ttl: *result_url_ttl,
        }
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Returns a maker of result addresses that the client of this request can reach.
    ///
    /// # Errors
    ///
    /// [`ApiError::Internal`] when `Host` makes no address.
    pub(crate) fn for_client(&self, headers: &HeaderMap, now: Timestamp) -> Result<ResultUrls, ApiError> {
        let base = self.public_url.clone().map_or_else(|| self.requested(headers), Ok)?;
        Ok(ResultUrls { signer: self.signer.clone(), base, now, ttl: self.ttl })
    }

    /// The address of the gateway by the `Host` header of a request.
    fn requested(&self, headers: &HeaderMap) -> Result<Url, ApiError> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.map_or_else(|| self.listen.to_string(), str::to_owned);
        let url = format!("{}://{host}", self.scheme);
        url.parse().map_err(|_| ApiError::internal("the Host header makes no address"))
    }
}

/// Makes the addresses of results that one client can reach.
#[derive(Clone, Debug)]
pub(crate) struct ResultUrls {
    pub(crate) signer: Signer,
    /// The address of the gateway.
    pub(crate) base: Url,
    pub(crate) now: Timestamp,
    /// How long the addresses are valid.
    pub(crate) ttl: Duration,
}

impl ResultUrls {
    /// Returns the address of one picture of a job.
    pub(crate) fn url(&self, job: JobId, index: usize, conversion: Option<Conversion>) -> Url {
        self.signer.address(&self.base, job, index, conversion, self.now, self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn only_unaltered_addresses_are_accepted_and_only_until_they_expire() {
        let signer = Signer::new([7; 32]);
        let job = JobId::new(NOW, 1);
        let base: Url = "https://gateway.example/base/".parse().unwrap();
        let url = signer.address(&base, job, 0, None, NOW, Duration::from_mins(1));
        assert_eq!(url.path(), format!("/base/v1/results/{job}/0"));
        let query: std::collections::HashMap<String, String> = url.query_pairs().into_owned().collect();
        let (expires, signature) = (query["expires"].parse::<i64>().unwrap(), &query["signature"]);
        let check = |signer: &Signer, job, index, expires, signature: &str, after: u64| {
            signer.check(job, index, None, expires, signature, NOW.plus(Duration::from_secs(after))).is_ok()
        };
        assert!(check(&signer, job, 0, expires, signature, 59));
        assert!(!check(&signer, job, 0, expires, signature, 60), "expired");
        assert!(!check(&signer, job, 1, expires, signature, 0), "another picture");
        assert!(!check(&signer, JobId::new(NOW, 2), 0, expires, signature, 0), "another job");
        assert!(!check(&signer, job, 0, expires + 1, signature, 0), "a later expiry");
        assert!(!check(&Signer::new([8; 32]), job, 0, expires, signature, 0), "another key");
        assert!(!check(&signer, job, 0, expires, "", 0), "no signature");
    }

    #[test]
    fn a_conversion_is_signed_too() {
        let signer = Signer::new([7; 32]);
        let job = JobId::new(NOW, 1);
        let base: Url = "https://gateway.example".parse().unwrap();
        let jpeg = |compression| Some(Conversion::new(Format::Jpeg, compression));
        let url = signer.address(&base, job, 0, jpeg(Some(80)), NOW, Duration::from_mins(1));
        let query: std::collections::HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!((query["format"].as_str(), query["compression"].as_str()), ("jpeg", "80"));
        let expires = query["expires"].parse().unwrap();
        let check = |conversion| signer.check(job, 0, conversion, expires, &query["signature"], NOW).is_ok();
        assert!(check(jpeg(Some(80))));
        for other in [None, jpeg(None), jpeg(Some(8)), Some(Conversion::new(Format::Webp, Some(80)))] {
            assert!(!check(other), "{other:?}");
        }
    }
}

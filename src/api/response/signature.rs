//! Addresses of results: signed, expiring, and invalid once altered.
//!
//! `/v1/results/{job}/{n}.png?s=1790000060.9f86…`: the ending is the format of the picture, so that programs know it by its
//! name, and the only parameter holds everything else, so that no `&` can be escaped on the way. It is
//! `expires.signature`, or `compression.expires.signature`.
//!
//! Addresses as they were before stay valid: `/{n}?format=…&compression=…&expires=…&signature=…`, of which the first two
//! may be absent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use url::form_urlencoded;

use crate::api::error::ApiError;
use crate::api::request::response_options::Conversion;
use crate::config::{AddressConfig, ServerConfig};
use crate::http::header::{FORWARDED_HOST, FORWARDED_PROTO};
use crate::model::{Digest, Format, JobId, Timestamp};

/// The parameter of an address.
const PARAMETER: &str = "s";
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 16;

/// An address of a result, of which the signature is not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultAddress {
    pub(crate) job: JobId,
    pub(crate) index: usize,
    /// The format of the picture; `None` for the one that is stored.
    pub(crate) conversion: Option<Conversion>,
    expires: i64,
    signature: Signature,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Signature {
    Short(String),
    /// As in addresses with several parameters.
    Long(String),
}

/// Why an address is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressProblem {
    Altered,
    Expired,
}

impl ResultAddress {
    /// Reads the two last segments of a path, and the query; `None` for what is no address of a result.
    pub(crate) fn parse(job: &str, picture: &str, query: &str) -> Option<Self> {
        let job = job.parse().ok()?;
        let mut parameters = Parameters::parse(query)?;
        if let Some(signed) = parameters.signed.take() {
            let (index, ending) = picture.split_once('.')?;
            let (index, format) = (index.parse().ok()?, Format::from_name(ending)?);
            let fields: Vec<&str> = signed.split('.').collect();
            let (compression, expires, signature) = match *fields {
                [expires, signature] => (None, expires, signature),
                [compression, expires, signature] => (Some(compression.parse().ok()?), expires, signature),
                _ => return None,
            };
            let conversion = Some(Conversion::new(format, compression));
            let signature = Signature::Short(signature.to_owned());
            return Some(Self { job, index, conversion, expires: expires.parse().ok()?, signature });
        }
        let Parameters { format, compression, expires, signature, .. } = parameters;
        let conversion = format.map(|format| Conversion::new(format, compression));
        let signature = Signature::Long(signature?);
        Some(Self { job, index: picture.parse().ok()?, conversion, expires: expires?, signature })
    }

    /// Returns the last segment of the path, and the query.
    fn ending(&self) -> String {
        let Self { index, conversion, expires, signature, .. } = self;
        let (Signature::Short(signature) | Signature::Long(signature)) = signature;
        let ending = conversion.map_or("png", |conversion| match conversion.format {
            Format::Png => "png",
            Format::Jpeg => "jpg",
            Format::Webp => "webp",
        });
        let compression = conversion.and_then(|conversion| conversion.compression);
        let compression = compression.map_or_else(String::new, |compression| format!("{compression}."));
        format!("{index}.{ending}?{PARAMETER}={compression}{expires}.{signature}")
    }
}

/// The query of an address.
#[derive(Debug, Default)]
struct Parameters {
    signed: Option<String>,
    format: Option<Format>,
    compression: Option<u8>,
    expires: Option<i64>,
    signature: Option<String>,
}

impl Parameters {
    fn parse(query: &str) -> Option<Self> {
        let mut found = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            // `&amp;` is how HTML writes `&`, and what programs make of an address that they copy from a page.
            match name.strip_prefix("amp;").unwrap_or(&name) {
                PARAMETER => found.signed = Some(value.into_owned()),
                "format" => found.format = Some(Format::from_name(&value)?),
                "compression" => found.compression = Some(value.parse().ok()?),
                "expires" => found.expires = Some(value.parse().ok()?),
                "signature" => found.signature = Some(value.into_owned()),
                _ => {}
            }
        }
        Some(found)
    }
}

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
        base: &str,
        job: JobId,
        index: usize,
        conversion: Conversion,
        now: Timestamp,
        ttl: Duration,
    ) -> String {
        let expires = now.plus(ttl).seconds();
        let signature = Signature::Short(self.sign(job, index, conversion, expires));
        let address = ResultAddress { job, index, conversion: Some(conversion), expires, signature };
        format!("{base}/v1/results/{job}/{}", address.ending())
    }

    /// Checks an address.
    ///
    /// # Errors
    ///
    /// When it was altered, or has expired.
    pub(crate) fn check(&self, address: &ResultAddress, now: Timestamp) -> Result<(), AddressProblem> {
        let &ResultAddress { job, index, conversion, expires, ref signature } = address;
        // Digests compare in constant time.
        let genuine = match (signature, conversion) {
            (Signature::Short(given), Some(conversion)) => {
                let expected = self.sign(job, index, conversion, expires);
                blake3::keyed_hash(&self.key, given.as_bytes()) == blake3::keyed_hash(&self.key, expected.as_bytes())
            }
            (Signature::Short(_), None) => false,
            (Signature::Long(given), _) => {
                Digest::from_hex(given).is_some_and(|given| given == self.sign_long(job, index, conversion, expires))
            }
        };
        match genuine {
            false => Err(AddressProblem::Altered),
            true if now.seconds() >= expires => Err(AddressProblem::Expired),
            true => Ok(()),
        }
    }

    fn sign(&self, job: JobId, index: usize, conversion: Conversion, expires: i64) -> String {
        let (format, quality) = (conversion.format.name(), conversion.quality());
        let signed = format!("address of a result: {job} {index} {format} {quality} {expires}");
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(&blake3::keyed_hash(&self.key, signed.as_bytes()).as_bytes()[..SIGNATURE_BYTES]);
        format!("{:032x}", u128::from_be_bytes(signature))
    }

    fn sign_long(&self, job: JobId, index: usize, conversion: Option<Conversion>, expires: i64) -> Digest {
        // Nothing is appended without a conversion: addresses stay valid over an update of the gateway.
        let conversion = conversion.map_or_else(String::new, |Conversion { format, compression }| {
            format!(" {} {}", format.name(), compression.unwrap_or(100))
        });
        blake3::keyed_hash(&self.key, format!("result {job} {index} {expires}{conversion}").as_bytes()).into()
    }
}

/// Knows where clients reach the gateway, and so where its results are.
#[derive(Debug)]
pub(crate) struct ResultUrlBuilder {
    signer: Signer,
    /// `server.public_url`, without a slash at its end.
    public_url: Option<Arc<str>>,
    /// Where neither `public_url` nor a `Host` header names the gateway.
    listen: String,
    scheme: &'static str,
    ttl: Duration,
}

impl ResultUrlBuilder {
    pub(crate) fn new(signer: Signer, server: &ServerConfig) -> Self {
        let AddressConfig { public_url, listen, result_url_ttl, .. } = &server.addresses;
        Self {
            signer,
            public_url: public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').into()),
            listen: listen.first(),
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

    /// The address of the gateway by the headers of a request: what a proxy forwards (`middleware/forwarded.rs` has removed
    /// what does not count), or `Host`.
    fn requested(&self, headers: &HeaderMap) -> Result<Arc<str>, ApiError> {
        let text = |name: HeaderName| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let host = text(FORWARDED_HOST).or_else(|| text(HOST)).unwrap_or(&self.listen);
        let scheme = text(FORWARDED_PROTO).unwrap_or(self.scheme);
        match host.parse::<Authority>() {
            Ok(authority) if !host.contains('@') => Ok(format!("{scheme}://{authority}").into()),
            Ok(_) | Err(_) => Err(ApiError::internal("the Host header makes no address")),
        }
    }
}

/// Makes the addresses of results that one client can reach.
#[derive(Clone, Debug)]
pub(crate) struct ResultUrls {
    pub(crate) signer: Signer,
    /// The address of the gateway, without a slash at its end.
    pub(crate) base: Arc<str>,
    pub(crate) now: Timestamp,
    /// How long the addresses are valid.
    pub(crate) ttl: Duration,
}

impl ResultUrls {
    /// Returns the path below which clients reach the gateway, without a slash at its end: empty, unless `server.public_url` has one.
    pub(crate) fn base_path(&self) -> &str {
        let host = self.base.split_once("://").map_or(&*self.base, |(_, host)| host);
        host.find('/').map_or("", |path| &host[path..])
    }

    /// Returns the address of one picture of a job in a format; where the stored picture has it, it is not converted.
    pub(crate) fn url(&self, job: JobId, index: usize, conversion: Conversion) -> String {
        self.signer.address(&self.base, job, index, conversion, self.now, self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::server;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn job(number: u128) -> JobId {
        JobId::new(NOW, number)
    }

    /// Makes an address that is valid for a minute.
    fn address(signer: &Signer, conversion: Conversion) -> String {
        signer.address("https://gateway.example/base", job(1), 0, conversion, NOW, Duration::from_mins(1))
    }

    fn parsed(address: &str) -> Option<ResultAddress> {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let mut segments = path.rsplit('/');
        let picture = segments.next()?;
        ResultAddress::parse(segments.next()?, picture, query)
    }

    fn is_valid(signer: &Signer, address: &str, after: u64) -> bool {
        parsed(address).is_some_and(|address| signer.check(&address, NOW.plus(Duration::from_secs(after))).is_ok())
    }

    #[test]
    fn the_base_is_where_the_client_reached_the_gateway() {
        let urls = |server: &ServerConfig, host: &'static str| {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            ResultUrlBuilder::new(Signer::new([7; 32]), server).for_client(&headers, NOW)
        };
        let mut server = server();
        for host in ["gateway.example", "[::1]:8788", "127.0.0.1:80"] {
            let urls = urls(&server, host).unwrap();
            assert_eq!((&*urls.base, urls.base_path()), (&*format!("http://{host}"), ""));
        }
        for host in ["", "user@gateway.example", "a b", "a/b", "a\"b", "a%20b", "a?b", "a#b"] {
            assert!(urls(&server, host).is_err(), "{host}");
        }
        server.addresses.public_url = Some("https://gateway.example/base/".parse().unwrap());
        let urls = urls(&server, "other.example").unwrap();
        assert_eq!((&*urls.base, urls.base_path()), ("https://gateway.example/base", "/base"));
    }

    #[test]
    fn an_address_ends_with_its_format_and_has_one_parameter() {
        let signer = Signer::new([7; 32]);
        for (format, compression, ending) in [
            (Format::Png, None, "/0.png?s=1790000060."),
            (Format::Jpeg, None, "/0.jpg?s=1790000060."),
            (Format::Webp, None, "/0.webp?s=1790000060."),
            (Format::Jpeg, Some(80), "/0.jpg?s=80.1790000060."),
            (Format::Webp, Some(0), "/0.webp?s=0.1790000060."),
        ] {
            let conversion = Conversion::new(format, compression);
            let address = address(&signer, conversion);
            let start = format!("https://gateway.example/base/v1/results/{}{ending}", job(1));
            assert!(address.starts_with(&start), "{address}");
            assert_eq!(address.len(), start.len() + 2 * SIGNATURE_BYTES);
            assert!(!address.contains(['&', ' ', '%', '"', '<']), "{address}");
            assert_eq!(parsed(&address).unwrap().conversion, Some(conversion));
            assert!(is_valid(&signer, &address, 59), "{address}");
            assert!(!is_valid(&signer, &address, 60), "expired");
        }
    }

    #[test]
    fn an_altered_address_is_refused() {
        let signer = Signer::new([7; 32]);
        let good = address(&signer, Conversion::new(Format::Jpeg, Some(80)));
        assert!(is_valid(&signer, &good, 0));
        assert!(is_valid(&signer, &good.replace(".jpg", ".jpeg"), 0), "another name of the same format");
        assert!(is_valid(&signer, &format!("{good}&utm_source=mail"), 0), "what a mail program appends");
        for (from, to) in [
            ("/0.jpg", "/1.jpg"),
            ("/0.jpg", "/0"),
            ("/0.jpg", "/0.gif"),
            ("/0.jpg", "/.jpg"),
            (".jpg", ".webp"),
            ("s=80.", "s=8."),
            ("s=80.", "s="),
            ("s=80.", "s=80.80."),
            ("s=80.", "s=999."),
            ("s=80.1790000060", "s=80.2790000060"),
            ("s=80.1790000060", "s=80.x"),
            ("?s=", "?t="),
            ("?s=", "?S="),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(!is_valid(&signer, &good.replace(from, to), 0), "{from} to {to}");
        }
        assert!(!is_valid(&signer, &good[..good.len() - 1], 0), "cut");
        assert!(!is_valid(&signer, &good.replace(&job(1).to_string(), &job(2).to_string()), 0), "another job");
        assert!(!is_valid(&Signer::new([8; 32]), &good, 0), "another key");
        let problem = |address: &str, after| {
            signer.check(&parsed(address).unwrap(), NOW.plus(Duration::from_secs(after))).unwrap_err()
        };
        assert_eq!(problem(&good, 60), AddressProblem::Expired);
        assert_eq!(problem(&good.replace("/0.", "/1."), 60), AddressProblem::Altered);
    }

    #[test]
    fn addresses_with_several_parameters_stay_valid() {
        let signer = Signer::new([7; 32]);
        let jpeg = |compression| Some(Conversion::new(Format::Jpeg, compression));
        let expires = NOW.seconds() + 60;
        for (conversion, query) in [
            (None, ""),
            (jpeg(None), "format=jpeg&"),
            (jpeg(Some(80)), "format=jpeg&compression=80&"),
            (jpeg(Some(80)), "format=jpeg&amp;compression=80&amp;"),
        ] {
            let signature = signer.sign_long(job(1), 0, conversion, expires);
            let old = format!("/v1/results/{}/0?{query}expires={expires}&signature={signature}", job(1));
            assert!(is_valid(&signer, &old, 59), "{old}");
            assert!(is_valid(&signer, &old.replace("&sig", "&amp;sig"), 59), "escaped as in a page");
            assert!(!is_valid(&signer, &old, 60), "expired");
            for (from, to) in [
                ("/0?", "/1?"),
                ("expires=", "expires=9"),
                ("expires=", "format=webp&expires="),
                ("&signature", "&sig"),
            ] {
                assert!(!is_valid(&signer, &old.replace(from, to), 0), "{from} to {to} in {old}");
            }
        }
    }

    #[test]
    fn signatures_as_they_were_made_before_are_the_same() {
        let signature = Signer::new([7; 32]).sign_long(job(1), 0, Some(Conversion::new(Format::Jpeg, Some(80))), 5);
        let signed = blake3::keyed_hash(&[7; 32], format!("result {} 0 5 jpeg 80", job(1)).as_bytes());
        assert_eq!(signature.to_string(), signed.to_hex().to_string());
    }
}

//! Addresses of results: signed, expiring, and worth nothing to whoever alters them.

use std::fmt;
use std::time::Duration;

use url::Url;

use super::error::ApiError;
use crate::model::{Digest, OrderId, Timestamp};

/// Signs and checks the addresses behind `response_format: url`.
#[derive(Clone)]
pub(super) struct Signer {
    key: [u8; 32],
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The address of one picture of an order below `base`, good for `ttl`.
    pub(super) fn address(&self, base: &Url, order: OrderId, index: usize, now: Timestamp, ttl: Duration) -> Url {
        let expires = now.plus(ttl).seconds();
        let mut url = base.clone();
        url.set_path(&format!("{}/v1/results/{order}/{index}", base.path().trim_end_matches('/')));
        url.query_pairs_mut()
            .append_pair("expires", &expires.to_string())
            .append_pair("signature", &self.sign(order, index, expires).to_string());
        url
    }

    /// Checks an address.
    ///
    /// # Errors
    ///
    /// [`ApiError::ResultAddressInvalid`] for one that was altered or has expired, without saying which.
    pub(super) fn check(
        &self,
        order: OrderId,
        index: usize,
        expires: i64,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        // Digests compare in constant time.
        let genuine = Digest::from_hex(signature).is_some_and(|given| given == self.sign(order, index, expires));
        if genuine && now.seconds() < expires { Ok(()) } else { Err(ApiError::ResultAddressInvalid) }
    }

    fn sign(&self, order: OrderId, index: usize, expires: i64) -> Digest {
        blake3::keyed_hash(&self.key, format!("result {order} {index} {expires}").as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn only_unaltered_addresses_work_and_only_for_their_time() {
        let signer = Signer::new([7; 32]);
        let order = OrderId::new(NOW, 1);
        let base: Url = "https://gateway.example/base/".parse().unwrap();
        let url = signer.address(&base, order, 0, NOW, Duration::from_mins(1));
        assert_eq!(url.path(), format!("/base/v1/results/{order}/0"));
        let query: std::collections::HashMap<String, String> = url.query_pairs().into_owned().collect();
        let (expires, signature) = (query["expires"].parse::<i64>().unwrap(), &query["signature"]);
        let check = |signer: &Signer, order, index, expires, signature: &str, after: u64| {
            signer.check(order, index, expires, signature, NOW.plus(Duration::from_secs(after))).is_ok()
        };
        assert!(check(&signer, order, 0, expires, signature, 59));
        assert!(!check(&signer, order, 0, expires, signature, 60), "expired");
        assert!(!check(&signer, order, 1, expires, signature, 0), "another picture");
        assert!(!check(&signer, OrderId::new(NOW, 2), 0, expires, signature, 0), "another order");
        assert!(!check(&signer, order, 0, expires + 1, signature, 0), "a longer life");
        assert!(!check(&Signer::new([8; 32]), order, 0, expires, signature, 0), "another key");
        assert!(!check(&signer, order, 0, expires, "", 0), "no signature");
    }
}

//! Shares of the process's file descriptors.
//!
//! Opening one more descriptor than the limit allows fails for every part of the process at that moment: a client's connection
//! could cost the file of a picture that was paid for. So the limit is divided at the start. What the gateway cannot do without
//! comes first; connections of clients, which can be any number, get what is left.

use serde::Serialize;

use crate::telemetry::process;

/// The descriptors that the configuration asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DescriptorDemand {
    /// Connections of clients.
    pub(crate) connections: usize,
    /// Connections of the operator listener.
    pub(crate) operator: usize,
    /// Connections to the upstream and to receivers of webhooks.
    pub(crate) upstream: usize,
    /// Files of uploads.
    pub(crate) spool: usize,
    /// Files of stored pictures that are being written or read.
    pub(crate) results: usize,
}

/// The number of descriptors that each part of the process may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DescriptorShares {
    /// The limit of the process.
    pub(crate) limit: usize,
    /// Those open when the shares were computed, such as the journal, and a reserve.
    pub(crate) own: usize,
    pub(crate) connections: usize,
    pub(crate) operator: usize,
    pub(crate) upstream: usize,
    pub(crate) spool: usize,
    pub(crate) results: usize,
}

/// The limit is too low to run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process may open {limit} files and has {open} open; it needs a limit of at least {needed} to serve clients (ulimit -n)"
)]
pub(crate) struct TooFewDescriptors {
    limit: usize,
    open: usize,
    needed: usize,
}

/// Reserve: a connection that is being refused, a directory that is read, a host name that is resolved.
const RESERVE: usize = 10;
/// The gateway does not start with fewer than this to divide.
const DIVISIBLE_MIN: usize = 20;
/// Where descriptors are few, each part but the connections of clients gets at most one in this many.
const PART: usize = 10;

/// Divides `limit` descriptors, of which `open` are open.
///
/// # Errors
///
/// [`TooFewDescriptors`] when fewer than a handful of clients could be served.
pub(crate) fn divide(
    limit: usize,
    open: usize,
    demand: DescriptorDemand,
) -> Result<DescriptorShares, TooFewDescriptors> {
    let own = open + RESERVE;
    let rest = limit.saturating_sub(own);
    if rest < DIVISIBLE_MIN {
        return Err(TooFewDescriptors { limit, open, needed: own + DIVISIBLE_MIN });
    }
    let part = |demand: usize| demand.min(rest / PART);
    let (operator, upstream) = (part(demand.operator), part(demand.upstream));
    let (spool, results) = (part(demand.spool), part(demand.results));
    let connections = demand.connections.min(rest - operator - upstream - spool - results);
    Ok(DescriptorShares { limit, own, connections, operator, upstream, spool, results })
}

/// Returns how many descriptors the process may have open.
#[must_use]
pub(crate) fn limit() -> usize {
    process::max_fds().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Returns how many descriptors are open; `None` where the system does not say.
#[must_use]
pub(crate) fn open() -> Option<usize> {
    process::open_fds()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEMAND: DescriptorDemand =
        DescriptorDemand { connections: 20_000, operator: 64, upstream: 98, spool: 4000, results: 512 };

    #[test]
    fn with_many_descriptors_every_part_gets_its_demand() {
        let shares = divide(1 << 20, 30, DEMAND).unwrap();
        let DescriptorDemand { connections, operator, upstream, spool, results } = DEMAND;
        assert_eq!(
            shares,
            DescriptorShares { limit: 1 << 20, own: 40, connections, operator, upstream, spool, results }
        );
    }

    #[test]
    fn with_few_descriptors_connections_get_fewer() {
        let shares = divide(64, 24, DEMAND).unwrap();
        assert_eq!(shares.connections, 18);
        assert_eq!([shares.operator, shares.upstream, shares.spool, shares.results], [3; 4]);
        let shares = divide(20_000, 30, DEMAND).unwrap();
        assert!(shares.connections > 15_000, "{shares:?}");
    }

    #[test]
    fn too_few_descriptors_are_an_error_that_names_the_numbers() {
        let error = divide(48, 24, DEMAND).unwrap_err().to_string();
        assert!(error.contains("48") && error.contains("54"), "{error}");
    }

    proptest! {
        #[test]
        fn shares_never_exceed_the_limit(limit in 0_usize..100_000, open in 0_usize..100, connections in 0_usize..50_000) {
            if let Ok(shares) = divide(limit, open, DescriptorDemand { connections, ..DEMAND }) {
                let DescriptorShares { limit: _, own, connections: clients, operator, upstream, spool, results } = shares;
                prop_assert!(own + clients + operator + upstream + spool + results <= limit);
                prop_assert!(operator > 0 && upstream > 0 && spool > 0 && results > 0);
                prop_assert!(clients == connections || clients >= DIVISIBLE_MIN / 2);
            }
        }
    }
}

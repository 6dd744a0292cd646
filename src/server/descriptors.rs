//! Who may hold how many of the process's descriptors.
//!
//! Whoever opens one more than there are gets an error, and so does everybody else in that moment: a client's connection
//! could cost the file of a picture that was paid for. So the limit is shared out at the start. What the gateway cannot do
//! without comes first, and connections of clients, of which any number may come, get what is left.

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// What is wanted, as the configuration has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DescriptorDemand {
    /// Connections of clients.
    pub(crate) connections: usize,
    /// Connections of the operator face.
    pub(crate) operator: usize,
    /// Connections to the upstream and to receivers of webhooks.
    pub(crate) upstream: usize,
    /// Files of uploads.
    pub(crate) spool: usize,
    /// Files of stored pictures that are written or read.
    pub(crate) results: usize,
}

/// Who may hold how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DescriptorShares {
    /// How many the process may have.
    pub(crate) limit: usize,
    /// Open already when they were shared out, such as the journal; and a few to spare.
    pub(crate) own: usize,
    pub(crate) connections: usize,
    pub(crate) operator: usize,
    pub(crate) upstream: usize,
    pub(crate) spool: usize,
    pub(crate) results: usize,
}

/// There are too few to run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process may open {limit} files, of which it has {open} open already; it needs {needed} to serve anybody (ulimit -n)"
)]
pub(crate) struct TooFewDescriptors {
    limit: usize,
    open: usize,
    needed: usize,
}

/// For a connection that is being turned away, a directory that is read, a name that is looked up.
const SPARE: usize = 10;
/// With fewer than this to share out nothing would go on.
const SHARED_MIN: usize = 20;
/// Where there are few: the part of them that each of the others may have, so that most is left for connections.
const PART: usize = 10;

/// DescriptorShares out `limit` descriptors, of which `open` are taken.
///
/// # Errors
///
/// [`TooFewDescriptors`] when not even a handful of clients could be served.
pub(crate) fn share(
    limit: usize,
    open: usize,
    wanted: DescriptorDemand,
) -> Result<DescriptorShares, TooFewDescriptors> {
    let own = open + SPARE;
    let rest = limit.saturating_sub(own);
    if rest < SHARED_MIN {
        return Err(TooFewDescriptors { limit, open, needed: own + SHARED_MIN });
    }
    let part = |wanted: usize| wanted.min(rest / PART);
    let (operator, upstream) = (part(wanted.operator), part(wanted.upstream));
    let (spool, results) = (part(wanted.spool), part(wanted.results));
    let connections = wanted.connections.min(rest - operator - upstream - spool - results);
    Ok(DescriptorShares { limit, own, connections, operator, upstream, spool, results })
}

/// How many descriptors the process may have.
#[must_use]
pub(crate) fn limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many are open; `None` where the system does not tell.
#[must_use]
pub(crate) fn open() -> Option<usize> {
    // The one by which the directory is read counts itself.
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WANTED: DescriptorDemand =
        DescriptorDemand { connections: 20_000, operator: 64, upstream: 98, spool: 4000, results: 512 };

    #[test]
    fn where_there_are_many_everybody_gets_what_is_wanted() {
        let shares = share(1 << 20, 30, WANTED).unwrap();
        let DescriptorDemand { connections, operator, upstream, spool, results } = WANTED;
        assert_eq!(
            shares,
            DescriptorShares { limit: 1 << 20, own: 40, connections, operator, upstream, spool, results }
        );
    }

    #[test]
    fn where_there_are_few_connections_give_way() {
        let shares = share(64, 24, WANTED).unwrap();
        assert_eq!(shares.connections, 18);
        assert_eq!([shares.operator, shares.upstream, shares.spool, shares.results], [3; 4]);
        let shares = share(20_000, 30, WANTED).unwrap();
        assert!(shares.connections > 15_000, "{shares:?}");
    }

    #[test]
    fn too_few_are_named() {
        let error = share(48, 24, WANTED).unwrap_err().to_string();
        assert!(error.contains("48") && error.contains("54"), "{error}");
    }

    proptest! {
        #[test]
        fn never_more_than_there_are(limit in 0_usize..100_000, open in 0_usize..100, connections in 0_usize..50_000) {
            if let Ok(shares) = share(limit, open, DescriptorDemand { connections, ..WANTED }) {
                let DescriptorShares { limit: _, own, connections: clients, operator, upstream, spool, results } = shares;
                prop_assert!(own + clients + operator + upstream + spool + results <= limit);
                prop_assert!(operator > 0 && upstream > 0 && spool > 0 && results > 0);
                prop_assert!(clients == connections || clients >= SHARED_MIN / 2);
            }
        }
    }
}

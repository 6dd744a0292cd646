//! Limits on the number of connections of a listener, in total and from one address.
//!
//! Wanted properties:
//! - Idle connections keep no client out: when all slots are taken, a new connection gets the slot of the connection that has
//!   had no request for longest, if that is longer than a client ever needs to send one.
//! - A connection whose request is in progress never loses its slot.
//! - A flood does not make the search for such a connection expensive: each search examines a fixed number of connections and
//!   goes on where the last one stopped. When none of them can be evicted, the new connection is refused.
//! - One address has a limit of its own, unless it belongs to a reverse proxy, behind which all clients share one address. Of
//!   an IPv6 address the first 64 bits count, which is what one subscriber has.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use super::timers::ConnectionTimers;

/// A connection without a request for this long can be evicted.
const EVICTABLE_AFTER: Duration = Duration::from_secs(2);
/// Connections that one search examines.
const EXAMINED_MAX: usize = 64;

/// The slots of one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connections_max: usize,
    /// `None`: no limit for one address.
    per_address_max: Option<NonZeroUsize>,
    /// Addresses without a limit of their own.
    proxies: Vec<IpNet>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// In the order of their arrival.
    connections: BTreeMap<u64, Arc<ConnectionTimers>>,
    by_address: HashMap<IpAddr, usize>,
    next_id: u64,
    /// Where the next search for a connection to evict begins.
    search_from: u64,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ExceededLimit {
    Connections,
    PerAddress,
}

impl ConnectionLimiter {
    /// Returns a limiter with `connections_max` slots, of which one address may take `per_address_max`.
    #[must_use]
    pub(crate) fn new(connections_max: usize, per_address_max: Option<NonZeroUsize>, proxies: Vec<IpNet>) -> Self {
        let open = Mutex::default();
        Self { shared: Arc::new(Shared { connections_max, per_address_max, proxies, open }) }
    }

    /// Returns a limiter that refuses nothing.
    #[must_use]
    pub(crate) fn unlimited() -> Self {
        Self::new(usize::MAX, None, Vec::new())
    }

    /// Returns the number of slots.
    #[must_use]
    pub(crate) fn connections_max(&self) -> usize {
        self.shared.connections_max
    }

    /// Returns the number of open connections.
    #[must_use]
    pub(crate) fn open(&self) -> usize {
        self.shared.open().connections.len()
    }

    /// Takes a slot for a connection from `address`, which is absent for a Unix socket.
    pub(super) fn acquire(
        &self,
        address: Option<IpAddr>,
        timers: &Arc<ConnectionTimers>,
    ) -> Result<ConnectionSlot, ExceededLimit> {
        let shared = &self.shared;
        let limited = shared.per_address_max.zip(address).filter(|&(_, address)| !shared.is_proxy(address));
        let limited = limited.map(|(max, address)| (max, subscriber(address)));
        let mut open = shared.open();
        if let Some((max, address)) = limited
            && open.by_address.get(&address).is_some_and(|&count| count >= max.get())
        {
            return Err(ExceededLimit::PerAddress);
        }
        if open.connections.len() >= shared.connections_max && !open.evict_one() {
            return Err(ExceededLimit::Connections);
        }
        let address = limited.map(|(_, address)| address);
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        let id = open.next_id;
        open.next_id += 1;
        open.connections.insert(id, Arc::clone(timers));
        Ok(ConnectionSlot { limiter: self.clone(), id, address })
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

impl Open {
    /// Closes one connection that has been idle for long, and returns whether there was one. Its slot counts as free from now
    /// on.
    fn evict_one(&mut self) -> bool {
        let from = self.search_from;
        let ring = self.connections.range(from..).chain(self.connections.range(..from));
        let mut longest: Option<(Duration, u64)> = None;
        for (&id, timers) in ring.take(EXAMINED_MAX) {
            self.search_from = id + 1;
            let idle = timers.idle_for().filter(|&idle| idle >= EVICTABLE_AFTER);
            if let Some(idle) = idle
                && longest.is_none_or(|(max, _)| idle > max)
            {
                longest = Some((idle, id));
            }
        }
        let Some((_, id)) = longest else { return false };
        if let Some(timers) = self.connections.remove(&id) {
            timers.evict();
        }
        true
    }
}

/// Returns what identifies a subscriber: an IPv4 address, or the first 64 bits of an IPv6 address.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

/// The slot of a connection; returned when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    limiter: ConnectionLimiter,
    id: u64,
    address: Option<IpAddr>,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.limiter.shared.open();
        open.connections.remove(&self.id);
        if let Some(address) = self.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::limits::ConnectionLimits;
    use crate::server::timers::CloseReason;

    fn timers() -> Arc<ConnectionTimers> {
        ConnectionTimers::new(&ConnectionLimits::TRUSTED)
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_counted_and_returned() {
        let limiter = ConnectionLimiter::new(2, None, Vec::new());
        let first = limiter.acquire(None, &timers()).unwrap();
        let _second = limiter.acquire(None, &timers()).unwrap();
        assert_eq!(limiter.acquire(None, &timers()).unwrap_err(), ExceededLimit::Connections);
        drop(first);
        assert_eq!(limiter.open(), 1);
        let _third = limiter.acquire(None, &timers()).unwrap();
        assert_eq!(limiter.acquire(None, &timers()).unwrap_err(), ExceededLimit::Connections);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_is_evicted_and_one_with_a_request_is_not() {
        let limiter = ConnectionLimiter::new(3, None, Vec::new());
        let (busy, idle, younger) = (timers(), timers(), timers());
        let _busy_slot = limiter.acquire(None, &busy).unwrap();
        let idle_slot = limiter.acquire(None, &idle).unwrap();
        let request = busy.begin_request(false);
        tokio::time::advance(EVICTABLE_AFTER / 2).await;
        let _younger_slot = limiter.acquire(None, &younger).unwrap();
        let refused = limiter.acquire(None, &timers()).unwrap_err();
        assert_eq!(refused, ExceededLimit::Connections, "none has been idle for long enough");
        tokio::time::advance(EVICTABLE_AFTER / 2).await;

        let new = limiter.acquire(None, &timers()).unwrap();

        assert_eq!(limiter.open(), 3);
        assert_eq!(idle.expired().await, CloseReason::Evicted);
        assert!(futures_util::poll!(std::pin::pin!(younger.expired())).is_pending());
        drop(idle_slot);
        assert_eq!(limiter.open(), 3, "its slot had been given to the new connection");
        drop(new);
        tokio::time::advance(EVICTABLE_AFTER * 2).await;
        assert!(busy.idle_for().is_none());
        drop(request);
        tokio::time::advance(EVICTABLE_AFTER).await;
        assert_eq!(busy.idle_for(), Some(EVICTABLE_AFTER));
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_goes_on_where_the_last_one_stopped() {
        let limiter = ConnectionLimiter::new(EXAMINED_MAX + 1, None, Vec::new());
        let mut busy = Vec::new();
        for _ in 0..EXAMINED_MAX {
            let timers = timers();
            busy.push((timers.begin_request(false), limiter.acquire(None, &timers).unwrap()));
        }
        let _idle = limiter.acquire(None, &timers()).unwrap();
        tokio::time::advance(EVICTABLE_AFTER).await;
        assert_eq!(limiter.acquire(None, &timers()).unwrap_err(), ExceededLimit::Connections);
        assert!(limiter.acquire(None, &timers()).is_ok(), "the idle one was behind those examined first");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_a_limit_and_a_proxy_has_none() {
        let limiter = ConnectionLimiter::new(100, NonZeroUsize::new(2), vec!["10.0.0.0/8".parse().unwrap()]);
        let acquire = |text: &str| limiter.acquire(Some(text.parse().unwrap()), &timers());
        let one = acquire("192.0.2.1").unwrap();
        let _two = acquire("::ffff:192.0.2.1").unwrap();
        assert_eq!(acquire("192.0.2.1").unwrap_err(), ExceededLimit::PerAddress);
        let _other = acquire("192.0.2.2").unwrap();
        drop(one);
        let _again = acquire("192.0.2.1").unwrap();

        let _subscriber = [acquire("2001:db8:0:1::1").unwrap(), acquire("2001:db8:0:1:ffff::2").unwrap()];
        assert_eq!(acquire("2001:db8:0:1::3").unwrap_err(), ExceededLimit::PerAddress);
        let _neighbour = acquire("2001:db8:0:2::1").unwrap();

        let _proxied: Vec<ConnectionSlot> = (0..10).map(|_| acquire("10.1.2.3").unwrap()).collect();
        let _mapped: Vec<ConnectionSlot> = (0..10).map(|_| acquire("::ffff:10.1.2.3").unwrap()).collect();
        let _local: Vec<ConnectionSlot> = (0..10).map(|_| limiter.acquire(None, &timers()).unwrap()).collect();
    }
}

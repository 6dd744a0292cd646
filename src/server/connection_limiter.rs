//! How many connections a face holds at once, in all and from one address.
//!
//! When all places are taken a newcomer gets that of whoever has been without a request for longest, if that is longer than
//! a client ever needs to send one: so nobody keeps others out by holding connections open and asking nothing. Only the
//! next few are looked at each time, so that a flood of newcomers cannot make the search itself the burden. When nobody
//! gives way the newcomer is turned away.
//!
//! One address has a share of its own, unless it is one of a reverse proxy, behind which everybody has the same. Of IPv6
//! the first 64 bits count, which is what one subscriber has.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use super::timers::ConnectionTimers;

/// Whoever has had no request for so long gives way.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(2);
/// So many connections are looked at for one that gives way.
const LOOKED_AT: usize = 64;

/// The places of one face. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connections_max: usize,
    /// `None`: as many as there are.
    per_address_max: Option<NonZeroUsize>,
    /// Addresses of which that does not hold.
    proxies: Vec<IpNet>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// In the order they came.
    connections: BTreeMap<u64, Arc<ConnectionTimers>>,
    by_address: HashMap<IpAddr, usize>,
    next: u64,
    /// From where the next search for one that gives way begins.
    looked_at: u64,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Full {
    Connections,
    Address,
}

impl ConnectionLimiter {
    /// Places for `connections_max` connections, of one address at most `per_address_max`.
    #[must_use]
    pub(crate) fn new(connections_max: usize, per_address_max: Option<NonZeroUsize>, proxies: Vec<IpNet>) -> Self {
        let held = Mutex::default();
        Self { shared: Arc::new(Shared { connections_max, per_address_max, proxies, held }) }
    }

    /// No limit but the system's.
    #[must_use]
    pub(crate) fn none() -> Self {
        Self::new(usize::MAX, None, Vec::new())
    }

    /// How many connections there may be.
    #[must_use]
    pub(crate) fn connections_max(&self) -> usize {
        self.shared.connections_max
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn open(&self) -> usize {
        self.shared.held().connections.len()
    }

    /// Takes a place for a connection from `address`, which is absent on a socket of this machine.
    pub(super) fn enter(&self, address: Option<IpAddr>, pulse: &Arc<ConnectionTimers>) -> Result<Place, Full> {
        let shared = &self.shared;
        let counted = shared.per_address_max.zip(address).filter(|&(_, address)| !shared.is_proxy(address));
        let counted = counted.map(|(most, address)| (most, subscriber(address)));
        let mut held = shared.held();
        if let Some((most, address)) = counted
            && held.by_address.get(&address).is_some_and(|&count| count >= most.get())
        {
            return Err(Full::Address);
        }
        if held.connections.len() >= shared.connections_max && !held.make_room() {
            return Err(Full::Connections);
        }
        let address = counted.map(|(_, address)| address);
        if let Some(address) = address {
            *held.by_address.entry(address).or_default() += 1;
        }
        let id = held.next;
        held.next += 1;
        held.connections.insert(id, Arc::clone(pulse));
        Ok(Place { caps: self.clone(), id, address })
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

impl Held {
    /// Has one connection end that has had no request for long; returns whether there was one. Its place counts as free
    /// from now on.
    fn make_room(&mut self) -> bool {
        let from = self.looked_at;
        let ring = self.connections.range(from..).chain(self.connections.range(..from));
        let mut longest: Option<(Duration, u64)> = None;
        for (&id, pulse) in ring.take(LOOKED_AT) {
            self.looked_at = id + 1;
            let waits = pulse.waits_since().filter(|&waits| waits >= GIVES_WAY_AFTER);
            if let Some(waits) = waits
                && longest.is_none_or(|(most, _)| waits > most)
            {
                longest = Some((waits, id));
            }
        }
        let Some((_, id)) = longest else { return false };
        if let Some(pulse) = self.connections.remove(&id) {
            pulse.evict();
        }
        true
    }
}

/// What one subscriber has: an address of IPv4, a network of 64 bits of IPv6.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    caps: ConnectionLimiter,
    id: u64,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.caps.shared.held();
        held.connections.remove(&self.id);
        if let Some(address) = self.address
            && let Some(count) = held.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                held.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::limits::ConnectionLimits;

    fn pulse() -> Arc<ConnectionTimers> {
        ConnectionTimers::new(&ConnectionLimits::AMONG_OURSELVES)
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_counted_and_given_back() {
        let caps = ConnectionLimiter::new(2, None, Vec::new());
        let first = caps.enter(None, &pulse()).unwrap();
        let _second = caps.enter(None, &pulse()).unwrap();
        assert_eq!(caps.enter(None, &pulse()).unwrap_err(), Full::Connections);
        drop(first);
        assert_eq!(caps.open(), 1);
        let _third = caps.enter(None, &pulse()).unwrap();
        assert_eq!(caps.enter(None, &pulse()).unwrap_err(), Full::Connections);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_nothing_gives_way_and_whoever_is_served_does_not() {
        let caps = ConnectionLimiter::new(3, None, Vec::new());
        let (served, silent, younger) = (pulse(), pulse(), pulse());
        let _served_place = caps.enter(None, &served).unwrap();
        let silent_place = caps.enter(None, &silent).unwrap();
        let request = served.request(false);
        tokio::time::advance(GIVES_WAY_AFTER / 2).await;
        let _younger_place = caps.enter(None, &younger).unwrap();
        assert_eq!(caps.enter(None, &pulse()).unwrap_err(), Full::Connections, "nobody has been silent for long");
        tokio::time::advance(GIVES_WAY_AFTER / 2).await;

        let newcomer = caps.enter(None, &pulse()).unwrap();

        assert_eq!(caps.open(), 3);
        assert_eq!(silent.ends().await, super::super::timers::Cut::Evicted);
        assert!(futures_util::poll!(std::pin::pin!(younger.ends())).is_pending());
        drop(silent_place);
        assert_eq!(caps.open(), 3, "its place had been given away");
        drop(newcomer);
        tokio::time::advance(GIVES_WAY_AFTER * 2).await;
        assert!(served.waits_since().is_none());
        drop(request);
        tokio::time::advance(GIVES_WAY_AFTER).await;
        assert_eq!(served.waits_since(), Some(GIVES_WAY_AFTER));
    }

    #[tokio::test(start_paused = true)]
    async fn the_search_goes_on_where_it_ended() {
        let caps = ConnectionLimiter::new(LOOKED_AT + 1, None, Vec::new());
        let mut kept = Vec::new();
        for _ in 0..LOOKED_AT {
            let pulse = pulse();
            kept.push((pulse.request(false), caps.enter(None, &pulse).unwrap()));
        }
        let _silent = caps.enter(None, &pulse()).unwrap();
        tokio::time::advance(GIVES_WAY_AFTER).await;
        assert_eq!(caps.enter(None, &pulse()).unwrap_err(), Full::Connections);
        assert!(caps.enter(None, &pulse()).is_ok(), "it lay behind the first ones that were looked at");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_and_a_proxy_has_none() {
        let caps = ConnectionLimiter::new(100, NonZeroUsize::new(2), vec!["10.0.0.0/8".parse().unwrap()]);
        let enter = |text: &str| caps.enter(Some(text.parse().unwrap()), &pulse());
        let one = enter("192.0.2.1").unwrap();
        let _two = enter("::ffff:192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.1").unwrap_err(), Full::Address);
        let _other = enter("192.0.2.2").unwrap();
        drop(one);
        let _again = enter("192.0.2.1").unwrap();

        let _subscriber = [enter("2001:db8:0:1::1").unwrap(), enter("2001:db8:0:1:ffff::2").unwrap()];
        assert_eq!(enter("2001:db8:0:1::3").unwrap_err(), Full::Address);
        let _neighbour = enter("2001:db8:0:2::1").unwrap();

        let _proxied: Vec<Place> = (0..10).map(|_| enter("10.1.2.3").unwrap()).collect();
        let _mapped: Vec<Place> = (0..10).map(|_| enter("::ffff:10.1.2.3").unwrap()).collect();
        let _local: Vec<Place> = (0..10).map(|_| caps.enter(None, &pulse()).unwrap()).collect();
    }
}

//! When to poll: learned generation times, the plan for the next poll of each purchase, and the queue that spends a
//! limited number of polls where they help most. Pure: the caller passes the time, and nothing here sleeps or does I/O.
//!
//! - [`latency`]: how long the upstream works on a purchase, learned for each class of purchases.
//! - [`planner`]: the time of the next poll, from what is known of the class.
//! - [`queue`]: which purchase is polled next when the rate limit of its account allows a poll.
//! - [`price`]: how much more expensive a poll is while polls are limited.

#![cfg_attr(not(feature = "bench"), expect(unreachable_pub, reason = "`crate::benching` exports it to the benches"))]

pub(crate) mod latency;
pub(crate) mod planner;
pub(crate) mod price;
pub(crate) mod queue;

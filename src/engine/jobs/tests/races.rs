//! The races in the header of `jobs.rs`: each in both orders.

mod formats;
mod journal;
mod refetch;
mod requests;
mod stops;
mod times;

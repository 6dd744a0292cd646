//! The races in the header of `jobs.rs`: each in both orders.

mod formats;
mod journal;
mod requests;
mod stops;
mod times;

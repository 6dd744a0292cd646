//! The races in the header of `jobs.rs`: each in both orders.

mod journal;
mod requests;
mod stops;
mod times;

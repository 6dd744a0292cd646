//! The gateway from outside: a client, the gateway and the simulated upstream, each behind a real socket.
//!
//! What was bought is read from the simulator, which shares no code with the gateway's reading of the protocol. Tests wait
//! for conditions (`harness::until`), and delay a prediction by making its polls fail (`Upstream::hold`), so that a slow
//! machine only makes the tests slow. Two tests let a fixed time pass: one shows that a mismatched certificate is not
//! loaded, which is no event; one disconnects its clients at different moments on purpose.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::large_futures, reason = "a test is polled where it is made, and nothing moves it")]

mod harness;

mod accounts;
mod addresses;
mod administration;
mod azure;
mod browsers;
mod budget;
mod chat;
mod check;
mod compressed;
mod configuration;
mod connections;
mod contact;
mod costs;
mod damage;
mod deletions;
mod edits;
mod examples;
mod hostile;
mod incomplete;
mod init;
mod keys;
mod limits;
mod lists;
mod metrics;
mod money;
mod names;
mod network;
mod operator;
mod outputs;
mod paths;
mod pictures;
mod predictions;
mod program;
mod prompts;
mod ranges;
mod refetch;
mod refusals;
mod reload;
mod restarts;
mod routes;
mod run_time_keys;
mod sharing;
mod storage;
mod streaming;
mod supervised;
mod terminal;
mod thumbnails;
mod tls;
mod trouble;
mod unseen_inputs;
mod uploads;
mod values;
mod variants;
mod webhooks;

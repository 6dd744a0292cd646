//! The jobs as scripts: each line is an event, and what the jobs ask for in answer.

mod ends;
mod listing;
mod polls;
mod races;
mod recovery;
mod refusals;
mod script;
mod steps;
mod submits;
mod text;
mod views;

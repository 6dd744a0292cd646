//! The jobs as scripts: each line is an event, and what the jobs ask for in answer.

mod races;
mod script;
mod text;

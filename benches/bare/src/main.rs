//! Servers that do the least of what the gateway does, on the same libraries and with the same bytes: no journal, no
//! limits, no retries, no log. `tests/load/ratios.py` measures the gateway beside them.
//!
//! ```text
//! bare hits   --port P --answer FILE --headers FILE --picture FILE
//! bare edits  --port P --answer FILE --headers FILE --upstream URL --latency-ms N
//! bare parked --port P
//! ```
//!
//! `--answer` is an answer of the gateway, and `--headers` the head of that answer, a header on each line.

use std::collections::HashMap;
use std::error::Error;
use std::net::Ipv4Addr;

use tokio::net::TcpListener;

mod answer;
mod edits;
mod form;
mod hits;
mod parked;

/// Any error of a start: it is printed, and the server ends.
type Failure = Box<dyn Error + Send + Sync>;

/// The options of the command line, by name.
struct Options(HashMap<String, String>);

impl Options {
    fn parse(words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let (mut words, mut options) = (words, HashMap::new());
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
            options.insert(name, value);
        }
        Ok(Self(options))
    }

    fn text(&self, name: &str) -> Result<&str, Failure> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("{name} is missing").into())
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.text(name)?;
        std::fs::read(path).map_err(|error| format!("{path} cannot be read: {error}").into())
    }

    async fn listener(&self) -> Result<TcpListener, Failure> {
        Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, self.text("--port")?.parse()?)).await?)
    }
}

// The gateway's runtime.
#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let options = Options::parse(words)?;
    match command.as_str() {
        "hits" => hits::serve(&options).await,
        "edits" => edits::serve(&options).await,
        "parked" => parked::serve(&options).await,
        _ => Err("the first argument is hits, edits or parked".into()),
    }
}

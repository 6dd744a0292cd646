//! Bodies of answers, received within bounds of bytes, time, and the memory of all answers.

use std::time::Duration;

use bytes::BytesMut;
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::describe;
use super::memory::{AnswerMemory, AnswerShare};
use crate::upstream::answer::collector::AnswerCollector;
use crate::upstream::answer::events::EventCollector;

/// The limits of one answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    pub(super) bytes_max: usize,
    /// From the head of the answer to its end, without the time in which it waits for memory.
    pub(super) timeout: Duration,
    /// How long it waits for memory at one time; `None`: until there is some, because an answer that is not read is lost.
    pub(super) wait_max: Option<Duration>,
}

/// What has arrived of an answer.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    pub(super) body: BytesMut,
    pub(super) share: AnswerShare,
    /// Why the rest is missing.
    pub(super) broken: Option<String>,
}

/// What holds the bytes of an answer that arrives.
trait Collector {
    fn push(&mut self, chunk: &[u8]) -> Result<(), String>;
    fn bytes_held(&self) -> usize;
    /// Returns whether the rest need not be read.
    fn is_complete(&self) -> bool;
}

impl Collector for AnswerCollector {
    fn push(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.push(chunk)
    }

    fn bytes_held(&self) -> usize {
        self.bytes_held()
    }

    fn is_complete(&self) -> bool {
        self.is_complete()
    }
}

/// A stream of events, and the number of pictures after which it has ended.
struct Pictures(EventCollector, usize);

impl Collector for Pictures {
    fn push(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.0.push(chunk)
    }

    fn bytes_held(&self) -> usize {
        self.0.bytes_held()
    }

    fn is_complete(&self) -> bool {
        self.0.completed() >= self.1
    }
}

impl AnswerMemory {
    /// Receives an answer. Returns nothing of one that breaks off, and why.
    pub(super) async fn receive(&self, response: Response, limits: BodyLimits) -> ReceivedBody {
        let mut collector = AnswerCollector::new(limits.bytes_max);
        let (share, broken) = self.collect(response, &mut collector, limits).await;
        let body = if broken.is_none() { collector.into_body() } else { BytesMut::new() };
        ReceivedBody { body, share, broken }
    }

    /// Receives a streamed answer until all pictures are complete. Returns what has arrived, and why the rest has not.
    pub(super) async fn receive_stream(&self, response: Response, pictures: u8, limits: BodyLimits) -> ReceivedBody {
        let mut collector = Pictures(EventCollector::new(limits.bytes_max), pictures.into());
        let (share, broken) = self.collect(response, &mut collector, limits).await;
        ReceivedBody { body: collector.0.into_body(), share, broken }
    }

    async fn collect(
        &self,
        mut response: Response,
        collector: &mut impl Collector,
        limits: BodyLimits,
    ) -> (AnswerShare, Option<String>) {
        let mut share = AnswerShare::default();
        let mut deadline = Instant::now() + limits.timeout;
        let collect = async {
            while !collector.is_complete() {
                let next = timeout_at(deadline, response.chunk()).await;
                let next = next.map_err(|_| "the answer stopped arriving".to_owned())?;
                let Some(chunk) = next.map_err(|error| describe(&error))? else { break };
                let grow = self.grow(&mut share, collector.bytes_held() + chunk.len());
                deadline += match limits.wait_max {
                    None => grow.await,
                    Some(wait_max) => {
                        let waited = tokio::time::timeout(wait_max, grow).await;
                        waited.map_err(|_| "other answers hold the memory for it".to_owned())?
                    }
                };
                collector.push(&chunk)?;
            }
            Ok(())
        };
        let collected: Result<(), String> = collect.await;
        (share, collected.err())
    }
}

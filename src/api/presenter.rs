//! Stored pictures made ready for an answer: untouched, or converted off the asynchronous threads.
//!
//! Wanted:
//! - Whoever asks for nothing gets the stored bytes, and not a byte of them is decoded.
//! - A picture is paid for: one that cannot be converted is delivered as it is, under its true format, with a warning.
//! - Work is bounded: so many conversions at once, so many pixels each, so many bytes of results kept.
//!
//! Known races, and what we do:
//! - Several requests want the same conversion: each looks again when its turn comes, so no more do the work than have
//!   their turn at the same moment.
//! - A client leaves while its picture is converted: the work ends all the same, counts against the bound until then,
//!   and its result is kept for the retry.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use moka::sync::Cache;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Semaphore;

use super::conversion::{Conversion, ConversionError, Converted, convert};
use crate::config::ServerConfig;
use crate::model::picture::read_full;
use crate::model::{ByteSource, Digest, Format, StoredPicture};
use crate::telemetry::Metrics;

/// A picture as it is delivered.
#[derive(Clone, Debug)]
pub(super) struct Presented {
    pub(super) source: Arc<dyn ByteSource>,
    /// What the bytes are.
    pub(super) format: Format,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Makes pictures ready. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Presenter {
    kept: Cache<(Digest, Conversion), Converted>,
    turns: Arc<Semaphore>,
    pixels_max: u64,
    metrics: Arc<PresenterMetrics>,
}

#[derive(Debug)]
struct PresenterMetrics {
    conversions: Family<ConversionLabels, Counter>,
    seconds: Histogram,
    pending: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConversionLabels {
    format: &'static str,
    /// `converted`, `kept` from an earlier time, or `failed`.
    result: &'static str,
}

/// One conversion, in seconds.
const SECONDS_BUCKETS: [f64; 8] = [0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Bytes that an entry costs besides its picture.
const ENTRY_OVERHEAD_BYTES: u32 = 200;

/// Counts as pending for as long as it lives.
struct Pending<'a>(&'a Gauge);

impl<'a> Pending<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Presenter {
    pub(super) fn new(server: &ServerConfig, metrics: &Metrics) -> Self {
        let kept = Cache::builder()
            .max_capacity(server.converted_bytes_max)
            .weigher(|_, converted: &Converted| {
                u32::try_from(converted.bytes.len()).unwrap_or(u32::MAX).saturating_add(ENTRY_OVERHEAD_BYTES)
            })
            .build();
        let own = PresenterMetrics {
            conversions: Family::default(),
            seconds: Histogram::new(SECONDS_BUCKETS),
            pending: Gauge::default(),
        };
        metrics.register("api", |registry| {
            let help = "Pictures that were asked for in another format, by what became of them";
            registry.register("conversions", help, own.conversions.clone());
            registry.register("conversion_seconds", "Decoding and encoding one picture", own.seconds.clone());
            registry.register("conversions_pending", "Conversions under way or waiting", own.pending.clone());
        });
        let turns = Arc::new(Semaphore::new(server.concurrent_conversions_max.get()));
        Self { kept, turns, pixels_max: server.convert_pixels_max, metrics: Arc::new(own) }
    }

    /// Makes the opened pictures of a delivery ready, in their order.
    pub(super) async fn present(
        &self,
        pictures: &[StoredPicture],
        sources: Vec<Arc<dyn ByteSource>>,
        conversion: Option<Conversion>,
    ) -> Vec<Presented> {
        let each = pictures.iter().zip(sources).map(|(picture, source)| self.one(picture, source, conversion));
        join_all(each).await
    }

    /// Makes one picture ready.
    pub(super) async fn one(
        &self,
        picture: &StoredPicture,
        source: Arc<dyn ByteSource>,
        conversion: Option<Conversion>,
    ) -> Presented {
        let untouched = |source| {
            let StoredPicture { format, width, height, .. } = *picture;
            Presented { source, format, width, height }
        };
        let Some(conversion) = conversion.filter(|conversion| !conversion.is_met_by(picture.format)) else {
            return untouched(source);
        };
        match self.converted(picture, &source, conversion).await {
            Ok(Converted { bytes, width, height }) => {
                Presented { source: Arc::new(bytes), format: conversion.format, width, height }
            }
            Err(error) => {
                self.count(conversion, "failed");
                let (from, to) = (picture.format.name(), conversion.format.name());
                tracing::warn!(digest = %picture.digest, from, to, %error, "a picture is delivered unconverted");
                untouched(source)
            }
        }
    }

    async fn converted(
        &self,
        picture: &StoredPicture,
        source: &Arc<dyn ByteSource>,
        conversion: Conversion,
    ) -> Result<Converted, ConversionError> {
        let key = (picture.digest, conversion);
        if let Some(converted) = self.find(key) {
            return Ok(converted);
        }
        let _pending = Pending::new(&self.metrics.pending);
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(std::io::Error::other)?;
        if let Some(converted) = self.find(key) {
            return Ok(converted);
        }
        let (source, from, presenter) = (Arc::clone(source), picture.format, self.clone());
        let work = move || {
            let _turn = turn;
            let began = Instant::now();
            let converted = convert(&whole(&*source)?, from, conversion, presenter.pixels_max)?;
            presenter.metrics.seconds.observe(began.elapsed().as_secs_f64());
            presenter.count(conversion, "converted");
            presenter.kept.insert(key, converted.clone());
            Ok(converted)
        };
        // A decoder that panics has failed, and no more than that.
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
    }

    fn find(&self, key: (Digest, Conversion)) -> Option<Converted> {
        let converted = self.kept.get(&key)?;
        self.count(key.1, "kept");
        Some(converted)
    }

    fn count(&self, conversion: Conversion, result: &'static str) {
        let labels = ConversionLabels { format: conversion.format.name(), result };
        self.metrics.conversions.get_or_create(&labels).inc();
    }
}

fn whole(source: &dyn ByteSource) -> std::io::Result<Bytes> {
    match source.in_memory() {
        Some(bytes) => Ok(bytes),
        None => read_full(source, 0, usize::try_from(source.size()).map_err(std::io::Error::other)?).map(Bytes::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::form::tests::{png, server};

    fn presenter(pixels_max: u64, bytes_max: u64) -> Presenter {
        let mut server = server();
        server.convert_pixels_max = pixels_max;
        server.converted_bytes_max = bytes_max;
        Presenter::new(&server, &Metrics::default())
    }

    fn stored(bytes: Vec<u8>) -> (StoredPicture, Arc<dyn ByteSource>) {
        let bytes = Bytes::from(bytes);
        let format = Format::sniff(&bytes).unwrap();
        let size = bytes.len() as u64;
        let picture = StoredPicture { digest: Digest::of(&bytes), bytes: size, format, width: 30, height: 20 };
        (picture, Arc::new(bytes))
    }

    fn counted(presenter: &Presenter, format: &'static str, result: &'static str) -> u64 {
        presenter.metrics.conversions.get_or_create(&ConversionLabels { format, result }).get()
    }

    const JPEG: Conversion = Conversion { format: Format::Jpeg, compression: None };

    #[tokio::test]
    async fn what_is_not_asked_for_is_not_touched() {
        let ours = presenter(0, 1 << 20);
        // Nothing that could be decoded.
        let (picture, source) = stored(b"\x89PNG\r\n\x1a\n and so on".to_vec());
        for conversion in [None, Some(Conversion::new(Format::Png, Some(100)))] {
            let presented = ours.one(&picture, Arc::clone(&source), conversion).await;
            assert_eq!((presented.format, presented.source.in_memory()), (Format::Png, source.in_memory()));
        }
        assert_eq!(counted(&ours, "png", "failed"), 0);
    }

    #[tokio::test]
    async fn a_conversion_is_kept_for_the_next() {
        for (bytes_max, converted, kept) in [(1 << 20, 1, 2), (0, 3, 0)] {
            let ours = presenter(600, bytes_max);
            let (picture, source) = stored(png(30, 20));
            for _ in 0..3 {
                let presented = ours.one(&picture, Arc::clone(&source), Some(JPEG)).await;
                assert_eq!(Format::sniff(&whole(&*presented.source).unwrap()), Some(Format::Jpeg));
                assert_eq!((presented.width, presented.height), (30, 20));
                ours.kept.run_pending_tasks();
            }
            let counts = (counted(&ours, "jpeg", "converted"), counted(&ours, "jpeg", "kept"));
            assert_eq!(counts, (converted, kept), "{bytes_max}");
        }
        assert_eq!(presenter(1, 1).metrics.pending.get(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_converted_is_delivered_as_it_is() {
        let broken = b"\x89PNG\r\n\x1a\n and so on".to_vec();
        for (bytes, pixels_max) in [(broken, 600), (png(30, 20), 599)] {
            let ours = presenter(pixels_max, 1 << 20);
            let (picture, source) = stored(bytes);
            let presented = ours.one(&picture, Arc::clone(&source), Some(JPEG)).await;
            assert_eq!((presented.format, presented.source.in_memory()), (Format::Png, source.in_memory()));
            assert_eq!(counted(&ours, "jpeg", "failed"), 1);
        }
    }

    #[tokio::test]
    async fn order_is_kept() {
        let ours = presenter(10_000, 1 << 20);
        let (pictures, sources): (Vec<_>, Vec<_>) =
            [(5, 7), (60, 80), (3, 2)].map(|(w, h)| stored(png(w, h))).into_iter().unzip();
        let presented = ours.present(&pictures, sources, Some(JPEG)).await;
        let sizes: Vec<_> = presented.iter().map(|picture| (picture.width, picture.height)).collect();
        assert_eq!(sizes, [(5, 7), (60, 80), (3, 2)]);
    }
}

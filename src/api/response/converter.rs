//! Prepares stored pictures for a response: untouched, or converted on the blocking threads.
//!
//! Wanted:
//! - A request without a conversion gets the stored bytes, and not one byte is decoded.
//! - A picture is paid for: one that cannot be converted is delivered as it is, under its true format, with a warning in the
//!   log.
//! - Work is bounded: concurrent conversions (`server.concurrent_conversions_max`), pixels of each
//!   (`server.convert_pixels_max`), and bytes of cached results (`server.converted_bytes_max`).
//!
//! Known races:
//! - Several requests want the same conversion: each looks into the cache again once it has a slot, so at most as many as
//!   there are slots do the same work.
//! - A client disconnects while its picture is converted: the work ends all the same, holds its slot until then, and its
//!   result is cached for the retry.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use moka::sync::Cache;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::api::request::parse::inputs::slots::{ConversionSlot, ConversionSlots};
use crate::api::request::response_options::Conversion;
use crate::config::ConversionConfig;
use crate::model::picture::read_whole;
use crate::model::{ByteSource, Digest, Format, StoredPicture};
use crate::telemetry::Metrics;
use conversion::{ConversionError, Converted, convert};
use thumbnails::Thumbnails;

mod conversion;
pub(crate) mod thumbnails;

/// A picture ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct ReadyPicture {
    pub(crate) source: Arc<dyn ByteSource>,
    /// The true format of the bytes.
    pub(crate) format: Format,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Prepares pictures for responses. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PictureConverter {
    cache: Cache<(Digest, Conversion), Converted>,
    pub(crate) slots: Arc<ConversionSlots>,
    pixels_max: u64,
    conversions: Family<ConversionLabels, Counter>,
    pub(crate) thumbnails: Thumbnails,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConversionLabels {
    format: &'static str,
    /// `converted`, `cached` or `failed`.
    result: &'static str,
}

/// Memory of a cache entry besides its picture, in bytes.
const ENTRY_OVERHEAD_BYTES: u32 = 200;

impl PictureConverter {
    /// `thumbnail_bytes_max`: the memory for thumbnails.
    pub(crate) fn new(conversions: &ConversionConfig, thumbnail_bytes_max: u64, metrics: &Metrics) -> Self {
        let cache = Cache::builder()
            .max_capacity(conversions.cache_bytes_max)
            .weigher(|_, converted: &Converted| {
                u32::try_from(converted.bytes.len()).unwrap_or(u32::MAX).saturating_add(ENTRY_OVERHEAD_BYTES)
            })
            .support_invalidation_closures()
            .build();
        let counted: Family<ConversionLabels, Counter> = Family::default();
        for format in [Format::Png, Format::Jpeg, Format::Webp].map(Format::name) {
            for result in ["converted", "cached", "failed"] {
                counted.get_or_create_owned(&ConversionLabels { format, result });
            }
        }
        let slots = ConversionSlots::new(conversions.slots.get());
        metrics.register("api", |registry| {
            registry.register(
                "conversions",
                "Pictures requested in another format, by format and result",
                counted.clone(),
            );
            slots.register(registry, "conversion", "decode and encode one picture");
        });
        let (slots, pixels_max) = (Arc::new(slots), conversions.pixels_max);
        let thumbnails = Thumbnails::new(conversions, thumbnail_bytes_max, metrics);
        Self { cache, slots, pixels_max, conversions: counted, thumbnails }
    }

    /// Prepares the opened pictures of a result, in their order.
    pub(crate) async fn prepare_all(
        &self,
        pictures: &[StoredPicture],
        sources: Vec<Arc<dyn ByteSource>>,
        conversion: Option<Conversion>,
    ) -> Vec<ReadyPicture> {
        if conversion.is_none() {
            return pictures.iter().zip(sources).map(|(picture, source)| untouched(picture, source)).collect();
        }
        let each = pictures.iter().zip(sources).map(|(picture, source)| self.prepare(picture, source, conversion));
        join_all(each).await
    }

    /// Prepares one picture. Never fails: a picture that cannot be converted is returned as it is stored.
    async fn prepare(
        &self,
        picture: &StoredPicture,
        source: Arc<dyn ByteSource>,
        conversion: Option<Conversion>,
    ) -> ReadyPicture {
        let Some(conversion) = Self::due(picture, conversion) else { return untouched(picture, source) };
        match self.find(picture, conversion) {
            Some(ready) => ready,
            None => self.convert(self.slots.enter().await, picture, source, conversion).await,
        }
    }

    /// Returns the conversion of a picture, unless it is stored as it is asked for.
    pub(crate) fn due(picture: &StoredPicture, conversion: Option<Conversion>) -> Option<Conversion> {
        conversion.filter(|conversion| !conversion.is_met_by(picture.format))
    }

    /// Returns a converted picture that was made before.
    pub(crate) fn find(&self, picture: &StoredPicture, conversion: Conversion) -> Option<ReadyPicture> {
        let converted = self.cache.get(&(picture.digest, conversion))?;
        self.count(conversion, "cached");
        Some(ready(converted, conversion))
    }

    /// Converts one picture in a slot, as [`PictureConverter::prepare_all`] does.
    pub(crate) async fn convert(
        &self,
        slot: ConversionSlot,
        picture: &StoredPicture,
        source: Arc<dyn ByteSource>,
        conversion: Conversion,
    ) -> ReadyPicture {
        // Another request may have converted it meanwhile.
        if let Some(ready) = self.find(picture, conversion) {
            return ready;
        }
        let (from, opened, this) = (*picture, Arc::clone(&source), self.clone());
        let work = move || {
            let converted = convert(&read_whole(&*opened)?, from.format, conversion, this.pixels_max)?;
            this.count(conversion, "converted");
            this.cache.insert((from.digest, conversion), converted.clone());
            Ok::<_, ConversionError>(converted)
        };
        // A panic in a decoder is a failed conversion.
        match slot.run(work).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic).into())) {
            Ok(converted) => ready(converted, conversion),
            Err(error) => {
                self.count(conversion, "failed");
                let (from, to) = (picture.format.name(), conversion.format.name());
                tracing::warn!(digest = %picture.digest, from, to, %error, "conversion failed; delivering the picture as it is stored");
                untouched(picture, source)
            }
        }
    }

    /// Forgets what was made of pictures that are not stored any more.
    pub(crate) fn forget(&self, pictures: HashSet<Digest>) {
        if !pictures.is_empty() {
            self.thumbnails.forget(&pictures);
            // Fails only without support for closures. What is asked of every entry is kept until the maintenance has asked it.
            let _ = self.cache.invalidate_entries_if(move |(digest, _), _| pictures.contains(digest));
            self.cache.run_pending_tasks();
        }
    }

    fn count(&self, conversion: Conversion, result: &'static str) {
        let labels = ConversionLabels { format: conversion.format.name(), result };
        self.conversions.get_or_create(&labels).inc();
    }
}

fn ready(Converted { bytes, width, height }: Converted, conversion: Conversion) -> ReadyPicture {
    ReadyPicture { source: Arc::new(bytes), format: conversion.format, width, height }
}

/// Returns a picture as it is stored.
pub(crate) fn untouched(picture: &StoredPicture, source: Arc<dyn ByteSource>) -> ReadyPicture {
    let StoredPicture { format, width, height, .. } = *picture;
    ReadyPicture { source, format, width, height }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::request::test_support::{png, server};

    fn new(pixels_max: u64, bytes_max: u64) -> PictureConverter {
        let mut conversions = server().conversions;
        conversions.pixels_max = pixels_max;
        conversions.cache_bytes_max = bytes_max;
        PictureConverter::new(&conversions, 0, &Metrics::default())
    }

    fn stored(bytes: Vec<u8>) -> (StoredPicture, Arc<dyn ByteSource>) {
        let bytes = Bytes::from(bytes);
        let format = Format::sniff(&bytes).unwrap();
        let size = bytes.len() as u64;
        let picture = StoredPicture { digest: Digest::of(&bytes), bytes: size, format, width: 30, height: 20 };
        (picture, Arc::new(bytes))
    }

    fn counted(converter: &PictureConverter, format: &'static str, result: &'static str) -> u64 {
        converter.conversions.get_or_create(&ConversionLabels { format, result }).get()
    }

    const JPEG: Conversion = Conversion { format: Format::Jpeg, compression: None };

    #[tokio::test]
    async fn a_picture_without_conversion_is_untouched() {
        let converter = new(0, 1 << 20);
        // These bytes cannot be decoded.
        let (picture, source) = stored(b"\x89PNG\r\n\x1a\n and so on".to_vec());
        for conversion in [None, Some(Conversion::new(Format::Png, Some(100)))] {
            let prepared = converter.prepare(&picture, Arc::clone(&source), conversion).await;
            assert_eq!((prepared.format, prepared.source.in_memory()), (Format::Png, source.in_memory()));
        }
        assert_eq!(counted(&converter, "png", "failed"), 0);
    }

    #[tokio::test]
    async fn a_conversion_is_cached() {
        for (bytes_max, converted, cached) in [(1 << 20, 1, 2), (0, 3, 0)] {
            let converter = new(600, bytes_max);
            let (picture, source) = stored(png(30, 20));
            for _ in 0..3 {
                let prepared = converter.prepare(&picture, Arc::clone(&source), Some(JPEG)).await;
                assert_eq!(Format::sniff(&read_whole(&*prepared.source).unwrap()), Some(Format::Jpeg));
                assert_eq!((prepared.width, prepared.height), (30, 20));
                converter.cache.run_pending_tasks();
            }
            let counts = (counted(&converter, "jpeg", "converted"), counted(&converter, "jpeg", "cached"));
            assert_eq!(counts, (converted, cached), "{bytes_max}");
        }
        assert_eq!(new(1, 1).slots.pending(), 0);
    }

    #[tokio::test]
    async fn a_picture_that_cannot_be_converted_is_delivered_as_it_is() {
        let broken = b"\x89PNG\r\n\x1a\n and so on".to_vec();
        for (bytes, pixels_max) in [(broken, 600), (png(30, 20), 599)] {
            let converter = new(pixels_max, 1 << 20);
            let (picture, source) = stored(bytes);
            let prepared = converter.prepare(&picture, Arc::clone(&source), Some(JPEG)).await;
            assert_eq!((prepared.format, prepared.source.in_memory()), (Format::Png, source.in_memory()));
            assert_eq!(counted(&converter, "jpeg", "failed"), 1);
        }
    }

    #[tokio::test]
    async fn pictures_stay_in_order() {
        let converter = new(10_000, 1 << 20);
        let (pictures, sources): (Vec<_>, Vec<_>) =
            [(5, 7), (60, 80), (3, 2)].map(|(w, h)| stored(png(w, h))).into_iter().unzip();
        let prepared = converter.prepare_all(&pictures, sources, Some(JPEG)).await;
        let sizes: Vec<_> = prepared.iter().map(|picture| (picture.width, picture.height)).collect();
        assert_eq!(sizes, [(5, 7), (60, 80), (3, 2)]);
    }
}

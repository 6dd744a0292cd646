//! Small copies of stored pictures, for galleries: `width=` behind the address of a result.
//!
//! A thumbnail is a lossy WebP, which keeps transparency, in one of a few widths, so that the copies of one picture are few. It
//! is made on the blocking threads and kept in memory (`cache.thumbnail_bytes_max`). Conversions of results do not wait for
//! thumbnails.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use image::DynamicImage;
use moka::sync::Cache;

use super::conversion::{ConversionError, Decoded, decode, webp};
use crate::api::request::parse::inputs::slots::{ConversionSlot, ConversionSlots};
use crate::config::ConversionConfig;
use crate::model::picture::read_whole;
use crate::model::{ByteSource, Digest, Format, StoredPicture};
use crate::telemetry::Metrics;

/// The widths that are made.
const WIDTHS: [u32; 4] = [128, 256, 512, 1024];
/// The widths that can be asked for.
const REQUESTED_MIN: u32 = 16;
const REQUESTED_MAX: u32 = 2048;
/// Quality of the WebP.
const QUALITY: u8 = 78;
/// The largest colour profile that is copied: that of a display has some kilobytes.
const PROFILE_BYTES_MAX: usize = 16 * 1024;
/// Memory of a cache entry besides its picture, in bytes.
const ENTRY_OVERHEAD_BYTES: u32 = 200;

/// The width of a thumbnail, one of a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ThumbnailWidth(u32);

impl ThumbnailWidth {
    /// Rounds a width up to one that is made; `None` when none can be asked for.
    pub(crate) fn of(requested: u32) -> Option<Self> {
        if !(REQUESTED_MIN..=REQUESTED_MAX).contains(&requested) {
            return None;
        }
        let largest = WIDTHS[WIDTHS.len() - 1];
        Some(Self(WIDTHS.into_iter().find(|&width| width >= requested).unwrap_or(largest)))
    }

    /// Returns the value of `ETag` for the thumbnail of a picture.
    pub(crate) fn etag(self, picture: &StoredPicture) -> String {
        format!("\"{:.32}-{}\"", picture.digest.to_string(), self.0)
    }
}

/// Makes and keeps thumbnails. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Thumbnails {
    /// Those that were made, and why one cannot be.
    cache: Cache<(Digest, ThumbnailWidth), Result<Bytes, Arc<str>>>,
    pub(crate) slots: Arc<ConversionSlots>,
    pixels_max: u64,
}

impl Thumbnails {
    pub(super) fn new(conversions: &ConversionConfig, bytes_max: u64, metrics: &Metrics) -> Self {
        let weigher = |_: &(Digest, ThumbnailWidth), made: &Result<Bytes, Arc<str>>| {
            let bytes = made.as_ref().map_or(0, Bytes::len);
            u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(ENTRY_OVERHEAD_BYTES)
        };
        let cache = Cache::builder().max_capacity(bytes_max).weigher(weigher).build();
        let slots = ConversionSlots::new(conversions.slots.get());
        metrics.register("api", |registry| slots.register(registry, "thumbnail", "make one thumbnail"));
        Self { cache, slots: Arc::new(slots), pixels_max: conversions.pixels_max }
    }

    /// Returns a thumbnail that was made before, or why it could not be made.
    pub(crate) fn find(&self, picture: &StoredPicture, width: ThumbnailWidth) -> Option<Result<Bytes, Arc<str>>> {
        self.cache.get(&(picture.digest, width))
    }

    /// Makes the thumbnail of a picture as WebP in a slot. A picture that is not as wide keeps its size.
    ///
    /// # Errors
    ///
    /// Why the picture cannot be decoded or encoded; one of too many pixels is not decoded.
    pub(crate) async fn make(
        &self,
        slot: ConversionSlot,
        picture: &StoredPicture,
        source: Arc<dyn ByteSource>,
        width: ThumbnailWidth,
    ) -> Result<Bytes, Arc<str>> {
        // Another request may have made it meanwhile.
        if let Some(made) = self.find(picture, width) {
            return made;
        }
        let (digest, from, this) = (picture.digest, picture.format, self.clone());
        let work = move || {
            let made = scale(&*source, from, width, this.pixels_max);
            if let Err(error) = &made {
                tracing::warn!(%digest, %error, "a thumbnail could not be made; requests for it are refused");
            }
            let is_readable = !matches!(made, Err(ConversionError::Io(_)));
            let made = made.map_err(|error| Arc::from(error.to_string()));
            if is_readable {
                this.cache.insert((digest, width), made.clone());
            }
            made
        };
        // A panic in a decoder is a failure of this thumbnail.
        slot.run(work).await.unwrap_or_else(|panic| Err(panic.into()))
    }

    /// Forgets the thumbnails of pictures that are not stored any more.
    pub(super) fn forget(&self, pictures: &HashSet<Digest>) {
        for digest in pictures {
            for width in WIDTHS {
                self.cache.invalidate(&(*digest, ThumbnailWidth(width)));
            }
        }
    }
}

fn scale(
    source: &dyn ByteSource,
    from: Format,
    width: ThumbnailWidth,
    pixels_max: u64,
) -> Result<Bytes, ConversionError> {
    let Decoded { picture, profile } = decode(&read_whole(source)?, from, pixels_max)?;
    webp(scaled(picture, width), profile.filter(|profile| profile.len() <= PROFILE_BYTES_MAX), QUALITY)
}

/// Makes a picture as wide as this, and never wider than it is. Samples have 8 bits afterwards.
fn scaled(picture: DynamicImage, ThumbnailWidth(width): ThumbnailWidth) -> DynamicImage {
    let picture: DynamicImage =
        if picture.color().has_alpha() { picture.into_rgba8().into() } else { picture.into_rgb8().into() };
    if picture.width() <= width {
        return picture;
    }
    let height = u64::from(picture.height()) * u64::from(width) / u64::from(picture.width());
    picture.thumbnail_exact(width, u32::try_from(height).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::api::request::test_support::server;

    fn thumbnails(pixels_max: u64, bytes_max: u64) -> Thumbnails {
        let mut conversions = server().conversions;
        conversions.pixels_max = pixels_max;
        Thumbnails::new(&conversions, bytes_max, &Metrics::default())
    }

    fn stored(picture: &DynamicImage, format: Format) -> (StoredPicture, Arc<dyn ByteSource>) {
        let mut bytes = io::Cursor::new(Vec::new());
        let to = match format {
            Format::Png => image::ImageFormat::Png,
            Format::Jpeg => image::ImageFormat::Jpeg,
            Format::Webp => image::ImageFormat::WebP,
        };
        picture.write_to(&mut bytes, to).unwrap();
        let bytes = Bytes::from(bytes.into_inner());
        let (width, height) = (picture.width(), picture.height());
        let stored = StoredPicture { digest: Digest::of(&bytes), bytes: bytes.len() as u64, format, width, height };
        (stored, Arc::new(bytes))
    }

    async fn make(
        thumbnails: &Thumbnails,
        picture: &StoredPicture,
        source: Arc<dyn ByteSource>,
        width: ThumbnailWidth,
    ) -> Result<Bytes, Arc<str>> {
        thumbnails.make(thumbnails.slots.enter().await, picture, source, width).await
    }

    fn width(requested: u32) -> ThumbnailWidth {
        ThumbnailWidth::of(requested).unwrap()
    }

    #[test]
    fn widths_are_rounded_up_to_those_that_are_made() {
        for (requested, made) in
            [(16, 128), (128, 128), (129, 256), (256, 256), (257, 512), (513, 1024), (1024, 1024), (2048, 1024)]
        {
            assert_eq!(ThumbnailWidth::of(requested), Some(ThumbnailWidth(made)), "{requested}");
        }
        assert_eq!([0, 15, 2049, u32::MAX].map(ThumbnailWidth::of), [None; 4]);
    }

    #[tokio::test]
    async fn pictures_of_every_format_are_scaled_and_never_enlarged() {
        let thumbnails = thumbnails(1 << 20, 1 << 20);
        for format in [Format::Png, Format::Jpeg, Format::Webp] {
            for ((from_width, from_height), (to_width, to_height)) in
                [((600, 300), (128, 64)), ((60, 30), (60, 30)), ((900, 1), (128, 1)), ((1, 900), (1, 900))]
            {
                let picture = image::RgbImage::from_pixel(from_width, from_height, image::Rgb([200, 20, 30])).into();
                let (picture, source) = stored(&picture, format);
                let made = make(&thumbnails, &picture, source, width(100)).await.unwrap();
                assert_eq!(Format::sniff(&made), Some(Format::Webp));
                let made = image::load_from_memory(&made).unwrap();
                assert_eq!((made.width(), made.height()), (to_width, to_height), "{format:?}");
            }
        }
    }

    #[tokio::test]
    async fn transparency_stays_and_samples_of_16_bits_are_reduced() {
        let half = |x: u32, _| image::Rgba([u16::MAX, 0, 0, if x < 200 { 0 } else { u16::MAX }]);
        let picture: DynamicImage = image::ImageBuffer::from_fn(400, 40, half).into();
        let (picture, source) = stored(&picture, Format::Png);
        let made = make(&thumbnails(1 << 20, 0), &picture, source, width(128)).await.unwrap();
        let made = image::load_from_memory(&made).unwrap().into_rgba8();
        assert_eq!((made.get_pixel(10, 5).0[3], made.get_pixel(110, 5).0[3]), (0, 255));
    }

    #[tokio::test]
    async fn a_picture_with_too_many_pixels_is_refused_before_it_is_decoded() {
        let picture = image::RgbImage::new(40, 30).into();
        let (picture, source) = stored(&picture, Format::Png);
        let error = make(&thumbnails(1199, 0), &picture, source, width(128)).await.unwrap_err();
        assert!(error.starts_with("40x30 pixels are more"), "{error}");
        // A header that claims more than there is.
        let chunk = |length: u8, chunk: &[u8]| [&[0, 0, 0, length], chunk, &crc32(chunk).to_be_bytes()].concat();
        let head = chunk(13, b"IHDR\0\0\xea\x60\0\0\xea\x60\x08\x06\0\0\0");
        let bomb = Bytes::from([b"\x89PNG\r\n\x1a\n".to_vec(), head, chunk(2, b"IDAT\x78\x9c")].concat());
        let picture = StoredPicture { digest: Digest::of(&bomb), width: 1, height: 1, ..picture };
        let error = make(&thumbnails(1 << 24, 0), &picture, Arc::new(bomb), width(128)).await.unwrap_err();
        assert!(error.starts_with("60000x60000 pixels"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    #[tokio::test]
    async fn thumbnails_are_kept_within_their_bytes_until_they_are_forgotten() {
        for (bytes_max, kept) in [(1 << 20, 1), (0, 0)] {
            let thumbnails = thumbnails(1 << 20, bytes_max);
            let picture = image::RgbImage::new(300, 30).into();
            let (picture, source) = stored(&picture, Format::Png);
            for _ in 0..2 {
                make(&thumbnails, &picture, Arc::clone(&source), width(128)).await.unwrap();
                thumbnails.cache.run_pending_tasks();
                assert_eq!(thumbnails.cache.entry_count(), kept, "{bytes_max}");
            }
            thumbnails.forget(&[picture.digest].into());
            assert!(thumbnails.cache.get(&(picture.digest, width(128))).is_none());
        }
    }
}

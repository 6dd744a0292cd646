use std::fs;
use std::io;

use base64_simd::STANDARD;
use bytes::Bytes;

use super::*;
use crate::model::picture::{InvalidPicture, read_full};
use crate::model::{Format, StoredPicture};

fn png() -> Bytes {
    let mut bytes = io::Cursor::new(Vec::new());
    image::RgbImage::new(30, 20).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

async fn store(results: &Results, bytes: Bytes) -> Result<StoredPicture, ResultsError> {
    let mut writer = results.write(1 << 20);
    for chunk in bytes.chunks(50) {
        writer.push(Bytes::copy_from_slice(chunk)).await?;
    }
    writer.finish().await
}

#[tokio::test]
async fn a_complete_picture_is_stored_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
    let picture = store(&results, png()).await.unwrap();
    assert_eq!((picture.format, picture.width, picture.height), (Format::Png, 30, 20));
    for in_memory in [1 << 20, 0] {
        let results = Results::open(directory.path(), 1 << 20, in_memory).unwrap();
        let source = results.read(&picture).await.unwrap();
        assert_eq!(read_full(&*source, 0, 1 << 20).unwrap(), png());
        let text = STANDARD.encode_to_string(png());
        assert_eq!(source.base64(), (in_memory > 0).then(|| Bytes::from(text)));
        for offset in 0..10 {
            for size in 0..10 {
                let found = read_full(&*source, offset, size).unwrap();
                assert_eq!(found, png()[usize::try_from(offset).unwrap()..][..size], "{size} at {offset}");
            }
        }
        let end = png().len() as u64;
        assert_eq!(read_full(&*source, end - 2, 10).unwrap(), png()[png().len() - 2..]);
        assert!(read_full(&*source, end + 5, 10).unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_incomplete_picture_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
    let cut = png().slice(..png().len() - 1);
    assert!(matches!(store(&results, cut).await, Err(ResultsError::InvalidPicture(InvalidPicture::Damaged(_)))));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_changed_file_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
    let picture = store(&results, png()).await.unwrap();
    let path = directory.path().join(picture.digest.to_string());
    let mut bytes = fs::read(&path).unwrap();
    bytes[25] ^= 1;
    fs::write(&path, bytes).unwrap();
    // Reopened, because the first store has the picture in memory.
    let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
    assert!(results.read(&picture).await.is_err());
}

#[tokio::test]
async fn temporary_files_are_removed_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("half.tmp"), b"half").unwrap();
    Results::open(directory.path(), 1, 1).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn large_and_small_pictures_are_stored_alike() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let mut bytes = io::Cursor::new(Vec::new());
    let noise = image::RgbImage::from_fn(500, 500, |x, y| {
        let [one, two, three, _] = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761).to_le_bytes();
        image::Rgb([one, two, three])
    });
    noise.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let large = Bytes::from(bytes.into_inner());
    assert!(large.len() > 300 * 1024, "more than is gathered in memory");
    for picture in [large, png()] {
        let mut writer = results.write(1 << 30);
        for chunk in picture.chunks(10_000) {
            writer.push(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let stored = writer.finish().await.unwrap();
        let source = results.read(&stored).await.unwrap();
        assert_eq!(read_full(&*source, 0, picture.len() + 1).unwrap(), picture);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
}

#[tokio::test]
async fn a_picture_above_the_limit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let mut writer = results.write(10);
    assert!(matches!(writer.push(png()).await, Err(ResultsError::TooLarge { bytes_max: 10 })));
}

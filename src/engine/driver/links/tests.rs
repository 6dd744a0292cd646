use std::collections::HashMap;
use std::io::Cursor;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::budget::{Poll, Reservation, Submit};
use crate::config::{Config, Environment};
use crate::model::picture::test_support::{exif, png_chunk};
use crate::model::{ApiKind, Choices, Format, Size, Task};
use crate::upstream::formats::SubmitFormat;
use crate::upstream::{Commit, Output, PollError, Polled, PurchaseHandle, Submitted};

type Answer = Result<Vec<Bytes>, FetchError>;

/// Pictures on the internet, by their addresses. An address that is missing never answers.
#[derive(Clone, Debug, Default)]
struct Internet(HashMap<&'static str, Answer>);

impl Upstream for Internet {
    fn submit<'a>(
        &'a self,
        _reservation: Reservation<Submit>,
        _request: &'a PictureRequest,
        _pictures: u8,
        _format: &'a SubmitFormat,
        _commit: Commit,
    ) -> BoxFuture<'a, Result<Submitted, SubmitError>> {
        unreachable!("nothing is bought here")
    }

    fn poll<'a>(
        &'a self,
        _reservation: Reservation<Poll>,
        _handle: &'a PurchaseHandle,
    ) -> BoxFuture<'a, Result<Polled, PollError>> {
        unreachable!("nothing is bought here")
    }

    fn fetch(&self, _output: Output) -> BoxFuture<'_, Result<Download, FetchError>> {
        unreachable!("an address of a client is no output")
    }

    fn fetch_link<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Download, FetchError>> {
        let Some(answer) = self.0.get(address).cloned() else { return std::future::pending().boxed() };
        async { answer.map(|chunks| futures_util::stream::iter(chunks.into_iter().map(Ok)).boxed()) }.boxed()
    }
}

const ONE: &str = "https://one.example/1.png?signature=secret";
const TWO: &str = "https://two.example/2.png";
const MASK: &str = "https://mask.example/mask.png";

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbaImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Returns an answer in chunks of this size.
#[expect(clippy::unnecessary_wraps, reason = "other answers are errors")]
fn chunks(bytes: &[u8], size: usize) -> Answer {
    Ok(bytes.chunks(size).map(Bytes::copy_from_slice).collect())
}

fn request(addresses: &[&str], mask: Option<&str>) -> PictureRequest {
    let link = |address: &&str| Input::Link((*address).to_owned());
    PictureRequest {
        task: Task::Edit,
        model: "gpt-image-1.5".into(),
        prompt: "make it blue".to_owned(),
        inputs: addresses.iter().map(link).collect(),
        mask: mask.as_ref().map(link),
        n: 1,
        size: Size { width: 1024, height: 1024 },
        choices: Choices::default(),
        explicit: std::collections::BTreeSet::new(),
        api_kind: ApiKind::Prediction,
    }
}

/// Fetches with a spool of this size.
async fn fetch(internet: &Internet, request: &PictureRequest, spool_bytes: u64) -> Result<PictureRequest, SubmitError> {
    fetch_checked(internet, request, spool_bytes, true).await
}

/// Fetches, and refuses unknown formats or passes them on.
async fn fetch_checked(
    internet: &Internet,
    request: &PictureRequest,
    spool_bytes: u64,
    known_only: bool,
) -> Result<PictureRequest, SubmitError> {
    let directory = tempfile::tempdir().unwrap();
    let environment = Environment::from([("GPTPROTO_API_KEY".to_owned(), "sk-test".to_owned())]);
    let config = Config::load(None, &environment).unwrap();
    let mut catalogue = config.catalogue;
    for model in &mut catalogue.models {
        model.parameters.image_bytes_max = 10_000;
    }
    let fetcher = LinkFetcher {
        upstream: Arc::new(internet.clone()),
        catalogue: Arc::new(catalogue),
        spool: Spool::for_test(directory.path().to_owned(), 1000, spool_bytes),
        limits: PictureLimits { known_only, ..config.server.requests.picture_limits() },
        timeout: Duration::from_secs(30),
    };
    fetcher.fetch(request).await
}

/// Returns why a request is rejected.
async fn rejection(internet: &Internet, request: &PictureRequest) -> String {
    match fetch(internet, request, 1 << 20).await {
        Err(SubmitError::Rejected(Failure::LinkNotFetched { message, bought: false })) => message,
        other => panic!("{other:?}"),
    }
}

fn bytes(input: &Input) -> Vec<u8> {
    let Input::Bytes { picture, source } = input else { panic!("{input:?}") };
    assert_eq!(picture.structure.format, Some(Format::Png));
    crate::model::picture::read_full(&**source, 0, usize::try_from(picture.bytes).unwrap()).unwrap()
}

#[tokio::test]
async fn pictures_and_mask_take_the_places_of_their_addresses() {
    let (one, two, mask) = (png(40, 30), png(300, 300), png(40, 30));
    assert!(two.len() > 1000, "goes to the file: {} bytes", two.len());
    let internet =
        Internet(HashMap::from([(ONE, chunks(&one, 7)), (TWO, chunks(&two, 600)), (MASK, chunks(&mask, 1000))]));
    let asked = request(&[ONE, TWO], Some(MASK));
    let fetched = fetch(&internet, &asked, 1 << 20).await.unwrap();
    assert_eq!(fetched.inputs.iter().map(bytes).collect::<Vec<_>>(), [one, two]);
    assert_eq!(bytes(fetched.mask.as_ref().unwrap()), mask);
    assert_eq!((&fetched.prompt, fetched.size, fetched.n), (&asked.prompt, asked.size, asked.n));
}

#[tokio::test]
async fn a_turned_picture_with_a_mask_is_rejected_and_an_opaque_mask_too() {
    let plain = png(40, 30);
    let exif = png_chunk(b"eXIf", &exif(6, true));
    let turned = [&plain[..33], &exif, &plain[33..]].concat();
    let mut opaque = Cursor::new(Vec::new());
    image::RgbImage::new(40, 30).write_to(&mut opaque, image::ImageFormat::Png).unwrap();
    let opaque = opaque.into_inner();
    for (image, mask, expected) in [
        (&turned, &png(30, 40), "image 1 carries a rotation"),
        (&turned, &plain, "image 1 carries a rotation"),
        (&plain, &opaque, "has no transparent pixel"),
        (&plain, &png(30, 40), "30x40"),
    ] {
        let internet = Internet(HashMap::from([(ONE, chunks(image, 100)), (MASK, chunks(mask, 100))]));
        let message = rejection(&internet, &request(&[ONE], Some(MASK))).await;
        assert!(message.contains(expected), "{message}");
    }
    let alone = Internet(HashMap::from([(ONE, chunks(&turned, 100))]));
    assert!(fetch(&alone, &request(&[ONE], None), 1 << 20).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_cannot_be_fetched_is_named_with_its_host_alone() {
    let good = chunks(&png(40, 30), 100);
    let not_found = Err(FetchError::Trouble("HTTP 404 Not Found".to_owned()));
    let private = Err(FetchError::Forbidden("10.0.0.7 is a private address".to_owned()));
    let broken = Err(FetchError::Trouble("cannot connect: 10.0.0.7 refused".to_owned()));
    let cut = png(40, 30);
    let cases = [
        (Some(not_found), "HTTP 404 Not Found"),
        (Some(private), "may not fetch"),
        (Some(broken), "no usable answer"),
        (Some(chunks(b"<html>", 6)), "no PNG, JPEG or WebP"),
        (Some(Ok(Vec::new())), "empty"),
        (Some(chunks(&cut[..cut.len() - 1], 100)), "it ends at byte"),
        (Some(chunks(&vec![0; 10_001], 1000)), "larger than 10000 bytes"),
        (Some(chunks(&png(32_769, 1), 1000)), "pixels on a side"),
        (None, "in time"),
    ];
    for (answer, reason) in cases {
        let mut internet = Internet(HashMap::from([(TWO, good.clone())]));
        internet.0.extend(answer.map(|answer| (ONE, answer)));
        let message = rejection(&internet, &request(&[TWO, ONE], None)).await;
        assert!(message.starts_with("image 2 could not be fetched from one.example: "), "{message}");
        assert!(message.contains(reason), "{message}");
        assert!(!message.contains("secret") && !message.contains("10.0.0.7"), "{message}");
    }
}

#[tokio::test]
async fn a_mask_is_checked_as_an_uploaded_one() {
    let internet = |mask: &[u8]| Internet(HashMap::from([(ONE, chunks(&png(40, 30), 100)), (MASK, chunks(mask, 100))]));
    let masked = request(&[ONE], Some(MASK));
    let message = rejection(&internet(&png(30, 40)), &masked).await;
    assert!(message.contains("30x40") && message.contains("40x30"), "{message}");
    let message = rejection(&internet(b"\xff\xd8\xff"), &masked).await;
    assert!(message.starts_with("the mask could not be fetched from mask.example"), "{message}");
}

#[tokio::test]
async fn a_lack_of_space_is_no_fault_of_the_client() {
    let internet = Internet(HashMap::from([(ONE, chunks(&png(300, 300), 100))]));
    let refused = fetch(&internet, &request(&[ONE], None), 500).await;
    assert!(matches!(refused, Err(SubmitError::NotSent { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_would_be_converted_is_refused_by_name_and_passed_on_unchecked() {
    let plain = png(40, 30);
    let exif = png_chunk(b"eXIf", &exif(6, true));
    let turned = [&plain[..33], &exif, &plain[33..]].concat();
    let other = |format| {
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::new(40, 30).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    for (name, image, mask, expected) in [
        ("GIF", other(image::ImageFormat::Gif), None, "image 1 is image/gif, which is not converted"),
        ("BMP", other(image::ImageFormat::Bmp), None, "image 1 is image/bmp, which is not converted"),
        ("TIFF", other(image::ImageFormat::Tiff), None, "image 1 is image/tiff, which is not converted"),
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(), None, "image 1 is image/heic, which is not converted"),
        ("PDF", b"%PDF-1.7".to_vec(), None, "it is no PNG, JPEG or WebP picture"),
        ("a BMP as mask", plain.clone(), Some(other(image::ImageFormat::Bmp)), "the mask is image/bmp"),
        (
            "a JPEG as mask",
            plain.clone(),
            Some(other(image::ImageFormat::Jpeg)),
            "the mask cannot be used: it must be a PNG",
        ),
        ("a turned photo", turned.clone(), Some(png(30, 40)), "image 1 carries a rotation"),
        ("a turned mask", png(30, 40), Some(turned.clone()), "the mask carries a rotation"),
        ("both turned", turned.clone(), Some(turned), "image 1 carries a rotation"),
    ] {
        let mut answers = HashMap::from([(ONE, chunks(&image, 1000))]);
        answers.extend(mask.as_ref().map(|mask| (MASK, chunks(mask, 1000))));
        let (internet, asked) = (Internet(answers), request(&[ONE], mask.as_ref().map(|_| MASK)));
        let message = rejection(&internet, &asked).await;
        assert!(message.contains(expected), "{name}: {message}");
        let unchecked = fetch_checked(&internet, &asked, 1 << 20, false).await;
        assert!(unchecked.is_ok(), "{name}: the upstream decides");
    }
}

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

/// The ways in which a body is packed here: `Deflate` comes with and without the header of zlib.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    /// Every half a member of its own.
    GzipMembers,
    Zlib,
    RawDeflate,
    Zstd,
    ZstdFrames,
}

const PACKINGS: [Packing; 6] =
    [Packing::Gzip, Packing::GzipMembers, Packing::Zlib, Packing::RawDeflate, Packing::Zstd, Packing::ZstdFrames];

impl Packing {
    fn coding(self) -> ContentCoding {
        match self {
            Self::Gzip | Self::GzipMembers => ContentCoding::Gzip,
            Self::Zlib | Self::RawDeflate => ContentCoding::Deflate,
            Self::Zstd | Self::ZstdFrames => ContentCoding::Zstd,
        }
    }

    fn pack(self, bytes: &[u8]) -> Vec<u8> {
        let level = Compression::new(6);
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Self::GzipMembers => {
                let (one, other) = bytes.split_at(bytes.len() / 2);
                [Self::Gzip.pack(one), Self::Gzip.pack(other)].concat()
            }
            Self::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Self::RawDeflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(bytes, 3).unwrap(),
            Self::ZstdFrames => {
                let (one, other) = bytes.split_at(bytes.len() / 2);
                [Self::Zstd.pack(one), Self::Zstd.pack(other)].concat()
            }
        }
    }
}

/// Unpacks bytes that arrive in chunks of these lengths, in turn.
fn unpack(coding: ContentCoding, packed: &[u8], chunks: &[usize]) -> Result<Vec<u8>, UnpackProblem> {
    let mut unpacker = Unpacker::new(coding);
    let mut plain = Vec::new();
    let mut rest = Bytes::copy_from_slice(packed);
    let mut lengths = chunks.iter().copied().cycle();
    loop {
        match unpacker.step()? {
            Step::Unpacked(chunk) => {
                assert!((1..=CHUNK_BYTES).contains(&chunk.len()));
                plain.extend_from_slice(&chunk);
            }
            Step::Working => {}
            Step::Starved if rest.is_empty() => unpacker.finish(),
            Step::Starved => unpacker.give(rest.split_to(rest.len().min(lengths.next().unwrap_or(1).max(1)))),
            Step::Ended => return Ok(plain),
        }
    }
}

/// Bytes that compress a little, with some repetition.
fn sample(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (24 - i % 5)).to_le_bytes()[0] & 0x3f).collect()
}

#[test]
fn codings_are_known_by_name() {
    for (value, coding) in [
        ("gzip", Ok(Some(ContentCoding::Gzip))),
        (" GZip ", Ok(Some(ContentCoding::Gzip))),
        ("x-gzip", Ok(Some(ContentCoding::Gzip))),
        ("deflate", Ok(Some(ContentCoding::Deflate))),
        ("zstd", Ok(Some(ContentCoding::Zstd))),
        ("identity", Ok(None)),
        ("", Ok(None)),
        ("br", Err(UnknownCoding)),
        ("compress", Err(UnknownCoding)),
        ("gzip, gzip", Err(UnknownCoding)),
        ("gzip,identity", Err(UnknownCoding)),
        ("aes128gcm", Err(UnknownCoding)),
    ] {
        assert_eq!(ContentCoding::parse(value), coding, "{value}");
    }
}

#[test]
fn every_packing_unpacks_to_the_same_bytes() {
    for packing in PACKINGS {
        for bytes in [0, 1, 2, 100, 70_000, 3_000_000] {
            let plain = sample(bytes);
            let packed = packing.pack(&plain);
            for chunks in [&[1_000_000_000][..], &[16 * 1024], &[1000, 1, 7]] {
                assert_eq!(unpack(packing.coding(), &packed, chunks).as_deref(), Ok(&plain[..]), "{packing:?} {bytes}");
            }
        }
    }
}

#[test]
fn truncated_data_and_what_follows_it_are_refused_by_name() {
    for packing in PACKINGS {
        let packed = packing.pack(&sample(10_000));
        for cut in [1, 2, 5, packed.len() / 3, packed.len() - 1] {
            let problem = unpack(packing.coding(), &packed[..cut], &[100]).unwrap_err();
            assert_eq!(problem, UnpackProblem::Truncated(packing.coding()), "{packing:?} cut at {cut}");
        }
        for tail in [&b"x"[..], b"\r\n", &[0; 300], b"{\"prompt\": \"something else\"}"] {
            let problem = unpack(packing.coding(), &[&packed, tail].concat(), &[50]).unwrap_err();
            assert_eq!(problem, UnpackProblem::Trailing(packing.coding()), "{packing:?} {tail:?}");
        }
        let problem = unpack(packing.coding(), b"{\"prompt\": \"not compressed at all\"}", &[9]).unwrap_err();
        assert!(matches!(problem, UnpackProblem::Invalid { .. }), "{packing:?}: {problem}");
    }
    for coding in [ContentCoding::Gzip, ContentCoding::Deflate, ContentCoding::Zstd] {
        assert_eq!(unpack(coding, b"", &[1]).as_deref(), Ok(&b""[..]), "an empty body has its own message");
    }
}

#[test]
fn checksums_are_checked() {
    for packing in [Packing::Gzip, Packing::Zlib] {
        let mut packed = packing.pack(&sample(10_000));
        let last = packed.len() - 3;
        packed[last] ^= 1;
        assert!(matches!(unpack(packing.coding(), &packed, &[100]), Err(UnpackProblem::Invalid { .. })), "{packing:?}");
    }
}

#[test]
fn the_window_of_zstd_is_bounded() {
    let with_window = |log: u32| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(&sample(1000)).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(unpack(ContentCoding::Zstd, &with_window(23), &[100]), Ok(sample(1000)));
    for log in [24, 27] {
        let problem = unpack(ContentCoding::Zstd, &with_window(log), &[100]).unwrap_err();
        assert_eq!(problem, UnpackProblem::WindowTooLarge, "{log}");
    }
}

#[test]
fn steps_are_short_whatever_the_ratio() {
    let bomb = Packing::Gzip.pack(&vec![0; 20_000_000]);
    let mut unpacker = Unpacker::new(ContentCoding::Gzip);
    unpacker.give(bomb.into());
    let mut bytes = 0;
    for _ in 0..10 {
        if let Step::Unpacked(chunk) = unpacker.step().unwrap() {
            bytes += chunk.len();
        }
    }
    assert!(bytes <= 10 * CHUNK_BYTES, "{bytes}");
    // Members that unpack to nothing, in one piece.
    let empty = Packing::Gzip.pack(b"").repeat(5000);
    let steps_min = empty.len() / INPUT_STEP_BYTES;
    let mut unpacker = Unpacker::new(ContentCoding::Gzip);
    unpacker.give(empty.into());
    let mut steps = 0;
    while unpacker.step().unwrap() == Step::Working {
        steps += 1;
    }
    assert!(steps >= steps_min, "{steps} steps");
}

/// Prints the time of a step: `cargo test --lib time_of_a_step -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn time_of_a_step() {
    for packing in PACKINGS {
        let plain = sample(20_000_000);
        let mut unpacker = Unpacker::new(packing.coding());
        unpacker.give(packing.pack(&plain).into());
        let (mut steps, mut longest) = (0, std::time::Duration::ZERO);
        let started = std::time::Instant::now();
        loop {
            let at = std::time::Instant::now();
            let step = unpacker.step().unwrap();
            longest = longest.max(at.elapsed());
            steps += 1;
            match step {
                Step::Starved => unpacker.finish(),
                Step::Ended => break,
                Step::Working | Step::Unpacked(_) => {}
            }
        }
        let mean = started.elapsed() / steps;
        println!("{packing:?}: {steps} steps, mean {mean:?}, longest {longest:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_body_in_any_coding_and_chunks_is_the_plain_one(
        plain in prop::collection::vec(0_u8..5, 0..4000),
        copies in 1_usize..40,
        packing in 0..PACKINGS.len(),
        chunks in prop::collection::vec(1_usize..3000, 1..6),
    ) {
        let (packing, plain) = (PACKINGS[packing], plain.repeat(copies));
        prop_assert_eq!(unpack(packing.coding(), &packing.pack(&plain), &chunks), Ok(plain));
    }

    #[test]
    fn any_bytes_are_unpacked_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        start in 0..PACKINGS.len() + 1,
        chunks in prop::collection::vec(1_usize..50, 1..4),
    ) {
        // Some begin like valid data.
        let start = PACKINGS.get(start).map(|packing| packing.pack(b"a small body")).unwrap_or_default();
        let bytes = [&start[..start.len() / 2], &bytes].concat();
        for coding in [ContentCoding::Gzip, ContentCoding::Deflate, ContentCoding::Zstd] {
            let _ = unpack(coding, &bytes, &chunks);
        }
    }
}

//! Fuzzes the conversion of input pictures and the look at masks: no panic, and the same PNG for the same bytes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::runtime::Runtime;

use super::{InputConverter, InputLimits};
use crate::api::request::body::form::Form;
use crate::config::{Config, ConversionConfig, Environment};
use crate::model::picture::{PictureLimits, Structure};
use crate::model::{Digest, Input, Picture};
use crate::storage::spool::Spool;
use crate::telemetry::Metrics;

/// Largest number of pixels, so that an input is cheap to convert.
const PIXELS_MAX: u64 = 8192;

struct Gateway {
    runtime: Runtime,
    converter: InputConverter,
    pictures: PictureLimits,
    spool: Spool,
}

fn gateway() -> &'static Gateway {
    static GATEWAY: OnceLock<Gateway> = OnceLock::new();
    GATEWAY.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = Config::load(None, &Environment::new()).expect("the default configuration").server;
        let conversions = ConversionConfig { input_pixels_max: PIXELS_MAX, ..server.conversions };
        let converter = InputConverter::new(&conversions, &Metrics::default());
        let spool = Spool::for_test(std::env::temp_dir(), 1 << 20, 1 << 24);
        Gateway { runtime, converter, pictures: server.requests.picture_limits(), spool }
    })
}

/// Prepares a picture, alone or with itself as its mask, as the first byte says.
///
/// # Panics
///
/// When two preparations differ, and when what was prepared is not what it is said to be.
pub fn input(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let once = prepare(bytes, first & 1 == 1);
    assert_eq!(once, prepare(bytes, first & 1 == 1), "the same bytes make the same request");
}

/// Returns the digests of the prepared pictures, or the code of the error.
fn prepare(bytes: &[u8], with_mask: bool) -> Result<Vec<Vec<u8>>, &'static str> {
    let Gateway { runtime, converter, pictures, spool } = gateway();
    let content = Bytes::copy_from_slice(bytes);
    let structure = Structure::of(&content).expect("memory can be read");
    let picture = Picture { digest: Digest::of(bytes), bytes: bytes.len() as u64, structure };
    let input = Input::Bytes { picture, source: Arc::new(content) };
    let form = Form { images: vec![input.clone()], mask: with_mask.then_some(input), ..Form::default() };
    let limits = InputLimits { spool, pictures: *pictures, bytes_max: 1 << 20 };
    let prepared = runtime.block_on(converter.prepare(form, limits)).map_err(|error| error.code())?;
    let inputs = prepared.images.into_iter().chain(prepared.mask);
    let checked = inputs.map(|input| {
        let Input::Bytes { picture, source } = &input else { unreachable!("no address was given") };
        let found = Structure::of(&**source).expect("memory can be read");
        assert_eq!((found.format, found.dimensions), (picture.structure.format, picture.structure.dimensions));
        input.fingerprint_bytes().into_owned()
    });
    Ok(checked.collect())
}

//! Fixtures of the unit tests.

use std::io::Cursor;
use std::sync::LazyLock;

use super::body::form::FormLimits;
use super::parse::inputs::InputConverter;
use crate::config::{Config, Environment, ServerConfig};
use crate::model::picture::read_full;
use crate::model::{Catalogue, Input, Task};
use crate::storage::spool::Spool;
use crate::telemetry::Metrics;

/// The default configuration, loaded once: that takes longer than most tests.
static CONFIG: LazyLock<Config> = LazyLock::new(|| Config::load(None, &Environment::new()).unwrap());

pub(crate) fn server() -> ServerConfig {
    CONFIG.server.clone()
}

pub(crate) fn catalogue() -> Catalogue {
    CONFIG.catalogue.clone()
}

pub(crate) fn limits(task: Task) -> FormLimits {
    FormLimits::new(task, &server().bodies, &catalogue())
}

/// Returns a converter with the default limits.
pub(crate) fn inputs() -> InputConverter {
    let conversions = server().conversions;
    InputConverter::new(&conversions, &Metrics::default())
}

pub(crate) fn spool() -> (tempfile::TempDir, Spool) {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::for_test(directory.path().to_owned(), 64 * 1024, 1 << 30);
    (directory, spool)
}

/// Returns the bytes of an input, or its address.
pub(crate) fn content(input: &Input) -> Vec<u8> {
    match input {
        Input::Bytes { picture, source } => {
            let size = usize::try_from(picture.bytes).unwrap();
            read_full(&**source, 0, size).unwrap()
        }
        Input::Link(address) => address.clone().into_bytes(),
    }
}

/// Returns a valid PNG.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbaImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

//! The pictures that the simulator draws.

mod caption;
pub(super) mod draw;
mod effects;
mod encode;
mod sample;
mod scene;
mod shapes;
mod words;

pub use self::sample::sample_picture;

//! The pictures that the simulator draws.

pub(super) mod draw;
mod encode;
mod letters;
mod sample;

pub use self::sample::sample_picture;

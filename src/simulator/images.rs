//! The pictures that the simulator draws.

pub(super) mod draw;
mod encode;
mod letters;
mod sample;
mod scene;
mod shapes;

pub use self::sample::sample_picture;

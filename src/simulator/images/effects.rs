//! What a prompt does to a picture: its colours and light, the weather in it, and the way it is drawn.

use image::RgbImage;

use super::shapes::Numbers;
use super::words::Effect;

mod grade;
mod particles;
mod style;

/// Makes the changes, one after the other. Equal seeds make equal pictures.
pub(super) fn apply(image: &mut RgbImage, effects: &[Effect], seed: u64) {
    let mut numbers = Numbers::new(seed);
    // The changes of single pixels follow each other, and are made in one pass.
    let mut pending = Vec::new();
    for &effect in effects {
        if grade::is_grade(effect) {
            pending.push(effect);
            continue;
        }
        grade::apply(image, &std::mem::take(&mut pending));
        match effect {
            Effect::Flowers => particles::petals(image, &mut numbers),
            Effect::Leaves => particles::leaves(image, &mut numbers),
            Effect::Snowflakes => particles::snowflakes(image, &mut numbers),
            Effect::Raindrops => particles::raindrops(image, &mut numbers),
            Effect::Stars => particles::stars(image, &mut numbers),
            Effect::Neon => style::neon(image),
            Effect::Watercolour => style::watercolour(image),
            Effect::PixelArt => style::pixel_art(image),
            Effect::PopArt => style::pop_art(image),
            Effect::Ink => style::ink(image),
            Effect::Pencil => style::pencil(image),
            _ => {}
        }
    }
    grade::apply(image, &pending);
}

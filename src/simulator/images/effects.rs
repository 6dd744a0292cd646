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
    // The changes of colours follow each other, and are made in one pass.
    let mut grades = Vec::new();
    for &effect in effects {
        if let Effect::Light(grade) | Effect::Finish(grade) = effect {
            grades.push(grade);
            continue;
        }
        grade::apply(image, &std::mem::take(&mut grades));
        match effect {
            Effect::Light(_) | Effect::Finish(_) => {}
            Effect::Particles(particles) => particles::scatter(image, particles, &mut numbers),
            Effect::Drawn(style) => style::draw(image, style),
        }
    }
    grade::apply(image, &grades);
}

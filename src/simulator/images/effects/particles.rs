//! Small things that fall or shine: snow, rain, leaves, petals, stars.

use image::RgbImage;

use super::super::shapes::{Canvas, Colour, Numbers, Outline, float};
use super::super::words::Particles;

/// Width of the coordinates, whatever the size of the picture.
const UNITS: f32 = 1000.0;

/// Returns the height of a picture in coordinates.
fn height(image: &RgbImage) -> f32 {
    float(image.height()) / float(image.width()) * UNITS
}

/// Scatters small things over a picture.
pub(super) fn scatter(image: &mut RgbImage, particles: Particles, numbers: &mut Numbers) {
    match particles {
        Particles::Petals => petals(image, numbers),
        Particles::Leaves => leaves(image, numbers),
        Particles::Snowflakes => snowflakes(image, numbers),
        Particles::Raindrops => raindrops(image, numbers),
        Particles::Stars => stars(image, numbers),
    }
}

fn snowflakes(image: &mut RgbImage, numbers: &mut Numbers) {
    let height = height(image);
    let mut canvas = Canvas::new(image, UNITS);
    for _ in 0..260 {
        let place = [numbers.between(0.0, UNITS), numbers.between(0.0, height)];
        // Few flakes are near.
        let size = 1.4 + numbers.next().powi(4) * 6.5;
        canvas.fill(&Outline::ellipse(place, [size, size]), [255; 3], numbers.between(0.6, 0.95));
    }
}

fn raindrops(image: &mut RgbImage, numbers: &mut Numbers) {
    let height = height(image);
    let mut canvas = Canvas::new(image, UNITS);
    for _ in 0..240 {
        let (x, y) = (numbers.between(-40.0, UNITS), numbers.between(-40.0, height));
        let length = numbers.between(18.0, 52.0);
        let streak = Outline::from(x, y).lines(&[
            [x + 1.6, y],
            [x + 1.6 - length * 0.22, y + length],
            [x - length * 0.22, y + length],
        ]);
        canvas.fill(&streak, [218, 228, 240], numbers.between(0.3, 0.6));
    }
}

fn leaves(image: &mut RgbImage, numbers: &mut Numbers) {
    ovals(image, numbers, 60, 11.0, &[[214, 96, 32], [232, 152, 44], [176, 58, 34], [242, 190, 66]]);
}

fn petals(image: &mut RgbImage, numbers: &mut Numbers) {
    ovals(image, numbers, 90, 7.5, &[[252, 206, 222], [255, 232, 240], [244, 164, 192]]);
}

/// Scatters pointed ovals.
fn ovals(image: &mut RgbImage, numbers: &mut Numbers, count: u8, size: f32, colours: &[Colour]) {
    let height = height(image);
    let mut canvas = Canvas::new(image, UNITS);
    for number in 0..count {
        let (x, y) = (numbers.between(0.0, UNITS), numbers.between(0.0, height));
        let (angle, size) = (numbers.between(0.0, std::f32::consts::TAU), size * numbers.between(0.6, 1.4));
        let (cos, sin) = (angle.cos() * size, angle.sin() * size);
        let at = |along: f32, across: f32| [x + cos * along - sin * across, y + sin * along + cos * across];
        let from = at(-1.3, 0.0);
        let oval = Outline::from(from[0], from[1]).curve(at(-0.5, 0.75), at(0.5, 0.75), at(1.3, 0.0)).curve(
            at(0.5, -0.75),
            at(-0.5, -0.75),
            from,
        );
        canvas.fill(&oval, colours[usize::from(number) % colours.len()], 0.95);
    }
}

/// Draws stars and a moon, in the upper part.
fn stars(image: &mut RgbImage, numbers: &mut Numbers) {
    let height = height(image);
    let mut canvas = Canvas::new(image, UNITS);
    for _ in 0..130 {
        let down = numbers.next();
        let place = [numbers.between(0.0, UNITS), down * down * height * 0.5];
        let size = 0.9 + numbers.next().powi(3) * 1.8;
        canvas.fill(&Outline::ellipse(place, [size, size]), [255, 252, 234], numbers.between(0.5, 1.0));
    }
    let (x, y) = (150.0, height * 0.14);
    canvas.glow([x, y], 130.0, [196, 210, 240], 0.42);
    let moon = Outline::from(x + 14.0, y - 44.0)
        .curve([x - 64.0, y - 44.0], [x - 64.0, y + 52.0], [x + 22.0, y + 44.0])
        .curve([x - 22.0, y + 30.0], [x - 28.0, y - 22.0], [x + 14.0, y - 44.0]);
    canvas.fill(&moon, [250, 246, 222], 1.0);
}

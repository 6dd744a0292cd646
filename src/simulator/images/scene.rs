//! The scene of the sandbox: an animal on a meadow, in front of a lake and mountains. It is the sample picture, and what a
//! generation begins with.

use image::RgbImage;

use super::shapes::{Canvas, Colour, Numbers, Outline, byte, float};

/// Width and height of the coordinates.
const UNITS: f32 = 1024.0;
const HORIZON: f32 = 560.0;

/// The animal in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Animal {
    Fox,
    Cat,
}

/// The colours of an animal.
struct Coat {
    fur: Colour,
    shade: Colour,
    light: Colour,
    dark: Colour,
    eye: Colour,
}

impl Animal {
    fn coat(self) -> Coat {
        match self {
            Self::Fox => Coat {
                fur: [226, 117, 45],
                shade: [197, 92, 32],
                light: [252, 240, 224],
                dark: [74, 42, 34],
                eye: [52, 30, 24],
            },
            Self::Cat => Coat {
                fur: [142, 139, 146],
                shade: [110, 107, 116],
                light: [238, 236, 238],
                dark: [70, 67, 76],
                eye: [96, 168, 92],
            },
        }
    }
}

/// Draws the scene as a square with edges of `edge` pixels.
pub(super) fn draw(animal: Animal, edge: u32) -> RgbImage {
    let mut image = RgbImage::new(edge, edge);
    sky(&mut image);
    let mut canvas = Canvas::new(&mut image, UNITS);
    sun(&mut canvas);
    clouds(&mut canvas);
    mountains(&mut canvas);
    lake(&mut canvas);
    trees(&mut canvas);
    meadow(&mut canvas);
    let coat = animal.coat();
    body(&mut canvas, animal, &coat);
    head(&mut canvas, animal, &coat);
    grass(&mut canvas);
    image
}

fn sky(image: &mut RgbImage) {
    const ABOVE: Colour = [92, 160, 214];
    const BELOW: Colour = [253, 232, 203];
    let (row_bytes, height) = (image.width() as usize * 3, float(image.height()));
    for (y, row) in image.chunks_exact_mut(row_bytes).enumerate() {
        let down = (float(y) / height * UNITS / HORIZON).min(1.0);
        let mix = |part: usize| byte(f32::from(ABOVE[part]) + (f32::from(BELOW[part]) - f32::from(ABOVE[part])) * down);
        let colour = [mix(0), mix(1), mix(2)];
        for pixel in row.chunks_exact_mut(3) {
            pixel.copy_from_slice(&colour);
        }
    }
}

fn sun(canvas: &mut Canvas<'_>) {
    let place = [770.0, 250.0];
    canvas.glow(place, 230.0, [255, 244, 214], 0.8);
    canvas.fill(&Outline::ellipse(place, [62.0, 62.0]), [255, 243, 205], 1.0);
}

fn clouds(canvas: &mut Canvas<'_>) {
    for (x, y, size) in [(190.0, 170.0, 1.0), (520.0, 105.0, 0.62), (930.0, 130.0, 0.5)] {
        for (dx, dy, rx, ry) in [(0.0, 0.0, 92.0, 24.0), (-34.0, -18.0, 44.0, 30.0), (26.0, -26.0, 52.0, 38.0)] {
            let place = [x + dx * size, y + dy * size];
            canvas.fill(&Outline::ellipse(place, [rx * size, ry * size]), [255, 252, 246], 0.75);
        }
    }
}

fn mountains(canvas: &mut Canvas<'_>) {
    let ridge = |points: &[[f32; 2]]| Outline::from(-20.0, 640.0).lines(points).lines(&[[1050.0, 640.0]]);
    let far = [
        [-20.0, 470.0],
        [120.0, 390.0],
        [215.0, 440.0],
        [350.0, 330.0],
        [470.0, 430.0],
        [600.0, 370.0],
        [760.0, 450.0],
        [900.0, 365.0],
        [1050.0, 440.0],
    ];
    canvas.fill(&ridge(&far), [158, 178, 206], 1.0);
    let near = [
        [-20.0, 520.0],
        [90.0, 470.0],
        [230.0, 300.0],
        [330.0, 420.0],
        [420.0, 500.0],
        [560.0, 470.0],
        [720.0, 530.0],
        [880.0, 420.0],
        [1050.0, 530.0],
    ];
    canvas.fill(&ridge(&near), [116, 141, 178], 1.0);
    let snow = Outline::from(230.0, 300.0).lines(&[
        [290.0, 372.0],
        [268.0, 366.0],
        [250.0, 388.0],
        [226.0, 362.0],
        [204.0, 380.0],
        [168.0, 373.0],
    ]);
    canvas.fill(&snow, [244, 247, 252], 1.0);
    let snow = Outline::from(880.0, 420.0).lines(&[[930.0, 453.0], [900.0, 450.0], [882.0, 466.0], [850.0, 444.0]]);
    canvas.fill(&snow, [244, 247, 252], 1.0);
}

fn lake(canvas: &mut Canvas<'_>) {
    let shore = Outline::from(-20.0, HORIZON).lines(&[[1050.0, HORIZON], [1050.0, 720.0], [-20.0, 720.0]]);
    canvas.fill(&shore, [136, 190, 214], 1.0);
    let mut numbers = Numbers::new(7);
    for _ in 0..26 {
        let (x, y) = (numbers.between(-20.0, 1000.0), numbers.between(HORIZON + 8.0, 690.0));
        let width = numbers.between(30.0, 110.0);
        canvas.fill(&Outline::ellipse([x, y], [width, 1.8]), [214, 234, 240], 0.8);
    }
    for y in [580.0, 600.0, 626.0, 656.0] {
        canvas.fill(&Outline::ellipse([770.0, y], [150.0 - (y - 580.0), 3.0]), [255, 240, 205], 0.75);
    }
}

fn trees(canvas: &mut Canvas<'_>) {
    let bank = Outline::from(-20.0, 596.0).curve([120.0, 540.0], [260.0, 560.0], [400.0, 640.0]).curve(
        [440.0, 664.0],
        [300.0, 700.0],
        [-20.0, 700.0],
    );
    canvas.fill(&bank, [92, 142, 96], 1.0);
    let mut numbers = Numbers::new(21);
    for step in 0..11_u8 {
        let x = 8.0 + f32::from(step) * 32.0 + numbers.between(-8.0, 8.0);
        let size = numbers.between(0.75, 1.2) * (1.0 - f32::from(step) * 0.035);
        let foot = 620.0 + f32::from(step) * 3.4;
        let shade = if step % 2 == 0 { [44, 94, 74] } else { [54, 108, 80] };
        for (level, width) in [(0.0, 34.0), (38.0, 27.0), (72.0, 19.0)] {
            let crown = Outline::from(-width, 0.0).lines(&[[width, 0.0], [0.0, -66.0]]);
            canvas.fill(&crown.placed([x, foot - level * size], [size, size]), shade, 1.0);
        }
    }
    let far_bank = Outline::from(1050.0, 590.0).curve([930.0, 575.0], [840.0, 600.0], [700.0, 640.0]).curve(
        [800.0, 668.0],
        [900.0, 672.0],
        [1050.0, 672.0],
    );
    canvas.fill(&far_bank, [104, 154, 100], 1.0);
}

fn meadow(canvas: &mut Canvas<'_>) {
    let hill = Outline::from(-20.0, 720.0)
        .curve([220.0, 640.0], [420.0, 660.0], [600.0, 690.0])
        .curve([780.0, 720.0], [900.0, 690.0], [1050.0, 660.0])
        .lines(&[[1050.0, 1050.0], [-20.0, 1050.0]]);
    canvas.fill(&hill, [126, 178, 88], 1.0);
    let front = Outline::from(-20.0, 850.0)
        .curve([200.0, 800.0], [420.0, 820.0], [620.0, 850.0])
        .curve([800.0, 875.0], [920.0, 850.0], [1050.0, 820.0])
        .lines(&[[1050.0, 1050.0], [-20.0, 1050.0]]);
    canvas.fill(&front, [98, 154, 70], 1.0);
}

/// Where the animal's neck is, and its size.
const PLACE: [f32; 2] = [500.0, 520.0];
const SIZE: f32 = 0.8;

fn placed(outline: Outline) -> Outline {
    outline.placed(PLACE, [SIZE, SIZE])
}

/// Draws a shape of the left side, and its mirror image.
fn both_sides(canvas: &mut Canvas<'_>, outline: &Outline, colour: Colour) {
    for side in [1.0, -1.0] {
        canvas.fill(&outline.clone().placed(PLACE, [SIZE * side, SIZE]), colour, 1.0);
    }
}

fn body(canvas: &mut Canvas<'_>, animal: Animal, coat: &Coat) {
    canvas.fill(&placed(Outline::ellipse([20.0, 512.0], [260.0, 28.0])), [58, 100, 52], 0.55);
    tail(canvas, animal, coat);
    let trunk = Outline::from(0.0, 40.0)
        .curve([110.0, 60.0], [130.0, 200.0], [160.0, 330.0])
        .curve([190.0, 460.0], [150.0, 512.0], [90.0, 512.0])
        .lines(&[[-90.0, 512.0]])
        .curve([-150.0, 512.0], [-190.0, 460.0], [-160.0, 330.0])
        .curve([-130.0, 200.0], [-110.0, 60.0], [0.0, 40.0]);
    canvas.fill(&placed(trunk), coat.fur, 1.0);
    both_sides(canvas, &Outline::ellipse([-122.0, 432.0], [66.0, 82.0]), coat.shade);
    let leg = Outline::from(-74.0, 300.0)
        .curve([-80.0, 400.0], [-78.0, 460.0], [-84.0, 496.0])
        .curve([-84.0, 520.0], [-10.0, 520.0], [-14.0, 496.0])
        .curve([-18.0, 440.0], [-14.0, 380.0], [-12.0, 330.0]);
    both_sides(canvas, &leg, coat.fur);
    let chest = Outline::from(-86.0, 110.0).curve([-100.0, 210.0], [-56.0, 280.0], [0.0, 326.0]).curve(
        [56.0, 280.0],
        [100.0, 210.0],
        [86.0, 110.0],
    );
    canvas.fill(&placed(chest), coat.light, 1.0);
    let paw = Outline::from(-82.0, 450.0)
        .curve([-84.0, 480.0], [-96.0, 490.0], [-92.0, 506.0])
        .curve([-84.0, 520.0], [-12.0, 520.0], [-10.0, 506.0])
        .curve([-10.0, 486.0], [-18.0, 470.0], [-17.0, 450.0]);
    both_sides(canvas, &paw, if animal == Animal::Fox { coat.dark } else { coat.light });
    both_sides(canvas, &Outline::ellipse([-140.0, 500.0], [52.0, 17.0]), coat.shade);
}

fn tail(canvas: &mut Canvas<'_>, animal: Animal, coat: &Coat) {
    match animal {
        Animal::Fox => {
            let brush = Outline::from(90.0, 505.0)
                .curve([220.0, 530.0], [330.0, 480.0], [350.0, 370.0])
                .curve([365.0, 280.0], [330.0, 220.0], [345.0, 150.0])
                .curve([250.0, 200.0], [215.0, 270.0], [225.0, 350.0])
                .curve([230.0, 400.0], [180.0, 430.0], [110.0, 430.0]);
            canvas.fill(&placed(brush), coat.shade, 1.0);
            let tip = Outline::from(345.0, 150.0)
                .curve([332.0, 210.0], [352.0, 250.0], [356.0, 295.0])
                .curve([320.0, 268.0], [300.0, 300.0], [278.0, 268.0])
                .curve([262.0, 290.0], [250.0, 280.0], [232.0, 288.0])
                .curve([245.0, 230.0], [290.0, 180.0], [345.0, 150.0]);
            canvas.fill(&placed(tip), coat.light, 1.0);
        }
        Animal::Cat => {
            let curl = Outline::from(90.0, 505.0)
                .curve([230.0, 530.0], [330.0, 450.0], [300.0, 340.0])
                .curve([285.0, 290.0], [320.0, 260.0], [345.0, 290.0])
                .curve([355.0, 230.0], [245.0, 220.0], [255.0, 340.0])
                .curve([262.0, 420.0], [200.0, 450.0], [110.0, 440.0]);
            canvas.fill(&placed(curl), coat.shade, 1.0);
        }
    }
}

fn head(canvas: &mut Canvas<'_>, animal: Animal, coat: &Coat) {
    let is_cat = animal == Animal::Cat;
    let ear = Outline::from(-168.0, -40.0).curve([-190.0, -130.0], [-186.0, -220.0], [-164.0, -258.0]);
    let ear = ear.curve([-120.0, -220.0], [-70.0, -170.0], [-30.0, -140.0]);
    both_sides(canvas, &ear, coat.fur);
    let inner = Outline::from(-148.0, -90.0).curve([-166.0, -150.0], [-162.0, -200.0], [-154.0, -222.0]);
    let inner = inner.curve([-120.0, -190.0], [-96.0, -168.0], [-78.0, -150.0]);
    both_sides(canvas, &inner, if is_cat { [214, 160, 164] } else { coat.dark });
    let face = Outline::from(0.0, -158.0)
        .curve([90.0, -160.0], [158.0, -110.0], [168.0, -30.0])
        .curve(
            [176.0, 10.0],
            if is_cat { [190.0, 60.0] } else { [236.0, 30.0] },
            if is_cat { [140.0, 84.0] } else { [212.0, 46.0] },
        )
        .curve([150.0, 96.0], [70.0, 118.0], [0.0, if is_cat { 124.0 } else { 150.0 }])
        .curve([-70.0, 118.0], [-150.0, 96.0], if is_cat { [-140.0, 84.0] } else { [-212.0, 46.0] })
        .curve(if is_cat { [-190.0, 60.0] } else { [-236.0, 30.0] }, [-176.0, 10.0], [-168.0, -30.0])
        .curve([-158.0, -110.0], [-90.0, -160.0], [0.0, -158.0]);
    canvas.fill(&placed(face), coat.fur, 1.0);
    if is_cat {
        for x in [-44.0, 0.0, 44.0] {
            let stripe = Outline::from(x - 9.0, -154.0).lines(&[[x + 9.0, -154.0], [x * 0.8, -84.0]]);
            canvas.fill(&placed(stripe), coat.shade, 1.0);
        }
        canvas.fill(&placed(Outline::ellipse([0.0, 70.0], [62.0, 42.0])), coat.light, 1.0);
    } else {
        let cheek = Outline::from(-212.0, 46.0)
            .curve([-150.0, 10.0], [-100.0, 0.0], [-62.0, 28.0])
            .curve([-40.0, 46.0], [-24.0, 66.0], [0.0, 72.0])
            .lines(&[[0.0, 150.0]])
            .curve([-70.0, 118.0], [-150.0, 96.0], [-212.0, 46.0]);
        both_sides(canvas, &cheek, coat.light);
    }
    both_sides(canvas, &Outline::ellipse([-76.0, -32.0], [25.0, 29.0]), coat.eye);
    if is_cat {
        both_sides(canvas, &Outline::ellipse([-76.0, -32.0], [9.0, 25.0]), [24, 24, 28]);
    }
    for x in [-68.0, 84.0] {
        canvas.fill(&placed(Outline::ellipse([x, -44.0], [8.0, 9.0])), [255, 255, 255], 0.95);
    }
    let nose = if is_cat { [206, 130, 136] } else { [40, 28, 30] };
    let size = if is_cat { [17.0, 12.0] } else { [28.0, 19.0] };
    canvas.fill(&placed(Outline::ellipse([0.0, if is_cat { 52.0 } else { 82.0 }], size)), nose, 1.0);
    for side in [-1.0, 1.0] {
        let mouth = Outline::from(0.0, 92.0).curve([side * 8.0, 122.0], [side * 34.0, 122.0], [side * 42.0, 104.0]);
        let mouth = mouth.curve([side * 34.0, 114.0], [side * 10.0, 114.0], [0.0, 86.0]);
        let raised = if is_cat { -20.0 } else { 8.0 };
        canvas.fill(&placed(mouth.placed([0.0, raised], [1.0, 1.0])), coat.dark, 0.9);
        if is_cat {
            for rise in [-14.0, 0.0, 14.0] {
                let whisker = Outline::from(side * 60.0, 66.0 + rise * 0.4)
                    .lines(&[[side * 214.0, 58.0 + rise * 1.8], [side * 60.0, 70.0 + rise * 0.4]]);
                canvas.fill(&placed(whisker), coat.light, 0.9);
            }
        }
    }
}

/// Draws blades and flowers, some of them in front of the animal.
fn grass(canvas: &mut Canvas<'_>) {
    let mut numbers = Numbers::new(3);
    for _ in 0..150 {
        let (x, y) = (numbers.between(0.0, UNITS), numbers.between(880.0, 1020.0));
        let (lean, height) = (numbers.between(-14.0, 14.0), numbers.between(18.0, 46.0));
        let blade = Outline::from(-3.0, 0.0).lines(&[[3.0, 0.0], [lean, -height]]);
        let shade = if numbers.next() < 0.5 { [70, 124, 54] } else { [132, 184, 88] };
        canvas.fill(&blade.placed([x, y], [1.0, 1.0]), shade, 1.0);
    }
    for _ in 0..34 {
        let place = [numbers.between(0.0, UNITS), numbers.between(760.0, 1010.0)];
        if (place[0] - PLACE[0]).abs() < 170.0 && place[1] < 930.0 {
            continue;
        }
        let petal = [[252, 250, 244], [250, 214, 92], [226, 130, 164]]
            [usize::from(numbers.next() < 0.4) + usize::from(numbers.next() < 0.3)];
        for (dx, dy) in [(-5.0, 0.0), (5.0, 0.0), (0.0, -5.0), (0.0, 5.0)] {
            canvas.fill(&Outline::ellipse([place[0] + dx, place[1] + dy], [4.6, 4.6]), petal, 1.0);
        }
        canvas.fill(&Outline::ellipse(place, [3.6, 3.6]), [244, 178, 48], 1.0);
    }
}

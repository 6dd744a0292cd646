//! What a prediction costs, in tokens and USD.

use crate::simulator::rules::inputs::Input;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::Quality;
use crate::simulator::scenario::Scenario;

/// Output tokens of one partial picture, from the vendor's table.
const PARTIAL_TOKENS: u64 = 100;

/// Usage in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) text: u64,
    pub(crate) image: u64,
    pub(crate) output: u64,
}

impl Usage {
    /// Estimates plausible numbers: a low square of 1024 has 196 output tokens as documented, a medium one 805 as
    /// observed.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "token counts are small and positive")]
    fn of(request: &PictureRequest) -> Self {
        let square = match request.quality {
            Quality::Low => 196.0,
            Quality::Medium => 805.0,
            Quality::High => 3_220.0,
        };
        let partial = u64::from(request.stream.unwrap_or(0)) * PARTIAL_TOKENS;
        let each = (square * megapixels(request.size)).ceil() as u64 + partial;
        Self {
            text: request.prompt.chars().count() as u64 / 4 + 1,
            image: request.inputs.iter().map(image_tokens).sum(),
            output: each * u64::from(request.n),
        }
    }

    /// Returns the price in USD.
    #[expect(clippy::cast_precision_loss, reason = "token counts are small")]
    fn cost_usd(self, request: &PictureRequest, scenario: &Scenario) -> f64 {
        match request.model.price {
            Some(price) => {
                let input = (self.text + self.image) as f64 * price.input;
                (input + self.output as f64 * price.output) / 1e6
            }
            None => scenario.balance.plus_picture_usd * f64::from(request.n),
        }
    }
}

/// The cost of one prediction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) usage: Usage,
    pub(crate) usd: f64,
    pub(crate) charged: bool,
}

impl Cost {
    pub(super) fn of(request: &PictureRequest, scenario: &Scenario) -> Self {
        let usage = Usage::of(request);
        Self { usage, usd: usage.cost_usd(request, scenario), charged: false }
    }

    /// Marks the cost as charged. Returns the amount in USD, which is 0 the second time.
    pub(super) fn charge(&mut self) -> f64 {
        if std::mem::replace(&mut self.charged, true) { 0.0 } else { self.usd }
    }
}

/// Returns the area of a size in units of 1024 x 1024 pixels.
pub(crate) fn megapixels((width, height): (u32, u32)) -> f64 {
    f64::from(width) * f64::from(height) / (1024.0 * 1024.0)
}

/// Returns a base and a price for each tile of 512, after the shorter edge is scaled to 512.
fn image_tokens(input: &Input) -> u64 {
    let (width, height) = match input {
        Input::Url(_) => (1024, 1024),
        Input::Picture(picture) => (picture.width.max(1), picture.height.max(1)),
    };
    let tiles = width.max(height).div_ceil(width.min(height)).min(8);
    65 + 129 * tiles
}

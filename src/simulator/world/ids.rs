//! The ids of predictions, which stay random with the same seed, so that two runs never share one.

use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::Api;
use crate::simulator::scenario::{IdForm, Scenario, SubmitAnswer};

/// Numeric ids are below this, so that every JSON parser reads them exactly.
const NUMERIC_MAX: u64 = 1 << 53;

/// Returns the id of a new prediction. `last` is the one before it, if it has an id of its own.
pub(super) fn new_id(request: &PictureRequest, last: Option<&str>, scenario: &Scenario) -> String {
    let random = rand::random::<u128>();
    let hex = format!("{random:032x}");
    // A call of this API shows no id.
    if request.api == Api::OpenAi {
        return hex;
    }
    if scenario.submit.answer == SubmitAnswer::ColonId {
        return format!("{}:task_{hex}", request.model.name);
    }
    match (scenario.submit.ids, last) {
        (IdForm::Uuid, _) => {
            let (version, variant) = (&hex[13..16], &hex[17..20]);
            format!("{}-{}-4{version}-a{variant}-{}", &hex[..8], &hex[8..12], &hex[20..])
        }
        (IdForm::Numeric, _) => rand::random_range(NUMERIC_MAX / 10..NUMERIC_MAX).to_string(),
        (IdForm::Dots, _) => "..".to_owned(),
        (IdForm::Repeat, Some(last)) => last.to_owned(),
        (IdForm::Repeat, None) | (IdForm::Hex | IdForm::TaskId, _) => hex,
    }
}

//! The parameters of a submit in its format.

use serde_json::Value;

use crate::model::PictureRequest;
use crate::upstream::formats::RequestFormat;

/// Returns the parameters of a submit besides prompt and pictures, in the order in which they are sent: size, `n` where
/// the API has it, and `others`, without those that the format leaves out.
///
/// # Errors
///
/// When the format would alter what the client asked for.
pub(super) fn parameters<'a>(
    request: &PictureRequest,
    pictures: u8,
    has_n: bool,
    format: &RequestFormat,
    others: impl IntoIterator<Item = (&'a str, Value)>,
) -> Result<Vec<(&'a str, Value)>, &'static str> {
    let asked = |name: &str| request.explicit.contains(name);
    // One picture is the default of every API.
    if format.omitted.iter().any(|name| asked(name) && (name != "n" || pictures > 1)) {
        return Err("it leaves out a parameter that the client asked for");
    }
    if format.size.is_some() && asked("size") {
        return Err("it replaces the size that the client asked for");
    }
    let size = format.size.unwrap_or(request.size).to_string();
    let n = has_n.then(|| ("n", Value::from(pictures)));
    let all = [("size", Value::from(size))].into_iter().chain(n).chain(others);
    let sent: Vec<_> = all.filter(|(name, _)| !format.omitted.contains(*name)).collect();
    if pictures > 1 && !sent.iter().any(|(name, _)| *name == "n") {
        return Err("it makes one picture only");
    }
    Ok(sent)
}

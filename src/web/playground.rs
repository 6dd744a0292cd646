//! The playground and gallery: the page that a browser gets at `GET /` of the client listener.

use std::sync::LazyLock;

use super::assets::{Asset, Assets, DOM, ICON, STYLE};

/// The name of the page itself.
pub(crate) const PAGE: &str = "playground.html";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(Asset { name: $name, bytes: include_bytes!(concat!("playground/", $name)) }),*]
    };
}

/// The files of the page, all at one level: `/web/{file}`.
pub(crate) static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let own = files![
        "playground.html",
        "playground.css",
        "main.js",
        "api.js",
        "gallery.js",
        "jobs.js",
        "mask.js",
        "models.js",
        "pictures.js",
        "plug.js",
        "request.js",
        "result.js",
    ];
    Assets::new(&[&own[..], &[STYLE, ICON, DOM]].concat())
});

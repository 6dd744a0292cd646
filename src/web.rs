//! The web pages: static files that are embedded with the program, and the playground made of them. They are plain HTML, CSS
//! and ES modules without a build step. A page loads nothing from another host and has no script or style outside its files;
//! what it shows comes from the client API, with a key that the person types.
//!
//! `style.css`, `icon.svg` and `dom.js` are shared by all pages; `playground/` is the page of the client listener.

pub(crate) mod assets;
pub(crate) mod escape;
pub(crate) mod playground;

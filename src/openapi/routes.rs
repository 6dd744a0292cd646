//! Routes of a listener as a list: its router is made of it, and its document is compared with it.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

/// One operation: its method, the path that the document names, and its handler.
#[derive(Clone, Debug)]
pub(crate) struct Route<S> {
    #[cfg_attr(not(test), expect(dead_code, reason = "for the comparison with the document"))]
    pub(crate) method: Method,
    /// In the router's spelling, where `{*id}` matches several segments.
    pub(crate) path: &'static str,
    handler: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    fn new<H: Handler<T, S>, T: 'static>(method: Method, path: &'static str, handler: H) -> Self {
        let filter = MethodFilter::try_from(method.clone()).expect("a method of the router");
        Self { method, path, handler: on(filter, handler) }
    }

    pub(crate) fn get<H: Handler<T, S>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(Method::GET, path, handler)
    }

    pub(crate) fn post<H: Handler<T, S>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(Method::POST, path, handler)
    }

    pub(crate) fn patch<H: Handler<T, S>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(Method::PATCH, path, handler)
    }

    pub(crate) fn delete<H: Handler<T, S>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(Method::DELETE, path, handler)
    }

    /// Adds the route to a router, at one spelling of its path.
    pub(crate) fn at(&self, path: &str, router: Router<S>) -> Router<S> {
        router.route(path, self.handler.clone())
    }
}

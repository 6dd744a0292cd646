//! Requests that wait: each is read whole and answered once all are released. `GET /_parked` counts them, `GET /_release`
//! releases them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use crate::{Failure, Options};

struct Parked {
    number: AtomicUsize,
    released: watch::Sender<bool>,
}

/// Serves until the process is ended.
pub(crate) async fn serve(options: &Options) -> Result<(), Failure> {
    let listener = options.listener().await?;
    let parked = Arc::new(Parked { number: AtomicUsize::new(0), released: watch::Sender::new(false) });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let parked = Arc::clone(&parked);
        tokio::spawn(async move {
            let service = service_fn(|request| park(&parked, request));
            // A client may go as it likes.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn park(parked: &Parked, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = match request.uri().path() {
        "/_parked" => parked.number.load(Ordering::Relaxed).to_string(),
        "/_release" => {
            parked.released.send_replace(true);
            String::new()
        }
        _ => {
            let _ = request.into_body().collect().await;
            parked.number.fetch_add(1, Ordering::Relaxed);
            let _ = parked.released.subscribe().wait_for(|released| *released).await;
            String::from("{}")
        }
    };
    Ok(Response::new(Full::from(answer)))
}

//! Downloads from two servers on this machine: the upstream's own origin, and another one.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;

use crate::config::{Config, Environment};
use crate::model::Catalogue;
use crate::upstream::{FetchError, GptProto, Output, Upstream};

/// Paths and keys of the requests to one server.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

#[derive(Debug)]
struct Server {
    origin: String,
    seen: Seen,
}

impl Server {
    /// Serves `/open`; `/keyed` and `/secret` with the key of the second account only; `/moved/…` and `/keyed/moved/…`
    /// redirect to the address that is their query.
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Seen::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        tokio::runtime::Handle::current().spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { origin, seen }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The requests so far, as `path key`.
    fn seen(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.into_iter().map(|(path, key)| format!("{path} {key}")).collect()
    }
}

async fn answer(State(seen): State<Seen>, request: Request) -> Response {
    let key = request.headers().get(header::AUTHORIZATION).map_or("-", |key| key.to_str().unwrap()).to_owned();
    let path = request.uri().path().to_owned();
    seen.lock().unwrap().push((path.clone(), key.clone()));
    if path.contains("/keyed") && key != "Bearer sk-second" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if path.contains("/secret") && key != "Bearer sk-second" {
        return StatusCode::FORBIDDEN.into_response();
    }
    if path.contains("/moved") {
        let to = request.uri().query().unwrap().to_owned();
        return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    }
    if let Some(status) = path.strip_prefix("/status/") {
        return (StatusCode::from_u16(status.parse().unwrap()).unwrap(), "picture").into_response();
    }
    "picture".into_response()
}

fn adapter(base: &str) -> GptProto {
    let variables = [("GPTPROTO_API_KEYS", "one:sk-first,two:sk-second"), ("GATEWAY_UPSTREAM__BASE_URL", base)];
    let environment: Environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = Config::load(None, &environment).unwrap();
    GptProto::new(&config.upstream, &config.accounts, Arc::<Catalogue>::new(config.catalogue), None).unwrap()
}

async fn download(adapter: &GptProto, url: &str) -> Result<Vec<u8>, FetchError> {
    let pieces = adapter.fetch(Output::Url(url.to_owned())).await?;
    Ok(pieces.try_collect::<Vec<_>>().await?.concat())
}

#[tokio::test]
async fn an_output_of_the_service_that_wants_a_key_gets_one() {
    let [own, other] = [Server::start().await, Server::start().await];
    let adapter = adapter(&own.origin);
    for path in ["/files/keyed", "/files/secret"] {
        // As an address, and as a path.
        for url in [own.at(path), path.to_owned()] {
            assert_eq!(download(&adapter, &url).await.unwrap(), b"picture");
            let seen = own.seen();
            // A key that is refused with 401 is sent in the other style, too.
            let keys = match path {
                "/files/keyed" => &["-", "Bearer sk-first", "sk-first", "Bearer sk-second"][..],
                _ => &["-", "Bearer sk-first", "Bearer sk-second"],
            };
            let expected: Vec<String> = keys.iter().map(|key| format!("{path} {key}")).collect();
            assert_eq!(seen, expected);
        }
    }
    // A redirect from there is followed without the key.
    let url = own.at(&format!("/keyed/moved?{}", other.at("/open")));
    assert_eq!(download(&adapter, &url).await.unwrap(), b"picture");
    assert_eq!(other.seen(), ["/open -"]);
    own.seen();
    // One that is there for all is requested once.
    download(&adapter, &own.at("/open")).await.unwrap();
    assert_eq!(own.seen(), ["/open -"]);
}

#[tokio::test]
async fn no_key_leaves_for_another_origin_or_after_a_redirect() {
    let [own, other] = [Server::start().await, Server::start().await];
    let adapter = adapter(&own.origin);
    for url in [
        other.at("/keyed"),
        other.at("/secret"),
        own.at(&format!("/moved?{}", other.at("/keyed"))),
        own.at(&format!("/keyed/moved?{}", other.at("/keyed"))),
        other.at(&format!("/moved?{}", own.at("/keyed"))),
        own.at(&format!("/moved?{}", own.at("/keyed"))),
    ] {
        let refused = download(&adapter, &url).await.unwrap_err();
        assert!(matches!(&refused, FetchError::Trouble(problem) if problem.starts_with("HTTP 40")), "{url}: {refused}");
        assert!(other.seen().iter().all(|seen| seen.ends_with(" -")), "{url}");
        let own_seen = own.seen();
        assert!(own_seen.iter().all(|seen| seen.ends_with(" -") || seen.starts_with("/keyed/moved ")), "{own_seen:?}");
    }
}

#[tokio::test]
async fn only_the_status_200_is_a_picture() {
    let own = Server::start().await;
    let adapter = adapter(&own.origin);
    assert_eq!(download(&adapter, &own.at("/status/200")).await.unwrap(), b"picture");
    for status in ["201", "202", "203", "206", "404", "500"] {
        let refused = download(&adapter, &own.at(&format!("/status/{status}"))).await.unwrap_err();
        assert!(
            matches!(&refused, FetchError::Trouble(problem) if problem.starts_with("HTTP ")),
            "{status}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_prefix_is_where_the_service_begins() {
    let own = Server::start().await;
    for base in ["/api/relay", "/api/relay/"] {
        let adapter = adapter(&own.at(base));
        for (given, requested) in [
            ("/files/open", "/api/relay/files/open"),
            ("/api/relay/files/open", "/api/relay/files/open"),
            ("/api/relayed/open", "/api/relay/api/relayed/open"),
            (&own.at("/open"), "/open"),
        ] {
            download(&adapter, given).await.unwrap();
            assert_eq!(own.seen(), [format!("{requested} -")], "{given}");
        }
        // Beside the prefix is another service of the relay.
        for path in ["/keyed", "/api/keyed", "/api/relay/../keyed"] {
            assert!(download(&adapter, &own.at(path)).await.is_err());
            assert!(own.seen().iter().all(|seen| seen.ends_with(" -")), "{path}");
        }
        assert!(download(&adapter, &own.at("/api/relay/keyed")).await.is_ok());
        own.seen();
    }
}

#[tokio::test]
async fn redirects_end() {
    let own = Server::start().await;
    let adapter = adapter(&own.origin);
    let moved = |to: &str| own.at(&format!("/moved?{to}"));
    let thrice = moved(&moved(&moved("/open")));
    assert_eq!(download(&adapter, &thrice).await.unwrap(), b"picture");
    let refused = download(&adapter, &moved(&thrice)).await.unwrap_err();
    assert_eq!(refused, FetchError::Trouble("more than 3 redirects".to_owned()));
    let refused = download(&adapter, &moved("http://10.0.0.1/1.png")).await.unwrap_err();
    assert!(matches!(&refused, FetchError::Forbidden(problem) if problem.contains("a private address")), "{refused}");
    let refused = download(&adapter, &moved("ftp://127.0.0.1/1.png")).await.unwrap_err();
    assert!(matches!(refused, FetchError::Forbidden(_)), "{refused}");
}

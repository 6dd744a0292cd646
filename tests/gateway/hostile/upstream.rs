//! The hostile upstream: raw sockets, one task for each connection. It records what it has accepted, and where the key came.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answer::{Phase, Places, Row, Step};
use super::images::picture;
use crate::harness::{UPSTREAM_KEY, in_background};

/// The client whose purchase the hostile answers of all others may name; it always gets honest answers.
pub(super) const HONEST: &str = "honest";
/// What the prompt of a client begins with; its name and a quote follow.
pub(super) const PROMPT: &str = "row:";

/// A running upstream, and a second origin that must not get the key.
#[derive(Clone, Debug)]
pub(super) struct HostileUpstream {
    pub(super) origin: String,
    elsewhere: String,
    rows: Arc<HashMap<String, Row>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<String, ClientRecord>,
    /// Which purchase an id names: client and number.
    ids: HashMap<String, (String, u32)>,
    /// Where the key came that must not come there.
    leaks: Vec<String>,
}

/// What a client's requests have brought.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientRecord {
    /// Whole submits.
    pub(super) submits: u32,
    /// Those of them that count as bought.
    pub(super) accepted: u32,
    /// Hostile answers so far.
    hostile: u32,
    /// The upstream is honest from now on.
    healed: bool,
    /// The ids of its purchases.
    pub(super) ids: Vec<String>,
}

/// A request as it was received.
#[derive(Debug)]
struct Request {
    method: String,
    path: String,
    head: String,
    body: Vec<u8>,
    /// The whole body was read.
    whole: bool,
}

impl Request {
    fn has_key(&self) -> bool {
        self.head.contains(UPSTREAM_KEY)
    }

    /// Returns the client that asks, by its prompt.
    fn client(&self) -> Option<String> {
        let start = self.body.windows(PROMPT.len()).position(|window| window == PROMPT.as_bytes())? + PROMPT.len();
        let name = self.body[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || **byte == b'-');
        let name: Vec<u8> = name.copied().collect();
        // The name is whole once something follows.
        (start + name.len() < self.body.len()).then(|| String::from_utf8_lossy(&name).into_owned())
    }
}

/// What is answered, and whether the connection stays open.
#[derive(Debug)]
struct Reply {
    steps: Vec<Step>,
    closes: bool,
}

impl HostileUpstream {
    pub(super) async fn start(rows: &[Row]) -> Self {
        let [own, other] =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let at = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let upstream = Self {
            origin: at(&own),
            elsewhere: at(&other),
            rows: Arc::new(rows.iter().map(|row| (row.name.clone(), row.clone())).collect()),
            state: Arc::default(),
        };
        for (listener, is_own) in [(own, true), (other, false)] {
            let upstream = upstream.clone();
            in_background(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let upstream = upstream.clone();
                    // A connection ends as the gateway or its answer ends it.
                    in_background(async move { upstream.serve(stream, is_own).await.unwrap_or_default() });
                }
            });
        }
        upstream
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every further answer to a client honest.
    pub(super) fn heal(&self, client: &str) {
        self.lock().clients.entry(client.to_owned()).or_default().healed = true;
    }

    pub(super) fn record(&self, client: &str) -> ClientRecord {
        self.lock().clients.get(client).cloned().unwrap_or_default()
    }

    /// Returns where the key came that must not come there.
    pub(super) fn leaks(&self) -> Vec<String> {
        self.lock().leaks.clone()
    }

    /// Returns the picture of a purchase.
    pub(super) fn picture(&self, client: &str, id: &str) -> Vec<u8> {
        picture(id, self.rows.get(client).map_or("png", |row| row.format))
    }

    async fn serve(&self, mut stream: TcpStream, is_own: bool) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(request) = self.receive(&mut stream, &mut buffer).await? {
            let reply = self.answer(&request, is_own);
            for step in reply.steps {
                match step {
                    Step::Write(bytes) => stream.write_all(&bytes).await?,
                    Step::Pause(pause) => tokio::time::sleep(pause).await,
                    // Until the connection fails.
                    Step::Repeat(bytes, pause) => loop {
                        stream.write_all(&bytes).await?;
                        tokio::time::sleep(pause).await;
                    },
                    Step::Silence => {
                        let mut rest = [0; 1024];
                        while stream.read(&mut rest).await? > 0 {}
                        return Ok(());
                    }
                    Step::Reset => {
                        stream.set_zero_linger()?;
                        return Ok(());
                    }
                    Step::Close => return stream.shutdown().await,
                }
            }
            if reply.closes {
                return stream.shutdown().await;
            }
        }
        Ok(())
    }

    /// Receives a request; of one that is answered early only what tells the client. `None` at the end.
    async fn receive(&self, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let mut words = head.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.unwrap_or(0);
        let mut request = Request { method, path, head, body: Vec::new(), whole: false };
        loop {
            let count = buffer.len().min(length - request.body.len());
            request.body.extend(buffer.drain(..count));
            request.whole = request.body.len() == length;
            let is_early = || {
                request
                    .client()
                    .and_then(|client| self.rows.get(&client))
                    .is_some_and(|row| row.is_early() && !self.record(&row.name).healed)
            };
            if request.whole || is_early() {
                return Ok(Some(request));
            }
            if stream.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn answer(&self, request: &Request, is_own: bool) -> Reply {
        let path = percent_encoding::percent_decode_str(&request.path).decode_utf8_lossy().into_owned();
        let path = path.split('?').next().unwrap_or_default();
        let polled = path.strip_prefix("/api/v3/predictions/").and_then(|rest| rest.strip_suffix("/result"));
        let polled = polled.or(path.strip_prefix("/api/v3/tasks/result/"));
        let file = path.strip_prefix("/files/").and_then(|rest| rest.strip_suffix(".png"));
        let submits = ["/api/v3/openai/", "/v1/images/", "/api/v3/images"];
        let is_submit = request.method == "POST" && submits.iter().any(|start| path.starts_with(start));
        let owner = polled.or(file).and_then(|id| Some((id.to_owned(), self.lock().ids.get(id)?.0.clone())));
        if request.has_key() {
            let is_known = owner.as_ref().is_some_and(|(_, client)| polled.is_some() || self.asks_for_a_key(client));
            let is_question = request.method == "GET" && path == "/v1/models";
            if !(is_own && (is_submit || is_known || is_question)) {
                self.lock().leaks.push(format!("own origin: {is_own}, {} {}", request.method, request.path));
            }
        }
        if is_submit {
            return self.answer_submit(request);
        }
        match owner {
            Some((id, client)) if polled.is_some() => self.answer_about(Phase::Poll, &client, &id),
            Some((id, client)) => self.answer_about(Phase::Download, &client, &id),
            None => {
                honest("404 Not Found", "application/json", br#"{"error":{"message":"no such task","type":"404"}}"#)
            }
        }
    }

    /// Whether the files of a client are refused to those without a key.
    fn asks_for_a_key(&self, client: &str) -> bool {
        self.rows.get(client).is_some_and(|row| row.phase == Phase::Download && row.status.starts_with("40"))
    }

    fn answer_submit(&self, request: &Request) -> Reply {
        let Some(client) = request.client() else {
            return honest(
                "400 Bad Request",
                "application/json",
                br#"{"error":{"message":"prompt is required","type":"400"}}"#,
            );
        };
        let hostile = self.next_hostile(Phase::Submit, &client);
        let id = {
            let mut state = self.lock();
            let record = state.clients.entry(client.clone()).or_default();
            record.submits += 1;
            let is_bought = request.whole && hostile.is_none_or(|row| row.bought);
            record.accepted += u32::from(is_bought);
            let number = record.submits;
            let given = hostile.or(self.rows.get(&client)).map_or("", |row| row.id);
            let id = match given {
                "" => format!("id-{client}-{number}"),
                given => given.replace("{number}", &number.to_string()).replace("{client}", &client),
            };
            record.ids.push(id.clone());
            state.ids.insert(id.clone(), (client.clone(), number));
            id
        };
        let places = self.places(&client, &id);
        if let Some(row) = hostile {
            return Reply { steps: row.steps(&places), closes: row.is_early() };
        }
        let text = match request.path.as_str() {
            "/api/v3/images" => r#"{"id":"{id}","status":"pending","polling_url":"/api/v3/tasks/result/{id}"}"#,
            path if path.starts_with("/v1/") => r#"{"created":1,"data":[{"b64_json":"{b64}"}]}"#,
            _ => {
                r#"{"code":200,"message":"success","data":{"id":"{id}","status":"created","outputs":[],"urls":{"get":"{origin}/api/v3/predictions/{id}/result"}}}"#
            }
        };
        honest("200 OK", "application/json", places.fill(text).as_bytes())
    }

    fn answer_about(&self, phase: Phase, client: &str, id: &str) -> Reply {
        let places = self.places(client, id);
        if let Some(row) = self.next_hostile(phase, client) {
            return Reply { steps: row.steps(&places), closes: false };
        }
        if phase == Phase::Download {
            return honest("200 OK", "image/png", &places.picture);
        }
        // With the outputs where either API has them.
        let text = r#"{"code":200,"message":"success","data":{"id":"{id}","status":"completed","outputs":["{url}"],"unsigned_urls":["{url}"]}}"#;
        honest("200 OK", "application/json", places.fill(text).as_bytes())
    }

    /// Returns the row of a client, if its answer in this phase is hostile, and counts it.
    fn next_hostile(&self, phase: Phase, client: &str) -> Option<&Row> {
        let row = self.rows.get(client).filter(|row| row.phase == phase)?;
        let mut state = self.lock();
        let record = state.clients.entry(client.to_owned()).or_default();
        if record.healed || record.hostile >= row.times {
            return None;
        }
        record.hostile += 1;
        Some(row)
    }

    fn places(&self, client: &str, id: &str) -> Places {
        let other = self.record(HONEST).ids.first().cloned().unwrap_or_default();
        let segment = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        Places {
            id: id.to_owned(),
            url: format!("{}/files/{segment}.png", self.origin),
            origin: self.origin.clone(),
            elsewhere: self.elsewhere.clone(),
            other_url: format!("{}/files/{other}.png", self.origin),
            other,
            key: UPSTREAM_KEY,
            picture: self.picture(client, id),
        }
    }
}

/// An answer of an honest upstream.
fn honest(status: &str, media_type: &str, body: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n", body.len());
    Reply { steps: vec![Step::Write([head.as_bytes(), body].concat())], closes: false }
}

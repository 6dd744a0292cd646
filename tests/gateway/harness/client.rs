//! A client that sends the requests of the SDKs.

use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::document::{self, Asked};
use super::{TIMEOUT, http, in_background, output, picture};

/// A multipart edit as a plain value, so that it can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pictures: Vec<(String, Vec<u8>, Option<String>)>,
    fields: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

impl Edit {
    /// A small edit of one picture by a model that makes small pictures.
    pub(crate) fn new(prompt: &str) -> Self {
        Self::bare(prompt).picture("image", picture(1))
    }

    /// The same without a picture.
    pub(crate) fn bare(prompt: &str) -> Self {
        let fields = [("model", "gpt-image-1.5"), ("prompt", prompt), ("quality", "low"), ("size", "256x256")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { pictures: Vec::new(), fields, headers: Vec::new() }
    }

    pub(crate) fn picture(self, name: &str, bytes: Vec<u8>) -> Self {
        self.picture_as(name, bytes, Some("image/png"))
    }

    /// A picture that is declared to be something else, or nothing.
    pub(crate) fn picture_as(mut self, name: &str, bytes: Vec<u8>, media_type: Option<&str>) -> Self {
        self.pictures.push((name.to_owned(), bytes, media_type.map(str::to_owned)));
        self
    }

    /// Sets a field, in place of an earlier value.
    pub(crate) fn field(self, name: &str, value: &str) -> Self {
        let mut edit = self.without(name);
        edit.fields.push((name.to_owned(), value.to_owned()));
        edit
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn form(&self) -> Form {
        let mut form = Form::new();
        for (name, value) in &self.fields {
            form = form.text(name.clone(), value.clone());
        }
        for (name, bytes, media_type) in &self.pictures {
            let part = Part::bytes(bytes.clone()).file_name("upload");
            let part = match media_type {
                Some(media_type) => part.mime_str(media_type).unwrap(),
                None => part,
            };
            form = form.part(name.clone(), part);
        }
        form
    }
}

/// A client of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: String,
    key: String,
}

impl Client {
    pub(crate) fn new(address: String, key: &str) -> Self {
        Self { http: http(), address, key: key.to_owned() }
    }

    /// A client that shares an HTTP client with others.
    pub(crate) fn sharing(http: &reqwest::Client, address: String, key: &str) -> Self {
        Self { http: http.clone(), address, key: key.to_owned() }
    }

    /// The same client with another HTTP client.
    pub(crate) fn with_http(mut self, http: reqwest::Client) -> Self {
        self.http = http;
        self
    }

    /// The same client with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// A request to any path, with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", self.address) };
        let request = self.http.request(method, url);
        if self.key.is_empty() { request } else { request.bearer_auth(&self.key) }
    }

    /// Edits a picture, and waits for the whole response.
    pub(crate) async fn edit(&self, edit: &Edit) -> Answer {
        self.edit_at("/v1/images/edits", edit).await
    }

    /// The same; `None` when the connection fails.
    pub(crate) async fn try_edit(&self, edit: &Edit) -> Option<Answer> {
        Answer::try_to(self.edit_request("/v1/images/edits", edit)).await.ok()
    }

    pub(crate) async fn edit_at(&self, path: &str, edit: &Edit) -> Answer {
        Answer::to(self.edit_request(path, edit)).await
    }

    fn edit_request(&self, path: &str, edit: &Edit) -> RequestBuilder {
        let mut request = self.request(Method::POST, path).multipart(edit.form());
        for (name, value) in &edit.headers {
            request = request.header(name, value);
        }
        request
    }

    /// Starts an edit; the test continues meanwhile.
    pub(crate) fn begin(&self, edit: &Edit) -> PendingAnswer {
        PendingAnswer::to(self.edit_request("/v1/images/edits", edit))
    }

    /// Starts a request in the JSON form.
    pub(crate) fn begin_json(&self, path: &str, body: &Value) -> PendingAnswer {
        PendingAnswer::to(self.request(Method::POST, path).json(body))
    }

    /// An edit in the JSON form; `images` and the like come from `body`, the rest is as in [`Edit::new`].
    pub(crate) async fn edit_json(&self, body: Value) -> Answer {
        self.post("/v1/images/edits", body).await
    }

    pub(crate) async fn generate(&self, body: Value) -> Answer {
        self.post("/v1/images/generations", body).await
    }

    /// Gets a job, with a `Prefer` header unless that is empty.
    pub(crate) async fn prediction(&self, path: &str, prefer: &str) -> Answer {
        let request = self.request(Method::GET, path);
        Answer::to(if prefer.is_empty() { request } else { request.header("prefer", prefer) }).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::DELETE, path)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        let mut whole = json!({"model": "gpt-image-1.5", "quality": "low", "size": "256x256"});
        for (name, value) in body.as_object().unwrap() {
            whole[name] = value.clone();
        }
        Answer::to(self.request(Method::POST, path).json(&whole)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct PendingAnswer {
    task: JoinHandle<reqwest::Result<Answer>>,
    first_bytes: oneshot::Receiver<()>,
}

impl PendingAnswer {
    fn to(request: RequestBuilder) -> Self {
        let (arrived, first_bytes) = oneshot::channel();
        let task = in_background(async move {
            Answer::of(request, || {
                let _ = arrived.send(());
            })
            .await
        });
        Self { task, first_bytes }
    }

    /// Waits until the first bytes of the body have arrived.
    pub(crate) async fn first_bytes(&mut self) {
        tokio::time::timeout(TIMEOUT, &mut self.first_bytes).await.expect("the body begins").expect("it has a body");
    }

    pub(crate) async fn answer(self) -> Answer {
        self.task.await.unwrap().unwrap()
    }

    /// Waits until the connection breaks without a whole response.
    pub(crate) async fn breaks(self) {
        self.task.await.unwrap().expect_err("the connection breaks");
    }

    /// Closes the connection without waiting for the response.
    pub(crate) async fn disconnect(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled(), "the response has arrived already");
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        Self::try_to(request).await.unwrap()
    }

    pub(super) async fn try_to(request: RequestBuilder) -> reqwest::Result<Self> {
        Self::of(request, || ()).await
    }

    async fn of(request: RequestBuilder, at_first_bytes: impl FnOnce()) -> reqwest::Result<Self> {
        let (client, request) = request.build_split();
        let request = request?;
        let asked = Asked { method: request.method().clone(), path: request.url().path().to_owned() };
        let mut response = client.execute(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut bytes = Vec::new();
        let mut at_first_bytes = Some(at_first_bytes);
        while let Some(chunk) = response.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if let Some(notify) = at_first_bytes.take() {
                notify();
            }
        }
        document::check(&asked, status, &headers, &bytes);
        output::keep("answers", &[format!("{status} {headers:?}\n").as_bytes(), &bytes].concat());
        Ok(Self { status, headers, bytes })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header's value; empty when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `x-gateway-cache`
    pub(crate) fn cache(&self) -> &str {
        self.header("x-gateway-cache")
    }

    /// The bytes of the pictures, which the response must have.
    pub(crate) fn pictures(&self) -> Vec<Vec<u8>> {
        assert_eq!(self.status, 200, "{}", self.text());
        let body = self.json();
        let items = body["data"].as_array().unwrap();
        let bytes = |item: &Value| {
            let text = item["b64_json"].as_str().expect("an item has b64_json");
            base64_simd::STANDARD.decode_to_vec(text).expect("b64_json is plain base64")
        };
        items.iter().map(bytes).collect()
    }

    /// The bytes of the one picture.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let mut pictures = self.pictures();
        assert_eq!(pictures.len(), 1, "one picture");
        pictures.remove(0)
    }

    /// Asserts a refusal in OpenAI's shape: its status and its code.
    #[track_caller]
    pub(crate) fn is_refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        let error = body["error"].as_object().unwrap();
        for key in ["message", "type", "param", "code"] {
            assert!(error.contains_key(key), "{key} is missing in {}", self.text());
        }
        assert_eq!(error["code"], code, "{}", self.text());
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

//! A proxy that loses answers: a request reaches the server, and its answer never comes back. It closes each connection after
//! one request, so every request is seen. Also a server of one answer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::in_background;

/// The running proxy.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    /// `host:port`.
    pub(crate) address: String,
    broken: Arc<AtomicU32>,
}

impl Breaker {
    /// Loses the first answers to requests whose first line begins with a text, as often as it says.
    pub(crate) async fn to(target: &str, losses: &[(&str, u32)]) -> Self {
        let losses = losses.iter().map(|&(start, count)| (start.to_owned(), count)).collect::<Vec<_>>();
        let (losses, target) = (Arc::new(Mutex::new(losses)), target.to_owned());
        Self::start(move |client, broken| {
            let (losses, target) = (Arc::clone(&losses), target.clone());
            in_background(async move { pass(client, &target, &losses, &broken).await });
        })
        .await
    }

    /// Gives the same answer to every POST, and 404 to the rest. With an empty answer, a POST is read and breaks.
    pub(crate) async fn answering(body: &str) -> Self {
        Self::answering_with("", body).await
    }

    /// The same with more headers, each ended by CR and LF.
    pub(crate) async fn answering_with(headers: &str, body: &str) -> Self {
        let (headers, body) = (headers.to_owned(), body.to_owned());
        Self::start(move |client, broken| {
            let (headers, body) = (headers.clone(), body.clone());
            in_background(async move { answer(client, &headers, &body, &broken).await });
        })
        .await
    }

    /// The number of answers that were lost.
    pub(crate) fn broken(&self) -> u32 {
        self.broken.load(Ordering::SeqCst)
    }

    async fn start(serve: impl Fn(TcpStream, Arc<AtomicU32>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let breaker = Self { address: listener.local_addr().unwrap().to_string(), broken: Arc::default() };
        let broken = Arc::clone(&breaker.broken);
        in_background(async move {
            while let Ok((client, _)) = listener.accept().await {
                serve(client, Arc::clone(&broken));
            }
        });
        breaker
    }
}

async fn head_of(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn pass(mut client: TcpStream, target: &str, losses: &Mutex<Vec<(String, u32)>>, broken: &AtomicU32) {
    let head = head_of(&mut client).await;
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let is_lost = {
        let mut losses = losses.lock().unwrap_or_else(PoisonError::into_inner);
        let loss = losses.iter_mut().find(|(start, count)| *count > 0 && head.starts_with(start.as_str()));
        loss.map(|(_, count)| *count -= 1).is_some()
    };
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    if server.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    if !is_lost {
        // A reset is an end, too.
        let _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut byte = [0];
    tokio::select! {
        _ = from_server.read(&mut byte) => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
    }
    broken.fetch_add(1, Ordering::SeqCst);
    let _ = to_client.shutdown().await;
}

async fn answer(mut client: TcpStream, headers: &str, body: &str, broken: &AtomicU32) {
    loop {
        let head = head_of(&mut client).await;
        if head.is_empty() {
            return;
        }
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut sent = vec![0; length.unwrap_or(0)];
        client.read_exact(&mut sent).await.unwrap();
        let (status, body) = if head.starts_with("POST") { ("200 OK", body) } else { ("404 Not Found", "{}") };
        if body.is_empty() {
            broken.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let text = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        client.write_all(text.as_bytes()).await.unwrap();
    }
}

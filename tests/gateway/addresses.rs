//! Pictures that clients give as addresses: the gateway's own results, those that the image service cannot reach, and those
//! that it fails to fetch.

use serde_json::{Value, json};

use crate::harness::{Answer, Edit, Gateway, Upstream, digest, mask, picture, size_of};

/// Makes a picture and returns the address of its result, and its bytes.
async fn made(gateway: &Gateway, body: Value) -> (String, Vec<u8>) {
    let answer = gateway.alice().generate(body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let url = answer.json()["data"][0]["url"].as_str().unwrap().to_owned();
    let bytes = gateway.client("").get(&url).await.bytes;
    (url, bytes)
}

fn landscape() -> Value {
    json!({"prompt": "landscape", "size": "1536x1024", "response_format": "url"})
}

/// The digests of the pictures that the last purchase was made with.
async fn sent(upstream: &Upstream) -> Vec<Value> {
    let prediction = upstream.predictions().await.pop().unwrap();
    prediction["inputs"].as_array().unwrap().iter().map(|input| input["digest"].clone()).collect()
}

#[tokio::test]
async fn a_result_is_edited_by_its_address_and_the_address_stays_here() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let (url, bytes) = made(&gateway, landscape()).await;
    assert_eq!(size_of(&bytes), (1536, 1024));

    let answer = gateway.alice().edit_json(json!({"prompt": "by its address", "size": "auto", "image": url})).await;
    assert_eq!((answer.status, &answer.json()["size"]), (200, &json!("1536x1024")), "{}", answer.text());
    assert_eq!(sent(&upstream).await, [digest(&bytes)]);

    // The host in an address is what one client sees of the gateway; the signature is the proof.
    let path = url.split_once("/v1/").unwrap().1.to_owned();
    for (number, prefix) in [
        "http://localhost:1/v1",
        "https://images.example.com/v1",
        "https://images.example.com/base/v1",
        "http://10.0.0.7:8787/openai/v1",
        "https://images.example.com//v1",
        " http://gateway/v1",
    ]
    .into_iter()
    .enumerate()
    {
        let image = format!("{prefix}/{path}");
        let body = json!({"prompt": format!("by host {number}"), "size": "auto", "image": image});
        let answer = gateway.alice().edit_json(body).await;
        assert_eq!((answer.status, &answer.json()["size"]), (200, &json!("1536x1024")), "{prefix}: {}", answer.text());
        assert_eq!(sent(&upstream).await, [digest(&bytes)], "{prefix}");
    }
    // Other spellings of its path, at a host that the gateway does not know: none may lead the image service here.
    let (job, ending) = path.strip_prefix("results/").unwrap().split_once('/').unwrap();
    let query = ending.strip_prefix("0.png").unwrap();
    for (number, spelling) in [
        format!("/v1/Results/{job}/0.png{query}"),
        format!("/v1/results/{job}/0.png%20{query}"),
        format!("/v1/results/{job}/0%2Epng{query}"),
        format!("//v1/results/{job}/0.png{query}"),
        format!("/v1//RESULTS//{job}/0.png/{query}"),
        format!("/V1/%72esults/{job}/%30.png{query}"),
        format!("/v1/results/{}/0.png{query}#top", job.replace('_', "%5F")),
        format!("/openai/v1/results/{job}/%200.png%0A{query}"),
        format!("/v1/results%2F{job}%2F0.png{query}"),
        format!("/a/../v1/results/./{job}/0.png{query}"),
    ]
    .into_iter()
    .enumerate()
    {
        let image = format!("https://other-name.example{spelling}");
        let body = json!({"prompt": format!("by spelling {number}"), "size": "auto", "image": image});
        let answer = gateway.alice().edit_json(body).await;
        assert_eq!((answer.status, &answer.json()["size"]), (200, &json!("1536x1024")), "{image}: {}", answer.text());
        assert_eq!(sent(&upstream).await, [digest(&bytes)], "{image}");
    }
    // It is the same request as one with the bytes, and may be mixed with them.
    let answer =
        gateway.alice().edit(&Edit::bare("by its address").field("size", "auto").picture("image", bytes.clone())).await;
    assert_eq!(answer.cache(), "hit");
    let mixed = json!({"prompt": "mixed", "images": [crate::harness::data_url(&picture(2)), {"image_url": url}]});
    gateway.alice().edit_json(mixed).await.picture();
    assert_eq!(sent(&upstream).await, [digest(&picture(2)), digest(&bytes)]);
    // Another client that has the address may use it, as it may see the picture.
    let answer = gateway.bob().edit_json(json!({"prompt": "by bob", "image": [url]})).await;
    answer.picture();
    for prediction in upstream.predictions().await {
        assert!(!prediction.to_string().contains("/results/"), "{prediction}");
    }
}

#[tokio::test]
async fn the_address_gives_the_format_that_it_shows_and_serves_as_a_mask() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let body = json!({"prompt": "a jpeg", "response_format": "url", "output_format": "jpeg", "output_compression": 70});
    let (url, bytes) = made(&gateway, body).await;
    assert!(url.contains(".jpg?s=70.") && bytes.starts_with(b"\xff\xd8"), "{url}");
    gateway.alice().edit_json(json!({"prompt": "the jpeg", "image": url})).await.picture();
    assert_eq!(sent(&upstream).await, [digest(&bytes)]);

    let transparent =
        json!({"model": "gpt-image-1", "prompt": "a mask", "background": "transparent", "response_format": "url"});
    let (url, bytes) = made(&gateway, transparent).await;
    let masked = json!({"model": "gpt-image-1", "prompt": "masked", "image": url, "mask": url});
    gateway.alice().edit_json(masked).await.picture();
    let prediction = upstream.predictions().await.pop().unwrap();
    assert_eq!(prediction["mask"]["digest"], json!(digest(&bytes)));
}

#[track_caller]
fn is_refused_for(answer: &Answer, param: &str, part: &str) {
    answer.is_refused(400, "invalid_image_url");
    let message = answer.message();
    assert_eq!(answer.json()["error"]["param"], param, "{message}");
    assert!(message.contains(part) && message.contains("send the picture itself"), "{message}");
}

#[tokio::test]
async fn an_address_of_a_result_that_leads_nowhere_is_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.public_url", "https://img.example.com/base")]).await;
    let answer = gateway.alice().generate(landscape()).await;
    let url = answer.json()["data"][0]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("https://img.example.com/base/v1/results/pred_"), "{url}");
    let edit = async |image: &str| gateway.alice().edit_json(json!({"prompt": "edited", "image": image})).await;

    for altered in [
        url.replace("/0.png", "/1.png"),
        url.replace(".png", ".webp"),
        url.replace("?s=", "?s=9"),
        url[..url.len() - 1].to_owned(),
        url.split('?').next().unwrap().to_owned(),
        url.replace("https://img.example.com/base", "http://127.0.0.1:8787").replace("?s=", "?s=8"),
        url.replace("https://img.example.com/base", "http://localhost:8787").replace("/0.png", "/7.png"),
    ] {
        is_refused_for(&edit(&altered).await, "image", "was altered");
    }
    is_refused_for(&edit("https://img.example.com/v1/inputs/0123").await, "image", "publishes an input picture");
    let second = json!({"prompt": "edited", "images": [url, url.replace("/0.png", "/1.png")]});
    is_refused_for(&gateway.alice().edit_json(second).await, "image[1]", "was altered");
    let mask = json!({"model": "gpt-image-1", "prompt": "edited", "image": url, "mask": url.replace("/0.", "/1.")});
    is_refused_for(&gateway.alice().edit_json(mask).await, "mask", "was altered");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn an_expired_address_of_a_result_is_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.result_url_ttl_s", "1")]).await;
    let answer = gateway.alice().generate(landscape()).await;
    let url = answer.json()["data"][0]["url"].as_str().unwrap().to_owned();
    let anonymous = gateway.client("");
    crate::harness::until("the address has expired", async || anonymous.get(&url).await.status == 403).await;
    let answer = gateway.alice().edit_json(json!({"prompt": "too late", "image": url})).await;
    is_refused_for(&answer, "image", "has expired");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn addresses_that_the_image_service_cannot_reach_are_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (address, part) in [
        ("http://localhost:9/a.png", "'localhost'"),
        ("http://127.0.0.1:8188/view?filename=a.png", "a loopback address"),
        ("http://2130706433/a.png", "a loopback address"),
        ("http://[::1]:80/a.png", "a loopback address"),
        ("http://192.168.1.5/a.png", "a private address"),
        ("https://10.0.0.1/a.png", "a private address"),
        ("http://169.254.169.254/latest", "metadata"),
        ("http://nas.local/a.png", "a name of a local network"),
        ("http://minio:9000/bucket/a.png", "a name of a local network"),
        ("http://host.docker.internal/a.png", "a name of a local network"),
        ("https://me:secret@example.com/a.png", "a user name or a password"),
        ("https://example.com:0/a.png", "port 0"),
        ("http://localhost../a.png", "'localhost..'"),
        ("http://10.0.0.1../a.png", "a private address"),
        ("http://a..b/a.png", "which is no name"),
    ] {
        for body in [
            json!({"prompt": "unreachable", "image": address}),
            json!({"prompt": "unreachable", "images": [{"image_url": {"url": address}}]}),
        ] {
            let answer = gateway.alice().edit_json(body).await;
            is_refused_for(&answer, "image", part);
            assert!(!answer.text().contains("secret"), "{}", answer.text());
        }
    }
    for no_host in ["https:///a.png", "http://", "https://?a=b", "http:///etc/passwd"] {
        let answer = gateway.alice().edit_json(json!({"prompt": "no host", "image": no_host})).await;
        answer.is_refused(400, "invalid_value");
        assert!(answer.message().contains("names no host"), "{}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);

    let open = Gateway::with(&upstream, &[("server.picture_addresses", "any")]).await;
    let answer = open.alice().edit_json(json!({"prompt": "in one network", "image": "http://minio:9000/a.png"})).await;
    answer.picture();
    assert_eq!(upstream.predictions().await[0]["inputs"][0]["url"], json!("http://minio:9000/a.png"));
}

#[tokio::test]
async fn an_address_that_the_image_service_fails_to_fetch_is_the_clients_to_mend() {
    let upstream = Upstream::with(json!({"inputs": {"links": "fail_task"}})).await;
    let gateway = Gateway::on(&upstream).await;
    let body = json!({"prompt": "gone", "image": "https://example.com/gone.png"});
    let answer = gateway.alice().edit_json(body).await;
    answer.is_refused(400, "image_not_fetched");
    assert!(answer.message().contains("may have cost money"), "{}", answer.message());
    assert_eq!(answer.header("x-should-retry"), "false");
    assert_eq!(upstream.submits().await, 1);
    // What the gateway sent itself is not the client's to mend.
    upstream.set(json!({"inputs": {"links": "accept"}, "life": {"outcome": "failed_image_url"}})).await;
    gateway
        .alice()
        .edit(&Edit::new("inline").picture("image", mask()))
        .await
        .is_refused(502, "image_generation_failed");
}

#[tokio::test]
async fn behind_a_proxy_results_have_the_address_that_the_client_used() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.hosts", "*.example.com")]).await;
    let url = async |gateway: &Gateway, headers: &[(&str, &str)]| {
        let request = gateway.alice().request(reqwest::Method::POST, "/v1/images/generations").json(&landscape());
        let answer =
            Answer::to(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"][0]["url"].as_str().unwrap().split("/v1/").next().unwrap().to_owned()
    };
    let own = format!("http://{}", gateway.address());
    let (host, proto) = ("x-forwarded-host", "x-forwarded-proto");
    for (headers, base) in [
        (&[][..], own.as_str()),
        (&[(host, "img.example.com"), (proto, "https")], "https://img.example.com"),
        (&[(host, "img.example.com:8443, inner.example.com"), (proto, "https, http")], "https://img.example.com:8443"),
        (&[(proto, "https")], &own.replace("http:", "https:")),
        (&[(host, "img.example.com")], "http://img.example.com"),
        (&[(host, "a b"), (proto, "ftp")], &own),
        (&[("forwarded", "host=img.example.com;proto=https")], &own),
        (&[(host, "not-listed.example"), (proto, "https")], &own),
    ] {
        assert_eq!(url(&gateway, headers).await, base, "{headers:?}");
    }
    // The host of the request itself is still checked.
    let foreign = gateway.alice().request(reqwest::Method::POST, "/v1/images/generations").json(&landscape());
    let foreign = foreign.header("host", "evil.example").header(host, "img.example.com");
    Answer::to(foreign).await.is_refused(421, "host_not_allowed");

    let headers = [(host, "img.example.com"), (proto, "https")];
    let direct = Gateway::with(&upstream, &[("server.proxy_networks", "")]).await;
    assert_eq!(url(&direct, &headers).await, format!("http://{}", direct.address()), "not from a proxy");
    let public = Gateway::with(&upstream, &[("server.public_url", "https://public.example.com")]).await;
    assert_eq!(url(&public, &headers).await, "https://public.example.com");
}

#[tokio::test]
async fn behind_a_proxy_of_this_machine_nothing_need_be_set() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    // What Apache sends by itself, and what the documents of nginx and Caddy add.
    for headers in [
        &[("x-forwarded-host", "img.example.com"), ("x-forwarded-server", "img.example.com")][..],
        &[("x-forwarded-host", "img.example.com"), ("x-forwarded-proto", "https"), ("x-forwarded-for", "8.8.8.8")],
    ] {
        let request = gateway.alice().request(reqwest::Method::POST, "/v1/images/generations").json(&landscape());
        let answer = Answer::to(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)));
        let answer = answer.await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let url = answer.json()["data"][0]["url"].as_str().unwrap().to_owned();
        assert!(url.contains("://img.example.com/v1/results/"), "{url}");
        // The address is enough, through the proxy, and in another request.
        let path = &url[url.find("/v1/").unwrap()..];
        assert_eq!(gateway.client("").get(path).await.status, 200, "{url}");
        gateway.alice().edit_json(json!({"prompt": "through a proxy", "image": url})).await.picture();
    }
}

#[tokio::test]
async fn localhost_is_both_loopback_addresses_and_a_list_is_each_of_them() {
    let upstream = Upstream::start().await;
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for listen in ["localhost:0", "127.0.0.1:0,localhost:0", "127.0.0.1:0, 127.0.0.2:0", "[::]:0,0.0.0.0:0"] {
        if listen.contains("::") && !has_ipv6 {
            continue;
        }
        let gateway = Gateway::with(&upstream, &[("server.listen", listen), ("operator.listen", "localhost:0")]).await;
        let port = gateway.address().rsplit(':').next().unwrap().to_owned();
        let second = if listen.contains("127.0.0.2") { "127.0.0.2" } else { "[::1]" };
        for host in ["127.0.0.1", second] {
            if host == "[::1]" && !has_ipv6 {
                continue;
            }
            let answer = gateway.client("").get(&format!("http://{host}:{port}/health")).await;
            assert_eq!(answer.status, 200, "{listen}: {host}");
        }
        let operator = gateway.operator().rsplit(':').next().unwrap().to_owned();
        let answer = gateway.client("").get(&format!("http://localhost:{operator}/healthz")).await;
        assert_eq!(answer.status, 200, "{listen}");
    }
    // On the loopback alone, a name that a web page could have is refused.
    let gateway = Gateway::with(&upstream, &[("server.listen", "localhost:0")]).await;
    let foreign = gateway.client("").request(reqwest::Method::GET, "/health").header("host", "evil.example");
    Answer::to(foreign).await.is_refused(421, "host_not_allowed");
}

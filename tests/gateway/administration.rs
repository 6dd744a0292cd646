//! Attacks on the administration, and its page. The counts of the attacks are printed.

use reqwest::header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{ADMIN_TOKEN, ALICE, Admin, Answer, Edit, Gateway, Upstream, http};

/// Every route that changes something or shows what is secret.
const ROUTES: [(Method, &str); 11] = [
    (Method::GET, "/admin/keys"),
    (Method::POST, "/admin/keys"),
    (Method::PATCH, "/admin/keys/key_01m8k71fr573d9zjnr2sd5ezxe"),
    (Method::DELETE, "/admin/keys/key_01m8k71fr573d9zjnr2sd5ezxe"),
    (Method::POST, "/admin/keys/key_01m8k71fr573d9zjnr2sd5ezxe/rotate"),
    (Method::GET, "/admin/purchases"),
    (Method::POST, "/admin/purchases/pred_01m8k71fr573d9zjnr2sd5ezxe.0/resolve"),
    (Method::GET, "/admin/accounts"),
    (Method::POST, "/admin/accounts/default/pause"),
    (Method::POST, "/admin/reload"),
    (Method::GET, "/admin/audit"),
];

async fn administrated(changes: &[(&str, &str)]) -> (Upstream, Gateway, Admin) {
    let upstream = Upstream::start().await;
    let changes = [&[("GATEWAY_ADMIN_TOKEN", ADMIN_TOKEN)], changes].concat();
    let gateway = Gateway::with(&upstream, &changes).await;
    let admin = Admin::new(gateway.operator());
    (upstream, gateway, admin)
}

/// A browser with one page of the gateway open.
struct Browser {
    origin: String,
    cookie: String,
    csrf: String,
}

impl Browser {
    /// Logs in, as the form of the page does.
    async fn logged_in(origin: &str, sent_cookie: &str) -> Self {
        let answer = log_in(origin, origin, ADMIN_TOKEN, sent_cookie).await;
        assert_eq!((answer.status, answer.header(LOCATION.as_str())), (303, "/admin"), "{}", answer.text());
        let cookie = answer.header(SET_COOKIE.as_str());
        for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/admin", "; Max-Age=43200"] {
            assert!(cookie.contains(attribute), "{attribute} in {cookie}");
        }
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let mut browser = Self { origin: origin.to_owned(), cookie, csrf: String::new() };
        let page = browser.page().await;
        page.split("name=csrf value=").nth(1).unwrap()[..64].clone_into(&mut browser.csrf);
        browser
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        http().request(method, format!("{}{path}", self.origin)).header(COOKIE, &self.cookie)
    }

    async fn page(&self) -> String {
        let answer = Answer::to(self.request(Method::GET, "/admin")).await;
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// Sends a form of the page.
    async fn form(&self, fields: &[(&str, &str)]) -> Answer {
        let fields = [&[("csrf", self.csrf.as_str())], fields].concat();
        Answer::to(form(self.request(Method::POST, "/admin/form").header(ORIGIN, &self.origin), &fields)).await
    }
}

fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    request.header("content-type", "application/x-www-form-urlencoded").body(body)
}

async fn log_in(operator: &str, origin: &str, token: &str, cookie: &str) -> Answer {
    let request = http().post(format!("{operator}/admin/login")).header(ORIGIN, origin).header(COOKIE, cookie);
    Answer::to(form(request, &[("token", token)])).await
}

#[tokio::test]
async fn without_a_token_the_administration_is_off_and_says_how_it_is_switched_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let admin = Admin::new(gateway.operator());
    for (method, path) in ROUTES {
        let answer = admin.send(method, path, Value::Null).await;
        answer.is_refused(404, "administration_off");
        assert!(answer.message().contains("GATEWAY_ADMIN_TOKEN"));
    }
    let (status, page) = gateway.page("/admin").await;
    assert!(status == 404 && page.contains("GATEWAY_ADMIN_TOKEN"), "{page}");
    assert_eq!(admin.get("/admin/web/admin.css").await.status, 200, "what this page looks like");
    assert_eq!(log_in(&gateway.operator(), &gateway.operator(), ADMIN_TOKEN, "").await.status, 404);
}

#[tokio::test]
async fn no_route_works_without_the_admin_token_also_not_with_the_key_of_a_client() {
    let (_upstream, gateway, _) = administrated(&[]).await;
    let mut refused = 0;
    for (method, path) in ROUTES {
        let url = format!("{}{path}", gateway.operator());
        Answer::to(http().request(method.clone(), &url)).await.is_refused(401, "missing_admin_token");
        let with_cookie = http().request(method.clone(), &url).header(COOKIE, format!("gateway_admin={ADMIN_TOKEN}"));
        Answer::to(with_cookie).await.is_refused(401, "missing_admin_token");
        refused += 2;
    }
    for wrong in [ALICE, "", &ADMIN_TOKEN[1..], &format!("{ADMIN_TOKEN}x")] {
        let answer = Answer::to(http().get(format!("{}/admin/keys", gateway.operator())).bearer_auth(wrong)).await;
        answer.is_refused(401, "invalid_admin_token");
        assert!(wrong.is_empty() || !answer.text().contains(wrong), "it is not repeated");
        refused += 1;
    }
    // The other way round, and on the other listener.
    gateway.client(ADMIN_TOKEN).get("/v1/models").await.is_refused(401, "invalid_api_key");
    assert_eq!(gateway.client(ADMIN_TOKEN).get("/admin/keys").await.status, 404);
    println!("{refused} calls without the admin token: all refused");
}

#[tokio::test]
async fn guesses_are_limited_for_programs_and_at_the_login_together() {
    let (_upstream, gateway, admin) = administrated(&[]).await;
    let operator = gateway.operator();
    let browser = Browser::logged_in(&operator, "").await;
    let (mut compared, mut limited) = (0, 0);
    for number in 0..40 {
        let guess = format!("{number:024}");
        let answer = if number % 2 == 0 {
            log_in(&operator, &operator, &guess, "").await
        } else {
            Answer::to(http().get(format!("{operator}/admin/keys")).bearer_auth(guess)).await
        };
        match answer.status {
            401 => compared += 1,
            429 => {
                let pause: u64 = answer.header("retry-after").parse().unwrap();
                assert!((1..=30).contains(&pause), "{pause}");
                limited += 1;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    println!("40 guesses: {compared} compared, {limited} answered with 429");
    assert!((5..=7).contains(&compared), "{compared}");
    // The right one is not compared either, or guessing would go on; who has a session already is not kept out.
    assert_eq!(admin.get("/admin/keys").await.status, 429);
    assert!(browser.page().await.contains("Client keys"));
    // Another address is not kept out. On Linux the whole of 127.0.0.0/8 is this machine's.
    if cfg!(target_os = "linux") {
        let other = reqwest::Client::builder().no_proxy().local_address("127.0.0.9".parse::<std::net::IpAddr>().ok());
        let other = other.build().unwrap().get(format!("{operator}/admin/keys")).bearer_auth(ADMIN_TOKEN);
        assert_eq!(Answer::to(other).await.status, 200);
    }
}

#[tokio::test]
async fn other_pages_cannot_make_a_browser_change_anything() {
    let (_upstream, gateway, admin) = administrated(&[]).await;
    let browser = Browser::logged_in(&gateway.operator(), "").await;
    let other = Browser::logged_in(&gateway.operator(), "").await;
    let own = browser.origin.as_str();
    let mut refused = 0;
    // What another page can have sent: the cookie, if the browser did not keep it back, and no token.
    for (origin, site, csrf) in [
        (Some("http://evil.example"), None, Some(&browser.csrf)),
        (Some("null"), None, Some(&browser.csrf)),
        (None, None, Some(&browser.csrf)),
        (None, Some("cross-site"), Some(&browser.csrf)),
        (Some(own), Some("cross-site"), Some(&browser.csrf)),
        (Some(own), Some("same-site"), Some(&browser.csrf)),
        (Some(own), None, None),
        (Some(own), Some("same-origin"), Some(&other.csrf)),
    ] {
        for json_call in [true, false] {
            let path = if json_call { "/admin/keys" } else { "/admin/form" };
            let mut request = browser.request(Method::POST, path);
            for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
                request = value.into_iter().fold(request, |request, value| request.header(name, value));
            }
            let request = if json_call {
                let request = csrf.into_iter().fold(request, |request, csrf| request.header("x-csrf-token", csrf));
                request.json(&json!({"name": "mallory"}))
            } else {
                let csrf = csrf.map_or("", String::as_str);
                form(request, &[("csrf", csrf), ("action", "create"), ("name", "mallory")])
            };
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, 403, "{origin:?} {site:?}: {}", answer.text());
            refused += 1;
        }
    }
    // A login that another page sends, so that the person works in a session of the attacker.
    assert_eq!(log_in(own, "http://evil.example", ADMIN_TOKEN, "").await.status, 403);
    assert_eq!(admin.list("/admin/keys").await.len(), 2, "nothing was made");
    // A body of another type cannot pass as JSON.
    let text = http().post(format!("{own}/admin/keys")).bearer_auth(ADMIN_TOKEN).header("content-type", "text/plain");
    Answer::to(text.body("{\"name\": \"mallory\"}")).await.is_refused(415, "unsupported_media_type");
    let request = browser.request(Method::POST, "/admin/keys").header("origin", own);
    let request = request.header("x-csrf-token", &browser.csrf).json(&json!({"name": "carol"}));
    assert_eq!(Answer::to(request).await.status, 201, "the page itself");
    println!("{} requests of other pages: all refused", refused + 1);
}

#[tokio::test]
async fn a_session_is_new_at_each_login_and_ends_with_the_logout() {
    let (_upstream, gateway, _) = administrated(&[]).await;
    let operator = gateway.operator();
    let chosen = format!("gateway_admin={}", "a".repeat(64));
    let browser = Browser::logged_in(&operator, &chosen).await;
    assert_ne!(browser.cookie, chosen, "an id that was there before is not taken");
    let page = Answer::to(http().get(format!("{operator}/admin")).header(COOKIE, &chosen)).await.text();
    assert!(page.contains("Admin token") && !page.contains("Client keys"), "{page}");
    let again = Browser::logged_in(&operator, &browser.cookie).await;
    assert!(
        Answer::to(browser.request(Method::GET, "/admin")).await.text().contains("Admin token"),
        "the old one ended"
    );

    let request = again.request(Method::POST, "/admin/logout").header(ORIGIN, &operator);
    let out = Answer::to(form(request, &[("csrf", &again.csrf)])).await;
    assert_eq!(out.status, 303);
    assert!(out.header(SET_COOKIE.as_str()).contains("Max-Age=0"), "{:?}", out.headers);
    assert!(Answer::to(again.request(Method::GET, "/admin")).await.text().contains("Admin token"));
    Answer::to(again.request(Method::GET, "/admin/keys")).await.is_refused(401, "missing_admin_token");
    // Behind a proxy with TLS the cookie is sent over TLS only.
    let request = http().post(format!("{operator}/admin/login")).header("x-forwarded-proto", "https");
    let secure = Answer::to(form(request.header(ORIGIN, &operator), &[("token", ADMIN_TOKEN)])).await;
    assert!(secure.header(SET_COOKIE.as_str()).ends_with("; Secure"), "{:?}", secure.headers);
}

#[tokio::test]
async fn no_page_is_shown_in_a_frame_and_hostile_names_are_refused_or_escaped() {
    let (_upstream, gateway, admin) = administrated(&[]).await;
    let browser = Browser::logged_in(&gateway.operator(), "").await;
    let markup = "<img src=x onerror=alert(1)>";
    let mut refused = 0;
    for name in [markup, "\"><script>alert(1)</script>", "a\u{202e}b", "../keys", "carol\nadmin", "sk-gw-0123", ""] {
        let answer = admin.send(Method::POST, "/admin/keys", json!({"name": name})).await;
        answer.is_refused(400, "invalid_value");
        refused += 1;
    }
    for (method, path) in [
        (Method::DELETE, format!("/admin/keys/{}", "%3Cscript%3E")),
        (Method::POST, "/admin/accounts/%3Cscript%3E/pause".to_owned()),
        (Method::POST, "/admin/accounts/default/explode".to_owned()),
        (Method::GET, "/admin/nothing".to_owned()),
    ] {
        let answer = admin.send(method, &path, Value::Null).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/json"), "{path}");
        refused += 1;
    }
    let shown = browser.form(&[("action", "create"), ("name", markup), ("models", markup)]).await;
    assert_eq!(shown.status, 400);
    assert!(!shown.text().contains("<img src=x"), "{}", shown.text());
    let shown = browser.form(&[("action", "account"), ("name", markup), ("what", "pause")]).await;
    assert!(!shown.text().contains("<img src=x"), "{}", shown.text());
    for path in ["/admin", "/admin/"] {
        let answer = Answer::to(browser.request(Method::GET, path)).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    println!("{refused} hostile names and paths: all refused");
}

/// The fields of the first form of the page that changes a key, as it shows them.
fn shown_fields(page: &str) -> Vec<(String, String)> {
    let form = page.split("name=action value=update>").nth(1).unwrap().split("</form>").next().unwrap();
    let attribute = |input: &str, name: &str| {
        let value = input.split(&format!(" {name}=")).nth(1)?;
        let value =
            value.strip_prefix('"').map_or_else(|| value.split([' ', '>']).next(), |quoted| quoted.split('"').next());
        Some(value.unwrap_or_default().to_owned())
    };
    let inputs = form.split("<input").skip(1).map(|input| input.split('>').next().unwrap());
    let fields: Vec<(String, String)> =
        inputs.map(|input| (attribute(input, "name").unwrap(), attribute(input, "value").unwrap())).collect();
    assert!(fields.len() >= 10, "{fields:?}");
    [vec![("action".to_owned(), "update".to_owned())], fields].concat()
}

#[tokio::test]
async fn a_form_changes_only_what_was_changed_in_it() {
    let limits = [("limits.usd_per_day", "1"), ("limits.requests_per_minute", "100")];
    let (_upstream, gateway, admin) = administrated(&limits).await;
    let browser = Browser::logged_in(&gateway.operator(), "").await;
    let terms = json!({"name": "carol", "limits": {"usd_per_day": 0}, "expires": "30d"});
    admin.make_with(terms).await;
    let fields = shown_fields(&browser.page().await);
    let sent = async |fields: &[(String, String)]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        browser.form(&fields).await
    };
    let unchanged = sent(&fields).await;
    assert!(unchanged.status == 400 && unchanged.text().contains("nothing is to be changed"), "{}", unchanged.text());
    let mut changed = fields.clone();
    changed.iter_mut().find(|(name, _)| name == "expires").unwrap().1 = "2030-01-01".to_owned();
    assert_eq!(sent(&changed).await.status, 200);
    let listed = &admin.list("/admin/keys").await[2];
    assert_eq!(
        (&listed["limits"]["usd_per_day"], &listed["limits"]["requests_per_minute"]),
        (&Value::Null, &json!(100))
    );
    let line = &admin.list("/admin/audit").await[0]["change"];
    assert_eq!((&line["limits"], line.get("weight")), (&json!({}), None), "{line}");
    // Emptied: back to the default.
    changed.iter_mut().find(|(name, _)| name == "usd_per_day").unwrap().1 = String::new();
    assert_eq!(sent(&changed).await.status, 200);
    assert_eq!(admin.list("/admin/keys").await[2]["limits"]["usd_per_day"], json!(1.0));
    let twice = [&changed[..], &[("usd_per_day".to_owned(), "9".to_owned())]].concat();
    assert!(sent(&twice).await.text().contains("usd_per_day is there twice"));
    let large = browser.form(&[("action", "create"), ("name", &"a".repeat(80_000))]).await;
    assert!(large.status == 413 && large.text().contains("larger than 64 KB"), "{}", large.text());
}

#[tokio::test]
async fn a_key_that_was_made_is_shown_also_when_nothing_else_can_be_read() {
    let (_upstream, gateway, admin) = administrated(&[]).await;
    let browser = Browser::logged_in(&gateway.operator(), "").await;
    let (journal, away) = (gateway.folder().join("journal.sqlite"), gateway.folder().join("away"));
    std::fs::rename(&journal, &away).unwrap();
    let made = browser.form(&[("action", "create"), ("name", "carol")]).await;
    let page = browser.request(Method::GET, "/admin");
    let page = Answer::to(page).await;
    std::fs::rename(&away, &journal).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(
        made.text().contains("class=new-key>sk-gw-") && !made.text().contains("Nothing was changed"),
        "{}",
        made.text()
    );
    assert!(page.status == 503 && page.text().contains("cannot be used at present"), "{}", page.text());
    assert!(!page.text().contains("Admin token"), "the session goes on");
    assert_eq!(admin.list("/admin/keys").await[2]["name"], "carol");
}

#[tokio::test]
async fn mistakes_in_a_body_and_in_a_query_name_what_is_wrong_and_what_is_allowed() {
    let (_upstream, gateway, admin) = administrated(&[]).await;
    let (id, _) = admin.make_with(json!({"name": "carol", "weight": 3})).await;
    let (key, rotate) = (format!("/admin/keys/{id}"), format!("/admin/keys/{id}/rotate"));
    let keys = "/admin/keys".to_owned();
    let audit = |query: &str| format!("/admin/audit?{query}");
    let (post, patch, get) = (Method::POST, Method::PATCH, Method::GET);
    for (method, path, body, param, allowed) in [
        (&post, &keys, json!({"name": 5}), "name", "must be a text"),
        (&post, &keys, json!({"name": null}), "name", "must be a text"),
        (&post, &keys, json!({"name": "x", "expires": true}), "expires", "seconds since the Unix epoch"),
        (&post, &keys, json!({"name": "x", "expires": 1.5}), "expires", "seconds since the Unix epoch"),
        (&post, &keys, json!({"name": "x", "expires": 1_827_000_000_000_i64}), "expires", "not in milliseconds"),
        (&post, &keys, json!({"name": "x", "expires": i64::MAX}), "expires", "within 100 years"),
        (&post, &keys, json!({"name": "x", "weight": "2"}), "weight", "a number from 0.001 to 1000"),
        (&post, &keys, json!({"name": "x", "models": "gpt-image-2"}), "models", "a list of models"),
        (&post, &keys, json!({"name": "x", "limits": null}), "limits", "an object of limits"),
        (
            &post,
            &keys,
            json!({"name": "x", "limits": {"usd_per_day": -1}}),
            "limits.usd_per_day",
            "from 0 to 1000000000",
        ),
        (
            &post,
            &keys,
            json!({"name": "x", "limits": {"usd_per_day": "5"}}),
            "limits.usd_per_day",
            "from 0 to 1000000000",
        ),
        (
            &post,
            &keys,
            json!({"name": "x", "limits": {"requests_per_minute": 1.5}}),
            "limits.requests_per_minute",
            "a whole number from 0 to 1000000",
        ),
        (&post, &keys, json!({"name": "x", "limits": {"usd_per_year": 1}}), "limits.usd_per_year", "usd_per_month"),
        (&post, &keys, json!({"name": "x", "limit": {}}), "", "there are: name, limits"),
        (&post, &keys, json!(["arr", {}, null]), "", "a JSON object"),
        (&post, &keys, json!("x"), "", "a JSON object"),
        (&patch, &key, json!({"name": null, "weight": 2}), "name", "cannot be changed"),
        (&patch, &key, json!({}), "", "name a limit, weight"),
        (&post, &rotate, json!({"grace": -1}), "grace", "from 0 to 31536000"),
        (&post, &rotate, json!({"grace": "soon"}), "grace", "as 90m"),
        (&get, &audit("limit=0"), Value::Null, "limit", "from 1 to 1000"),
        (&get, &audit("limit=99999"), Value::Null, "limit", "from 1 to 1000"),
        (&get, &audit("before=x"), Value::Null, "before", "the id of a line"),
        (&get, &audit("foo=1"), Value::Null, "foo", "limit, before"),
    ] {
        let answer = admin.send(method.clone(), path, body.clone()).await;
        assert_eq!(answer.status, 400, "{path} {body}: {}", answer.text());
        let named = answer.json()["error"]["param"].as_str().unwrap_or_default().to_owned();
        assert_eq!(named, param, "{path} {body}: {}", answer.text());
        assert!(answer.message().contains(allowed), "{path} {body}: {}", answer.message());
    }
    let twice = |body: &'static str| {
        let request = http().post(format!("{}/admin/keys", gateway.operator())).bearer_auth(ADMIN_TOKEN);
        Answer::to(request.header("content-type", "application/json").body(body))
    };
    twice(r#"{"name": "x", "name": "y"}"#).await.is_refused(400, "invalid_body");
    twice(r#"{"name": "x", "limits": {"usd_per_day": 1, "usd_per_day": 9}}"#).await.is_refused(400, "invalid_body");
    assert_eq!(admin.list("/admin/keys").await.len(), 3, "nothing was made");
    for (method, path) in [(Method::DELETE, "/admin/keys/%ff"), (post, "/admin/accounts/%ff/pause")] {
        admin.send(method, path, Value::Null).await.is_refused(404, "unknown_url");
    }
    // Null is the default.
    assert_eq!(admin.list("/admin/keys").await[2]["weight"], 3.0);
    let reset = admin.send(Method::PATCH, &key, json!({"weight": null})).await;
    assert_eq!((reset.status, &reset.json()["weight"]), (200, &json!(1.0)), "{}", reset.text());
}

#[tokio::test]
async fn other_pages_and_proxies_take_no_session_away_and_lock_nobody_out() {
    let (_upstream, gateway, admin) = administrated(&[]).await;
    let operator = gateway.operator();
    let browser = Browser::logged_in(&operator, "").await;
    // Another page has the browser log out: it keeps the cookie of the session back.
    let out = http().post(format!("{operator}/admin/logout")).header(ORIGIN, "http://evil.example");
    let out = Answer::to(form(out, &[("csrf", "x")])).await;
    assert_eq!((out.status, out.header(SET_COOKIE.as_str())), (303, ""));
    // A program on another port of this host has set a cookie of the same name.
    let planted =
        http().get(format!("{operator}/admin")).header(COOKIE, format!("gateway_admin=x; {}", browser.cookie));
    assert!(Answer::to(planted).await.text().contains("Client keys"));
    // A proxy asks for a password of its own.
    for _ in 0..8 {
        let listed = browser.request(Method::GET, "/admin/keys").header("authorization", "Basic dXNlcjpwYXNz");
        assert_eq!(Answer::to(listed).await.status, 200);
        let alone = http().get(format!("{operator}/admin/keys")).header("authorization", "Basic dXNlcjpwYXNz");
        Answer::to(alone).await.is_refused(401, "missing_admin_token");
    }
    assert_eq!(admin.get("/admin/keys").await.status, 200, "no guesses");
    let metrics = gateway.page("/metrics").await.1;
    assert!(metrics.contains("gptproto_gateway_admin_attempts_total{outcome=\"logged_in\"} 1"), "{metrics}");
}

#[tokio::test]
async fn the_page_does_everything_by_forms_without_a_script() {
    let (upstream, gateway, admin) = administrated(&[]).await;
    upstream.fault("submit", "drop_after", 1).await;
    gateway.alice().edit(&Edit::new("lost")).await.is_refused(502, "submission_outcome_unknown");
    let browser = Browser::logged_in(&gateway.operator(), "").await;
    let purchase = admin.list("/admin/purchases").await[0]["id"].as_str().unwrap().to_owned();
    assert!(browser.page().await.contains(&purchase));

    let made = browser.form(&[("action", "create"), ("name", "carol"), ("usd_per_day", "2"), ("expires", "30d")]).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.text().split("class=new-key>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(gateway.client(&key).get("/v1/models").await.status, 200);
    assert!(!browser.page().await.contains(&key), "shown once");
    let id = admin.list("/admin/keys").await[2]["id"].as_str().unwrap().to_owned();
    let changed = browser.form(&[("action", "update"), ("id", &id), ("usd_per_day", "3.5"), ("expires", "")]).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let listed = admin.list("/admin/keys").await;
    assert_eq!((&listed[2]["limits"]["usd_per_day"], &listed[2]["expires"]), (&json!(3.5), &Value::Null));
    let rotated = browser.form(&[("action", "rotate"), ("id", &id), ("grace", "0s")]).await;
    assert_eq!(rotated.status, 201);
    gateway.client(&key).get("/v1/models").await.is_refused(401, "invalid_api_key");
    let new = admin.list("/admin/keys").await[3]["id"].as_str().unwrap().to_owned();
    assert_eq!(browser.form(&[("action", "revoke"), ("id", &new)]).await.status, 200);
    assert_eq!(browser.form(&[("action", "revoke"), ("id", &new)]).await.status, 409);

    assert_eq!(browser.form(&[("action", "account"), ("name", "default"), ("what", "pause")]).await.status, 200);
    gateway.alice().edit(&Edit::new("lost")).await.is_refused(502, "submission_outcome_unknown");
    let decided = browser.form(&[("action", "resolve"), ("id", &purchase), ("decision", "lost")]).await;
    assert_eq!(decided.status, 200, "{}", decided.text());
    gateway.alice().edit(&Edit::new("lost")).await.is_refused(503, "model_unavailable");
    assert_eq!(browser.form(&[("action", "account"), ("name", "default"), ("what", "resume")]).await.status, 200);
    gateway.alice().edit(&Edit::new("lost")).await.picture();
    let twice =
        admin.send(Method::POST, &format!("/admin/purchases/{purchase}/resolve"), json!({"decision": "lost"})).await;
    assert!([200, 409].contains(&twice.status), "{}", twice.text());
    assert_eq!(browser.form(&[("action", "account"), ("name", "default"), ("what", "forget")]).await.status, 200);
    assert_eq!(browser.form(&[("action", "reload")]).await.status, 422, "this one has no file to read");
    assert_eq!(browser.form(&[("action", "explode")]).await.status, 404);
    let page = browser.page().await;
    for action in
        ["key.created", "key.rotated", "key.revoked", "account.paused", "purchase.resolved", "account.forgotten"]
    {
        assert!(page.contains(action), "{action}");
    }
}

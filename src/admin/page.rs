//! The page of the administration as HTML, complete without a script. Every text that comes from outside of this file is escaped.

use std::fmt::Write;

use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};

use super::UnknownPurchase;
use super::keys::{KeyView, LimitsView};
use crate::config::{Secret, WEIGHT_DEFAULT};
use crate::model::{AccountId, Timestamp};
use crate::storage::clients::{AuditLine, StoredClient};
use crate::web::assets::restrict_page;
use crate::web::escape::escaped;

/// As that of other pages; besides, its forms go to its own origin.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'",
);

/// What a form did.
pub(super) struct Outcome {
    pub(super) status: StatusCode,
    pub(super) text: String,
    /// The key that was made.
    pub(super) key: Option<Secret>,
}

/// What the page shows.
pub(super) struct PageContent {
    pub(super) keys: Vec<KeyView>,
    pub(super) purchases: Vec<UnknownPurchase>,
    pub(super) accounts: Vec<(AccountId, bool)>,
    pub(super) audit: AuditPage,
    /// Ids of all models.
    pub(super) models: Vec<String>,
}

/// Some lines of the audit.
pub(super) struct AuditPage {
    pub(super) lines: Vec<AuditLine>,
    /// The last line, where there are older ones.
    pub(super) older: Option<i64>,
}

/// Returns the page of the login, with what was wrong with the last one.
pub(super) fn login(status: StatusCode, problem: Option<&str>) -> Response {
    let problem = problem
        .map_or_else(String::new, |problem| format!("<p class=\"note bad\" role=alert>{}</p>", escaped(problem)));
    let body = format!(
        "<main class=\"page login\"><div class=\"card stack\"><h1>Administration</h1>{problem}\
         <form method=post action=/admin/login class=stack><div class=field><label for=token>Admin token</label>\
         <input id=token name=token type=password autocomplete=current-password required autofocus>\
         <p class=hint>The text of <code>GATEWAY_ADMIN_TOKEN</code>.</p></div>\
         <button class=primary>Log in</button></form></div></main>"
    );
    page(status, "Log in", &body)
}

/// Returns the page that says how the administration is switched on.
pub(super) fn off(message: &str) -> Response {
    let body = format!(
        "<main class=\"page login\"><div class=\"card stack\"><h1>Administration</h1><p>{}</p></div></main>",
        escaped(message)
    );
    page(StatusCode::NOT_FOUND, "Administration", &body)
}

/// Returns the whole page: what a form did, and the content, or why it cannot be read.
pub(super) fn whole(
    csrf: &str,
    outcome: Option<&Outcome>,
    content: Result<&PageContent, (StatusCode, &str)>,
) -> Response {
    let mut body = String::with_capacity(64 * 1024);
    let form = Form { csrf };
    let _ = write!(
        body,
        "<header class=bar><h1><img src=/admin/web/icon.svg alt=\"\">Administration</h1>\
         <nav aria-label=Pages><a href=/>Dashboard</a></nav><div class=end>{}<button class=small>Log out</button></form></div>\
         </header><main class=\"page stack\">",
        form.begin("/admin/logout", "logout", "")
    );
    if let Some(Outcome { status, text, key }) = outcome {
        let (class, role) = if status.is_success() { ("good", "status") } else { ("bad", "alert") };
        let _ = write!(body, "<div class=\"note {class}\" role={role}><p>{}</p>", escaped(text));
        if let Some(key) = key {
            let _ = write!(
                body,
                "<p class=row><code id=new-key class=new-key>{}</code><button type=button class=small data-copy=new-key hidden>Copy key\
                 </button><span data-copied role=status></span></p>",
                escaped(key.expose())
            );
        }
        body.push_str("</div>");
    }
    match content {
        Ok(content) => form.content(&mut body, content),
        Err((_, problem)) => {
            let _ = write!(
                body,
                "<p class=\"note bad\" role=alert>{}</p><p><a href=/admin>Load this page again</a></p>",
                escaped(problem)
            );
        }
    }
    body.push_str("</main>");
    let status = content.map_or_else(|(status, _)| status, |_| StatusCode::OK);
    page(outcome.map_or(status, |outcome| outcome.status), "Administration", &body)
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>{title} · gptproto-gateway</title><link rel=icon href=/admin/web/icon.svg>\
         <link rel=stylesheet href=/admin/web/style.css><link rel=stylesheet href=/admin/web/admin.css>\
         <script type=module src=/admin/web/admin.js></script></head><body>{body}</body></html>"
    );
    let mut response = (status, Html(html)).into_response();
    let headers = response.headers_mut();
    restrict_page(headers);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    // Without a referrer, browsers send `Origin: null` with the forms of the page, which are then not known from those of others.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// Writes forms of one session.
struct Form<'a> {
    csrf: &'a str,
}

impl Form<'_> {
    /// Returns the beginning of a form that has an action done, with hidden fields that are given as HTML.
    fn begin(&self, address: &str, action: &str, hidden: &str) -> String {
        format!(
            "<form method=post action={address} class=inline><input type=hidden name=csrf value={}>\
             <input type=hidden name=action value={action}>{hidden}",
            self.csrf
        )
    }

    fn content(&self, body: &mut String, content: &PageContent) {
        self.keys(body, &content.keys);
        self.new_key(body, &content.models);
        self.purchases(body, &content.purchases);
        self.accounts(body, &content.accounts);
        let _ = write!(
            body,
            "<section class=\"card stack\" aria-labelledby=reload><h2 id=reload>Configuration</h2><p>Reads the configuration file and the \
             files of keys again. A file that cannot be used changes nothing.</p>{}<button>Reload configuration</button></form></section>",
            self.begin("/admin/form", "reload", "")
        );
        audit(body, &content.audit);
    }

    fn keys(&self, body: &mut String, keys: &[KeyView]) {
        body.push_str(
            "<section class=\"card stack\" aria-labelledby=keys><h2 id=keys>Client keys</h2><div class=scroll tabindex=0 role=group \
             aria-labelledby=keys><table><thead><tr><th scope=col>Client<th scope=col>Key<th scope=col>State<th scope=col>Created\
             <th scope=col>Last used<th scope=col>Ends<th scope=col class=number>Today<th scope=col class=number>This month\
             <th scope=col>Limits<th scope=col>Actions</tr></thead><tbody>",
        );
        for key in keys {
            let badge = match key.status {
                "active" => "good",
                "rotated" => "warn",
                _ => "bad",
            };
            let prefix = key.prefix.as_ref().map_or_else(
                || "<span class=muted>configuration</span>".to_owned(),
                |prefix| format!("<code>{}…</code>", escaped(prefix)),
            );
            let ends = [key.expires, key.grace_ends].into_iter().flatten().min();
            let _ = write!(
                body,
                "<tr><th scope=row>{}<td>{prefix}<td><span class=\"badge {badge}\">{}</span><td>{}<td>{}<td>{}<td class=number>${:.4}\
                 <td class=number>${:.4}<td>{}<td>{}</tr>",
                escaped(&key.name),
                key.status,
                time(key.created),
                time(key.last_used),
                time(key.revoked.or(ends)),
                key.spent.usd_today,
                key.spent.usd_this_month,
                limits(&key.limits, key.models.as_deref()),
                self.actions(key),
            );
        }
        body.push_str("</tbody></table></div>");
        if keys.is_empty() {
            body.push_str("<p class=muted>There are no keys yet: make one below.</p>");
        }
        body.push_str("</section>");
    }

    fn actions(&self, key: &KeyView) -> String {
        let is_valid = matches!(key.status, "active" | "rotated");
        if key.source == "configuration" {
            return "<span class=\"muted small\">in the configuration</span>".to_owned();
        }
        if !is_valid {
            return String::new();
        }
        let (id, name) = (escaped(&key.id), escaped(&key.name));
        let hidden = format!("<input type=hidden name=id value=\"{id}\">");
        let about = format!("<span class=visually-hidden> {name}, key {id}</span>");
        let ends = key.expires.map(rfc3339).unwrap_or_default();
        let change = format!(
            "<details><summary>Change{about}</summary>{}{}<button class=primary>Save{about}</button></form></details>",
            self.begin("/admin/form", "update", &hidden).replace("class=inline", "class=\"stack terms\""),
            terms(&key.id, key.own.as_ref(), Some(&key.limits), &ends)
        );
        let rotate = format!(
            "<details><summary>Rotate{about}</summary>{}<div class=field><label for=\"grace-{id}\">The old key stays valid for</label>\
             <select id=\"grace-{id}\" name=grace><option value=0s>no time<option value=1h selected>1 hour<option value=1d>1 day\
             <option value=7d>7 days</select></div><button>New key{about}</button></form></details>",
            self.begin("/admin/form", "rotate", &hidden).replace("class=inline", "class=stack")
        );
        let revoke = format!(
            "<details><summary>Revoke{about}</summary><p class=small>It is refused at once. Jobs that are under way finish and stay in the \
             ledger.</p>{}<button class=danger>Revoke key{about}</button></form></details>",
            self.begin("/admin/form", "revoke", &hidden)
        );
        format!("{change}{rotate}{revoke}")
    }

    fn new_key(&self, body: &mut String, models: &[String]) {
        let _ = write!(
            body,
            "<section class=\"card stack\" aria-labelledby=new><h2 id=new>New key</h2><p class=muted>Empty limits are those of \
             <code>[limits]</code>; 0 is no limit. Models: {}.</p>{}<div class=field><label for=name>Client name</label>\
             <input id=name name=name required maxlength=64 pattern=\"[A-Za-z0-9_.@\\-]+\" autocomplete=off>\
             <p class=hint>Letters, digits and - _ . @</p></div>{}<button class=primary>Create key</button></form></section>",
            escaped(&models.join(", ")),
            self.begin("/admin/form", "create", "").replace("class=inline", "class=\"stack terms\""),
            terms("new", None, None, ""),
        );
    }

    fn purchases(&self, body: &mut String, purchases: &[UnknownPurchase]) {
        body.push_str("<section class=\"card stack\" aria-labelledby=purchases><h2 id=purchases>Purchases of unknown outcome</h2>");
        if purchases.is_empty() {
            body.push_str("<p class=muted>None: every purchase has a known outcome.</p></section>");
            return;
        }
        body.push_str(
            "<p>The answer to their submits was lost, so they may have been paid. Compare them with the usage list of GPTProto, then \
             decide. After each decision the same request may buy again.</p><div class=scroll tabindex=0 role=group \
             aria-labelledby=purchases><table><thead><tr><th scope=col>Purchase<th scope=col>Client<th scope=col>Model\
             <th scope=col>Created<th scope=col>Decision</tr></thead><tbody>",
        );
        for purchase in purchases {
            let hidden = format!("<input type=hidden name=id value=\"{}\">", escaped(&purchase.id));
            let about = format!("<span class=visually-hidden>: {}</span>", escaped(&purchase.id));
            let _ = write!(
                body,
                "<tr><th scope=row><code>{}</code><td>{}<td>{}<td>{}<td>{}<button class=small name=decision value=lost>It was not bought\
                 {about}</button><button class=small name=decision value=bought>It was bought{about}</button>\
                 <button class=small name=decision value=resubmit>Unclear, buy again{about}</button></form></tr>",
                escaped(&purchase.id),
                escaped(&purchase.client),
                escaped(&purchase.model),
                time(Some(purchase.created)),
                self.begin("/admin/form", "resolve", &hidden),
            );
        }
        body.push_str("</tbody></table></div></section>");
    }

    fn accounts(&self, body: &mut String, accounts: &[(AccountId, bool)]) {
        body.push_str(
            "<section class=\"card stack\" aria-labelledby=accounts><h2 id=accounts>Accounts at GPTProto</h2><div class=scroll tabindex=0 \
             role=group aria-labelledby=accounts><table><thead><tr><th scope=col>Account<th scope=col>State<th scope=col>Actions</tr>\
             </thead><tbody>",
        );
        for (account, paused) in accounts {
            let name = escaped(&account.0);
            let hidden = format!("<input type=hidden name=name value=\"{name}\">");
            let about = format!("<span class=visually-hidden> {name}</span>");
            let (badge, state, what, verb) =
                if *paused { ("warn", "paused", "resume", "Resume") } else { ("good", "in use", "pause", "Pause") };
            let _ = write!(
                body,
                "<tr><th scope=row>{name}<td><span class=\"badge {badge}\">{state}</span><td>{}<button class=small name=what value={what}>\
                 {verb}{about}</button><button class=small name=what value=forget>Forget what was learned{about}</button></form></tr>",
                self.begin("/admin/form", "account", &hidden),
            );
        }
        body.push_str("</tbody></table></div></section>");
    }
}

/// Returns the fields of a client's terms: what it has of its own, and in an empty field what is in force. `of` makes their ids unique;
/// `shown` is `None` for a client that is to be made.
fn terms(of: &str, own: Option<&StoredClient>, shown: Option<&LimitsView>, expires: &str) -> String {
    let of = escaped(of);
    let field = |name: &str, label: &str, kind: &str, (value, empty): (String, String)| {
        format!(
            "<div class=field><label for=\"{name}-{of}\">{label}</label><input id=\"{name}-{of}\" name={name} {kind} value=\"{}\" \
             placeholder=\"{}\" autocomplete=off></div>",
            escaped(&value),
            escaped(&empty)
        )
    };
    let limits = own.map(|own| own.limits).unwrap_or_default();
    let empty = |in_force: Option<String>| match (shown, in_force) {
        (None, _) => "as [limits] says".to_owned(),
        (Some(_), None) => "no limit".to_owned(),
        (Some(_), Some(limit)) => limit,
    };
    let in_force = shown.copied().unwrap_or_default();
    let count = |own: Option<u32>, in_force: Option<u32>| {
        (own.map(|own| own.to_string()).unwrap_or_default(), empty(in_force.map(|limit| limit.to_string())))
    };
    let money = |own: Option<f64>, in_force: Option<f64>| {
        (own.map(|own| own.to_string()).unwrap_or_default(), empty(in_force.map(|limit| limit.to_string())))
    };
    let weight = own.and_then(|own| own.weight).map(|weight| weight.to_string()).unwrap_or_default();
    let models =
        own.and_then(|own| own.models.as_ref()).map(|models| models.iter().cloned().collect::<Vec<_>>().join(", "));
    let (whole, dollars) = ("type=number min=0 step=1", "type=number min=0 step=any");
    let fields = [
        ("requests_per_minute", "Requests per minute", count(limits.requests_per_minute, in_force.requests_per_minute)),
        ("requests_at_once", "Requests at once", count(limits.requests_at_once, in_force.requests_at_once)),
        ("predictions_at_once", "Predictions at once", count(limits.predictions_at_once, in_force.predictions_at_once)),
        ("pictures_per_day", "Pictures per day", count(limits.pictures_per_day, in_force.pictures_per_day)),
    ]
    .map(|(name, label, texts)| field(name, label, whole, texts))
    .into_iter()
    .chain([
        field("usd_per_day", "US dollars per day", dollars, money(limits.usd_per_day, in_force.usd_per_day)),
        field("usd_per_month", "US dollars per month", dollars, money(limits.usd_per_month, in_force.usd_per_month)),
        field("weight", "Weight in the queue", dollars, (weight, WEIGHT_DEFAULT.to_string())),
        field("models", "Models (empty: all)", "type=text", (models.unwrap_or_default(), String::new())),
        field("expires", "Ends (a date, or 30d)", "type=text", (expires.to_owned(), String::new())),
    ]);
    let fields: Vec<String> = fields.collect();
    format!("<div class=fields>{}</div>", fields.concat())
}

fn limits(limits: &LimitsView, models: Option<&[String]>) -> String {
    let text = limits.text(models);
    format!("<span class=small>{}</span>", escaped(&text))
}

fn audit(body: &mut String, audit: &AuditPage) {
    body.push_str(
        "<section class=\"card stack\" aria-labelledby=audit><h2 id=audit>Audit</h2><div class=scroll tabindex=0 role=group \
         aria-labelledby=audit><table><thead><tr><th scope=col>Time<th scope=col>By<th scope=col>Action<th scope=col>Subject\
         <th scope=col>Change</tr></thead><tbody>",
    );
    for line in &audit.lines {
        let _ = write!(
            body,
            "<tr><td>{}<td>{}<td>{}<td><code>{}</code><td><code class=change>{}</code></tr>",
            time(Some(line.at.seconds())),
            escaped(&line.actor),
            escaped(&line.action),
            escaped(&line.subject),
            escaped(&line.change.to_string()),
        );
    }
    body.push_str("</tbody></table></div>");
    if audit.lines.is_empty() {
        body.push_str("<p class=muted>Nothing was changed yet.</p>");
    }
    if let Some(older) = audit.older {
        let _ = write!(body, "<p><a href=\"/admin?before={older}#audit\">Older lines</a></p>");
    }
    body.push_str("</section>");
}

fn rfc3339(seconds: i64) -> String {
    Timestamp::from_millis(seconds.saturating_mul(1000)).to_string()
}

/// Returns a time, which a script shows by the clock of the reader.
fn time(seconds: Option<i64>) -> String {
    let Some(seconds) = seconds else { return "–".to_owned() };
    let text = rfc3339(seconds);
    let shown = text.trim_end_matches(".000Z").replace('T', " ");
    format!("<time datetime=\"{text}\">{shown} UTC</time>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Spent;

    const HOSTILE: &str = "<script>alert('x')</script>\"onload=\"y\"&";

    #[tokio::test]
    async fn hostile_texts_are_shown_and_never_markup() {
        let key = KeyView {
            id: HOSTILE.to_owned(),
            object: "client_key",
            name: HOSTILE.to_owned(),
            prefix: Some(HOSTILE.to_owned()),
            status: "active",
            source: "run_time",
            created: Some(1_790_000_000),
            expires: None,
            grace_ends: None,
            revoked: None,
            last_used: None,
            limits: LimitsView::default(),
            weight: 1.0,
            models: Some(vec![HOSTILE.to_owned()]),
            spent: Spent::default(),
            own: None,
        };
        let purchase = UnknownPurchase {
            id: HOSTILE.to_owned(),
            object: "purchase",
            client: HOSTILE.to_owned(),
            model: HOSTILE.to_owned(),
            created: 1_790_000_000,
            pictures: 1,
        };
        let line = AuditLine {
            id: 1,
            at: Timestamp::from_millis(0),
            actor: HOSTILE.to_owned(),
            action: HOSTILE.to_owned(),
            subject: HOSTILE.to_owned(),
            change: serde_json::json!({ HOSTILE: HOSTILE }),
        };
        let content = PageContent {
            keys: vec![key],
            purchases: vec![purchase],
            accounts: vec![(AccountId(HOSTILE.into()), true)],
            audit: AuditPage { lines: vec![line], older: Some(1) },
            models: vec![HOSTILE.to_owned()],
        };
        let outcome = Outcome {
            status: StatusCode::BAD_REQUEST,
            text: HOSTILE.to_owned(),
            key: Some(Secret::new(HOSTILE.to_owned())),
        };
        for response in [
            whole("0123", Some(&outcome), Ok(&content)),
            whole("0123", Some(&outcome), Err((StatusCode::SERVICE_UNAVAILABLE, HOSTILE))),
            login(StatusCode::UNAUTHORIZED, Some(HOSTILE)),
            off(HOSTILE),
        ] {
            assert_eq!(response.headers()[REFERRER_POLICY], "same-origin");
            let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
            assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let html = String::from_utf8(body.to_vec()).unwrap();
            assert!(
                !html.contains("<script>") && !html.contains("\"onload") && html.contains("&lt;script&gt;"),
                "{html}"
            );
            assert!(!html.contains(" style=") && !html.contains(" onclick"), "as the policy demands");
        }
    }
}

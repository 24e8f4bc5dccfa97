//! HTTP to a vector database: JSON there and back, bounded in time, tried again where that may help.
//!
//! Everything a tier asks for is idempotent, so whatever failed on the way is simply asked again. Keys
//! never show: not in `Debug`, not in errors, and no redirect is followed with them.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, header};
use ureq::{Agent, Body};

use super::cold::failed;
use crate::model::{Error, Result};

/// Longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 64 << 20;
/// Longest part of an answer that an error quotes, in characters.
const QUOTE_MAX: usize = 300;
/// Tries of one call.
const TRIES_MAX: u32 = 5;

/// A key that shows nowhere.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// As the value of `Authorization`.
    pub(super) fn bearer(&self) -> Self {
        Self(format!("Bearer {}", self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where a database is, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `https://host:port`, perhaps with a path.
    pub url: String,
    pub key: Option<Secret>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Longest wait for a write with all its tries, up to the begin of the last one.
    pub patience: Duration,
    /// Pause before the second try; doubled before each further one.
    pub backoff: Duration,
}

impl Remote {
    /// A database with the usual bounds: 10 s for an answer, 30 s with all tries.
    pub fn new(url: impl Into<String>, key: Option<Secret>) -> Self {
        Self {
            url: url.into(),
            key,
            timeout: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            backoff: Duration::from_millis(200),
        }
    }
}

/// What came back: a success, or a status that means something to the caller.
pub(super) struct Reply {
    pub status: u16,
    pub json: Value,
}

/// A connection to one database.
#[derive(Debug)]
pub(super) struct Http {
    /// Name of the tier, for errors.
    tier: String,
    remote: Remote,
    agent: Agent,
    headers: Vec<(&'static str, Secret)>,
}

/// Why a try failed.
enum Trouble {
    /// Perhaps it helps to ask again, after this long if the server said so.
    Passing(String, Option<Duration>),
    Lasting(String),
}

impl Http {
    /// # Errors
    /// `memory.tier` where the URL is none, or carries a password.
    pub(super) fn new(
        tier: &str,
        remote: Remote,
        headers: Vec<(&'static str, Secret)>,
    ) -> Result<Self> {
        let host = remote.url.split_once("://").filter(|it| matches!(it.0, "http" | "https"));
        let host = host.and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        if host.is_empty() || host.contains(['@', '?', '#', ' ']) {
            return Err(failed(tier, "its url is no http(s)://host:port without a password"));
        }
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_here = name == "localhost" || name == "[::1]" || name.starts_with("127.");
        let config = Agent::config_builder();
        // Proxies of the environment are for elsewhere.
        let config = if is_here { config.proxy(None) } else { config };
        let config = config
            .timeout_global(Some(remote.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .user_agent("goclaw")
            .build();
        let remote = Remote { url: remote.url.trim_end_matches('/').to_owned(), ..remote };
        Ok(Self { tier: tier.to_owned(), remote, agent: config.into(), headers })
    }

    /// Writes: asks until there is an answer, the patience is over or asking again cannot help. Statuses
    /// in `known` are answers too.
    pub(super) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&str>,
        known: &[u16],
    ) -> Result<Reply> {
        self.ask(&method, path, body, known, self.remote.patience)
    }

    /// Reads: somebody waits for the answer, so all tries take no longer than one may.
    pub(super) fn look(
        &self,
        method: Method,
        path: &str,
        body: Option<&str>,
        known: &[u16],
    ) -> Result<Reply> {
        self.ask(&method, path, body, known, self.remote.patience.min(self.remote.timeout))
    }

    fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&str>,
        known: &[u16],
        patience: Duration,
    ) -> Result<Reply> {
        let begun = Instant::now();
        let mut pause = self.remote.backoff;
        for tried in 1.. {
            let (what, asked) = match self.once(method, path, body, known) {
                Ok(reply) => return Ok(reply),
                Err(Trouble::Lasting(what)) => return Err(self.failed(method, path, &what)),
                Err(Trouble::Passing(what, asked)) => (what, asked),
            };
            let wait = asked.unwrap_or(pause);
            let left = patience.saturating_sub(begun.elapsed());
            if tried >= TRIES_MAX || wait >= left {
                let what = format!("{what}, after {tried} tries");
                return Err(self.failed(method, path, &what));
            }
            tracing::debug!(target: "goclaw.memory", tier = %self.tier, "asked again: {what}");
            std::thread::sleep(wait);
            pause *= 2;
        }
        unreachable!("it ends with an answer or the last try")
    }

    fn failed(&self, method: &Method, path: &str, what: &str) -> Error {
        let path = path.split('?').next().unwrap_or_default();
        failed(&self.tier, format!("{method} {path}: {what}"))
    }

    fn once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&str>,
        known: &[u16],
    ) -> Result<Reply, Trouble> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.remote.url))
            .header(header::ACCEPT, "application/json");
        for (name, value) in &self.headers {
            request = request.header(*name, &value.0);
        }
        let lasting = |what: &dyn fmt::Display| Trouble::Lasting(what.to_string());
        let sent = match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
                self.agent.run(request.map_err(|e| lasting(&e))?)
            }
            None => self.agent.run(request.body(()).map_err(|e| lasting(&e))?),
        };
        let mut response = sent.map_err(trouble)?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
        let text = text.map_err(trouble)?;
        if status.is_success() || known.contains(&status.as_u16()) {
            let json =
                if text.trim().is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
            return match json {
                Ok(json) => Ok(Reply { status: status.as_u16(), json }),
                Err(_) if !status.is_success() => {
                    Ok(Reply { status: status.as_u16(), json: Value::Null })
                }
                Err(error) => Err(Trouble::Lasting(format!("answered no JSON: {error}"))),
            };
        }
        let quote: String = text.chars().take(QUOTE_MAX).collect();
        let what = format!("answered {status}: {}", quote.trim());
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(Trouble::Passing(what, retry_after(&response)))
            }
            StatusCode::REQUEST_TIMEOUT => Err(Trouble::Passing(what, None)),
            _ if status.is_server_error() => Err(Trouble::Passing(what, None)),
            _ => Err(Trouble::Lasting(what)),
        }
    }
}

fn trouble(error: ureq::Error) -> Trouble {
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::ConnectionFailed
        | ureq::Error::HostNotFound
        | ureq::Error::Protocol(_) => Trouble::Passing(error.to_string(), None),
        error => Trouble::Lasting(error.to_string()),
    }
}

/// The pause that a server asks for, in seconds; a date in its place counts as none.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let asked = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    asked.trim().parse().ok().map(Duration::from_secs)
}

/// Joins JSON texts to lists of at most `count` items and about `bytes` bytes.
pub(super) fn lists(items: Vec<String>, count: usize, bytes: usize) -> Vec<String> {
    let mut lists = Vec::new();
    let (mut list, mut len) = (String::new(), 0);
    for item in items {
        if len > 0 && (len >= count || list.len() + item.len() > bytes) {
            lists.push(std::mem::take(&mut list));
            len = 0;
        }
        if len > 0 {
            list.push(',');
        }
        list.push_str(&item);
        len += 1;
    }
    if len > 0 {
        lists.push(list);
    }
    lists
}

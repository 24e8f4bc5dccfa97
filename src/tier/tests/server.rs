//! A small HTTP/1.1 server for tests: keeps connections, answers what a function says, and fails on demand.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub method: String,
    /// Without what follows a question mark.
    pub path: String,
    /// Names and values behind the question mark.
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
    pub(super) fn json(&self) -> Result<Value, Answer> {
        serde_json::from_str(&self.body)
            .map_err(|e| Answer::new(400, json!({"error": e.to_string()})))
    }
    pub(super) fn asks(&self, name: &str) -> Vec<&str> {
        let of = self.query.iter().filter(|(own, _)| own == name);
        of.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string() }
    }
    pub(super) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }
}

/// What happens to the next request in place of its answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Answer(Answer),
    /// It is carried out, and the connection closed without an answer.
    Lost,
    /// The connection stays open, and nothing comes.
    Silent,
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    faults: Mutex<VecDeque<Fault>>,
    asked: Mutex<Vec<Asked>>,
    closed: AtomicBool,
}

/// Listens until it is dropped.
pub(super) struct Server {
    pub url: String,
    shared: Arc<Shared>,
}

impl Server {
    pub(super) fn new(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            faults: Mutex::default(),
            asked: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.closed.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&own);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, shared }
    }

    pub(super) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().expect("sound").extend(faults);
    }

    /// Faults that no request has met yet.
    pub(super) fn faults_left(&self) -> usize {
        self.shared.faults.lock().expect("sound").len()
    }

    /// The requests since the last call.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.asked.lock().expect("sound"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut writer = stream;
    // Whatever waits for an answer that never comes keeps its connection.
    let mut kept = Vec::new();
    while let Some(asked) = read(&mut reader) {
        shared.asked.lock().expect("sound").push(asked.clone());
        let fault = shared.faults.lock().expect("sound").pop_front();
        let answer = match fault {
            Some(Fault::Answer(answer)) => answer,
            Some(Fault::Lost) => {
                (shared.handler)(&asked);
                return;
            }
            Some(Fault::Silent) => {
                kept.push(asked);
                continue;
            }
            None => (shared.handler)(&asked),
        };
        let mut head = format!("HTTP/1.1 {} Said\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", answer.body.len()));
        let whole = [head.as_bytes(), answer.body.as_bytes()].concat();
        if writer.write_all(&whole).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let line = |reader: &mut dyn BufRead| {
        let mut line = String::new();
        let len = reader.read_line(&mut line).ok()?;
        (len > 0).then(|| line.trim_end().to_owned())
    };
    let first = line(reader)?;
    let mut parts = first.split(' ');
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let next = line(reader)?;
        let Some((name, value)) = next.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |pair: &str| pair.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let mut asked = Asked {
        method,
        path: path.to_owned(),
        query: query.split('&').filter_map(pair).collect(),
        headers,
        body: String::new(),
    };
    let len = asked.header("content-length").map_or(0, |len| len.parse().expect("a length"));
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).expect("a body is text");
    Some(asked)
}

/// Refuses fields that an object does not have, and misses those that it must have.
pub(super) fn fields<'a>(
    value: &'a Value,
    must: &[&str],
    may: &[&str],
) -> Result<&'a serde_json::Map<String, Value>, String> {
    let object = value.as_object().ok_or_else(|| format!("{value} is no object"))?;
    if let Some(missing) = must.iter().find(|name| !object.contains_key(**name)) {
        return Err(format!("missing field `{missing}`"));
    }
    let known = |name: &&String| must.contains(&name.as_str()) || may.contains(&name.as_str());
    match object.keys().find(|name| !known(name)) {
        Some(name) => Err(format!("unknown field `{name}`")),
        None => Ok(object),
    }
}

/// A list of finite numbers.
pub(super) fn numbers(value: &Value) -> Result<Vec<f32>, String> {
    let list = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
    let number = |value: &Value| value.as_f64().filter(|n| n.is_finite()).map(|n| n as f32);
    list.iter().map(number).collect::<Option<_>>().ok_or_else(|| "not all numbers".into())
}

pub(super) fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{value} is no text"))
}

pub(super) fn texts(value: &Value) -> Result<Vec<&str>, String> {
    let list = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
    list.iter().map(text).collect()
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

//! What the clients make of servers that fail, stall and lie.

use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Answer, Fault, Server};
use super::*;
use crate::tier::Qdrant;

fn tier(server: &Server, change: impl FnOnce(&mut Remote)) -> Qdrant {
    let mut remote = remote(&server.url);
    change(&mut remote);
    Qdrant::new("q", remote, "goclaw").expect("a tier")
}

fn saying(status: u16) -> Answer {
    Answer::new(status, json!({"status": {"error": "not now"}}))
}

fn counts(count: u64) -> Server {
    Server::new(move |_| Answer::ok(json!({"result": {"count": count}, "status": "ok"})))
}

#[test]
fn what_may_pass_is_asked_again() {
    let server = counts(3);
    let tier = tier(&server, |_| ());
    for status in [429, 500, 502, 503, 504, 408] {
        server.fail([Fault::Answer(saying(status)), Fault::Lost]);
        assert_eq!(tier.count("s").expect("the third try"), 3);
        assert_eq!(server.asked().len(), 3, "{status}");
    }
}

#[test]
fn what_will_not_pass_is_asked_once() {
    let server = counts(3);
    let tier = tier(&server, |_| ());
    for status in [400, 401, 403, 409, 413, 302] {
        server.fail([Fault::Answer(saying(status))]);
        assert!(code(tier.count("s")).contains(&status.to_string()));
        assert_eq!(server.asked().len(), 1, "{status}");
    }
    server.fail([Fault::Answer(Answer { body: "<html>".into(), ..saying(200) })]);
    assert!(code(tier.count("s")).contains("no JSON"));
}

#[test]
fn tries_end() {
    let server = counts(3);
    let tier = tier(&server, |_| ());
    server.fail(std::iter::repeat_n(Fault::Answer(saying(503)), 20));
    let message = code(tier.count("s"));
    assert!(message.contains("503") && message.contains("after 5 tries"), "{message}");
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn retry_after_is_followed_unless_it_is_too_long() {
    let server = counts(3);
    let asks = |seconds: &str| {
        let headers = vec![("Retry-After", seconds.to_owned())];
        Fault::Answer(Answer { headers, ..saying(429) })
    };
    let patient = tier(&server, |remote| remote.backoff = Duration::from_secs(3_600));
    server.fail([asks("0")]);
    assert_eq!(patient.count("s").expect("at once, whatever the usual pause"), 3);
    server.asked();
    // An hour is more than anybody waits here: told at once, not tried again.
    server.fail([asks("3600")]);
    assert!(code(patient.count("s")).contains("429"));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_silent_server_is_given_up() {
    let server = counts(3);
    server.fail(std::iter::repeat_n(Fault::Silent, 20));
    let tier = tier(&server, |remote| {
        remote.timeout = Duration::from_millis(30);
    });
    let begun = Instant::now();
    assert!(code(tier.count("s")).contains("timeout"));
    // The bound is thirty milliseconds, twice at most; a machine that is far behind may take seconds.
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn nobody_there_is_told() {
    let url = counts(0).url.clone();
    let gone = Qdrant::new("q", remote(&url), "goclaw").expect("a tier");
    assert!(code(gone.health()).contains("after"));
}

#[test]
fn no_key_shows_and_no_password_is_taken() {
    let server = counts(0);
    let tier = tier(&server, |_| ());
    assert!(!format!("{tier:?}").contains(KEY));
    for url in ["https://user:pass@host", "host:6333", "ftp://host", "https://", "http://h?x=1"] {
        let made = Qdrant::new("q", Remote::new(url, None), "goclaw");
        let message = made.expect_err("a refusal").message;
        assert!(!message.contains("pass@"), "{message}");
    }
}

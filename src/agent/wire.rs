//! What an engine and its worker processes say to each other: frames on a socket.
//!
//! A frame is a length (`u32`, little endian) and that many bytes of MessagePack with field
//! names, since nouns leave fields out that say nothing. Nothing here reads or writes a socket: [`seal`] makes bytes,
//! [`Framer`] makes frames of whatever bytes came.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Letter, Report, Rung};
use crate::model::{Failure, LaneCard, Millis, Payload, RunId, Span, Task, Timestamp};

/// Nodes that a worker keeps, the latest ones. Both ends count alike, so nobody says "forget".
pub const NODES_KEPT: usize = 32;
/// Length of the length.
const HEAD: usize = 4;

/// How a worker finds an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Recipe {
    /// It lies under this path of a module.
    Import { module: String, path: String },
    /// It was pickled by value, for functions of notebooks; `hash` tells one version from the next.
    Pickle { hash: String, bytes: Payload },
}

/// What the calls of one node share, in a form that leaves the process: arguments are values.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    pub run: RunId,
    pub workflow: String,
    /// Arguments are literals, or positions in `constants`.
    pub task: Task,
    pub constants: Vec<Payload>,
    /// The run's input, or why it stayed behind.
    pub input: Result<Payload, Box<Failure>>,
    pub trace_id: String,
    pub session: Option<String>,
    pub submitted: Timestamp,
    /// The run's timeout.
    pub timeout_ms: Option<Millis>,
    pub recipe: Recipe,
}

/// A span of calls of a node that the worker was told about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    pub batch: u64,
    pub node: u64,
    pub lo: u32,
    pub len: u32,
    pub attempt: u32,
    pub timeout: Option<Millis>,
    /// Whose budgets it charges.
    pub lane: Option<Arc<LaneCard>>,
    pub rate_key: Option<Arc<str>>,
    /// A map's items of this span alone.
    pub items: Option<Payload>,
    /// Messages to the session so far; `None` without a session.
    pub letters: Option<Vec<Letter>>,
}

/// What a call in a worker asks the engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// A verb of the memory of a session, with its arguments by name (a dict).
    Verb { session: String, verb: String, args: Payload },
    /// What is to be looked up before the call.
    LookUp,
}

/// The engine's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Value(Payload),
    /// It raised: the qualified name of the class, and what it said.
    Refused {
        class: String,
        code: String,
        message: String,
        help: String,
    },
    /// The task fails.
    Failed(Box<Failure>),
}

/// From the engine to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The first frame: what the worker's Python half is set up with, and how values are carried.
    Set {
        setup: String,
        payload_max: u64,
        allow_pickle: bool,
    },
    Node {
        key: u64,
        call: Box<Call>,
    },
    Work(Work),
    /// Messages to the session came, others were withdrawn, while the batch was there.
    Letters {
        batch: u64,
        put: Vec<Letter>,
        withdrawn: Vec<RunId>,
    },
    /// The answer to `News::Ask` of that number.
    Answer {
        number: u64,
        answer: Answer,
    },
    /// The batch's run was cancelled: ask the call under way to stop, begin no other.
    Cancel {
        batch: u64,
        rung: Rung,
    },
    /// The batch counts no more: stop the call under way, begin no other.
    Abandon {
        batch: u64,
    },
    /// No more work will come.
    Close,
}

/// From a worker to the engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum News {
    /// The worker takes work.
    Ready,
    Reports(Vec<Report>),
    /// A call under way asks; it waits for the answer of that number.
    Ask {
        batch: u64,
        child: u32,
        number: u64,
        ask: Ask,
    },
    /// The batch's calls have read these letters for the first time.
    LettersRead {
        batch: u64,
        by_run: Vec<RunId>,
    },
    /// Nothing of the batch is left here.
    /// `beats` heartbeats were given meanwhile.
    Rested {
        batch: u64,
        beats: u64,
    },
    /// A record of Python's `logging`.
    Log {
        logger: String,
        level: u8,
        text: String,
        extra: Vec<(String, String)>,
    },
}

/// Takes the calls of `span` that `part` names out of a list of spans.
pub fn settle(open: &mut Vec<Span>, lo: u32, len: u32) {
    let hi = lo.saturating_add(len);
    let mut left = Vec::with_capacity(open.len() + 1);
    for span in open.drain(..) {
        for (from, to) in [(span.lo, span.hi().min(lo)), (span.lo.max(hi), span.hi())] {
            if from < to {
                left.push(Span::new(span.node, from, to - from));
            }
        }
    }
    *open = left;
}

/// A frame's bytes.
///
/// # Errors
/// The value holds a live object, or is longer than a length can say.
pub fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; HEAD];
    rmp_serde::encode::write_named(&mut bytes, value).map_err(|error| error.to_string())?;
    let len = u32::try_from(bytes.len() - HEAD).map_err(|_| "a frame of more than 4 GiB")?;
    bytes[..HEAD].copy_from_slice(&len.to_le_bytes());
    Ok(bytes)
}

/// Puts frames together from bytes as they come.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

impl Framer {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// The bytes are no frame of ours: the other end wrote nonsense.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        let rest = &self.bytes[self.at..];
        let Some((head, rest)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let value = rmp_serde::from_slice(body).map_err(|error| error.to_string())?;
        self.at += HEAD + len;
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Outcome;
    use crate::model::{BatchId, Each, Expr, FailureKind};

    fn reports() -> News {
        let failure = Failure::new(FailureKind::Crash, "task.crash", "gone");
        let outcomes = vec![
            Outcome::Completed(Payload::bytes(vec![7; 300])),
            Outcome::Failed(Box::new(failure.clone())),
            Outcome::Cancelled,
            Outcome::Interrupted,
            Outcome::Returned,
            Outcome::Crashed(Box::new(failure)),
        ];
        let batch = BatchId(u64::MAX);
        News::Reports(vec![
            Report::Done { batch, lo: 3, outcomes, busy_ns: 9 },
            Report::Progress {
                run: RunId::from_u128(u128::MAX - 5),
                span: Span::one(2, 1),
                attempt: 1,
                done: 0.5,
                total: None,
                text: Some("half".into()),
            },
            Report::Waiting { batch, child: 3 },
        ])
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_were_cut() {
        let news = [reports(), News::Ready, News::Rested { batch: 5, beats: 0 }];
        let bytes: Vec<u8> = news.iter().flat_map(|news| seal(news).expect("bytes")).collect();
        for cut in [1, 2, 3, 7, bytes.len()] {
            let mut framer = Framer::default();
            let mut seen = Vec::new();
            for part in bytes.chunks(cut) {
                framer.feed(part);
                while let Some(news) = framer.take::<News>().expect("whole frames") {
                    seen.push(format!("{news:?}"));
                }
            }
            assert_eq!(seen, news.iter().map(|news| format!("{news:?}")).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_task_that_leaves_fields_out_arrives() {
        let each = Each { param: "x".into(), items: Expr::Value(().into()) };
        let task =
            Task { id: "t".into(), each: Some(each), timeout_ms: Some(5), ..Task::default() };
        let call = Call {
            run: RunId::from_u128(7),
            workflow: "w".into(),
            task,
            constants: vec![Payload::bytes(vec![1])],
            input: Err(Box::new(Failure::new(FailureKind::Payload, "payload.unsupported", "no"))),
            trace_id: "0".into(),
            session: None,
            submitted: Timestamp(3),
            timeout_ms: None,
            recipe: Recipe::Import { module: "m".into(), path: "f".into() },
        };
        let order = Order::Node { key: 9, call: Box::new(call) };
        let mut framer = Framer::default();
        framer.feed(&seal(&order).expect("bytes"));
        let back = framer.take::<Order>().expect("a frame").expect("a whole one");
        assert_eq!(format!("{back:?}"), format!("{order:?}"));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut framer = Framer::default();
        framer.feed(&[3, 0, 0, 0, 0xc1, 0xc1, 0xc1]);
        assert!(framer.take::<News>().is_err());
    }

    #[test]
    fn a_live_object_does_not_leave_the_process() {
        #[derive(Debug)]
        struct Thing;
        impl crate::model::Opaque for Thing {
            fn as_any(&self) -> &dyn std::any::Any {
                self
            }
        }
        let outcomes = vec![Outcome::Completed(Payload::Object(std::sync::Arc::new(Thing)))];
        let report = Report::Done { batch: BatchId(1), lo: 0, outcomes, busy_ns: 0 };
        assert!(seal(&News::Reports(vec![report])).is_err());
    }

    #[test]
    fn settled_calls_leave_holes() {
        let mut open = vec![Span::new(4, 10, 10)];
        settle(&mut open, 12, 3);
        assert_eq!(open, [Span::new(4, 10, 2), Span::new(4, 15, 5)]);
        settle(&mut open, 0, 11);
        settle(&mut open, 18, 9);
        assert_eq!(open, [Span::new(4, 11, 1), Span::new(4, 15, 3)]);
        settle(&mut open, 11, 7);
        assert_eq!(open, []);
    }
}

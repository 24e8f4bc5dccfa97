//! What a worker prints: cut into lines, bounded in length and number, its last words kept.

use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::Read;
use std::time::{Duration, Instant};

/// Bytes of one line that are kept; the rest of it is left out.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Lines of one stream that are passed on in a second; the others are counted.
const LINES_PER_SECOND: u32 = 200;
/// Bytes taken at a time, so that one flood does not keep the supervisor from the other workers.
const READ_BYTES: usize = 64 << 10;
/// Last words that a crash is told with.
const TAIL_BYTES_MAX: usize = 2 << 10;
const SECOND: Duration = Duration::from_secs(1);

/// One stream of one worker.
pub(super) struct Lines<R> {
    pub(super) source: R,
    /// The other end is closed.
    pub(super) ended: bool,
    line: Vec<u8>,
    /// The line was too long: what comes up to its end is left out.
    cut: bool,
    since: Instant,
    passed: u32,
    left_out: u64,
    tail: String,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            ended: false,
            line: Vec::new(),
            cut: false,
            since: Instant::now(),
            passed: 0,
            left_out: 0,
            tail: String::new(),
        }
    }

    /// Reads what is there, once.
    pub(super) fn pump(&mut self, mut tell: impl FnMut(&str)) {
        if self.ended {
            return;
        }
        let mut bytes = vec![0; READ_BYTES];
        match self.source.read(&mut bytes) {
            Ok(n) if n > 0 => self.take(&bytes[..n], &mut tell),
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => {}
            _ => {
                self.end_line(&mut tell);
                self.ended = true;
            }
        }
    }

    fn take(&mut self, bytes: &[u8], tell: &mut impl FnMut(&str)) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() > room && !self.cut {
                // Told at once: the end of this line may never come.
                self.emit(tell, " ...");
                self.cut = true;
            }
            if self.cut {
                self.line.clear();
            }
            if ends {
                self.end_line(tell);
            }
        }
    }

    fn end_line(&mut self, tell: &mut impl FnMut(&str)) {
        if !self.cut && !self.line.is_empty() {
            self.emit(tell, "");
        }
        self.cut = false;
        self.line.clear();
    }

    fn emit(&mut self, tell: &mut impl FnMut(&str), end: &str) {
        let text = String::from_utf8_lossy(&self.line).into_owned() + end;
        self.remember(&text);
        self.say_left_out(false, tell);
        if self.passed < LINES_PER_SECOND {
            self.passed += 1;
            tell(&text);
        } else {
            self.left_out += 1;
        }
    }

    /// Begins another second where one is over (or all is), and says how many lines were left out.
    pub(super) fn say_left_out(&mut self, at_end: bool, tell: &mut impl FnMut(&str)) {
        if !at_end && self.since.elapsed() < SECOND {
            return;
        }
        self.since = Instant::now();
        self.passed = 0;
        if self.left_out > 0 {
            tell(&format!("{} lines were left out: the worker floods its output", self.left_out));
            self.left_out = 0;
        }
    }

    fn remember(&mut self, text: &str) {
        self.tail.push_str(text);
        self.tail.push('\n');
        if self.tail.len() > 2 * TAIL_BYTES_MAX {
            self.tail = self.last_words().to_owned();
        }
    }

    /// What comes from now on are the last words.
    pub(super) fn forget(&mut self) {
        self.tail.clear();
    }

    /// The end of what was printed, bounded.
    pub(super) fn last_words(&self) -> &str {
        let mut from = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        while !self.tail.is_char_boundary(from) {
            from += 1;
        }
        self.tail[from..].trim()
    }
}

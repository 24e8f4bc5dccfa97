//! Time and memory of the search indexes: `cargo bench --bench index [-- <entries> …]`.
//!
//! Entries are drawn from a fixed seed: 60 words each from a vocabulary that follows Zipf's law, and 384
//! numbers around one of 500 topics. Where Cranfield lies beside the project it is repeated to the same
//! size, as a second set of texts. Times are of the processor, on the one thread that is used. From 200,000
//! entries on the large session is also put in cells, as the memory does.

use std::hint::black_box;
use std::time::Duration;

use goclaw::index::Key;
use goclaw::index::search::{Options, search};
use goclaw::index::text::TextIndex;
use goclaw::index::vector::{Grouping, VectorIndex, from_f16, to_f16};
use rustix::time::{ClockId, clock_gettime};

const DIMENSION: usize = 384;
const WORDS: usize = 60;
const VOCABULARY: f64 = 60_000.0;
const TOPICS: u64 = 500;
const QUERIES: u64 = 400;
/// From so many entries on the large session is put in cells.
const LARGE: u64 = 200_000;
/// One in so many entries belongs to the small session.
const SMALL: u64 = 100;

/// xorshift64*, seeded.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn draw(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Sum of three, nearly normal.
    fn bell(&mut self) -> f32 {
        (self.draw() + self.draw() + self.draw() - 1.5) as f32
    }
}

fn text(seed: u64, words: usize) -> String {
    let mut dice = Dice::new(seed);
    // The inverse of Zipf's distribution function with exponent 1.
    let word = |dice: &mut Dice| format!("w{}x ", VOCABULARY.powf(dice.draw()) as u64);
    (0..words).map(|_| word(&mut dice)).collect()
}

fn vector(seed: u64) -> Vec<f32> {
    let (mut own, mut topic) = (Dice::new(seed), Dice::new((1 << 40) | (seed % TOPICS)));
    (0..DIMENSION).map(|_| topic.bell() + own.bell()).collect()
}

/// Time that this thread has computed.
fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread's time is not below zero")
}

/// Resident bytes of this process.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN) * 4096.0
}

fn session(key: u64) -> &'static str {
    if key.is_multiple_of(SMALL) { "small" } else { "large" }
}

/// Prints P50 and P99 of one call per question.
fn timed(what: &str, mut call: impl FnMut(u64)) {
    (0..20).for_each(&mut call);
    let mut times: Vec<_> = (0..QUERIES)
        .map(|query| {
            let start = now();
            call(query);
            now() - start
        })
        .collect();
    times.sort_unstable();
    let micros = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("| {what:44} | {:9.0} | {:9.0} |", micros(0.5), micros(0.99));
}

fn total(what: &str, entries: u64, before: f64, took: Duration) {
    let per_entry = (resident() - before) / entries as f64;
    let micros = took.as_secs_f64() * 1e6 / entries as f64;
    println!("| {what:44} | {micros:6.2} µs each | {per_entry:6.0} bytes each |");
}

fn fill_texts(what: &str, entries: u64, texts: impl Fn(u64) -> String) -> TextIndex {
    let texts: Vec<_> = (0..entries).map(texts).collect();
    let (before, start, mut index) = (resident(), now(), TextIndex::default());
    for (key, text) in (0..).zip(&texts) {
        index.add(session(key), Key::from(key), text).expect("there is room");
    }
    total(&format!("add {what}"), entries, before, now() - start);
    index
}

fn texts_alone(what: &str, index: &mut TextIndex, entries: u64, texts: impl Fn(u64) -> String) {
    let question = |seed: u64| texts(seed * 7 + 3).split(' ').take(8).collect::<Vec<_>>().join(" ");
    let questions: Vec<_> = (0..QUERIES).map(question).collect();
    for (name, sessions) in [("all", &["large", "small"][..]), ("1 % of them", &["small"][..])] {
        timed(&format!("text, {what}, 8 words, {name}"), |query| {
            black_box(index.query(sessions, &questions[query as usize]).top(10, None));
        });
    }
    timed(&format!("delete and add again, {what}"), |query| {
        let key = query * 13 % entries;
        index.delete(Key::from(key));
        index.add(session(key), Key::from(key), &texts(key)).expect("there is room");
    });
    let start = now();
    let bytes = index.snapshot();
    let written = now() - start;
    let start = now();
    black_box(TextIndex::restore(&bytes).expect("it was just written"));
    let megabytes = bytes.len() as f64 / 1e6;
    println!("| snapshot {megabytes:.1} MB, written {written:.0?}, read {:.0?} |", now() - start);
}

fn recall(index: &VectorIndex, rows: &[Vec<u8>], truth: &dyn Fn(Key, &mut [f32]) -> bool) {
    let mut found_of = (0, 0);
    let mut row = vec![0.0; DIMENSION];
    for query in 0..100 {
        let asked = vector(query + (1 << 50));
        let mut exact: Vec<(f32, usize)> = (0..rows.len())
            .map(|at| {
                from_f16(&rows[at], &mut row);
                (row.iter().zip(&asked).map(|(x, y)| x * y).sum(), at)
            })
            .collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let sessions = ["large", "small"];
        let found = index.query(&sessions, &asked, truth).expect("a direction").top(10, None);
        let right = |hit: &goclaw::index::Hit| exact[..10].iter().any(|e| e.1 as Key == hit.key);
        found_of = (found_of.0 + found.iter().filter(|hit| right(hit)).count(), found_of.1 + 10);
    }
    println!("| recall@10 of the vector leg: {} of {} |", found_of.0, found_of.1);
}

fn put_in_cells(near: &mut VectorIndex, entries: u64) {
    let grouping = Grouping { rows_min: LARGE as usize / 2, ..Grouping::default() };
    let (before, start) = (resident(), now());
    while let Some(step) = near.step("large", &grouping) {
        let done = step.work(&mut || true).expect("nobody stops it");
        near.take("large", done);
    }
    total("put in cells", entries, before, now() - start);
    let (cells, read) = near.cells_of("large").expect("it is in cells");
    println!("| {read} of {cells} cells are read for the ten best |");
}

fn measure(entries: u64) {
    println!("\n{entries} entries x {DIMENSION}");
    let synthetic = |seed| text(seed, WORDS);
    let mut texts = fill_texts("texts of 60 words", entries, synthetic);
    println!("| {} words |", texts.vocabulary());
    let rows: Vec<_> =
        (0..entries).map(|key| to_f16(&vector(key), DIMENSION).expect("a direction")).collect();
    let (before, start) = (resident(), now());
    let mut near = VectorIndex::new(DIMENSION).expect("a dimension");
    let mut row = vec![0.0; DIMENSION];
    for (key, bytes) in (0..).zip(&rows) {
        from_f16(bytes, &mut row);
        near.add(session(key), Key::from(key), &row).expect("a direction");
    }
    total("add vectors from f16", entries, before, now() - start);
    let truth = |key: Key, row: &mut [f32]| from_f16(&rows[key as usize], row);
    println!("| {:44} | P50 µs    | P99 µs    |", "");
    let asked: Vec<_> = (0..QUERIES).map(|query| vector(query + (1 << 50))).collect();
    let ask = |near: &VectorIndex, name: &str, sessions: &[&str]| {
        timed(&format!("vector, {name}"), |query| {
            let query = near.query(sessions, &asked[query as usize], &truth);
            black_box(query.expect("a direction").top(10, None));
        });
        timed(&format!("hybrid, 8 words, {name}"), |query| {
            let question = text(query + (1 << 30), 8);
            let by_text = texts.query(sessions, &question);
            let by_vector = near.query(sessions, &asked[query as usize], &truth).expect("fits");
            black_box(search(Some(&by_vector), Some(&by_text), 10, Options::default()));
        });
    };
    ask(&near, "all", &["large", "small"]);
    ask(&near, "1 % of them", &["small"]);
    recall(&near, &rows, &truth);
    if entries >= LARGE {
        put_in_cells(&mut near, entries);
        ask(&near, "all, in cells", &["large", "small"]);
        recall(&near, &rows, &truth);
    }
    texts_alone("synthetic", &mut texts, entries, synthetic);
    drop(texts);
    let Some(documents) = cranfield() else { return };
    let repeated = |key: u64| documents[key as usize % documents.len()].clone();
    let mut texts = fill_texts("Cranfield, repeated", entries, repeated);
    texts_alone("Cranfield", &mut texts, entries, repeated);
}

fn cranfield() -> Option<Vec<String>> {
    let folder = std::env::var("GOCLAW_SHARED_DATA").unwrap_or_else(|_| "../shared/data".into());
    let file = std::fs::File::open(format!("{folder}/cranfield.jsonl.gz")).ok()?;
    let lines = std::io::read_to_string(flate2::read::GzDecoder::new(file)).ok()?;
    let line = |line| serde_json::from_str::<serde_json::Value>(line).ok();
    Some(
        lines
            .lines()
            .filter_map(line)
            .filter_map(|line| Some(line["doc"]["text"].as_str()?.to_owned()))
            .collect(),
    )
}

fn main() {
    let sizes: Vec<u64> = std::env::args().filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000] } else { sizes };
    sizes.into_iter().for_each(measure);
}

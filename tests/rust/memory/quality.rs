//! How good the answers are, on public collections. `cargo test quality -- --nocapture` prints the table.

use goclaw::index::Key;
use goclaw::index::adjust::{diversify, overlap, smooth};
use goclaw::index::fuse::{Fused, Fusion};
use goclaw::index::search::{Mode, Options, search};
use goclaw::index::text::TextIndex;
use goclaw::index::vector::VectorIndex;

use super::data::{self, Collection};

const SESSION: &str = "all";
const CUT: usize = 10;
/// Differences below this are no difference on collections of this size.
const NOISE: f64 = 0.01;

struct Vectors {
    documents: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
}

/// Means over all questions.
#[derive(Debug, Default)]
struct Quality {
    ndcg: f64,
    mrr: f64,
    recall: f64,
}

/// For relevant or not: gain 1, discount log2(rank + 1).
fn judge(found: &[usize], relevant: &[usize]) -> Quality {
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let hits: Vec<_> = (0..found.len()).filter(|&at| relevant.contains(&found[at])).collect();
    let ideal: f64 = (0..relevant.len().min(CUT)).map(discount).sum();
    Quality {
        ndcg: hits.iter().map(|&rank| discount(rank)).sum::<f64>() / ideal,
        mrr: hits.first().map_or(0.0, |&rank| 1.0 / (rank as f64 + 1.0)),
        recall: hits.len() as f64 / relevant.len() as f64,
    }
}

/// What changes the order after fusion; both 0 change nothing.
#[derive(Clone, Copy, Default)]
struct Shape {
    smoothing: f64,
    diversity: f64,
}

/// As `memory::search` does it: neighbours in time are the documents before and after, likeness is the
/// cosine or, without vectors, the share of common words.
fn shaped(
    mut found: Vec<Fused>,
    shape: Shape,
    documents: usize,
    alike: impl Fn(Key, Key) -> f64,
) -> Vec<Fused> {
    if shape.smoothing > 0.0 {
        smooth(&mut found, shape.smoothing, |key| {
            [key.checked_sub(1), Some(key + 1).filter(|&next| next < documents as Key)]
        });
    }
    if shape.diversity > 0.0 {
        found = diversify(&found, CUT, shape.diversity, alike);
    }
    found
}

fn evaluate(
    collection: &Collection,
    vectors: Option<&Vectors>,
    mode: Mode,
    fusion: Fusion,
    shape: Shape,
) -> Quality {
    let mut texts = TextIndex::default();
    for (key, text) in collection.documents.iter().enumerate() {
        texts.add(SESSION, key as Key, text).expect("there is room");
    }
    let mut near = VectorIndex::new(384).expect("a dimension");
    for (key, row) in vectors.iter().flat_map(|vectors| vectors.documents.iter().enumerate()) {
        near.add(SESSION, key as Key, row).expect("a direction");
    }
    let truth = |key: Key, row: &mut [f32]| {
        vectors.map(|vectors| row.copy_from_slice(&vectors.documents[key as usize])).is_some()
    };
    let words: Vec<_> =
        (0..collection.documents.len()).map(|key| texts.words_of(key as Key)).collect();
    let mut sum = Quality::default();
    for (at, (question, relevant)) in collection.queries.iter().enumerate() {
        let by_text = texts.query(&[SESSION], question);
        let by_vector = vectors.map(|vectors| {
            near.query(&[SESSION], &vectors.queries[at], &truth).expect("a direction")
        });
        let options = Options { mode, fusion, ..Options::default() };
        let pool = if shape.smoothing + shape.diversity > 0.0 { 4 * CUT } else { CUT };
        let found = search(by_vector.as_ref(), Some(&by_text), pool, options);
        let alike = |one: Key, other: Key| match vectors {
            None => overlap(&words[one as usize], &words[other as usize]),
            Some(vectors) => {
                cosine(&vectors.documents[one as usize], &vectors.documents[other as usize])
            }
        };
        let found = shaped(found, shape, collection.documents.len(), alike);
        let keys: Vec<_> = found.iter().take(CUT).map(|hit: &Fused| hit.key() as usize).collect();
        let of_one = judge(&keys, relevant);
        sum.ndcg += of_one.ndcg;
        sum.mrr += of_one.mrr;
        sum.recall += of_one.recall;
    }
    let count = collection.queries.len() as f64;
    Quality { ndcg: sum.ndcg / count, mrr: sum.mrr / count, recall: sum.recall / count }
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    (dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()).clamp(0.0, 1.0)
}

fn print(what: &str, quality: &Quality) {
    let Quality { ndcg, mrr, recall } = quality;
    println!("| {what:32} | {ndcg:.4} | {mrr:.4} | {recall:.4} |");
}

#[test]
fn quality_of_english_answers() {
    let paths = (data::find("cranfield.jsonl.gz"), data::find("cranfield_minilm.npz"));
    let (Some(texts), Some(arrays)) = paths else { return };
    let collection = data::collection(&texts);
    assert_eq!((collection.documents.len(), collection.queries.len()), (1_400, 225));
    let vectors = Vectors {
        documents: data::array(&arrays, "docs"),
        queries: data::array(&arrays, "queries"),
    };
    let with = |what: &str, mode, fusion, shape| {
        let quality = evaluate(&collection, Some(&vectors), mode, fusion, shape);
        print(what, &quality);
        quality
    };
    let run = |what: &str, mode, fusion| with(what, mode, fusion, Shape::default()).ndcg;
    println!("| Cranfield                        | nDCG@10 | MRR@10 | R@10 |");
    let text = run("text", Mode::Text, Fusion::Score);
    let vector = run("vector", Mode::Vector, Fusion::Score);
    let rrf = run("hybrid, rrf", Mode::Hybrid, Fusion::Rrf);
    let hybrid = run("hybrid, score", Mode::Hybrid, Fusion::Score);
    assert!(hybrid >= 0.565, "{hybrid}");
    assert!(hybrid >= text.max(vector) && hybrid >= rrf);
    let shaped = |what: &str, smoothing, diversity| {
        with(what, Mode::Hybrid, Fusion::Score, Shape { smoothing, diversity })
    };
    // Both give up first places here, smoothing for recall and diversity for variety; neither falls
    // below the better leg.
    let smooth = shaped("hybrid, smoothing 0.3", 0.3, 0.0);
    let diverse = shaped("hybrid, diversity 0.3", 0.0, 0.3);
    assert!(smooth.ndcg >= hybrid - NOISE && smooth.recall >= 0.5, "{smooth:?}");
    assert!(diverse.ndcg >= text.max(vector) && diverse.mrr >= 0.83, "{diverse:?}");
}

#[test]
fn quality_of_chinese_answers() {
    let Some(texts) = data::find("cmrc2018_half.jsonl.gz") else { return };
    let collection = data::collection(&texts);
    assert_eq!((collection.documents.len(), collection.queries.len()), (848, 1_610));
    let run = |what: &str, collection: &Collection, shape| {
        let quality = evaluate(collection, None, Mode::Hybrid, Fusion::Score, shape);
        print(what, &quality);
        quality
    };
    println!("| CMRC 2018                        | nDCG@10 | MRR@10 | R@10 |");
    let quality = run("text", &collection, Shape::default());
    assert!(quality.mrr >= 0.975, "{}", quality.mrr);
    // Comparing words pair by pair takes long without optimisation: some of the questions must do.
    let queries = collection.queries.iter().step_by(16).cloned().collect();
    let some = Collection { queries, ..collection };
    let plain = run("text, of every 16th", &some, Shape::default());
    let smooth = run("… smoothing 0.3", &some, Shape { smoothing: 0.3, diversity: 0.0 });
    let diverse = run("… diversity 0.3", &some, Shape { smoothing: 0.0, diversity: 0.3 });
    assert!(smooth.ndcg >= plain.ndcg - NOISE, "{smooth:?}");
    assert!(diverse.ndcg >= plain.ndcg - NOISE, "{diverse:?}");
}

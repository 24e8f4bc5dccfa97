//! How good the answers are, on public collections. `cargo test quality -- --nocapture` prints the table.

use goclaw::index::Key;
use goclaw::index::fuse::{Fused, Fusion};
use goclaw::index::search::{Mode, Options, search};
use goclaw::index::text::TextIndex;
use goclaw::index::vector::VectorIndex;

use super::data::{self, Collection};

const SESSION: &str = "all";
const CUT: usize = 10;

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

fn evaluate(
    collection: &Collection,
    vectors: Option<&Vectors>,
    mode: Mode,
    fusion: Fusion,
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
    let mut sum = Quality::default();
    for (at, (question, relevant)) in collection.queries.iter().enumerate() {
        let by_text = texts.query(&[SESSION], question);
        let by_vector = vectors.map(|vectors| {
            near.query(&[SESSION], &vectors.queries[at], &truth).expect("a direction")
        });
        let options = Options { mode, fusion, ..Options::default() };
        let found = search(by_vector.as_ref(), Some(&by_text), CUT, options);
        let keys: Vec<_> = found.iter().take(CUT).map(|hit: &Fused| hit.key() as usize).collect();
        let of_one = judge(&keys, relevant);
        sum.ndcg += of_one.ndcg;
        sum.mrr += of_one.mrr;
        sum.recall += of_one.recall;
    }
    let count = collection.queries.len() as f64;
    Quality { ndcg: sum.ndcg / count, mrr: sum.mrr / count, recall: sum.recall / count }
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
    let run = |what: &str, mode, fusion| {
        let quality = evaluate(&collection, Some(&vectors), mode, fusion);
        print(what, &quality);
        quality.ndcg
    };
    println!("| Cranfield                        | nDCG@10 | MRR@10 | R@10 |");
    let text = run("text", Mode::Text, Fusion::Score);
    let vector = run("vector", Mode::Vector, Fusion::Score);
    let rrf = run("hybrid, rrf", Mode::Hybrid, Fusion::Rrf);
    let hybrid = run("hybrid, score", Mode::Hybrid, Fusion::Score);
    assert!(hybrid >= 0.565, "{hybrid}");
    assert!(hybrid >= text.max(vector) && hybrid >= rrf);
}

#[test]
fn quality_of_chinese_answers() {
    let Some(texts) = data::find("cmrc2018_half.jsonl.gz") else { return };
    let collection = data::collection(&texts);
    assert_eq!((collection.documents.len(), collection.queries.len()), (848, 1_610));
    let quality = evaluate(&collection, None, Mode::Hybrid, Fusion::Score);
    println!("| CMRC 2018                        | nDCG@10 | MRR@10 | R@10 |");
    print("text", &quality);
    assert!(quality.mrr >= 0.975, "{}", quality.mrr);
}

//! What the words of a text are, in any script.
//!
//! NFKC, lower case. Scripts that put no spaces between words (Han, Kana, Hangul runs; Thai, Lao,
//! Khmer, Burmese) give single characters and pairs of neighbours. Everything else gives Unicode words
//! (UAX #29); Latin ones are stemmed with Snowball's English stemmer, and English stop words are told
//! apart. Each word is judged by itself, so that a word is the same token in a question and in an
//! answer, whatever stands around it.
//! Pairs beside single characters: Nie et al., "On the Use of Words and N-grams for Chinese
//! Information Retrieval", IRAL 2000.

use hashbrown::HashMap;
use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::{UnicodeNormalization, is_nfkc};
use unicode_segmentation::UnicodeSegmentation;

use super::stop::is_stop;

/// Raised when a text gives other tokens than before: indexes kept on disk are then built again.
pub const VERSION: u32 = 1;

/// Longer words are no words (encoded data) and are left out, in bytes.
const TOKEN_BYTES_MAX: usize = 128;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Content,
    /// On the stop list: only a question that has nothing else asks for it.
    Stop,
}

/// Words whose stems are remembered.
const STEMS_MAX: usize = 32_768;

/// Stems that were computed before: computing is most of the time that a text takes.
#[derive(Default)]
pub struct Stems(HashMap<String, Box<str>>);

impl Stems {
    pub fn clear(&mut self) {
        self.0 = HashMap::new();
    }

    fn stem(&mut self, word: &str) -> &str {
        if self.0.len() >= STEMS_MAX {
            self.clear();
        }
        let computed = || Stemmer::create(Algorithm::English).stem(word).into();
        self.0.entry_ref(word).or_insert_with(computed)
    }
}

/// Calls `each` for every token of a text, in order.
pub fn tokenize(text: &str, stems: &mut Stems, mut each: impl FnMut(&str, Kind)) {
    let text = normalized(text);
    for (run, unspaced) in runs(&text) {
        if unspaced {
            grams(run, |gram| each(gram, Kind::Content));
        } else {
            for word in run.unicode_words().filter(|word| word.len() <= TOKEN_BYTES_MAX) {
                match word {
                    _ if !word.chars().all(is_latin) => each(word, Kind::Content),
                    _ if is_stop(word) => each(word, Kind::Stop),
                    _ => each(stems.stem(word), Kind::Content),
                }
            }
        }
    }
}

/// The typographic apostrophe becomes the plain one: it is what the stop list and the stemmer know.
fn normalized(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Lower case can leave the normal form (U+0130), so it comes first and the form last.
    let lower = if is_nfkc(text) {
        text.to_lowercase()
    } else {
        text.nfkc().collect::<String>().to_lowercase()
    };
    lower.nfkc().map(|c| if c == '\u{2019}' { '\'' } else { c }).collect()
}

/// Cuts a text where a script with spaces meets one without. The flag says which one a run is.
fn runs(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let unspaced = is_unspaced(rest.chars().next()?);
        let end = rest.find(|c| is_unspaced(c) != unspaced).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        Some((run, unspaced))
    })
}

/// Every character and every pair of neighbours.
fn grams(run: &str, mut each: impl FnMut(&str)) {
    let mut before: Option<usize> = None;
    for (at, c) in run.char_indices() {
        let end = at + c.len_utf8();
        each(&run[at..end]);
        if let Some(before) = before {
            each(&run[before..end]);
        }
        before = Some(at);
    }
}

/// A letter of a script that is written without spaces, or with spaces between phrases only.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        // Han: iteration mark and zero, extension A, the main block, compatibility, extensions B and on.
        0x3005..=0x3007 | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF
        // Hiragana and Katakana, without the middle dot; Bopomofo; Katakana extensions.
        | 0x3041..=0x309F | 0x30A1..=0x30FA | 0x30FC..=0x30FF | 0x3105..=0x312F | 0x31A0..=0x31BF
        | 0x31F0..=0x31FF
        // Hangul: jamo, compatibility jamo, syllables.
        | 0x1100..=0x11FF | 0x3131..=0x318E | 0xA960..=0xA97F | 0xAC00..=0xD7FB
        // Thai, Lao, Burmese, Khmer; not their digits and signs.
        | 0x0E01..=0x0E3A | 0x0E40..=0x0E4E | 0x0E81..=0x0ECD | 0x1000..=0x103F | 0x1780..=0x17D3)
}

/// A letter of a Latin word, or what may stand within one.
fn is_latin(c: char) -> bool {
    c.is_ascii() || matches!(u32::from(c), 0x00C0..=0x024F | 0x1E00..=0x1EFF | 0x0300..=0x036F)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        tokenize(text, &mut Stems::default(), |token, kind| {
            if kind == Kind::Content {
                found.push(token.to_owned());
            }
        });
        found
    }

    #[test]
    fn english_is_stemmed_and_its_stop_words_are_set_apart() {
        assert_eq!(content("What are the Agents’ running costs?"), ["agent", "run", "cost"]);
        assert_eq!(content("Don’t you say it’s 3.5 times"), ["say", "3.5", "time"]);
        let mut stops = Vec::new();
        tokenize("to be or not to be", &mut Stems::default(), |token, kind| {
            stops.push((token.to_owned(), kind))
        });
        assert_eq!(stops.len(), 6);
        assert!(stops.iter().all(|(_, kind)| *kind == Kind::Stop));
    }

    #[test]
    fn unspaced_scripts_give_characters_and_pairs() {
        assert_eq!(content("战国无双"), ["战", "国", "战国", "无", "国无", "双", "无双"]);
        assert_eq!(content("서울 시"), ["서", "울", "서울", "시"]);
        assert_eq!(content("ｶﾀｶﾅ"), ["カ", "タ", "カタ", "カ", "タカ", "ナ", "カナ"]);
        assert_eq!(content("ไทย"), ["ไ", "ท", "ไท", "ย", "ทย"]);
    }

    #[test]
    fn scripts_mix_and_each_word_is_judged_by_itself() {
        assert_eq!(content("用Rust运行agents。"), ["用", "rust", "运", "行", "运行", "agent"]);
        assert_eq!(content("Привет, running мир"), ["привет", "run", "мир"]);
        assert_eq!(content("ＦＵＬＬ　ｗｉｄｔｈ ﬁles"), ["full", "width", "file"]);
        assert_eq!(content("İstanbul Straße"), content("i̇stanbul straße"));
    }

    #[test]
    fn a_stem_that_is_remembered_is_the_same() {
        let mut stems = Stems::default();
        for n in 0..STEMS_MAX + 10 {
            assert_eq!(stems.stem("running"), "run");
            stems.stem(&format!("w{n}"));
            assert!(stems.0.len() <= STEMS_MAX);
        }
    }

    #[test]
    fn what_has_no_words_has_no_tokens() {
        assert!(content("").is_empty());
        assert!(content(" \n\t…!?—\u{0}🎉").is_empty());
        assert!(content(&"x".repeat(TOKEN_BYTES_MAX + 1)).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_gives_the_same_tokens_again_and_in_upper_case(text in "\\PC{0,80}") {
            let tokens = content(&text);
            prop_assert_eq!(&tokens, &content(&text));
            prop_assert!(tokens.iter().all(|token| !token.is_empty()));
            let ascii: String = text.chars().filter(char::is_ascii).collect();
            prop_assert_eq!(content(&ascii), content(&ascii.to_uppercase()));
        }
    }
}

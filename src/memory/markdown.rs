//! Markdown cut into memories: one per heading, about 400 tokens at most.
//!
//! Pure: text in, chunks out. Nothing is lost: every line that is not blank lies in a chunk, in order.
//! A section that is too long is cut at lines, and each part but the first repeats up to 80 tokens of
//! the one before; a line that is too long is cut at spaces.

/// Tokens that one chunk may have, by estimate.
pub(super) const TOKENS_MAX: usize = 400;
/// Tokens of the part before that a part of a section repeats.
const OVERLAP_TOKENS: usize = 80;
/// Weight of a token: four letters of Latin script, or one sign of Chinese, Japanese or Korean.
const TOKEN: usize = 4;
/// Levels that a heading can have.
const LEVELS: usize = 6;

/// A part of a Markdown text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The headings that it stands under, outermost first, its own last.
    pub(super) heading: Vec<String>,
    /// Its first and last line, counted from 1.
    pub(super) lines: (u32, u32),
    /// Which part of one long line it is, counted from 1; 0 for whole lines.
    pub(super) part: u32,
    /// Its lines as they stand.
    pub(super) text: String,
    /// It begins in the middle of its section.
    pub(super) continues: bool,
}

impl Chunk {
    /// What is memorized: its lines, under the path of its headings where the lines do not say it.
    pub(super) fn content(&self) -> String {
        match self.path() {
            Some(path) => format!("{path}\n{}", self.text),
            None => self.text.clone(),
        }
    }

    fn path(&self) -> Option<String> {
        let says_it = self.heading.is_empty() || (self.heading.len() == 1 && !self.continues);
        (!says_it).then(|| self.heading.join(" > "))
    }
}

/// Roughly how many tokens a text has.
pub(super) fn tokens(text: &str) -> usize {
    text.chars().map(weight).sum::<usize>().div_ceil(TOKEN)
}

fn weight(char: char) -> usize {
    match char {
        '\0'..='\u{7f}' => 1,
        '\u{80}'..='\u{2e7f}' => 2,
        _ => TOKEN,
    }
}

/// Cuts a text.
pub(super) fn chunks(source: &str) -> Vec<Chunk> {
    let lines: Vec<&str> = source.lines().collect();
    let mut chunks = Vec::new();
    for section in sections(&lines) {
        let (lo, hi) = trimmed(&lines, section.lo, section.hi);
        if lo < hi {
            cut(&lines, lo, hi, &section.heading, &mut chunks);
        }
    }
    chunks
}

/// Lines `lo..hi` under one heading.
struct Section {
    heading: Vec<String>,
    lo: usize,
    hi: usize,
}

/// One section per heading. A heading without a text of its own goes with the section below it.
fn sections(lines: &[&str]) -> Vec<Section> {
    let mut sections = vec![Section { heading: Vec::new(), lo: 0, hi: lines.len() }];
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut fence = None;
    for (at, line) in lines.iter().enumerate() {
        if let Some(found) = fence_of(line) {
            match fence {
                None => fence = Some(found),
                Some((mark, long)) if found.0 == mark && found.1 >= long => fence = None,
                Some(_) => {}
            }
            continue;
        }
        let Some((level, title)) = heading_of(line).filter(|_| fence.is_none()) else { continue };
        path.retain(|(above, _)| *above < level);
        path.push((level, title));
        let heading = path.iter().map(|(_, title)| title.clone()).collect();
        let last = sections.last_mut().expect("it begins with one");
        let is_bare =
            (last.lo..at).all(|n| lines[n].trim().is_empty() || heading_of(lines[n]).is_some());
        if is_bare {
            last.heading = heading;
        } else {
            last.hi = at;
            sections.push(Section { heading, lo: at, hi: lines.len() });
        }
    }
    sections
}

/// The level and the title of a heading (`## Title ##`).
fn heading_of(line: &str) -> Option<(usize, String)> {
    let text = line.strip_prefix("   ").or(line.strip_prefix("  ")).or(line.strip_prefix(' '));
    let text = text.unwrap_or(line);
    let rest = text.trim_start_matches('#');
    let level = text.len() - rest.len();
    let is_heading =
        (1..=LEVELS).contains(&level) && (rest.is_empty() || rest.starts_with([' ', '\t']));
    is_heading.then(|| (level, rest.trim().trim_end_matches('#').trim_end().to_owned()))
}

/// The mark and the length of a line that begins or ends a block of code.
fn fence_of(line: &str) -> Option<(char, usize)> {
    let text = line.trim_start();
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let long = text.chars().take_while(|char| *char == mark).count();
    (long >= 3).then_some((mark, long))
}

/// The range without the blank lines around it.
fn trimmed(lines: &[&str], mut lo: usize, mut hi: usize) -> (usize, usize) {
    while lo < hi && lines[lo].trim().is_empty() {
        lo += 1;
    }
    while lo < hi && lines[hi - 1].trim().is_empty() {
        hi -= 1;
    }
    (lo, hi)
}

/// Cuts a section into chunks that are not too long.
fn cut(lines: &[&str], lo: usize, hi: usize, heading: &[String], chunks: &mut Vec<Chunk>) {
    let mut at = lo;
    while at < hi {
        if tokens(lines[at]) > TOKENS_MAX {
            for (n, text) in pieces(lines[at]).into_iter().enumerate() {
                let line = at as u32 + 1;
                chunks.push(Chunk {
                    heading: heading.to_vec(),
                    lines: (line, line),
                    part: n as u32 + 1,
                    text: text.to_owned(),
                    continues: at > lo || n > 0,
                });
            }
            at += 1;
            continue;
        }
        // The end of what was cut off before comes again, as far as there is room for it.
        let follows = at > lo && chunks.last().is_some_and(|last| last.part == 0);
        let mut from = at;
        while follows
            && from > lo
            && fits(lines, from - 1, at, OVERLAP_TOKENS)
            && fits(lines, from - 1, at + 1, TOKENS_MAX)
        {
            from -= 1;
        }
        let end = end_of(lines, from, at, hi);
        let (first, last) = trimmed(lines, from, end);
        if first < last {
            chunks.push(Chunk {
                heading: heading.to_vec(),
                lines: (first as u32 + 1, last as u32),
                part: 0,
                text: lines[first..last].join("\n"),
                continues: at > lo,
            });
        }
        at = end;
    }
}

fn fits(lines: &[&str], lo: usize, hi: usize, most: usize) -> bool {
    let weights = lines[lo..hi].iter().map(|line| 1 + line.chars().map(weight).sum::<usize>());
    weights.sum::<usize>().div_ceil(TOKEN) <= most
}

/// Where a chunk that begins at `from`, and brings what stands from `at` on, ends: behind as many lines
/// as fit, at a blank line if there is one in the second half of them.
fn end_of(lines: &[&str], from: usize, at: usize, hi: usize) -> usize {
    let mut end = at + 1;
    while end < hi && fits(lines, from, end + 1, TOKENS_MAX) {
        end += 1;
    }
    if end == hi {
        return hi;
    }
    let half = at + (end - at) / 2;
    (half + 1..=end).rev().find(|&n| lines[n - 1].trim().is_empty()).unwrap_or(end)
}

/// A long line in pieces, cut behind spaces where there are some.
fn pieces(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while tokens(rest) > TOKENS_MAX {
        let (mut sum, mut end, mut space) = (0, 0, 0);
        for (at, char) in rest.char_indices() {
            sum += weight(char);
            if sum > TOKENS_MAX * TOKEN {
                break;
            }
            end = at + char.len_utf8();
            if char.is_whitespace() {
                space = end;
            }
        }
        let (piece, behind) = rest.split_at(if space > 0 { space } else { end });
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}

/// The lines of a file again, from chunks of it in order: what was repeated comes once.
pub(super) fn joined<'a>(
    chunks: impl Iterator<Item = (&'a [String], (u32, u32), u32, &'a str)>,
) -> String {
    let (mut out, mut done) = (String::new(), 0);
    for (heading, (first, last), part, content) in chunks {
        let path = format!("{}\n", heading.join(" > "));
        let text = match content.strip_prefix(&path) {
            Some(text) if !heading.is_empty() => text,
            _ => content,
        };
        if part > 1 && done == last {
            out.truncate(out.trim_end_matches('\n').len());
            out.push_str(text);
            out.push('\n');
            continue;
        }
        if done > 0 && first > done + 1 {
            out.push('\n');
        }
        let seen = (done + 1).saturating_sub(first) as usize;
        for line in text.split('\n').skip(if part > 0 { 0 } else { seen }) {
            out.push_str(line);
            out.push('\n');
        }
        done = last.max(done);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headings(source: &str) -> Vec<Vec<String>> {
        chunks(source).into_iter().map(|chunk| chunk.heading).collect()
    }

    #[test]
    fn every_heading_is_a_memory_under_its_path() {
        let source = "intro\n\n# A\nabout a\n\n## B\nabout b\n### C\nabout c\n# D\n\nabout d\n";
        let found = chunks(source);
        let paths: Vec<_> = found.iter().map(|chunk| chunk.heading.join("/")).collect();
        assert_eq!(paths, ["", "A", "A/B", "A/B/C", "D"]);
        assert_eq!(found[2].content(), "A > B\n## B\nabout b");
        assert_eq!(found[4].content(), "# D\n\nabout d");
        assert_eq!((found[0].lines, found[4].lines), ((1, 1), (10, 12)));
    }

    #[test]
    fn a_heading_without_text_goes_with_what_stands_below() {
        assert_eq!(headings("# A\n\n## B\ntext"), [["A", "B"]]);
        assert_eq!(chunks("# A\n\n## B\ntext")[0].text, "# A\n\n## B\ntext");
        assert_eq!(headings("# A\ntext\n# B\n").last(), Some(&vec!["B".to_owned()]));
    }

    #[test]
    fn code_has_no_headings() {
        let source =
            "# A\n```sh\n# no heading\n```\n~~~~\n# nor this\n```\n~~~\n# still none\n~~~~\n# B\nx";
        assert_eq!(headings(source), [["A"], ["B"]]);
        assert_eq!(headings("#hash\n####### seven\n    # code").len(), 1);
    }

    #[test]
    fn a_long_section_is_cut_and_repeats_a_little() {
        let source: String = (0..200).map(|n| format!("- note number {n} of the day\n")).collect();
        let found = chunks(&format!("# Day\n{source}"));
        assert!(found.len() > 2);
        for pair in found.windows(2) {
            assert!(pair[1].lines.0 <= pair[0].lines.1, "{:?} {:?}", pair[0].lines, pair[1].lines);
            let again = pair[0].lines.1 + 1 - pair[1].lines.0;
            assert!(again > 0 && again < 20, "{again}");
            assert!(pair[1].content().starts_with("Day\n"));
        }
    }

    #[test]
    fn signs_that_are_words_weigh_as_much() {
        assert_eq!((tokens("four"), tokens("记忆"), tokens("")), (1, 2, 0));
        let line = "记".repeat(1_000);
        let found = chunks(&line);
        assert_eq!(found.iter().map(|chunk| chunk.part).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(found.iter().map(|chunk| chunk.text.as_str()).collect::<String>(), line);
    }

    fn again(found: &[Chunk]) -> String {
        let contents: Vec<String> = found.iter().map(Chunk::content).collect();
        joined(
            found
                .iter()
                .zip(&contents)
                .map(|(it, content)| (it.heading.as_slice(), it.lines, it.part, content.as_str())),
        )
    }

    fn said(text: &str) -> Vec<String> {
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => "[a-z ]{0,60}",
            2 => "#{1,7} ?[A-Za-z]{0,8}",
            1 => (0_usize..900).prop_map(|n| "记忆".repeat(n)),
            1 => (300_usize..500).prop_map(|n| "un mot, é ".repeat(n / 2)),
            1 => Just("```".to_owned()),
            1 => Just(String::new()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(lines in prop::collection::vec(line(), 0..60)) {
            let source = lines.join("\n");
            let found = chunks(&source);
            for chunk in &found {
                prop_assert!(tokens(&chunk.text) <= TOKENS_MAX, "{} tokens", tokens(&chunk.text));
                prop_assert!(!chunk.text.trim().is_empty() || chunk.part > 0);
            }
            prop_assert_eq!(said(&again(&found)), said(&source));
            // The same text gives the same chunks.
            prop_assert_eq!(&chunks(&source), &found);
        }

        #[test]
        fn every_heading_stays_a_heading(titles in prop::collection::vec("[a-z]{1,9}", 1..20)) {
            let source: String = titles.iter().map(|title| format!("## {title}\ntext of {title}\n")).collect();
            let found: Vec<String> =
                chunks(&source).into_iter().map(|chunk| chunk.heading.join("/")).collect();
            prop_assert_eq!(found, titles);
        }
    }
}

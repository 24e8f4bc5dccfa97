//! Labels: short names, widths, truncation, escaping.

use crate::model::{Expr, Task};

/// An agent's name without the modules before it: `support.intake` → `intake`.
pub(super) fn short(agent: &str) -> &str {
    let after = agent.rsplit(['.', ':']).next().unwrap_or(agent);
    if after.is_empty() { agent } else { after }
}

/// What a condition says, for people.
pub(super) fn condition(task: &Task) -> Option<String> {
    task.when.as_ref().map(|when| say(when, 4))
}

fn say(expr: &Expr, depth: usize) -> String {
    match expr {
        _ if depth == 0 => "…".into(),
        Expr::Condition(source) | Expr::Template(source) => source.clone(),
        Expr::Value(value) => value.to_string(),
        Expr::Task { id, path } => format!("{id}{}", steps(path)),
        Expr::Input { path, .. } => format!("input{}", steps(path)),
        Expr::Not(part) => format!("not ({})", say(part, depth - 1)),
        Expr::All(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| say(part, depth - 1)).collect();
            parts.join(" and ")
        }
        Expr::Const(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Dict(_) => "…".into(),
    }
}

fn steps(path: &[crate::model::Step]) -> String {
    use crate::model::Step;
    let step = |step: &Step| match step {
        Step::Key(key) => format!("[{key:?}]"),
        Step::Index(at) => format!("[{at}]"),
        Step::Attr(name) => format!(".{name}"),
    };
    path.iter().map(step).collect()
}

/// Width of a text in ems of a common sans-serif face. Estimated by kind of character, a little
/// generously: the real face is the viewer's.
pub(super) fn ems(text: &str) -> f64 {
    text.chars().map(char_ems).sum()
}

fn char_ems(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | '(' | ')' | '[' | ']' => 0.32,
        'f' | 't' | 'r' | ' ' | '-' | '/' | '·' => 0.38,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.9,
        'A'..='Z' | '_' => 0.68,
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' => 0.0,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' => 1.05,
        '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}' | '\u{ff00}'..='\u{ff60}' => 1.05,
        '\u{1f000}'.. => 1.3,
        _ => 0.58,
    }
}

/// The text, cut to a width in ems and closed with `…` where it is longer.
pub(super) fn truncated(text: &str, width: f64) -> String {
    if ems(text) <= width {
        return text.into();
    }
    let mut left = width - 0.9;
    let keeps = |c: &char| {
        left -= char_ems(*c);
        left >= 0.0
    };
    let mut cut: String = text.chars().take_while(keeps).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

/// The text as XML content or attribute. Control characters, which XML cannot say, become `�`.
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// `1234567` → `1,234,567`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_the_last_part() {
        for (name, expected) in
            [("a.b.c", "c"), ("m:flow", "flow"), ("plain", "plain"), ("odd.", "odd.")]
        {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_to_its_width() {
        assert_eq!(truncated("fetch", 10.0), "fetch");
        let cut = truncated(&"x".repeat(100), 10.0);
        assert!(cut.ends_with('…') && ems(&cut) <= 10.5, "{cut}");
        assert!(truncated(&"漢".repeat(100), 10.0).chars().count() < 11);
    }

    #[test]
    fn markup_and_control_characters_are_escaped() {
        assert_eq!(xml("a<b>&\"'\u{1}\n"), "a&lt;b&gt;&amp;&quot;&#39;\u{fffd} ");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1000, 1_234_567].map(grouped).each_ref().map(String::as_str)
        );
    }
}

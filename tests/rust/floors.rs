//! House rules, read from the sources: arrows point down, guests stay in their rooms, files stay short.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may import, from the ground up (`ARCHITECTURE.md`, "The house").
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("math", &["model"]),
    ("plan", &["model", "math"]),
    ("run", &["model", "math", "plan"]),
    ("store", &["model", "math"]),
    ("index", &["model", "math"]),
    ("tier", &["model"]),
    ("lane", &["model", "math"]),
    ("agent", &["model", "plan", "run"]),
    ("memory", &["model", "math", "store", "index", "tier"]),
    ("engine", &["model", "math", "plan", "run", "store", "lane", "agent", "memory"]),
    ("py", &["model", "plan", "run", "store", "tier", "lane", "agent", "memory", "engine"]),
];

/// Crates that appear in one module only.
const GUESTS: &[(&str, &str)] = &[
    ("heed", "store"),
    ("pyo3", "py"),
    ("rust_stemmers", "index"),
    ("rustix", "py"),
    ("ureq", "tier"),
];

/// Lines that a file may have.
const LINES_MAX: usize = 450;

/// Files that may be longer, each with its reason.
const LONG: &[(&str, &str)] = &[];

struct Source {
    /// Below `src/`, with forward slashes.
    name: String,
    /// First part of the name: the module it belongs to. Empty for `lib.rs`.
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be listed") {
            let path: PathBuf = entry.expect("src can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(source(&root, &path));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 20, "src was not found: only {} files", found.len());
    found
}

fn source(root: &Path, path: &Path) -> Source {
    let below = path.strip_prefix(root).expect("it was found there");
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    let module = match parts.as_slice() {
        [_] => String::new(),
        [module, ..] => module.to_string(),
        [] => unreachable!("a file has a name"),
    };
    let text = fs::read_to_string(path).expect("a source is text");
    Source { name: parts.join("/"), module, text }
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Every `crate::name` in a file, with its line: in `use` lines, in groups (over several lines, too),
/// and in paths.
fn arrows(text: &str) -> Vec<(usize, String)> {
    let bare: String = text.lines().flat_map(|line| [code(line), "\n"]).collect();
    let mut found = Vec::new();
    for (at, _) in bare.match_indices("crate::") {
        let line = bare[..at].matches('\n').count() + 1;
        let path = &bare[at + "crate::".len()..];
        let names = if path.starts_with('{') { heads(path) } else { vec![first_word(path)] };
        found.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| (line, name)));
    }
    found
}

/// The first words of a group's members: `{lane::{A, B}, run}` → `lane`, `run`.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut found = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && (c == '{' || c == ',') {
            found.push(first_word(&group[at + 1..]));
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn first_word(path: &str) -> String {
    path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn arrows_point_down() {
    let may_use: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.module.is_empty()) {
        let Some(allowed) = may_use.get(source.module.as_str()) else {
            faults.push(format!(
                "src/{}: `{}` stands on no floor; give it one in tests/rust/floors.rs and ARCHITECTURE.md",
                source.name, source.module
            ));
            continue;
        };
        for (line, target) in arrows(&source.text) {
            if target != source.module && !allowed.contains(&target.as_str()) {
                faults.push(format!(
                    "src/{}:{line}: `{}` must not know `{target}`; what it needs from there comes as an argument",
                    source.name, source.module
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn guests_stay_in_their_rooms() {
    let mut faults = Vec::new();
    for source in &sources() {
        for (guest, room) in GUESTS.iter().filter(|(_, room)| *room != source.module) {
            let (path, attribute) = (format!("{guest}::"), format!("[{guest}"));
            for (number, line) in source.text.lines().enumerate() {
                let code = code(line);
                if code.contains(&path) || code.contains(&attribute) {
                    faults.push(format!(
                        "src/{}:{}: `{guest}` is used outside of `{room}`",
                        source.name,
                        number + 1
                    ));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn files_stay_short() {
    let long: BTreeMap<_, _> = LONG.iter().copied().collect();
    let mut faults = Vec::new();
    for source in &sources() {
        let lines = source.text.lines().count();
        match long.get(source.name.as_str()) {
            None if lines > LINES_MAX => faults.push(format!(
                "src/{}: {lines} lines, more than {LINES_MAX}; split it by what its parts decide",
                source.name
            )),
            Some(_) if lines <= LINES_MAX => faults.push(format!(
                "src/{}: short again; take it off the list in tests/rust/floors.rs",
                source.name
            )),
            _ => {}
        }
    }
    report(&faults);
}

#[test]
fn every_module_says_what_it_is_for() {
    let is_test = |source: &Source| source.name.contains("tests");
    let silent = |source: &&Source| !is_test(source) && !source.text.starts_with("//!");
    let faults: Vec<_> = sources()
        .iter()
        .filter(silent)
        .map(|source| format!("src/{}: does not open with a `//!` comment", source.name))
        .collect();
    report(&faults);
}

#[test]
fn the_reader_of_arrows_sees_every_form() {
    let text = "use crate::store; // crate::py\n\
                use crate::{\n    lane::{Lane, LaneView},\n    run,\n};\n\
                let x = crate::engine::y();\n";
    let found = arrows(text);
    let expected = [(1, "store"), (2, "lane"), (2, "run"), (6, "engine")];
    assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
}

//! The Markdown memory of an OpenClaw workspace: read from its folder, and written into one.
//!
//! ```text
//! workspace/MEMORY.md                 what is to be kept for good
//! workspace/memory/2026-01-05.md      notes of a day, also 2026-01-05-some-words.md
//! workspace/memory/**/*.md            other notes
//! ```
//! Nothing outside of the folder is read, wherever a link points.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::markdown::{Chunk, chunks};
use crate::model::{DAY_MS, Error, Result, Timestamp};

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;
/// Most files of one workspace.
const FILES_MAX: usize = 10_000;
/// How deep folders may lie in `memory/`.
const DEPTH_MAX: usize = 8;

/// One file of a workspace, cut.
pub(super) struct Notes {
    /// Below the workspace, with forward slashes.
    pub(super) file: String,
    /// The day that its name says.
    pub(super) date: Option<Date>,
    pub(super) chunks: Vec<Chunk>,
}

/// A day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Date {
    /// As `2026-01-05`.
    pub(super) name: String,
    /// Its first moment, UTC.
    pub(super) begins: Timestamp,
}

/// Reads all notes of a workspace, by name.
///
/// # Errors
/// `memory.markdown` naming the file: none there, unreadable, no UTF-8, too large, outside of the folder.
pub(super) fn read(folder: &Path) -> Result<Vec<Notes>> {
    let root = fs::canonicalize(folder).map_err(|error| unreadable(folder, &error))?;
    let mut files = BTreeMap::new();
    let main = root.join("MEMORY.md");
    if main.is_file() || main.is_symlink() {
        add(&root, &main, &mut files)?;
    }
    let notes = root.join("memory");
    if notes.is_dir() {
        walk(&root, &notes, DEPTH_MAX, &mut BTreeSet::new(), &mut files)?;
    }
    if files.is_empty() {
        return Err(refused(
            format!("`{}` has neither MEMORY.md nor notes in memory/", folder.display()),
            "name the folder of an OpenClaw workspace",
        ));
    }
    files.into_iter().map(|(file, path)| notes_of(file, &path)).collect()
}

fn walk(
    root: &Path,
    folder: &Path,
    depth: usize,
    seen: &mut BTreeSet<PathBuf>,
    files: &mut BTreeMap<String, PathBuf>,
) -> Result<()> {
    let real = inside(root, folder)?;
    if depth == 0 || !seen.insert(real) {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if path.is_dir() {
            walk(root, &path, depth - 1, seen, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            add(root, &path, files)?;
        }
    }
    Ok(())
}

/// Notes a file under its real name, so that links to it are not read again.
fn add(root: &Path, path: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let real = inside(root, path)?;
    let below = real.strip_prefix(root).unwrap_or(&real);
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    let Some(parts) = parts else {
        let help = "rename it";
        return Err(refused(format!("the name of `{}` is no UTF-8", path.display()), help));
    };
    files.insert(parts.join("/"), real);
    if files.len() > FILES_MAX {
        let message = format!("`{}` has more than {FILES_MAX} notes", root.display());
        return Err(refused(message, "import it in parts"));
    }
    Ok(())
}

/// Where a path leads, which must be inside the workspace.
fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    let real = fs::canonicalize(path).map_err(|error| unreadable(path, &error))?;
    if real.starts_with(root) {
        return Ok(real);
    }
    let message =
        format!("`{}` leads out of the workspace, to `{}`", path.display(), real.display());
    Err(refused(message, "remove the link, or put the file itself there"))
}

fn notes_of(file: String, path: &Path) -> Result<Notes> {
    let size = fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if size > FILE_MAX {
        let message = format!("`{file}` has {size} bytes, and {FILE_MAX} are allowed");
        return Err(refused(message, "split it, or leave it out"));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        refused(format!("`{file}` is no UTF-8 at byte {at}"), "save it as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(Notes { date: date_of(&file), chunks: chunks(text), file })
}

/// The day in the name of a file in `memory/`: `2026-01-05.md` or `2026-01-05-some-words.md`.
fn date_of(file: &str) -> Option<Date> {
    let name = file.strip_prefix("memory/")?.rsplit('/').next()?.strip_suffix(".md")?;
    let (day, rest) = name.split_at_checked(10)?;
    if !rest.is_empty() && !rest.starts_with('-') {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        let digits = day.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let (year, month, date) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let dashes = day.as_bytes()[4] == b'-' && day.as_bytes()[7] == b'-';
    if !dashes
        || year < 1970
        || !(1..=12).contains(&month)
        || !(1..=days_in(year, month)).contains(&date)
    {
        return None;
    }
    let begins = Timestamp(days_before(year, month, date) * DAY_MS);
    Some(Date { name: day.to_owned(), begins })
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(is_leap(year)),
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date.
fn days_before(year: u64, month: u64, date: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + date - 1
}

/// The date of a moment, as `2026-01-05`, and its time, as `14:03:22`, both UTC.
pub(super) fn clock(at: Timestamp) -> (String, String) {
    let (mut days, ms) = (at.0 / DAY_MS, at.0 % DAY_MS);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while days >= days_in(year, month) {
        days -= days_in(year, month);
        month += 1;
    }
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    (format!("{year:04}-{month:02}-{:02}", days + 1), format!("{hour:02}:{minute:02}:{second:02}"))
}

/// True for the name of a file that belongs into a workspace.
pub(super) fn is_note(file: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    let plain = parts.iter().all(|part| {
        !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0', ':'])
    });
    let placed = file == "MEMORY.md" || (parts.len() > 1 && parts[0] == "memory");
    plain && placed && parts.len() <= DEPTH_MAX && file.ends_with(".md")
}

/// Writes files into a folder, which is made where there is none. None is written over: all or none.
///
/// # Errors
/// `memory.markdown` naming the file.
pub(super) fn write(folder: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    if let Some(there) = files.keys().find(|file| folder.join(file).symlink_metadata().is_ok()) {
        let message = format!("`{}` is there already", folder.join(there).display());
        return Err(refused(message, "export into an empty folder"));
    }
    for (file, text) in files {
        let path = folder.join(file);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text)).map_err(|error| {
            refused(format!("`{}` cannot be written: {error}", path.display()), "see to the folder")
        })?;
    }
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    refused(format!("`{}` cannot be read: {error}", path.display()), "check the path")
}

fn refused(message: String, help: &str) -> Error {
    Error::new("memory.markdown", message, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_dates() {
        let of = |file: &str| date_of(file).map(|date| (date.name, date.begins.0 / DAY_MS));
        assert_eq!(of("memory/1970-01-02.md"), Some(("1970-01-02".into(), 1)));
        assert_eq!(of("memory/2024-02-29-late-talk.md"), Some(("2024-02-29".into(), 19_782)));
        for other in [
            "memory/2023-02-29.md",
            "memory/2026-13-01.md",
            "2026-01-05.md",
            "memory/2026-1-5.md",
            "memory/2026-01-05x.md",
            "memory/notes.md",
            "MEMORY.md",
            "memory/+202-01-05.md",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_moment_is_in_the_note_of_its_day() {
        assert_eq!(
            clock(Timestamp(19_782 * DAY_MS + 3_723_000)),
            ("2024-02-29".into(), "01:02:03".into())
        );
        for day in (0..30_000).step_by(37) {
            let (name, _) = clock(Timestamp(day * DAY_MS + 5));
            let date = date_of(&format!("memory/{name}.md")).expect("a date");
            assert_eq!(date.begins.0, day * DAY_MS);
        }
    }

    #[test]
    fn a_note_lies_in_the_workspace() {
        assert!(is_note("MEMORY.md") && is_note("memory/a/b.md"));
        for other in [
            "../x.md",
            "memory/../x.md",
            "/etc/x.md",
            "memory/.x.md",
            "x.md",
            "memory//x.md",
            "memory/x.txt",
        ] {
            assert!(!is_note(other), "{other}");
        }
    }
}

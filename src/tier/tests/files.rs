//! The tier of files: the suite, and what crashes and damage leave.

use std::fs;
use std::path::{Path, PathBuf};

use super::conformance::suite;
use super::*;
use crate::tier::Files;

fn open(root: &Path) -> Files {
    Files::open(root, "files").expect("a tier")
}

/// The files of sessions, without the lock.
fn logs(root: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(root).expect("a listing").map(|it| it.expect("a listing").path());
    all.filter(|path| path.extension().is_some_and(|it| it == "cold")).collect()
}

fn texts(tier: &Files, session: &str) -> Vec<String> {
    let ids: Vec<_> = (0..100).map(id).collect();
    let found = tier.fetch(session, &ids).expect("a fetch");
    let mut texts: Vec<_> = found.into_iter().map(|cold| format!("{:?}", cold.content)).collect();
    texts.sort();
    texts
}

#[test]
fn files_are_a_tier() {
    let folders = std::sync::Mutex::new(Vec::new());
    suite(&|| {
        let dir = tempfile::tempdir().expect("a directory");
        let made = open(dir.path());
        folders.lock().expect("sound").push(dir);
        Box::new(made)
    });
}

#[test]
fn what_was_put_is_there_after_opening_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let tier = open(dir.path());
    tier.put("s", &[at(1, 0.0), at(2, 0.0)]).expect("a put");
    tier.delete("s", &[id(1)]).expect("a delete");
    assert!(code(Files::open(dir.path(), "again")).contains("another engine"));
    tier.close();
    for refused in [code(tier.count("s")), code(tier.put("s", &[at(3, 0.0)])), code(tier.health())]
    {
        assert!(refused.contains("closed"), "{refused}");
    }
    let tier = open(dir.path());
    assert_eq!((tier.count("s").expect("a count"), texts(&tier, "s").len()), (1, 1));
    tier.delete_session("s").expect("a delete");
    assert!(logs(dir.path()).is_empty(), "the file is gone");
}

/// A process that dies leaves a beginning of what it wrote: at every length, either the last frame is
/// there or the state before it.
#[test]
fn a_file_cut_anywhere_holds_a_state_that_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut states = vec![(0, Vec::new())];
    {
        let tier = open(dir.path());
        for step in 0..6 {
            match step {
                4 => tier.delete("s", &[id(1)]).expect("a delete"),
                _ => tier.put("s", &[at(step, 0.0), at(step + 1, 9.0)]).expect("a put"),
            }
            let len = fs::metadata(&logs(dir.path())[0]).expect("a file").len();
            states.push((len, texts(&tier, "s")));
        }
    }
    let whole = fs::read(&logs(dir.path())[0]).expect("a file");
    let name = logs(dir.path())[0].file_name().expect("a name").to_owned();
    for len in 0..=whole.len() {
        let other = tempfile::tempdir().expect("a directory");
        fs::write(other.path().join(&name), &whole[..len]).expect("a file");
        // A compaction that died half-way.
        fs::write(other.path().join(&name).with_extension("new"), &whole[..len / 2])
            .expect("a file");
        let tier = open(other.path());
        let state = states.iter().rfind(|(end, _)| *end <= len as u64).expect("the first");
        assert_eq!(texts(&tier, "s"), state.1, "cut at {len}");
        tier.put("s", &[at(50, 0.0)]).expect("it goes on");
        drop(tier);
        assert_eq!(texts(&open(other.path()), "s").len(), state.1.len() + 1, "cut at {len}");
    }
}

/// What was synced and does not fit is damage: told, never taken for an end.
#[test]
fn a_byte_turned_anywhere_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    {
        let tier = open(dir.path());
        tier.put("s", &[at(1, 0.0)]).expect("a put");
        tier.put("s", &[at(2, 0.0)]).expect("a put");
    }
    let path = logs(dir.path())[0].clone();
    let whole = fs::read(&path).expect("a file");
    // The last frame may have been under way when the power went; what stands before it may not.
    let last = whole.len() - 12 - 1 - 8 - (16 + 4 + 6 + 2 + 1 + "fact 2".len());
    for at in 0..last {
        let mut turned = whole.clone();
        turned[at] ^= 0x40;
        fs::write(&path, &turned).expect("a file");
        let message = code(open(dir.path()).count("s"));
        assert!(message.contains("damaged"), "byte {at}: {message}");
    }
    fs::write(&path, &whole).expect("a file");
    assert_eq!(open(dir.path()).count("s").expect("a count"), 2);
}

#[test]
fn deleted_bytes_leave_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let tier = open(dir.path());
    let large = |n| Cold { content: Content::Text("x".repeat(5_000)), ..at(n, n as f32) };
    tier.put("s", &(0..100).map(large).collect::<Vec<_>>()).expect("a put");
    let full = fs::metadata(&logs(dir.path())[0]).expect("a file").len();
    let most: Vec<_> = (0..95).map(id).collect();
    tier.delete("s", &most).expect("a delete");
    let rest = fs::metadata(&logs(dir.path())[0]).expect("a file").len();
    assert!(rest < full / 10, "{rest} of {full} bytes");
    assert_eq!((tier.count("s").expect("a count"), texts(&tier, "s").len()), (5, 5));
    for _ in 0..300 {
        tier.put("s", &[large(99)]).expect("a put");
    }
    assert!(fs::metadata(&logs(dir.path())[0]).expect("a file").len() < full / 2, "garbage goes");
    drop(tier);
    assert_eq!(texts(&open(dir.path()), "s").len(), 5);
}

#[test]
fn more_sessions_than_stay_open_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let tier = open(dir.path());
    for n in 0..200 {
        tier.put(&format!("s{n}"), &[at(n, 0.0)]).expect("a put");
    }
    for n in 0..200 {
        assert_eq!(tier.search(&format!("s{n}"), &ray(0.0), &[], 9).expect("hits")[0].id, id(n));
    }
}

#[test]
fn a_folder_that_cannot_be_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("a file");
    assert!(code(Files::open(&file, "files")).contains("cannot make"));
}

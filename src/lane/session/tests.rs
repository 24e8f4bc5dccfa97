//! Sessions against a model that is one list per key.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::Overflow;

fn key() -> Arc<str> {
    "u".into()
}

fn run(n: u128) -> RunId {
    RunId::from_u128(n)
}

fn group(flow: u8) -> Arc<Group> {
    let collect = Collect {
        debounce_ms: 500,
        timeout_ms: 30_000,
        cap: 20,
        overflow: Overflow::Summarize,
        merge: None,
        summarize: None,
    };
    Arc::new(Group { definition: [flow; 32], collect: Arc::new(collect) })
}

fn comes(n: u128) -> Waiting {
    Waiting { run: run(n), at: Timestamp(0), group: None }
}

fn collects(n: u128, at: u64, flow: u8) -> Waiting {
    Waiting { run: run(n), at: Timestamp(at), group: Some(group(flow)) }
}

#[test]
fn runs_of_a_session_go_one_at_a_time_and_leave_nothing_behind() {
    let mut sessions = Sessions::default();
    (1..=3).for_each(|n| sessions.enter(&key(), comes(n)));
    for n in 1..=3 {
        assert_eq!(sessions.next("u", Timestamp(0)), Next::Start(run(n)));
        assert_eq!(sessions.next("u", Timestamp(0)), Next::Nothing, "one at a time");
        sessions.left("u", run(n));
    }
    assert!(sessions.is_empty() && sessions.waiting() == 0);
}

#[test]
fn a_million_sessions_leave_no_entry_behind() {
    let mut sessions = Sessions::default();
    let keys: Vec<Arc<str>> = (0..1_000_000_u32).map(|n| n.to_string().into()).collect();
    // All at once, each with one run that goes and one that waits.
    for (n, key) in keys.iter().enumerate() {
        let n = 2 * n as u128;
        sessions.enter(key, comes(n));
        assert_eq!(sessions.next(key, Timestamp(0)), Next::Start(run(n)), "and no timer");
        sessions.enter(key, comes(n + 1));
    }
    assert_eq!((sessions.len(), sessions.waiting()), (keys.len(), keys.len()));
    for (n, key) in keys.iter().enumerate() {
        let n = 2 * n as u128;
        sessions.left(key, run(n));
        assert_eq!(sessions.next(key, Timestamp(0)), Next::Start(run(n + 1)));
        sessions.left(key, run(n + 1));
    }
    assert_eq!((sessions.len(), sessions.waiting()), (0, 0));
}

#[test]
fn a_parked_run_goes_before_those_who_wait_but_interrupts_nobody() {
    let mut sessions = Sessions::default();
    (1..=3).for_each(|n| sessions.enter(&key(), comes(n)));
    assert_eq!(sessions.next("u", Timestamp(0)), Next::Start(run(1)));
    assert!(sessions.park("u", run(1)) && !sessions.park("u", run(1)));
    assert_eq!(sessions.next("u", Timestamp(0)), Next::Start(run(2)));
    assert!(sessions.due("u", run(1)) && !sessions.due("u", run(1)));
    assert_eq!(sessions.next("u", Timestamp(0)), Next::Nothing);
    let ahead: Vec<_> = [2, 1, 3].map(|n| sessions.ahead("u", run(n))).into();
    assert_eq!(ahead, [0, 1, 2], "who holds it, who is due, who waits");
    sessions.left("u", run(2));
    assert_eq!(sessions.next("u", Timestamp(0)), Next::Resume(run(1)));
    sessions.left("u", run(1));
    assert_eq!(sessions.next("u", Timestamp(0)), Next::Start(run(3)));
}

#[test]
fn a_session_whose_only_run_is_parked_is_free() {
    let mut sessions = Sessions::default();
    sessions.enter(&key(), comes(1));
    sessions.next("u", Timestamp(0));
    sessions.park("u", run(1));
    assert!(!sessions.is_busy("u"));
    assert_eq!(sessions.len(), 1, "it is remembered");
    sessions.left("u", run(1));
    assert!(sessions.is_empty());
}

#[test]
fn messages_are_merged_once_no_more_come() {
    let mut sessions = Sessions::default();
    sessions.enter(&key(), comes(1));
    assert_eq!(sessions.next("u", Timestamp(0)), Next::Start(run(1)));
    sessions.enter(&key(), collects(2, 100, 1));
    sessions.enter(&key(), collects(3, 300, 1));
    sessions.left("u", run(1));
    let wait = Next::Wait { until: Timestamp(800), first: run(2) };
    assert_eq!(sessions.next("u", Timestamp(400)), wait);
    assert_eq!(sessions.next("u", Timestamp(500)), Next::Nothing, "one timer is enough");
    sessions.enter(&key(), collects(4, 700, 1));
    sessions.rang("u", run(2));
    let wait = Next::Wait { until: Timestamp(1_200), first: run(2) };
    assert_eq!(sessions.next("u", Timestamp(800)), wait);
    sessions.rang("u", run(2));
    let runs = vec![run(2), run(3), run(4)];
    let merge = Next::Merge { number: 1, runs: runs.clone(), group: group(1) };
    assert_eq!(sessions.next("u", Timestamp(1_200)), merge);
    assert_eq!(sessions.next("u", Timestamp(1_200)), Next::Nothing, "merged once");
    assert_eq!(sessions.merged("u", 1), Some(runs));
    assert_eq!(sessions.holder("u"), Some(run(2)));
    assert_eq!(sessions.merged("u", 1), None);
    sessions.left("u", run(2));
    assert!(sessions.is_empty());
}

#[test]
fn merging_keeps_the_order_of_the_session() {
    let mut sessions = Sessions::default();
    for waiting in [collects(1, 0, 1), collects(2, 0, 1), comes(3), collects(4, 0, 1)] {
        sessions.enter(&key(), waiting);
    }
    let Next::Merge { number, runs, .. } = sessions.next("u", Timestamp(0)) else {
        panic!("nobody can join the first two, so nobody waits for that");
    };
    assert_eq!(runs, [run(1), run(2)]);
    sessions.merged("u", number);
    sessions.left("u", run(1));
    assert_eq!(sessions.next("u", Timestamp(0)), Next::Start(run(3)));
}

#[test]
fn other_workflows_are_not_merged() {
    let mut sessions = Sessions::default();
    sessions.enter(&key(), collects(1, 0, 1));
    sessions.enter(&key(), collects(2, 0, 2));
    assert_eq!(sessions.last_group("u", &group(2)), Some((1, run(2))));
    assert_eq!(sessions.last_group("u", &group(1)), None);
    assert_eq!(sessions.next("u", Timestamp(0)), Next::Start(run(1)));
}

#[test]
fn who_leaves_while_being_merged_is_not_in_what_is_merged() {
    let mut sessions = Sessions::default();
    (1..=3).for_each(|n| sessions.enter(&key(), collects(n, 0, 1)));
    let Next::Merge { number, .. } = sessions.next("u", Timestamp(900)) else {
        panic!("all are ripe");
    };
    sessions.enter(&key(), collects(4, 900, 1));
    assert_eq!(sessions.last_group("u", &group(1)), Some((1, run(4))));
    sessions.left("u", run(2));
    assert_eq!(sessions.merged("u", number), None);
    let Next::Merge { number, runs, .. } = sessions.next("u", Timestamp(1_400)) else {
        panic!("again, without it");
    };
    assert_eq!(runs, [run(1), run(3), run(4)]);
    assert_eq!(sessions.unmerged("u", number), Some(runs));
}

/// What happens to sessions.
#[derive(Clone, Debug)]
enum Step {
    Submit { key: u8, collect: bool },
    End { key: u8 },
    Cancel { key: u8, at: usize },
    Park { key: u8 },
    Due { key: u8 },
    Tick { ms: u64 },
    Report { key: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0_u8..3;
    let step = prop_oneof![
        4 => (key.clone(), any::<bool>()).prop_map(|(key, collect)| Step::Submit { key, collect }),
        3 => key.clone().prop_map(|key| Step::End { key }),
        1 => (key.clone(), 0_usize..6).prop_map(|(key, at)| Step::Cancel { key, at }),
        1 => key.clone().prop_map(|key| Step::Park { key }),
        1 => key.clone().prop_map(|key| Step::Due { key }),
        2 => (0_u64..700).prop_map(|ms| Step::Tick { ms }),
        2 => key.prop_map(|key| Step::Report { key }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// One list per session: who is in it, in the order of the submits, and what became of each.
#[derive(Default)]
struct Naive {
    open: BTreeMap<u8, Vec<RunId>>,
    begun: BTreeMap<u8, Vec<RunId>>,
    holder: BTreeMap<u8, RunId>,
    parked: Vec<RunId>,
    due: BTreeMap<u8, Vec<RunId>>,
    merging: BTreeMap<u8, (u64, Vec<RunId>)>,
}

impl Naive {
    fn leaves(&mut self, key: u8, run: RunId) {
        self.open.entry(key).or_default().retain(|other| *other != run);
        self.due.entry(key).or_default().retain(|other| *other != run);
        self.parked.retain(|other| *other != run);
        if self.holder.get(&key) == Some(&run) {
            self.holder.remove(&key);
        }
    }

    /// Who may begin: the oldest that has not begun, and nobody while somebody holds the session.
    fn may_begin(&self, key: u8, run: RunId) -> bool {
        let begun = self.begun.get(&key);
        let fresh = |other: &&RunId| !begun.is_some_and(|begun| begun.contains(other));
        let first = self.open.get(&key).and_then(|open| open.iter().find(fresh));
        !self.holder.contains_key(&key) && first == Some(&run)
    }

    fn begins(&mut self, key: u8, run: RunId) {
        self.holder.insert(key, run);
        self.begun.entry(key).or_default().push(run);
    }
}

fn name(key: u8) -> Arc<str> {
    format!("s{key}").into()
}

fn settle(sessions: &mut Sessions, naive: &mut Naive, key: u8, now: Timestamp) {
    loop {
        match sessions.next(&name(key), now) {
            Next::Nothing | Next::Wait { .. } => return,
            Next::Start(run) => {
                assert!(naive.due.get(&key).is_none_or(Vec::is_empty), "due ones go first");
                assert!(naive.may_begin(key, run), "{run} is not next");
                naive.begins(key, run);
            }
            Next::Resume(run) => {
                assert!(!naive.holder.contains_key(&key));
                assert_eq!(naive.due.entry(key).or_default().remove(0), run);
                naive.holder.insert(key, run);
            }
            Next::Merge { number, runs, .. } => {
                assert!(runs.len() > 1 && naive.may_begin(key, runs[0]));
                naive.merging.insert(key, (number, runs));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_session_goes_in_the_order_of_its_submits(steps in steps()) {
        let mut sessions = Sessions::default();
        let mut naive = Naive::default();
        let (mut now, mut count) = (Timestamp(0), 0);
        for step in steps {
            match step {
                Step::Submit { key, collect } => {
                    count += 1;
                    let group = collect.then(|| group(1));
                    sessions.enter(&name(key), Waiting { run: run(count), at: now, group });
                    naive.open.entry(key).or_default().push(run(count));
                    settle(&mut sessions, &mut naive, key, now);
                }
                Step::End { key } => {
                    if let Some(run) = naive.holder.get(&key).copied() {
                        sessions.left(&name(key), run);
                        naive.leaves(key, run);
                        settle(&mut sessions, &mut naive, key, now);
                    }
                }
                Step::Cancel { key, at } => {
                    let run = naive.open.get(&key).and_then(|open| open.get(at)).copied();
                    if let Some(run) = run {
                        sessions.left(&name(key), run);
                        naive.leaves(key, run);
                        settle(&mut sessions, &mut naive, key, now);
                    }
                }
                Step::Park { key } => {
                    if let Some(run) = naive.holder.remove(&key) {
                        prop_assert!(sessions.park(&name(key), run));
                        naive.parked.push(run);
                        settle(&mut sessions, &mut naive, key, now);
                    }
                }
                Step::Due { key } => {
                    let of = |run: &&RunId| naive.open.get(&key).is_some_and(|o| o.contains(run));
                    if let Some(run) = naive.parked.iter().find(of).copied() {
                        prop_assert!(sessions.due(&name(key), run));
                        naive.parked.retain(|other| *other != run);
                        naive.due.entry(key).or_default().push(run);
                        settle(&mut sessions, &mut naive, key, now);
                    }
                }
                Step::Tick { ms } => {
                    now = now.plus(ms);
                    for key in 0..3 {
                        if let Some(first) = naive.open.get(&key).and_then(|open| {
                            open.iter().find(|r| !naive.begun.get(&key).is_some_and(|b| b.contains(r)))
                        }) {
                            sessions.rang(&name(key), *first);
                        }
                        settle(&mut sessions, &mut naive, key, now);
                    }
                }
                Step::Report { key } => {
                    let Some((number, runs)) = naive.merging.remove(&key) else { continue };
                    let whole = runs.iter().all(|run| naive.open[&key].contains(run));
                    let merged = sessions.merged(&name(key), number);
                    prop_assert_eq!(merged.is_some(), whole);
                    if merged.is_some() {
                        runs[1..].iter().for_each(|&run| naive.leaves(key, run));
                        naive.begins(key, runs[0]);
                    }
                    settle(&mut sessions, &mut naive, key, now);
                }
            }
            let open: usize = naive.open.values().filter(|open| !open.is_empty()).count();
            prop_assert_eq!(sessions.len(), open, "an entry per session that has runs, no more");
        }
    }
}

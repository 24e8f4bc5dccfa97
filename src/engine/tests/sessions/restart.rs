//! What a restart finds, and what it finishes.

use super::*;
use crate::model::{Conduct, Event, Record, RunId, Submitted};

#[test]
fn a_session_goes_on_in_its_order_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = talk();
    let local = Local::new();
    let (desk, _gates) = Desk::new(&local, &[1]);
    let engine = open(&local, Some(folder.path()), vec![]);
    // Ids that say nothing of the order.
    let ids: Vec<_> = [50, 90, 10, 70].map(crate::model::RunId::from_u128).into();
    for (n, id) in (1..).zip(&ids) {
        let submit = Submit { id: Some(*id), ..says(&plan, n, WhenBusy::Followup) };
        send(&engine, submit);
    }
    assert_eq!(desk.next(), 1);
    engine.close(0);

    let again = Local::new();
    let (desk, _) = Desk::new(&again, &[]);
    let engine = open(&again, Some(folder.path()), vec![]);
    assert_eq!(engine.recovered(), 4);
    assert_eq!([(); 4].map(|()| desk.next()), [1, 2, 3, 4]);
    for id in ids {
        assert_eq!(ended(&engine.get(id).expect("known")), RunState::Completed);
    }
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn a_restart_puts_unread_messages_before_the_same_run_and_keeps_those_that_were_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = talk();
    let local = Local::new();
    let begun = reader(&local);
    let engine = open(&local, Some(folder.path()), vec![]);
    let head = send(&engine, says(&plan, 1, WhenBusy::Steer));
    begun.recv().expect("it begins");
    let read = send(&engine, says(&plan, 7, WhenBusy::Steer));
    ended(&read);
    let id = head.id();
    engine.close(0);

    let again = Local::new();
    let begun = reader(&again);
    let engine = open(&again, Some(folder.path()), vec![]);
    begun.recv().expect("it begins again");
    let head = engine.get(id).expect("known");
    let last = send(&engine, says(&plan, 99, WhenBusy::Steer));
    assert_eq!([ended(&head), ended(&last)], [RunState::Completed; 2]);
    let result = head.inspect(|run| run.result_of(0)).expect("a result");
    assert!(matches!(result, TaskResult::One(p) if as_number(&p) == 2), "it read 7 again");
    is_idle(&engine);
    engine.close(0);
}

/// A store as a crash between two records leaves it: runs by number, and what else was written.
fn left_behind(path: &Path, plan: &Arc<Plan>, runs: &[(u8, Conduct)], then: &[(u8, Event)]) {
    let store = crate::store::open(Some(path), &crate::store::Options::default()).expect("a store");
    let mut seq = store.next_seq();
    let mut append = |n: u8, event: Event| {
        let record = Record { run: id(n), seq, at: Timestamp(1), events: vec![event] };
        seq += record.weight();
        store.append(&[record]).expect("room");
    };
    for (n, conduct) in runs {
        let submitted = Submitted {
            definition: plan.definition,
            workflow: Some(Arc::clone(&plan.workflow)),
            input: number(*n),
            priority: 0,
            durability: crate::model::Durability::Strict,
            tags: Vec::new(),
            session: Some("u".into()),
            weight: 1,
            conduct: conduct.clone(),
            memory: Default::default(),
            trace_id: String::new(),
            at: Timestamp(1),
        };
        append(*n, Event::Submitted(Box::new(submitted)));
    }
    then.iter().for_each(|(n, event)| append(*n, event.clone()));
    store.sync().expect("room");
    store.close().expect("room");
}

fn id(n: u8) -> RunId {
    RunId::from_u128(n.into())
}

fn conduct(when_busy: WhenBusy, admission: Admission) -> Conduct {
    Conduct { when_busy, admission, ..Conduct::default() }
}

#[test]
fn a_message_that_was_read_before_the_crash_is_absorbed_after_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = talk();
    let runs = [
        (1, Conduct::default()),
        (2, conduct(WhenBusy::Steer, Admission::Steered)),
        (3, conduct(WhenBusy::Followup, Admission::Queued)),
    ];
    let read = Event::Steered { from: id(2), message: number(2) };
    left_behind(folder.path(), &plan, &runs, &[(1, read)]);
    let local = Local::new();
    let (desk, _) = Desk::new(&local, &[]);
    let engine = open(&local, Some(folder.path()), vec![]);
    let taken = engine.get(id(2)).expect("known");
    assert_eq!((ended(&taken), into(&taken)), (RunState::Completed, Some(id(1))));
    assert_eq!([desk.next(), desk.next()], [1, 3]);
    ended(&engine.get(id(3)).expect("known"));
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn messages_that_were_merged_before_the_crash_are_absorbed_after_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = talk();
    let mode = conduct(collect(0, 20, Overflow::Summarize), Admission::Collected);
    let merged = Event::Merged { from: vec![id(3), id(2)], input: number(60) };
    // The ids are in another order than the submits.
    let runs = [(4, mode.clone()), (3, mode.clone()), (2, mode)];
    left_behind(folder.path(), &plan, &runs, &[(4, merged)]);
    let local = Local::new();
    let (desk, _) = Desk::new(&local, &[]);
    let engine = open(&local, Some(folder.path()), vec![]);
    for n in [2, 3] {
        let taken = engine.get(id(n)).expect("known");
        assert_eq!((ended(&taken), into(&taken)), (RunState::Completed, Some(id(4))));
    }
    assert_eq!(ended(&engine.get(id(4)).expect("known")), RunState::Completed);
    assert_eq!(desk.next(), 60);
    assert!(desk.is_quiet());
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn messages_that_waited_to_be_merged_are_merged_after_a_crash() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = talk();
    let mode = conduct(collect(0, 20, Overflow::Summarize), Admission::Collected);
    left_behind(folder.path(), &plan, &[(1, mode.clone()), (2, mode)], &[]);
    let local = Local::new();
    local.merger(sum);
    let (desk, _) = Desk::new(&local, &[]);
    let engine = open(&local, Some(folder.path()), vec![]);
    assert_eq!(desk.next(), 3);
    assert_eq!(ended(&engine.get(id(2)).expect("known")), RunState::Completed);
    engine.close(0);
}

#[test]
fn an_interrupt_that_was_submitted_before_the_crash_cancels_after_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = talk();
    let runs = [
        (1, Conduct::default()),
        (2, conduct(WhenBusy::Followup, Admission::Queued)),
        (3, conduct(WhenBusy::Interrupt, Admission::Interrupting)),
        (4, conduct(WhenBusy::Followup, Admission::Queued)),
    ];
    left_behind(folder.path(), &plan, &runs, &[]);
    let local = Local::new();
    let (desk, _) = Desk::new(&local, &[]);
    let engine = open(&local, Some(folder.path()), vec![]);
    for n in [1, 2] {
        let run = engine.get(id(n)).expect("known");
        assert_eq!(ended(&run), RunState::Cancelled);
        assert!(reason(&run).contains(&id(3).to_string()));
    }
    assert_eq!([desk.next(), desk.next()], [3, 4]);
    ended(&engine.get(id(4)).expect("known"));
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn what_waited_unread_before_a_run_is_put_before_it_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = talk();
    let runs = [(1, Conduct::default())];
    let steer = conduct(WhenBusy::Steer, Admission::Steered);
    left_behind(folder.path(), &plan, &runs, &[(1, Event::RunStarted)]);
    left_behind(folder.path(), &plan, &[(99, steer)], &[]);
    let local = Local::new();
    let _begun = reader(&local);
    let engine = open(&local, Some(folder.path()), vec![]);
    let taken = engine.get(id(99)).expect("known");
    assert_eq!((ended(&taken), into(&taken)), (RunState::Completed, Some(id(1))));
    assert_eq!(ended(&engine.get(id(1)).expect("known")), RunState::Completed);
    is_idle(&engine);
    engine.close(0);
}

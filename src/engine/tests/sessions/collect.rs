//! Messages that become one.

use super::*;

#[test]
fn collected_messages_become_one_follow_up() {
    on_both_stores(|path| {
        let local = Local::new();
        let (desk, gates) = Desk::new(&local, &[1]);
        local.merger(sum);
        let engine = open(&local, path, vec![]);
        let plan = talk();
        let mode = || collect(1, 20, Overflow::Summarize);
        let head = send(&engine, says(&plan, 1, mode()));
        desk.next();
        let runs: Vec<_> = [10, 20, 30].map(|n| send(&engine, says(&plan, n, mode()))).into();
        assert_eq!(admission(&runs[0]), Admission::Collected);
        drop(gates);
        ended(&head);
        assert_eq!(desk.next(), 60, "one message made of three");
        runs.iter().for_each(|run| assert_eq!(ended(run), RunState::Completed));
        assert_eq!(into(&runs[0]), None);
        assert_eq!([into(&runs[1]), into(&runs[2])], [Some(runs[0].id()); 2]);
        assert!(desk.is_quiet());
        is_idle(&engine);
        engine.close(0);
    });
}

#[test]
fn what_is_collected_is_capped_as_it_was_asked_for() {
    let local = Local::new();
    let (desk, gates) = Desk::new(&local, &[1]);
    local.merger(sum);
    let engine = open(&local, None, vec![]);
    let plan = talk();
    send(&engine, says(&plan, 1, WhenBusy::Followup));
    desk.next();
    let old = collect(1, 2, Overflow::Old);
    let runs: Vec<_> = [10, 20, 30].map(|n| send(&engine, says(&plan, n, old.clone()))).into();
    assert_eq!(ended(&runs[0]), RunState::Cancelled);
    assert_eq!(runs[0].inspect(|run| run.code()).expect("known"), Some("session.dropped"));
    let new = collect(1, 2, Overflow::New);
    let kept = [1, 2].map(|n| send(&engine, says(&plan, n, new.clone())));
    assert_eq!(refused(&engine, says(&plan, 3, new)), "session.full");
    drop(gates);
    assert_eq!((desk.next(), desk.next()), (50, 3));
    runs[1..].iter().chain(&kept).for_each(|run| assert_eq!(ended(run), RunState::Completed));
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn messages_that_cannot_be_merged_fail_and_are_not_lost_silently() {
    let local = Local::new();
    let (desk, gates) = Desk::new(&local, &[1]);
    local.merger(|_| {
        let failure = Failure::new(FailureKind::Exception, "task.exception", "no sum of these");
        Err(Box::new(failure))
    });
    let engine = open(&local, None, vec![]);
    let plan = talk();
    send(&engine, says(&plan, 1, WhenBusy::Followup));
    desk.next();
    let mode = || collect(0, 20, Overflow::Summarize);
    let runs = [2, 3].map(|n| send(&engine, says(&plan, n, mode())));
    let after = send(&engine, says(&plan, 4, WhenBusy::Followup));
    drop(gates);
    for run in &runs {
        assert_eq!(ended(run), RunState::Failed);
        assert_eq!(run.inspect(|run| run.code()).expect("known"), Some("session.merge"));
        assert_eq!(reason(run), "no sum of these");
    }
    assert_eq!((desk.next(), ended(&after)), (4, RunState::Completed));
    is_idle(&engine);
    engine.close(0);
}

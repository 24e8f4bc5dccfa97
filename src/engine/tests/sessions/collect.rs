//! Messages that become one.

use super::*;
use crate::agent::Report;
use crate::engine::inbox::Message;

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

#[test]
fn a_cap_holds_for_messages_that_come_together() {
    let local = Local::new();
    let (desk, gates) = Desk::new(&local, &[1]);
    local.merger(sum);
    let engine = open(&local, None, vec![]);
    let plan = talk();
    send(&engine, says(&plan, 1, WhenBusy::Followup));
    desk.next();
    let old = collect(1, 2, Overflow::Old);
    let together = [10, 20, 30, 40, 50].map(|n| says(&plan, n, old.clone())).into();
    let tickets = engine.submit_many(together).expect("the inbox is open");
    let runs: Vec<_> = tickets
        .iter()
        .map(|ticket| ticket.wait(SOON).expect("answered in time").expect("accepted"))
        .collect();
    drop(gates);
    assert_eq!(desk.next(), 90, "the last two");
    let ends: Vec<_> = runs.iter().map(ended).collect();
    assert_eq!(ends[..3], [RunState::Cancelled; 3]);
    assert_eq!(ends[3..], [RunState::Completed; 2]);
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn a_message_that_is_cancelled_while_it_is_merged_takes_no_other_with_it() {
    let local = Local::new();
    let (desk, mut gates) = Desk::new(&local, &[1, 9]);
    let (tell, merging) = mpsc::channel();
    let (answer, slow) = mpsc::channel::<()>();
    let (tell, slow) = (Mutex::new(tell), Mutex::new(slow));
    local.merger(move |call| {
        tell.lock().expect("nobody panics here").send(call.number).expect("the test listens");
        if call.number == 1 {
            let _ = slow.lock().expect("nobody panics here").recv();
        }
        sum(call)
    });
    let engine = open(&local, None, vec![]);
    let plan = talk();
    send(&engine, says(&plan, 1, WhenBusy::Followup));
    assert_eq!(desk.next(), 1);
    let other = send(&engine, Submit { input: number(9), ..request(&plan) });
    assert_eq!(desk.next(), 9);
    let mode = || collect(0, 20, Overflow::Summarize);
    let runs = [10, 20, 30].map(|n| send(&engine, says(&plan, n, mode())));
    // The end of another run holds the owner, so that all that follows comes in one turn.
    let (go, hold) = mpsc::channel::<()>();
    let (tell, held) = mpsc::channel();
    other.cell.at_end(Box::new(move || {
        tell.send(()).expect("the test listens");
        let _ = hold.recv();
    }));
    drop(gates.remove(0));
    assert_eq!(merging.recv(), Ok(1));
    drop(gates);
    held.recv().expect("the owner is held");
    let (reply, _answer) = mpsc::sync_channel(1);
    let cancel = Message::Cancel { run: runs[0].id(), reason: "enough".into(), reply };
    engine.shared.inbox.push(cancel).expect("the inbox is open");
    let merged = Report::Merged { session: "u".into(), number: 1, result: Ok(number(60)) };
    local.tell(vec![merged]);
    drop((go, answer));
    assert_eq!(desk.next(), 50, "the other two, merged anew");
    assert_eq!(runs.each_ref().map(ended)[..2], [RunState::Cancelled, RunState::Completed]);
    assert_eq!(ended(&runs[2]), RunState::Completed);
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn a_merging_that_hangs_fails_its_runs_in_time_and_lets_its_session_go_on() {
    let local = Local::new();
    let (desk, gates) = Desk::new(&local, &[1]);
    let (answer, slow) = mpsc::channel::<()>();
    let slow = Mutex::new(slow);
    local.merger(move |call| {
        let _ = slow.lock().expect("nobody panics here").recv();
        sum(call)
    });
    let options = Options { stuck_threads_max: 1, ..Options::default() };
    let engine = Engine::open(options, |reports| local.connect(reports)).expect("opens");
    let plan = talk();
    send(&engine, says(&plan, 1, WhenBusy::Followup));
    desk.next();
    let WhenBusy::Collect(usual) = collect(0, 20, Overflow::Summarize) else { unreachable!() };
    let mode = || WhenBusy::Collect(Arc::new(Collect { timeout_ms: 20, ..Collect::clone(&usual) }));
    let runs = [2, 3].map(|n| send(&engine, says(&plan, n, mode())));
    let after = send(&engine, says(&plan, 4, WhenBusy::Followup));
    drop(gates);
    for run in &runs {
        assert_eq!(ended(run), RunState::Failed);
        assert_eq!(run.inspect(|run| run.code()).expect("known"), Some("session.merge_timeout"));
        assert!(reason(run).contains("within 20 ms"), "{}", reason(run));
    }
    assert_eq!((desk.next(), ended(&after)), (4, RunState::Completed));
    let stuck = engine.pulse().expect("open").merges;
    assert_eq!(stuck.iter().map(|merge| &*merge.session).collect::<Vec<_>>(), ["u"]);

    // As many as may are stuck: what is to be merged next fails at once, and waits for nobody.
    let (desk, gates) = Desk::new(&local, &[5]);
    send(&engine, says(&plan, 5, WhenBusy::Followup));
    desk.next();
    let runs = [6, 7].map(|n| send(&engine, says(&plan, n, mode())));
    drop(gates);
    for run in &runs {
        assert_eq!(ended(run), RunState::Failed);
        assert!(reason(run).contains("see health"), "{}", reason(run));
    }
    drop(answer);
    while !engine.pulse().expect("open").merges.is_empty() {
        std::thread::yield_now();
    }
    is_idle(&engine);
    engine.close(0);
}

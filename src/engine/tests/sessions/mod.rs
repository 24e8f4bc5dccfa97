//! Sessions through the whole line: order, every mode, crashes.

mod collect;
mod many;
mod restart;

use super::*;
use crate::agent::MergeCall;
use crate::model::{Admission, Collect, OnRetry, Overflow, WhenBusy, merge_timeout_ms};

/// An agent that says which message it has begun, and ends when it is let go.
struct Desk {
    begun: Mutex<mpsc::Receiver<u8>>,
    gates: Arc<Mutex<std::collections::HashMap<u8, mpsc::Receiver<()>>>>,
}

impl Desk {
    /// Registers `talk`; messages in `held` wait to be let go.
    fn new(local: &Arc<Local>, held: &[u8]) -> (Self, Vec<mpsc::Sender<()>>) {
        let (tell, begun) = mpsc::channel();
        let (mut gates, mut keys) = (std::collections::HashMap::new(), Vec::new());
        for &n in held {
            let (key, gate) = mpsc::channel();
            gates.insert(n, gate);
            keys.push(key);
        }
        let gates = Arc::new(Mutex::new(gates));
        let (tell, doors) = (Mutex::new(tell), Arc::clone(&gates));
        local.agent("talk", move |batch, _| {
            let n = as_number(&batch.call.input);
            let _ = tell.lock().expect("nobody panics here").send(n);
            let gate = doors.lock().expect("nobody panics here").remove(&n);
            if let Some(gate) = gate {
                while matches!(
                    gate.recv_timeout(Duration::from_millis(1)),
                    Err(mpsc::RecvTimeoutError::Timeout)
                ) {
                    if batch.abandoned.load(Ordering::Acquire) {
                        return Outcome::Cancelled;
                    }
                }
            }
            Outcome::Completed(number(n))
        });
        (Self { begun: Mutex::new(begun), gates }, keys)
    }

    fn next(&self) -> u8 {
        let begun = self.begun.lock().expect("nobody panics here");
        begun.recv_timeout(Duration::from_secs(20)).expect("a message begins")
    }

    fn is_quiet(&self) -> bool {
        self.begun.lock().expect("nobody panics here").try_recv().is_err()
    }

    /// Nobody waits for this gate any more.
    fn is_open(&self, n: u8) -> bool {
        !self.gates.lock().expect("nobody panics here").contains_key(&n)
    }
}

fn talk() -> Arc<Plan> {
    plan(vec![task("a", "talk", &[])])
}

fn says(plan: &Arc<Plan>, n: u8, when_busy: WhenBusy) -> Submit {
    let session = Some("u".into());
    Submit { input: number(n), session, when_busy: Some(when_busy), ..request(plan) }
}

fn send(engine: &Engine, submit: Submit) -> Handle {
    let ticket = engine.submit(submit).expect("the inbox is open");
    ticket.wait(SOON).expect("answered in time").expect("accepted")
}

fn refused(engine: &Engine, submit: Submit) -> &'static str {
    let ticket = engine.submit(submit).expect("the inbox is open");
    ticket.wait(SOON).expect("answered in time").expect_err("refused").code
}

fn admission(handle: &Handle) -> Admission {
    handle.inspect(|run| run.submitted().conduct.admission).expect("the run is known")
}

fn reason(handle: &Handle) -> String {
    handle.inspect(|run| run.reason().unwrap_or_default().to_owned()).expect("the run is known")
}

fn into(handle: &Handle) -> Option<crate::model::RunId> {
    handle.inspect(crate::run::Run::absorbed_into).expect("the run is known")
}

fn collect(debounce_ms: u64, cap: u32, overflow: Overflow) -> WhenBusy {
    let (merge, summarize) = (None, None);
    let timeout_ms = merge_timeout_ms();
    let collect = Collect { debounce_ms, cap, overflow, merge, summarize, timeout_ms };
    WhenBusy::Collect(Arc::new(collect))
}

/// Adds the numbers up.
fn sum(call: &MergeCall) -> Result<Payload, Box<Failure>> {
    Ok(number(call.inputs.iter().map(as_number).sum()))
}

fn is_idle(engine: &Engine) {
    let stats = engine.stats();
    let busy = stats.sessions_busy.load(Ordering::Relaxed);
    let waiting = stats.sessions_waiting.load(Ordering::Relaxed);
    assert_eq!((busy, waiting), (0, 0), "an idle session leaves nothing behind");
    assert_eq!(engine.sessions().expect("open"), Vec::<Arc<str>>::new());
}

#[test]
fn messages_of_a_session_go_one_at_a_time_in_order() {
    on_both_stores(|path| {
        let local = Local::new();
        let (desk, gates) = Desk::new(&local, &[1]);
        let engine = open(&local, path, vec![]);
        let plan = talk();
        let runs: Vec<_> =
            (1..=4).map(|n| send(&engine, says(&plan, n, WhenBusy::Followup))).collect();
        assert_eq!(desk.next(), 1);
        assert_eq!(admission(&runs[0]), Admission::Started);
        assert_eq!(admission(&runs[3]), Admission::Queued);
        let info = engine.session("u").expect("open");
        assert_eq!((info.view.holder, info.view.waiting), (Some(runs[0].id()), 3));
        let lanes = engine.lanes().expect("open");
        assert!(lanes.iter().all(|lane| lane.queued == 0 && lane.backlog == 0));
        let other = Submit { session: Some("v".into()), ..says(&plan, 9, WhenBusy::Followup) };
        assert_eq!(ended(&send(&engine, other)), RunState::Completed, "others go on");
        assert_eq!(desk.next(), 9);
        drop(gates);
        assert_eq!([desk.next(), desk.next(), desk.next()], [2, 3, 4]);
        runs.iter().for_each(|run| assert_eq!(ended(run), RunState::Completed));
        is_idle(&engine);
        engine.close(0);
    });
}

#[test]
fn a_busy_session_refuses_where_it_is_asked_to() {
    let local = Local::new();
    let (desk, gates) = Desk::new(&local, &[1]);
    let engine = open(&local, None, vec![]);
    let plan = talk();
    let head = send(&engine, says(&plan, 1, WhenBusy::Reject));
    desk.next();
    assert_eq!(refused(&engine, says(&plan, 2, WhenBusy::Reject)), "session.busy");
    assert_eq!(engine.stats().runs_submitted.load(Ordering::Relaxed), 1, "nothing is journaled");
    drop(gates);
    ended(&head);
    assert_eq!(ended(&send(&engine, says(&plan, 3, WhenBusy::Reject))), RunState::Completed);
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn a_waiting_run_is_cancelled_at_once_and_its_timeout_runs() {
    let local = Local::new();
    let (desk, gates) = Desk::new(&local, &[1]);
    let engine = open(&local, None, vec![]);
    let plan = talk();
    let head = send(&engine, says(&plan, 1, WhenBusy::Followup));
    desk.next();
    let second = send(&engine, says(&plan, 2, WhenBusy::Followup));
    let hasty = with(Workflow {
        name: "test".into(),
        tasks: vec![task("a", "talk", &[])],
        timeout_ms: Some(20),
        ..Workflow::default()
    });
    let third = send(&engine, says(&hasty, 3, WhenBusy::Followup));
    assert_eq!(ended(&third), RunState::Failed);
    assert_eq!(third.inspect(|run| run.code()).expect("known"), Some("run.timeout"));
    second.cancel("enough").expect("open");
    assert_eq!(ended(&second), RunState::Cancelled);
    assert_eq!(head.state(), RunState::Running);
    drop(gates);
    ended(&head);
    assert!(desk.is_quiet());
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn an_interrupt_cancels_everything_and_starts_when_the_head_has_ended() {
    on_both_stores(|path| {
        let local = Local::new();
        let (desk, _gates) = Desk::new(&local, &[1]);
        let engine = open(&local, path, vec![]);
        let plan = talk();
        let head = send(&engine, says(&plan, 1, WhenBusy::Followup));
        desk.next();
        let second = send(&engine, says(&plan, 2, WhenBusy::Followup));
        let third = send(&engine, says(&plan, 3, WhenBusy::Interrupt));
        assert_eq!(admission(&third), Admission::Interrupting);
        assert_eq!([ended(&head), ended(&second)], [RunState::Cancelled; 2]);
        for run in [&head, &second] {
            assert!(reason(run).contains(&third.id().to_string()), "the reason names the new run");
        }
        assert_eq!((desk.next(), ended(&third)), (3, RunState::Completed));
        is_idle(&engine);
        engine.close(0);
    });
}

/// An agent that reads its letters until one says 99, then completes with how many it read.
fn reader(local: &Arc<Local>) -> mpsc::Receiver<()> {
    let (tell, begun) = mpsc::channel();
    let tell = Mutex::new(tell);
    let reports = Arc::clone(local);
    local.agent("talk", move |batch, _| {
        let _ = tell.lock().expect("nobody panics here").send(());
        let letters = batch.call.letters.as_ref().expect("a session has letters");
        if as_number(&batch.call.input) != 1 {
            return Outcome::Completed(number(0));
        }
        let mut seen = 0;
        loop {
            letters.wait(seen, Duration::from_millis(5));
            if batch.abandoned.load(Ordering::Acquire) {
                return Outcome::Cancelled;
            }
            let (found, first) = letters.read(seen, 1);
            if first {
                reports.tell(vec![crate::agent::Report::LettersRead { run: batch.call.run }]);
            }
            let Some((_, message)) = found.first() else { continue };
            seen += 1;
            if as_number(message) == 99 {
                return Outcome::Completed(number(seen as u8));
            }
        }
    });
    begun
}

#[test]
fn a_steered_message_is_read_by_the_run_under_way_and_absorbed() {
    on_both_stores(|path| {
        let local = Local::new();
        let begun = reader(&local);
        let engine = open(&local, path, vec![]);
        let plan = talk();
        let head = send(&engine, says(&plan, 1, WhenBusy::Steer));
        begun.recv().expect("it begins");
        let second = send(&engine, says(&plan, 7, WhenBusy::Steer));
        assert_eq!(admission(&second), Admission::Steered);
        assert_eq!(ended(&second), RunState::Completed);
        assert_eq!(into(&second), Some(head.id()));
        let third = send(&engine, says(&plan, 99, WhenBusy::Steer));
        assert_eq!([ended(&head), ended(&third)], [RunState::Completed; 2]);
        let steered = head.inspect(|run| run.steered().to_vec()).expect("known");
        assert_eq!(steered, [(second.id(), number(7)), (third.id(), number(99))]);
        let result = head.inspect(|run| run.result_of(0)).expect("a result");
        assert!(matches!(result, TaskResult::One(p) if as_number(&p) == 2));
        let kinds = |handle: &Handle| -> Vec<_> {
            let facts = engine.facts(Some(handle.id()), 0, 99, Duration::ZERO).expect("facts");
            facts.iter().map(|fact| fact.kind.as_str()).collect()
        };
        assert_eq!(
            kinds(&second),
            ["run.submitted", "run.absorbed", "task.skipped", "run.completed"]
        );
        assert_eq!(kinds(&head).iter().filter(|kind| **kind == "signal.received").count(), 2);
        is_idle(&engine);
        engine.close(0);
    });
}

#[test]
fn a_steered_message_that_nobody_reads_is_a_follow_up() {
    let local = Local::new();
    let (desk, gates) = Desk::new(&local, &[1]);
    let engine = open(&local, None, vec![]);
    let plan = talk();
    send(&engine, says(&plan, 1, WhenBusy::Steer));
    desk.next();
    let other = plan_named("other");
    let stranger = send(&engine, says(&other, 2, WhenBusy::Steer));
    assert_eq!(admission(&stranger), Admission::Queued, "another workflow reads other messages");
    let unread = send(&engine, says(&plan, 3, WhenBusy::Steer));
    drop(gates);
    assert_eq!([ended(&stranger), ended(&unread)], [RunState::Completed; 2]);
    assert_eq!((desk.next(), desk.next(), into(&unread)), (2, 3, None));
    is_idle(&engine);
    engine.close(0);
}

fn plan_named(name: &str) -> Arc<Plan> {
    let tasks = vec![task("a", "talk", &[])];
    with(Workflow { name: name.into(), tasks, ..Workflow::default() })
}

#[test]
fn a_parked_run_lets_the_next_one_go_first() {
    let local = Local::new();
    let (tell, begun) = mpsc::channel();
    let tell = Mutex::new(tell);
    local.agent("talk", move |batch, _| {
        let n = as_number(&batch.call.input);
        let _ = tell.lock().expect("nobody panics here").send((n, batch.attempt));
        if n == 1 && batch.attempt == 1 {
            return raised("builtins.OSError");
        }
        Outcome::Completed(number(n))
    });
    let engine = open(&local, None, vec![]);
    let mut slow = task("a", "talk", &[]);
    slow.retry = Retry { retries: 1, initial_ms: 60, jitter: false, ..Retry::default() };
    let plan = plan(vec![slow]);
    for (on_retry, order) in
        [(OnRetry::Hold, [(1, 1), (1, 2), (2, 1)]), (OnRetry::Park, [(1, 1), (2, 1), (1, 2)])]
    {
        let first = Submit { on_retry, ..says(&plan, 1, WhenBusy::Followup) };
        let runs = engine.submit_many(vec![first, says(&plan, 2, WhenBusy::Followup)]);
        for ticket in runs.expect("open") {
            let run = ticket.wait(SOON).expect("answered").expect("accepted");
            assert_eq!(ended(&run), RunState::Completed);
        }
        assert_eq!([(); 3].map(|()| begun.recv().expect("it begins")), order, "{on_retry:?}");
        is_idle(&engine);
    }
    engine.close(0);
}

#[test]
fn many_sessions_go_in_order_and_leave_nothing_behind() {
    const SESSIONS: usize = 2_000;
    let local = Local::new();
    let heard: Arc<Vec<AtomicU32>> = Arc::new((0..SESSIONS).map(|_| AtomicU32::new(0)).collect());
    let counts = Arc::clone(&heard);
    local.agent("talk", move |batch, _| {
        let key = batch.call.session.as_deref().expect("a session");
        let at: usize = key.parse().expect("a number");
        let before = counts[at].fetch_add(1, Ordering::AcqRel);
        assert_eq!(before, u32::from(as_number(&batch.call.input)), "in the order of the submits");
        Outcome::Completed(number(1))
    });
    let engine = open(&local, None, vec![]);
    let plan = talk();
    let mut tickets = Vec::new();
    for n in 0..3 {
        let one = |at: usize| Submit {
            session: Some(at.to_string().into()),
            ..says(&plan, n, WhenBusy::Followup)
        };
        tickets.extend(engine.submit_many((0..SESSIONS).map(one).collect()).expect("open"));
    }
    for ticket in tickets {
        let run = ticket.wait(SOON).expect("answered").expect("accepted");
        assert_eq!(ended(&run), RunState::Completed);
    }
    is_idle(&engine);
    engine.close(0);
}

#[test]
fn a_session_takes_so_many_and_no_more() {
    let local = Local::new();
    let (desk, gates) = Desk::new(&local, &[1]);
    let engine = open(&local, None, vec![]);
    let plan = talk();
    send(&engine, says(&plan, 1, WhenBusy::Followup));
    desk.next();
    let most = crate::lane::SESSION_WAITING_MAX;
    let many = (0..most).map(|_| says(&plan, 2, WhenBusy::Followup)).collect();
    for ticket in engine.submit_many(many).expect("open") {
        ticket.wait(SOON).expect("answered").expect("accepted");
    }
    assert_eq!(refused(&engine, says(&plan, 2, WhenBusy::Followup)), "session.full");
    let last = send(&engine, Submit { session: None, ..says(&plan, 9, WhenBusy::Followup) });
    assert_eq!(ended(&last), RunState::Completed);
    assert!(desk.is_open(1));
    drop(gates);
    engine.close(0);
}

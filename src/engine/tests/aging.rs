//! Aging through the whole line, on a clock that a test moves.

use super::*;
use crate::lane::AGING_MS;
use crate::model::OnFull;

/// Between two runs of the stream.
const STEP_MS: u64 = AGING_MS / 6;

#[test]
fn a_low_run_goes_on_in_a_stream_of_high_ones() {
    on_both_stores(|path| {
        let (tell, begun) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let (tell, gate) = (Mutex::new(tell), Mutex::new(gate));
        let local = Local::new();
        local.agent("work", move |batch, _| {
            let n = as_number(&batch.call.input);
            let _ = tell.lock().expect("nobody panics here").send(n);
            let _ = gate.lock().expect("nobody panics here").recv();
            Outcome::Completed(number(n))
        });
        let lane = LaneSpec {
            name: "narrow".into(),
            concurrency: 1,
            capacity: 99,
            on_full: OnFull::Block,
            ..LaneSpec::default()
        };
        let engine = open(&local, path, vec![lane]);
        let plan =
            plan(vec![Task { lane: "narrow".into(), retry: quick(0), ..task("a", "work", &[]) }]);
        let submit = |n: u8, priority: i32| {
            let request = Submit { input: number(n), priority, ..request(&plan) };
            let ticket = engine.submit(request).expect("the inbox is open");
            ticket.wait(SOON).expect("accepted in time").expect("accepted")
        };
        let next = || begun.recv_timeout(Duration::from_secs(20)).expect("somebody begins");
        const LOW: u8 = 0;
        let mut runs = vec![submit(1, 1)];
        assert_eq!(next(), 1, "it has the permit when the others come");
        runs.push(submit(LOW, 0));
        let mut before = 0;
        // The stream never ends: there is always a high run in the lane when a permit comes back.
        for n in 2.. {
            runs.push(submit(n, 1));
            engine.probe(|owner| owner.skip(STEP_MS));
            go.send(()).expect("somebody is inside");
            if next() == LOW {
                break;
            }
            before += 1;
            assert!(before < 20, "it starves");
        }
        // Each high run that came before the low one had aged is ahead of it, and no other.
        assert_eq!(before, AGING_MS / STEP_MS);
        drop(go);
        runs.iter().for_each(|run| assert_eq!(ended(run), RunState::Completed));
        engine.close(0);
    });
}

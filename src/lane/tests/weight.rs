//! What waiting costs in memory: `cargo test --release -- --ignored --nocapture weight`.

use std::sync::Arc;

use super::*;

/// The process's resident bytes; 0 where the system does not tell.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1_024
}

fn weigh(what: &str, n: u32, spec: LaneSpec, entry: impl Fn(u32) -> Entry) {
    let spec = LaneSpec { concurrency: 1, capacity: 1_000_000, ..spec };
    let mut lanes = Lanes::new([spec], None).expect("sound lanes");
    let before = resident();
    for at in 0..n {
        lanes.lane_mut(0).offer(entry(at));
        let Some(Admission::Place(entry)) = lanes.lane_mut(0).next_admission() else {
            panic!("there is room");
        };
        lanes.lane_mut(0).enqueue(entry);
    }
    println!("{what}: {} bytes each", resident().saturating_sub(before) / n as usize);
    // What is freed would be used again by the next, and hide what that takes.
    std::mem::forget(lanes);
}

#[test]
#[ignore = "a measurement"]
fn weight_of_what_waits() {
    const N: u32 = 200_000;
    let spec = || LaneSpec { name: "default".into(), ..LaneSpec::default() };
    let run = |at: u32| RunId::from_u128(at.into());
    let one = |run, node, index| Entry::new(run, Span::one(node, index), Style::Loop);
    println!("an entry: {} bytes", size_of::<Entry>());
    weigh("runs of one task", N, spec(), |at| Entry { order: at.into(), ..one(run(at), 0, 0) });
    weigh("tasks of one run", N, spec(), |at| one(run(0), at, 0));
    weigh("children that wait apart", N, spec(), |at| one(run(0), 0, at));
    weigh("sessions of one task", N, spec(), |at| {
        let flow = Some(Arc::from(format!("session-{at:08}")));
        Entry { order: at.into(), flow, ..one(run(at), 0, 0) }
    });
    let rated = LaneSpec { rate: Some(Rate { units: 1, per_ms: 1_000, burst: 1 }), ..spec() };
    weigh("keys of one task", N, rated.clone(), |at| {
        let key = Some(Arc::from(format!("tenant-{at:08}")));
        Entry { order: at.into(), key, ..one(run(at), 0, 0) }
    });
    let mut lanes = Lanes::new([rated], None).expect("sound lanes");
    let before = resident();
    for at in 0..N {
        lanes.hold(0, Some(&format!("tenant-{at:08}")), Timestamp(u64::MAX / 2));
    }
    println!("keys that are held: {} bytes each", (resident() - before) / N as usize);
    assert_eq!(lanes.view(Timestamp(1))[0].keys, N as usize);
}

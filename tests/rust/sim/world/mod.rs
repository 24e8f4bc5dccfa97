//! The world around one run: journal, lanes, executors, timers, crashes. One seed decides all.
//!
//! One turn is the line: messages → decide → (crash) → journal → (crash) → start → sync → (crash) →
//! effects, one by one (crash). Whatever the machine answers goes to the reference first.

mod actors;
mod check;
mod journal;
mod lend;
mod line;
mod recovery;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use goclaw::lane::Lanes;
use goclaw::model::{Conduct, Durability, Payload, RunId, Submitted, Timestamp};
use goclaw::plan::{self, Plan};
use goclaw::run::{self, Run, Turn};

use self::actors::{Flight, Mail};
use self::check::Witness;
use self::journal::Journal;
use self::line::Staged;
use super::dice::Dice;
use super::model::{Model, Verdict};
use super::mutant::Mutant;
use super::scene::Scene;

/// Turns within which every run must have ended.
const TURNS_MAX: u64 = 2_000;

/// Lines of the story that a failure prints.
const STORY_MAX: usize = 30;

pub struct World {
    dice: Dice,
    scene: Scene,
    plan: Arc<Plan>,
    mutant: Option<Mutant>,
    now: Timestamp,
    run: Run,
    model: Model,
    journal: Journal,
    staged: Staged,
    lanes: Lanes,
    flights: BTreeMap<u64, Flight>,
    /// Calls that lent their permit and wait for one to go on, first come first.
    returning: VecDeque<(u64, u32)>,
    /// By due time, then at random: what is on its way to the owner.
    mail: BTreeMap<(Timestamp, u64), Mail>,
    witness: Witness,
    turns: u64,
    /// Distinguishes everything that is numbered.
    count: u64,
    finished: bool,
    /// When the world looks at its limiters next.
    refill_at: Option<Timestamp>,
    /// What a lane may run and hold: its limits, and what was there when they were lowered.
    most: Vec<u32>,
    room: Vec<u64>,
    /// Replay everything after each step, not only after each turn.
    thorough: bool,
    pub seen: BTreeMap<&'static str, u64>,
    story: Option<VecDeque<String>>,
}

/// Why a turn did not come to its end.
pub enum Stop {
    Crash,
    Wrong(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

type Went<T = ()> = Result<T, Stop>;

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, tell: bool) -> Self {
        let mut dice = Dice::new(seed);
        let scene = Scene::draw(&mut dice);
        let plan = plan::restore(Arc::clone(&scene.workflow)).expect("the scene is well formed");
        let plan = Arc::new(plan);
        let now = Timestamp(1_000_000);
        let submitted = submitted(&scene, &plan, now);
        let model = Model::new(&scene.workflow, &submitted);
        let run = run::begin(id(), Arc::clone(&plan), submitted, &mut Turn::default());
        Self {
            lanes: Lanes::new(scene.lanes.iter().cloned(), scene.global).expect("sound lanes"),
            thorough: dice.chance(500),
            dice,
            scene,
            plan,
            mutant,
            now,
            run,
            model,
            journal: Journal::default(),
            staged: Staged::default(),
            flights: BTreeMap::new(),
            returning: VecDeque::new(),
            mail: BTreeMap::new(),
            witness: Witness::default(),
            turns: 0,
            count: 0,
            finished: false,
            refill_at: None,
            most: vec![u32::MAX; 3],
            room: vec![u64::MAX; 3],
            seen: BTreeMap::new(),
            story: tell.then(VecDeque::new),
        }
    }

    /// Plays the run to its end.
    pub fn play(&mut self) -> Verdict {
        let mut went = self.submit();
        loop {
            went = match went {
                Err(Stop::Wrong(why)) => return Err(why),
                Err(Stop::Crash) => self.recover(true),
                Ok(()) if self.finished => return self.epilogue(),
                Ok(()) => self.turn(),
            };
        }
    }

    /// The last steps, as they were.
    pub fn story(&self) -> String {
        let lines: Vec<&str> = self.story.iter().flatten().map(String::as_str).collect();
        format!("{:#?}\n{}", self.scene, lines.join("\n"))
    }

    fn submit(&mut self) -> Went {
        self.note("submit");
        let submitted = submitted(&self.scene, &self.plan, self.now);
        self.model = Model::new(&self.scene.workflow, &submitted);
        let mut turn = Turn::default();
        self.run = run::begin(id(), Arc::clone(&self.plan), submitted, &mut turn);
        self.take(turn)?;
        // Others of its session come before its first attempt, or never.
        if self.dice.chance(3 * self.scene.climate.talk) {
            let input = self.talk();
            self.step(input)?;
        }
        self.staged.acks.push(line::Ack::Submitted);
        self.dispatch()?;
        self.commit_all()
    }

    fn turn(&mut self) -> Went {
        self.turns += 1;
        self.calm_down();
        if self.turns > TURNS_MAX {
            return Err(Stop::Wrong(format!("the run has not ended after {TURNS_MAX} turns")));
        }
        if self.dice.chance(self.scene.climate.stop) {
            return self.close();
        }
        let Some((&(at, _), _)) = self.mail.first_key_value() else {
            return Err(Stop::Wrong("nothing is under way, and the run has not ended".into()));
        };
        self.now = self.now.max(at);
        self.visitors()?;
        for _ in 0..self.dice.between(1, 4) {
            let due = self.mail.first_entry().filter(|entry| entry.key().0 <= self.now);
            if let Some(mail) = due.map(|entry| entry.remove()) {
                self.handle(mail)?;
            }
        }
        self.dispatch()?;
        self.commit_all()
    }

    /// From some turn on nothing goes wrong any more: then the run has to end.
    fn calm_down(&mut self) {
        let climate = &mut self.scene.climate;
        if self.turns == climate.turns {
            (climate.crash, climate.stop, climate.duplicate) = (0, 0, 0);
            (climate.stray, climate.hang, climate.take_back) = (0, 0, 0);
            (climate.cancel, climate.grow, climate.lanes) = (false, false, false);
            climate.talk = 0;
        }
    }

    fn fresh_lanes(&self) -> Lanes {
        let specs = self.scene.lanes.iter().cloned();
        Lanes::new(specs, self.scene.global).expect("sound lanes")
    }

    fn strict(&self) -> bool {
        self.scene.durability == Durability::Strict
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
        self.tell(|| format!("-- {what}"));
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now.0;
        if let Some(story) = &mut self.story {
            if story.len() == STORY_MAX {
                story.pop_front();
            }
            story.push_back(format!("{now} {}", line()));
        }
    }
}

fn id() -> RunId {
    RunId::from_u128(7)
}

fn submitted(scene: &Scene, plan: &Plan, at: Timestamp) -> Submitted {
    Submitted {
        definition: plan.definition,
        workflow: Some(Arc::clone(&plan.workflow)),
        input: Payload::bytes(vec![1, 2, 3]),
        priority: 0,
        durability: scene.durability,
        tags: Vec::new(),
        session: None,
        weight: 1,
        conduct: Conduct::default(),
        memory: Default::default(),
        trace_id: String::new(),
        at,
    }
}

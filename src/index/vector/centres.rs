//! Centres: directions about which the rows of a large session are put in cells.
//!
//! They are learned from a sample by k-means on the sphere. The first ones are rows that lie apart (k-means++,
//! Arthur and Vassilvitskii 2007); then each is moved to the middle of what is nearest to it (Lloyd).
//!
//! Centres are kept when rows are forgotten, so none may be the direction of a row: one that has hardly any
//! rows is dropped, and its rows go where the nearest other is.

use super::dot::dots;
use super::row::{LINE, Line, Quantized, quantize, unit};

/// Times that centres are moved to the middle of what is nearest to them.
const ROUNDS: usize = 3;
/// A centre is the middle of so many rows of the sample, or more.
const ROWS_OF_A_CENTRE: usize = 8;
/// Its multiples, without their whole part, are as good as dice and the same every time.
pub const GOLDEN: f64 = 0.618_033_988_749_895;
/// Rows between two questions whether to go on.
const ROWS_A_TURN: usize = 64;

/// Rows side by side that stay as they are: centres, or those that centres are learned from.
pub struct Table {
    lines_per_row: usize,
    lines: Vec<Line>,
    steps: Vec<f32>,
}

impl Table {
    pub fn new(lines_per_row: usize) -> Self {
        Self { lines_per_row, lines: Vec::new(), steps: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn lines_per_row(&self) -> usize {
        self.lines_per_row
    }

    pub fn push(&mut self, lines: &[Line], step: f32) {
        debug_assert_eq!(lines.len(), self.lines_per_row);
        self.lines.extend_from_slice(lines);
        self.steps.push(step);
    }

    pub fn row(&self, at: usize) -> (&[Line], f32) {
        (&self.lines[at * self.lines_per_row..][..self.lines_per_row], self.steps[at])
    }

    pub fn checksum(&self) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        self.lines.iter().for_each(|line| sum.update(&line.0.map(|steps| steps as u8)));
        sum.finalize()
    }

    /// How near each row is to one; only their order means something.
    pub fn nearness(&self, to: &[Line]) -> impl Iterator<Item = f32> {
        let mut out = vec![0; self.len()];
        dots(to, &self.lines, &mut out);
        out.into_iter().zip(&self.steps).map(|(dot, step)| dot as f32 * step)
    }

    /// The row that is nearest to one.
    pub fn nearest(&self, to: &[Line]) -> Option<usize> {
        let all = self.nearness(to).enumerate();
        all.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    }

    /// The middle direction of some rows; `None` where they are too few, or cancel each other out.
    fn middle(&self, of: &[u32]) -> Option<Quantized> {
        if of.len() < ROWS_OF_A_CENTRE {
            return None;
        }
        let mut sum = vec![0f32; self.lines_per_row * LINE];
        for &at in of {
            let (lines, step) = self.row(at as usize);
            let numbers = lines.iter().flat_map(|line| &line.0);
            sum.iter_mut().zip(numbers).for_each(|(sum, &n)| *sum += f32::from(n) * step);
        }
        unit(&sum, sum.len()).ok().map(|middle| quantize(&middle))
    }

    /// A direction that is always the same, and hence tells of no row.
    fn push_any(&mut self) {
        let mut any = vec![0.0; self.lines_per_row * LINE];
        any[0] = 1.0;
        let any = quantize(&any);
        self.push(&any.lines, any.step);
    }

    /// Learns so many centres from these rows, or fewer, but one at least. `None` where `go_on`, which is asked every
    /// millisecond or so, says no.
    pub fn learn(&self, count: usize, go_on: &mut dyn FnMut() -> bool) -> Option<Self> {
        let mut centres = self.apart(count, go_on)?;
        for _ in 0..ROUNDS {
            let mut nearest = vec![Vec::new(); centres.len()];
            for at in 0..self.len() {
                if at.is_multiple_of(ROWS_A_TURN) && !go_on() {
                    return None;
                }
                nearest[centres.nearest(self.row(at).0)?].push(at as u32);
            }
            centres = Self::new(self.lines_per_row);
            for middle in nearest.iter().filter_map(|part| self.middle(part)) {
                centres.push(&middle.lines, middle.step);
            }
            if centres.len() == 0 {
                // One cell has them all, and is read whole.
                centres.push_any();
            }
        }
        Some(centres)
    }

    /// Rows that lie apart: each is drawn by how far from those before it it lies.
    fn apart(&self, count: usize, go_on: &mut dyn FnMut() -> bool) -> Option<Self> {
        let mut drawn = Self::new(self.lines_per_row);
        let mut distances = vec![f32::MAX; self.len()];
        let mut next = 0;
        for number in 1..=count.min(self.len()) {
            if !go_on() {
                return None;
            }
            let (lines, step) = self.row(next);
            drawn.push(lines, step);
            // A squared distance of directions is twice what their cosine lacks of 1.
            let distance = self.nearness(lines).map(|nearness| (1.0 - nearness * step).max(0.0));
            distances.iter_mut().zip(distance).for_each(|(all, own)| *all = all.min(own));
            let sum: f64 = distances.iter().map(|distance| f64::from(*distance)).sum();
            let mut left = sum * (number as f64 * GOLDEN).fract();
            let drawn_at = distances.iter().position(|distance| {
                left -= f64::from(*distance);
                left < 0.0
            });
            // Where all rows are drawn or equal to one that is, nothing is left to draw.
            let Some(at) = drawn_at else { break };
            next = at;
        }
        Some(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::direction;
    use super::*;

    fn table(rows: impl Iterator<Item = Vec<f32>>) -> Table {
        let mut table = Table::new(2);
        for row in rows {
            let row = quantize(&unit(&row, 100).expect("a direction"));
            table.push(&row.lines, row.step);
        }
        table
    }

    #[test]
    fn rows_about_some_directions_have_a_centre_at_each() {
        let near = |topic: u64, seed: u64| -> Vec<f32> {
            let noise = direction(seed, 100).into_iter().map(|n| n * 0.1);
            direction(topic, 100).iter().zip(noise).map(|(a, b)| a + b).collect()
        };
        let sample = table((0..1_000).map(|at| near(at % 10 + 1, at + 100)));
        let centres = sample.learn(20, &mut || true).expect("nobody stopped it");
        for topic in 1..=10 {
            let own = quantize(&unit(&direction(topic, 100), 100).expect("a direction"));
            let nearest = centres.nearest(&own.lines).expect("there are centres");
            let other = (1..=10).filter(|other| *other != topic).map(|other| {
                let row = quantize(&unit(&direction(other, 100), 100).expect("a direction"));
                centres.nearest(&row.lines).expect("there are centres")
            });
            assert!(other.into_iter().all(|other| other != nearest), "{topic} shares its centre");
        }
    }

    #[test]
    fn of_equal_rows_there_is_one_centre_and_learning_can_be_stopped() {
        let equal = table((0..500).map(|_| direction(3, 100)));
        let centres = equal.learn(10, &mut || true).expect("nobody stopped it");
        assert!((1..10).contains(&centres.len()));
        assert_eq!(Table::new(2).learn(10, &mut || true).map(|none| none.len()), Some(1));
        let apart = table((0..500).map(|at| direction(at + 1, 100)));
        for stop in [3, 12, 20] {
            let mut turns = 0;
            let mut soon = || {
                turns += 1;
                turns < stop
            };
            assert!(apart.learn(10, &mut soon).is_none());
            assert_eq!(turns, stop);
        }
    }

    #[test]
    fn no_centre_is_the_direction_of_a_row_however_far_off_it_lies() {
        let near = |at: u64| -> Vec<f32> {
            let noise = direction(at + 100, 100).into_iter().map(|n| n * 0.3);
            direction(at % 10 + 1, 100).iter().zip(noise).map(|(a, b)| a + b).collect()
        };
        let far = (0..20).map(|at| direction(at + 9_000, 100));
        let opposite = direction(5, 100).into_iter().map(|n| -n).collect();
        let pair = [direction(5, 100), opposite];
        for (what, count, sample) in [
            ("some lie apart", 40, table((0..1_000).map(near).chain(far.clone()))),
            ("all lie apart", 40, table(far)),
            ("they cancel each other out", 1, table(pair.into_iter().cycle().take(40))),
        ] {
            let centres = sample.learn(count, &mut || true).expect("nobody stopped it");
            assert!(centres.len() > 0, "{what}");
            for centre in 0..centres.len() {
                let (lines, step) = centres.row(centre);
                let nearest = sample.nearness(lines).fold(0f32, f32::max) * step;
                assert!(nearest < 0.99, "{what}: {nearest}");
            }
        }
    }
}

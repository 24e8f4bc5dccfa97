//! SVG: one self-contained picture, readable on light and dark backgrounds.
//!
//! Boxes are filled and bring their own contrast; what lies outside of them is a middle grey. No
//! style sheet, script or font comes along, so that many pictures can share a page.

use std::fmt::Write;

use super::label::{ems, truncated, xml};
use super::layout::{Layout, Place, lay_out};
use super::picture::{Box, Picture};
use crate::model::TaskState;
use crate::plan::Plan;

const BOX_HEIGHT: f64 = 50.0;
const BOX_WIDTH_MIN: f64 = 96.0;
/// Longest title and subtitle, in ems of their size.
const TITLE_EMS: f64 = 17.0;
const SUBTITLE_EMS: f64 = 16.0;
const LANE_EMS: f64 = 9.0;
const TITLE_SIZE: f64 = 13.0;
const SMALL_SIZE: f64 = 10.5;
/// From the box's left side to its text: the lane's bar lies between.
const INSET: f64 = 14.0;

const FONT: &str =
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const EDGE: &str = "#8592a6";
const TEXT: &str = "#0f172a";
const FAINT: &str = "#52607a";
const CONDITION: &str = "#b45309";

/// Colours of lanes by first appearance: dark enough for white text.
const LANES: [&str; 8] =
    ["#4f6bd8", "#0f8a80", "#b7622a", "#8a55c9", "#3c8140", "#c2477f", "#5b6b80", "#8d7a14"];

/// Fill and outline of a box by state.
fn colours(state: Option<TaskState>) -> (&'static str, &'static str) {
    match state {
        None => ("#ffffff", "#8592a6"),
        Some(TaskState::Pending) => ("#f5f6f8", "#a3adbb"),
        Some(TaskState::Scheduled) => ("#e6e9fb", "#6f7fe0"),
        Some(TaskState::Running) => ("#d6e8fd", "#2470d8"),
        Some(TaskState::Retrying) => ("#fde6cf", "#d97316"),
        Some(TaskState::Waiting) => ("#fbf3c4", "#b98a0a"),
        Some(TaskState::Completed) => ("#d8f3df", "#2a9a4e"),
        Some(TaskState::Failed) => ("#fbdcdc", "#d43a3a"),
        Some(TaskState::Cancelled) => ("#e2e5ea", "#667183"),
        Some(TaskState::Skipped) => ("#f0f1f4", "#a3adbb"),
    }
}

impl Plan {
    /// The plan as an SVG picture, columns from left to right. `states` colours the nodes, by
    /// position. More than 400 nodes, or 1,200 edges, are drawn as bands of layers.
    pub fn to_svg(&self, states: Option<&[TaskState]>) -> String {
        let picture = Picture::of(self, states);
        let labels: Vec<Label> = picture.boxes.iter().map(Label::of).collect();
        let widths: Vec<f64> = labels.iter().map(|label| label.width).collect();
        let layout = lay_out(&picture, &widths, BOX_HEIGHT);
        draw(&self.workflow.name, &picture, &labels, &layout)
    }
}

/// A box's texts, cut to what fits, and the width that they take.
struct Label {
    title: String,
    subtitle: String,
    lane: Option<String>,
    width: f64,
}

impl Label {
    fn of(it: &Box) -> Self {
        let title = truncated(&it.title, TITLE_EMS);
        // A band has no lane beside its subtitle.
        let room = if it.lane.is_some() { SUBTITLE_EMS } else { 2.0 * SUBTITLE_EMS };
        let subtitle = truncated(&it.subtitle, room);
        let lane = it.lane.as_ref().map(|(name, _)| truncated(name, LANE_EMS));
        let badge = if it.conditional { 44.0 } else { 0.0 };
        let mark = if it.state.is_some() { 20.0 } else { 0.0 };
        // Titles are set in a heavier weight, which runs wider.
        let upper = ems(&title) * TITLE_SIZE * 1.14 + mark + badge;
        let pill = lane.as_ref().map_or(0.0, |lane| pill_width(lane) + 10.0);
        let lower = ems(&subtitle) * SMALL_SIZE + pill;
        let width = (upper.max(lower) + INSET + 12.0).max(BOX_WIDTH_MIN);
        Self { title, subtitle, lane, width }
    }
}

fn pill_width(lane: &str) -> f64 {
    ems(lane) * SMALL_SIZE + 14.0
}

fn draw(name: &str, picture: &Picture, labels: &[Label], layout: &Layout) -> String {
    let note_height = if picture.note.is_some() { 22.0 } else { 0.0 };
    let note_width = picture.note.as_ref().map_or(0.0, |note| ems(note) * SMALL_SIZE + 40.0);
    let (width, height) = (layout.width.max(note_width), layout.height + note_height);
    let name = xml(name);
    let mut out = String::with_capacity(1024 * (picture.boxes.len() + 1));
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"workflow {name}\" \
         font-family=\"{FONT}\">\n<title>{name}</title>\n"
    );
    // Edges first: boxes and their stacks lie over them.
    let _ = writeln!(out, "<g fill=\"none\" stroke=\"{EDGE}\" stroke-width=\"1.4\">");
    for (&(from, to), route) in picture.edges.iter().zip(&layout.routes) {
        edge(
            &mut out,
            route,
            picture.boxes[to].conditional,
            &picture.boxes[from],
            &picture.boxes[to],
        );
    }
    out.push_str("</g>\n");
    for ((it, label), place) in picture.boxes.iter().zip(labels).zip(&layout.places) {
        node(&mut out, it, label, *place);
    }
    if let Some(note) = &picture.note {
        let y = layout.height + 4.0;
        let _ = writeln!(
            out,
            "<text x=\"20\" y=\"{y:.0}\" font-size=\"{SMALL_SIZE}\" fill=\"{EDGE}\">{}</text>",
            xml(note)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// A curve between columns and a straight line through them, with its arrow head.
fn edge(out: &mut String, route: &[(f64, f64)], dashed: bool, from: &Box, to: &Box) {
    const HEAD: f64 = 7.0;
    let mut points = route.to_vec();
    let last = points.len() - 1;
    if from.stack {
        points[0].0 += STACK;
    }
    points[last].0 -= HEAD - 1.0;
    let (tip_x, tip_y) = (points[last].0 + HEAD - 1.0, points[last].1);
    let _ = write!(out, "<path d=\"M{:.1} {:.1}", points[0].0, points[0].1);
    for pair in points.windows(2).enumerate() {
        let (at, [(x0, y0), (x1, y1)]) = (pair.0, [pair.1[0], pair.1[1]]);
        if at % 2 == 1 || (y0 - y1).abs() < 0.5 {
            let _ = write!(out, "L{x1:.1} {y1:.1}");
        } else {
            let middle = f64::midpoint(x0, x1);
            let _ = write!(out, "C{middle:.1} {y0:.1} {middle:.1} {y1:.1} {x1:.1} {y1:.1}");
        }
    }
    let dash = if dashed { " stroke-dasharray=\"5 4\"" } else { "" };
    let _ = writeln!(
        out,
        "\"{dash}><title>{} → {}</title></path><path fill=\"{EDGE}\" stroke=\"none\" \
         d=\"M{tip_x:.1} {tip_y:.1}l-{HEAD} -3.6v7.2z\"/>",
        xml(&from.title),
        xml(&to.title)
    );
}

/// How far the sheets of a stack stand out.
const STACK: f64 = 6.0;

fn node(out: &mut String, it: &Box, label: &Label, place: Place) {
    let (fill, outline) = colours(it.state);
    let Place { x, y, width } = place;
    let _ = writeln!(out, "<g><title>{}</title>", xml(&it.tooltip));
    if it.stack {
        for sheet in [STACK, STACK / 2.0] {
            frame(out, (x + sheet, y + sheet, width), fill, outline, "");
        }
    }
    let dash = match it.state {
        Some(TaskState::Skipped) => " stroke-dasharray=\"4 3\"",
        _ => "",
    };
    frame(out, (x, y, width), fill, outline, dash);
    if let Some((_, lane)) = &it.lane {
        let _ = writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"3\" height=\"{:.1}\" rx=\"1.5\" fill=\"{}\"/>",
            x + 5.0,
            y + 9.0,
            BOX_HEIGHT - 18.0,
            LANES[lane % LANES.len()]
        );
    }
    texts(out, it, label, place);
    if let Some(state) = it.state {
        mark(out, state, x + width - 15.0, y + 15.0, outline);
    }
    out.push_str("</g>\n");
}

fn frame(out: &mut String, (x, y, width): (f64, f64, f64), fill: &str, outline: &str, extra: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BOX_HEIGHT}\" rx=\"8\" \
         fill=\"{fill}\" stroke=\"{outline}\" stroke-width=\"1.3\"{extra}/>"
    );
}

fn texts(out: &mut String, it: &Box, label: &Label, place: Place) {
    let Place { x, y, width } = place;
    let left = x + INSET;
    let _ = writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{:.1}\" font-size=\"{TITLE_SIZE}\" font-weight=\"600\" \
         fill=\"{TEXT}\">{}</text>",
        y + 20.5,
        xml(&label.title)
    );
    let _ = writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{:.1}\" font-size=\"{SMALL_SIZE}\" fill=\"{FAINT}\">{}</text>",
        y + 38.5,
        xml(&label.subtitle)
    );
    if let (Some(text), Some((_, colour))) = (&label.lane, &it.lane) {
        let pill = pill_width(text);
        let colour = LANES[colour % LANES.len()];
        tag(out, x + width - pill - 8.0, y + 27.0, pill, colour, text);
    }
    if it.conditional {
        let right = if it.state.is_some() { 66.0 } else { 46.0 };
        tag(out, x + width - right, y + 7.0, 38.0, CONDITION, "when");
    }
}

/// A small coloured label.
fn tag(out: &mut String, x: f64, y: f64, width: f64, colour: &str, text: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"15\" rx=\"7.5\" \
         fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\" font-size=\"{SMALL_SIZE}\" \
         text-anchor=\"middle\" fill=\"#ffffff\">{}</text>",
        x + width / 2.0,
        y + 11.2,
        xml(text)
    );
}

/// A sign beside the colour, for those who cannot tell the colours apart.
fn mark(out: &mut String, state: TaskState, x: f64, y: f64, colour: &str) {
    let sign = match state {
        TaskState::Completed => "M-3 0l2.2 2.4 4-4.8",
        TaskState::Failed => "M-2.4 -2.4l4.8 4.8M2.4 -2.4l-4.8 4.8",
        TaskState::Cancelled => "M-2.8 0h5.6",
        TaskState::Running => "M-1.6 -2.8l4 2.8-4 2.8z",
        TaskState::Retrying => "M2.6 -1.6a3 3 0 1 0 .2 2.8M3 -3.4v2.2h-2.2",
        TaskState::Waiting => "M-1.3 -2.6v5.2M1.3 -2.6v5.2",
        TaskState::Scheduled => "M0 -2.8v3l2 1.4",
        TaskState::Skipped => "M-2.8 -2.4l2.6 2.4-2.6 2.4M.4 -2.4l2.6 2.4-2.6 2.4",
        TaskState::Pending => "",
    };
    let _ = writeln!(
        out,
        "<g transform=\"translate({x:.1} {y:.1})\"><circle r=\"6.5\" fill=\"{}\" stroke=\"{colour}\" \
         stroke-width=\"1.3\"/><path d=\"{sign}\" fill=\"none\" stroke=\"#ffffff\" \
         stroke-width=\"1.5\" stroke-linecap=\"round\" stroke-linejoin=\"round\"/></g>",
        if state == TaskState::Pending { "none" } else { colour }
    );
}

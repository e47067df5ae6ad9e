//! One SVG per workload: a dot for each row's median and a line from its min to its max, on a
//! logarithmic axis, since the rows lie up to three powers of ten apart.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::harness::rounds::Cell;
use crate::plan::workload::{Mode, Workload};
use crate::report::metrics::metrics;
use crate::report::summary::{Summary, is_ours, number, summarise};

const WIDTH: i32 = 860;
const LABELS: i32 = 270;
const RIGHT: i32 = 110;
const TOP: i32 = 64;
const ROW: i32 = 26;
const BOTTOM: i32 = 36;

const OURS: RGBColor = RGBColor(0xc2, 0x41, 0x0c);
const OTHERS: RGBColor = RGBColor(0x47, 0x55, 0x69);
const GRID: RGBColor = RGBColor(0xd7, 0xdc, 0xe2);

pub fn draw(path: &Path, workload: Workload, mode: Mode, cells: &[Cell]) -> Result<()> {
    let metric = &metrics(workload)[0];
    let summaries: Vec<_> = cells.iter().map(|cell| summarise(metric, cell, None)).collect();
    let Some(axis) = Axis::around(&summaries) else { return Ok(()) };
    let height = TOP + ROW * cells.len() as i32 + BOTTOM;
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    let text =
        |size: i32, color: &RGBColor, h, v| ("sans-serif", size).into_font().color(color).pos(Pos::new(h, v));
    let put = |words: String, at: (i32, i32), style: TextStyle| {
        area.draw(&Text::new(words, at, style)).map_err(drawing)
    };
    area.fill(&WHITE).map_err(drawing)?;
    let better = if metric.more_is_better { "more is better" } else { "less is better" };
    let title = format!("{}: {}, {} ({better})", workload.name(), metric.name, metric.unit);
    put(title, (16, 14), text(20, &BLACK, HPos::Left, VPos::Top))?;
    put(workload.what(mode), (16, 38), text(15, &OTHERS, HPos::Left, VPos::Top))?;
    let foot = height - BOTTOM;
    for tick in axis.ticks() {
        let x = axis.x(tick);
        area.draw(&PathElement::new([(x, TOP), (x, foot)], GRID)).map_err(drawing)?;
        put(plain(tick), (x, foot + 6), text(15, &OTHERS, HPos::Center, VPos::Top))?;
    }
    for ((cell, summary), index) in cells.iter().zip(&summaries).zip(0..) {
        let y = TOP + ROW * index + ROW / 2;
        let color = if is_ours(cell) { OURS } else { OTHERS };
        put(cell.row.label(), (LABELS - 12, y), text(16, &color, HPos::Right, VPos::Center))?;
        let Some(summary) = summary else {
            put("stalled or failed".into(), (LABELS + 6, y), text(16, &RED, HPos::Left, VPos::Center))?;
            continue;
        };
        let (from, to) = (axis.x(summary.min), axis.x(summary.max));
        area.draw(&PathElement::new([(from, y), (to, y)], color.stroke_width(2))).map_err(drawing)?;
        area.draw(&Circle::new((axis.x(summary.median), y), 5, color.filled())).map_err(drawing)?;
        put(number(summary.median), (to + 10, y), text(15, &color, HPos::Left, VPos::Center))?;
    }
    area.present().map_err(drawing)
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing a chart: {error}")
}

/// Whole powers of ten around all values.
struct Axis {
    low: i32,
    high: i32,
}

impl Axis {
    fn around(summaries: &[Option<Summary>]) -> Option<Self> {
        let all = || summaries.iter().flatten();
        let low = all().map(|s| s.min).filter(|&min| min > 0.0).reduce(f64::min)?;
        let high = all().map(|s| s.max).reduce(f64::max)?;
        let (low, high) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        Some(Self { low, high: high.max(low + 1) })
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|power| 10f64.powi(power))
    }

    fn x(&self, value: f64) -> i32 {
        let whole = f64::from(self.high - self.low);
        let part = (value.max(f64::MIN_POSITIVE).log10() - f64::from(self.low)) / whole;
        LABELS + (part.clamp(0.0, 1.0) * f64::from(WIDTH - LABELS - RIGHT)) as i32
    }
}

fn plain(tick: f64) -> String {
    if tick >= 1.0 { format!("{tick:.0}") } else { format!("{tick}") }
}

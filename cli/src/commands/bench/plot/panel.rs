//! One chart: axes, curves, legend.
//!
//! All coordinates are logarithms, so that the axes are linear in them and every label is at a round value.

use std::error::Error;

use plotters::chart::{ChartBuilder, ChartContext, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::DrawingArea;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{BLACK, Color, LineSeries, RGBColor, SVGBackend, WHITE};

use super::{bold, text};
use crate::units::show_size;

/// Told apart by those who do not see all colours, too (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(100, 100, 100),
    RGBColor(160, 80, 200),
];

/// What an axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// The number of nines of a percentile: a logarithm already.
    Nines,
    /// Nanoseconds.
    Time,
    /// Powers of two, in units of 1,024.
    Bytes,
    /// A few.
    Count,
    /// Per second.
    Rate,
}

#[derive(Debug, Clone)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// At an x, the least and the most.
    pub(super) spread: Vec<(f64, f64, f64)>,
}

#[derive(Debug, Clone)]
pub(super) struct Panel {
    pub(super) heading: String,
    pub(super) x_label: &'static str,
    pub(super) y_label: &'static str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) curves: Vec<Curve>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Panel {
    pub(super) fn draw(&self, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
        let (x, y) = (self.bounds(self.x, |&(x, _)| x), self.bounds_of_y());
        let mut chart = ChartBuilder::on(area);
        let mut chart = chart
            .caption(&self.heading, bold(16))
            .margin(16)
            .margin_right(28)
            .x_label_area_size(48)
            .y_label_area_size(78)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)
            .map_err(|e| e.to_string())?;
        let (x_scale, y_scale) = (self.x, self.y);
        let mesh = &mut chart.configure_mesh();
        mesh.x_desc(self.x_label)
            .y_desc(self.y_label)
            .axis_desc_style(text(14))
            .label_style(text(13))
            .x_labels(self.x.steps(x))
            .y_labels(self.y.steps(y))
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .x_label_formatter(&|&at| x_scale.label(at))
            .y_label_formatter(&|&at| y_scale.label(at))
            .draw()
            .map_err(|e| e.to_string())?;
        if matches!(self.y, Scale::Time | Scale::Rate) {
            between_powers(&mut chart, x, y)?;
        }
        self.draw_curves(&mut chart)?;
        // Where the curves are not: latencies rise to the right, and above the throughput there is room.
        let corner = if self.x == Scale::Nines {
            SeriesLabelPosition::UpperLeft
        } else {
            SeriesLabelPosition::UpperRight
        };
        chart
            .configure_series_labels()
            .position(corner)
            .margin(12)
            .legend_area_size(30)
            .label_font(text(13))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(|e| e.to_string())?;
        Ok(())
    }

    fn draw_curves<'a>(&'a self, chart: &mut Chart<'a, '_>) -> Result<(), Box<dyn Error>> {
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            let points = curve.points.iter().map(|&(x, y)| (self.x.place(x), self.y.place(y)));
            let points: Vec<_> = points.collect();
            let line = chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)));
            line.map_err(|e| e.to_string())?
                .label(&curve.name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3)));
            if self.x == Scale::Nines {
                continue;
            }
            let dots = points.iter().map(|&at| Circle::new(at, 4, colour.filled()));
            chart.draw_series(dots).map_err(|e| e.to_string())?;
            let bars = curve.spread.iter().map(|&(x, least, most)| {
                let x = self.x.place(x);
                PathElement::new([(x, self.y.place(least)), (x, self.y.place(most))], colour.stroke_width(1))
            });
            chart.draw_series(bars).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The first and the last place of an axis: whole steps around all points.
    fn bounds(&self, scale: Scale, of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
        let places = self.curves.iter().flat_map(|curve| &curve.points).map(|point| scale.place(of(point)));
        around(scale, places)
    }

    fn bounds_of_y(&self) -> (f64, f64) {
        let spreads = self.curves.iter().flat_map(|curve| &curve.spread);
        let spreads = spreads.flat_map(|&(_, least, most)| [least, most]);
        let points = self.curves.iter().flat_map(|curve| &curve.points).map(|&(_, y)| y);
        around(self.y, points.chain(spreads).map(|y| self.y.place(y)))
    }
}

/// Lines between the powers of ten, as on logarithmic paper.
fn between_powers(chart: &mut Chart<'_, '_>, x: (f64, f64), y: (f64, f64)) -> Result<(), Box<dyn Error>> {
    let grey = BLACK.mix(0.5);
    let small = text(10).color(&grey);
    for power in y.0 as i32..y.1 as i32 {
        let place = |digit: u8| f64::from(power) + f64::from(digit).log10();
        let lines = (2..10)
            .map(|digit| PathElement::new([(x.0, place(digit)), (x.1, place(digit))], BLACK.mix(0.06)));
        chart.draw_series(lines).map_err(|e| e.to_string())?;
        let digits = [2, 5].map(|digit| Text::new(digit.to_string(), (x.0, place(digit)), small.clone()));
        chart.draw_series(digits).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn around(scale: Scale, places: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = places
        .filter(|place| place.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), place| (least.min(place), most.max(place)));
    if least > most {
        return (0.0, 1.0);
    }
    // Percentiles begin with the first of all messages; counts need some room beside them.
    let (from, to) = match scale {
        Scale::Nines => (0.0, most.ceil()),
        Scale::Bytes | Scale::Count => (least - 0.5, most + 0.5),
        Scale::Time => (least.floor(), most.ceil()),
        // With room for the legend.
        Scale::Rate => (least.floor(), (most + 0.4).ceil()),
    };
    (from, to.max(from + 1.0))
}

impl Scale {
    /// Where a value is on the axis.
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Nines => value,
            Scale::Bytes | Scale::Count => value.log2(),
            Scale::Time | Scale::Rate => value.log10(),
        }
    }

    /// About how many labels there are to be, so that each is at a whole place.
    fn steps(self, bounds: (f64, f64)) -> usize {
        (bounds.1 - bounds.0).ceil() as usize + 1
    }

    /// What is written at a place.
    fn label(self, place: f64) -> String {
        if (place - place.round()).abs() > 1e-6 {
            return String::new();
        }
        let place = place.round() as i32;
        match self {
            Scale::Nines => percentile(place),
            Scale::Bytes => show_size(1 << place.clamp(0, 62)).replace(" bytes", "").replace("iB", "i"),
            Scale::Count => (1_u64 << place.clamp(0, 62)).to_string(),
            Scale::Time => time(place),
            Scale::Rate => rate(place),
        }
    }
}

/// The percentile with so many nines.
fn percentile(nines: i32) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat((more - 2).clamp(0, 20) as usize)),
    }
}

/// A power of ten of nanoseconds.
fn time(power: i32) -> String {
    let unit = ["ns", "us", "ms"].get(power.max(0) as usize / 3).copied().unwrap_or("s");
    let digits = if unit == "s" { power - 9 } else { power.max(0) % 3 };
    format!("1{} {unit}", "0".repeat(digits.max(0) as usize))
}

/// A power of ten per second.
fn rate(power: i32) -> String {
    let unit = ["", " k", " M"].get(power.max(0) as usize / 3).copied().unwrap_or(" G");
    let digits = if unit == " G" { power - 9 } else { power.max(0) % 3 };
    format!("1{}{unit}", "0".repeat(digits.max(0) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_is_there() {
        let labels = |scale: Scale, places: [f64; 4]| places.map(|place| scale.label(place));
        assert_eq!(labels(Scale::Nines, [0.0, 1.0, 3.0, 1.5]), ["0 %", "90 %", "99.9 %", ""]);
        assert_eq!(labels(Scale::Time, [0.0, 2.0, 4.0, 9.0]), ["1 ns", "100 ns", "10 us", "1 s"]);
        assert_eq!(labels(Scale::Bytes, [3.0, 10.0, 16.0, 20.0]), ["8", "1 Ki", "64 Ki", "1 Mi"]);
        assert_eq!(labels(Scale::Count, [0.0, 1.0, 3.0, 0.5]), ["1", "2", "8", ""]);
        assert_eq!(labels(Scale::Rate, [3.0, 5.0, 7.0, 9.0]), ["1 k", "100 k", "10 M", "1 G"]);
    }
}

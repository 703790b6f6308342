//! A picture with curves: as little SVG as that takes.

use std::fmt::Write as _;

/// Size of a chart in pixels, axes and words included.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 320.0;
/// What is left free around the curves.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 46.0;
/// Told apart by people who see few colours, too.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

/// Points joined by lines.
pub(super) struct Curve {
    pub(super) name: String,
    /// From left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// Curves over one axis. The axis below is logarithmic, the upright one begins at 0.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) below: String,
    pub(super) curves: Vec<Curve>,
}

impl Chart {
    /// All values in one direction.
    fn values(&self, pick: fn(&(f64, f64)) -> f64) -> impl Iterator<Item = f64> {
        self.curves.iter().flat_map(|curve| &curve.points).map(pick)
    }

    fn draw(&self, svg: &mut String, x0: f64) {
        let low = self.values(|point| point.0).fold(f64::INFINITY, f64::min).max(1e-9);
        let high = self.values(|point| point.0).fold(low * 1.000_001, f64::max);
        let step = step(self.values(|point| point.1).fold(0.0, f64::max));
        let steps = (self.values(|point| point.1).fold(0.0, f64::max) / step).ceil().max(1.0);
        let across = |x: f64| {
            let part = (x.max(low) / low).ln() / (high / low).ln();
            x0 + LEFT + part * (WIDTH - LEFT - RIGHT)
        };
        let up = |y: f64| HEIGHT - BOTTOM - y / (step * steps) * (HEIGHT - TOP - BOTTOM);

        text(svg, (x0 + WIDTH / 2.0, 20.0), "middle", "bold", &self.title);
        text(svg, (x0 + WIDTH / 2.0, HEIGHT - 8.0), "middle", "normal", &self.below);
        for number in 0..=steps as u32 {
            let y = f64::from(number) * step;
            line(svg, (x0 + LEFT, up(y)), (x0 + WIDTH - RIGHT, up(y)));
            text(svg, (x0 + LEFT - 6.0, up(y) + 4.0), "end", "normal", &short(y));
        }
        let mut marks: Vec<f64> = self.values(|point| point.0).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        for x in marks {
            line(svg, (across(x), up(0.0)), (across(x), up(0.0) + 4.0));
            text(svg, (across(x), up(0.0) + 18.0), "middle", "normal", &short(x));
        }
        for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            let points = curve.points.iter().map(|point| (across(point.0), up(point.1)));
            let path: Vec<_> = points.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let path = path.join(" ");
            let _ = writeln!(
                svg,
                r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>"#
            );
            for (x, y) in points {
                let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#);
            }
        }
    }
}

/// Charts side by side, with the names of the curves of the first one below.
pub(super) fn picture(charts: &[Chart]) -> String {
    let width = WIDTH * charts.len() as f64;
    let height = HEIGHT + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (number, chart) in charts.iter().enumerate() {
        chart.draw(&mut svg, WIDTH * number as f64);
    }
    let curves = charts.first().map_or(&[][..], |chart| &chart.curves);
    let mut x = LEFT;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let _ = writeln!(svg, r#"<circle cx="{x}" cy="{}" r="4" fill="{colour}"/>"#, HEIGHT + 8.0);
        text(&mut svg, (x + 10.0, HEIGHT + 12.0), "start", "normal", &curve.name);
        x += 40.0 + 8.0 * curve.name.len() as f64;
    }
    svg + "</svg>\n"
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, weight: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" \
         font-weight=\"{weight}\">{words}</text>"
    );
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        r##"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" stroke="#ccc" fill="none"/>"##
    );
}

/// A round distance of which up to eight reach `highest`.
fn step(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf((highest / 8.0).log10().floor());
    let fits = |round: &f64| round * power * 8.0 >= highest;
    [1.0, 2.0, 5.0].into_iter().find(fits).unwrap_or(10.0) * power
}

/// A number in few characters.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e3 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_steps_round() {
        let shown = [0.0, 0.25, 3.0, 1500.0, 19_000.0, 2.5e6].map(short);
        assert_eq!(shown, ["0", "0.25", "3", "1.5 k", "19 k", "2.5 M"]);
        assert_eq!([0.0, 0.8, 0.9, 1.7, 8.1].map(step), [1.0, 0.1, 0.2, 0.5, 2.0]);
    }

    #[test]
    fn every_point_is_inside_and_words_are_escaped() {
        let curve = |name: &str, points: &[(f64, f64)]| Curve {
            name: name.into(),
            points: points.to_vec(),
        };
        let chart = || Chart {
            title: "a < b & c".into(),
            below: "x".into(),
            curves: vec![
                curve("one", &[(1.0, 0.0), (10.0, 7.5), (1e6, 3.0)]),
                curve("none", &[]),
                curve("two", &[(1.0, 2.0)]),
            ],
        };
        let svg = picture(&[chart(), chart()]);
        assert!(svg.contains("a &lt; b &amp; c") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("r=\"3\"").count(), 8);
        for circle in svg.lines().filter(|line| line.contains("r=\"3\"")) {
            let number = |name: &str| {
                let (_, rest) = circle.split_once(name).expect("it has a place");
                rest.split('"').next().and_then(|text| text.parse::<f64>().ok()).expect("a number")
            };
            assert!((TOP - 0.1..=HEIGHT - BOTTOM).contains(&number("cy=\"")), "{circle}");
            assert!((LEFT..=2.0 * WIDTH - RIGHT).contains(&number("cx=\"")), "{circle}");
        }
        assert!(!picture(&[Chart { curves: vec![], ..chart() }]).contains("NaN"));
    }
}

//! A picture with curves: as little SVG as that takes.

use std::fmt::Write as _;

/// Size of a chart in pixels, axes and words included.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 380.0;
/// What is left free around the curves.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 112.0;
const BOTTOM: f64 = 48.0;
/// Told apart by people who see few colours, too, and on light and dark.
const COLOURS: [&str; 6] = ["#1f83d0", "#dd6b10", "#179b76", "#c773b0", "#8a8f98", "#c99a06"];

/// Readable on a light page and on a dark one.
const STYLE: &str = "<style>text{fill:#1f2328}.quiet{fill:#59636e}.grid{stroke:#d1d9e0}\
.card{fill:#ffffff;stroke:#d1d9e0}@media(prefers-color-scheme:dark){text{fill:#f0f6fc}\
.quiet{fill:#9198a1}.grid{stroke:#3d444d}.card{fill:#0d1117;stroke:#3d444d}}</style>";

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

        let middle = x0 + f64::midpoint(LEFT, WIDTH - RIGHT);
        text(svg, (x0 + LEFT, TOP - 14.0), "start", BOLD, &self.title);
        text(svg, (middle, HEIGHT - 10.0), "middle", QUIET, &self.below);
        for number in 0..=steps as u32 {
            let y = f64::from(number) * step;
            line(svg, (x0 + LEFT, up(y)), (x0 + WIDTH - RIGHT, up(y)));
            text(svg, (x0 + LEFT - 6.0, up(y) + 4.0), "end", QUIET, &short(y));
        }
        let mut marks: Vec<f64> = self.values(|point| point.0).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        for x in marks {
            line(svg, (across(x), up(0.0)), (across(x), up(0.0) + 4.0));
            text(svg, (across(x), up(0.0) + 18.0), "middle", QUIET, &short(x));
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

/// Charts side by side under a title and the names of the curves.
pub(super) fn picture(title: &str, about: &str, charts: &[Chart]) -> String {
    let width = WIDTH * charts.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" \
         width=\"{width}\" height=\"{HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n{STYLE}\n\
         <title>{}</title>\n<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" \
         height=\"{}\" rx=\"8\"/>\n",
        escaped(title),
        width - 1.0,
        HEIGHT - 1.0
    );
    text(&mut svg, (LEFT, 28.0), "start", "font-size=\"15\" font-weight=\"bold\"", title);
    text(&mut svg, (LEFT, 46.0), "start", QUIET, about);
    let mut names: Vec<&str> = Vec::new();
    for curve in charts.iter().flat_map(|chart| &chart.curves) {
        if !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
    }
    let mut x = LEFT;
    for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
        let _ =
            writeln!(svg, r#"<rect x="{x}" y="60" width="14" height="4" rx="2" fill="{colour}"/>"#);
        text(&mut svg, (x + 20.0, 66.0), "start", "", name);
        x += 44.0 + 7.0 * name.len() as f64;
    }
    for (number, chart) in charts.iter().enumerate() {
        chart.draw(&mut svg, WIDTH * number as f64);
    }
    svg + "</svg>\n"
}

const BOLD: &str = "font-weight=\"600\"";
const QUIET: &str = "class=\"quiet\"";

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, look: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {look}>{words}</text>"
    );
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ =
        writeln!(svg, r#"<path class="grid" d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" fill="none"/>"#);
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
        let svg = picture("t", "about", &[chart(), chart()]);
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
        assert!(!picture("t", "", &[Chart { curves: vec![], ..chart() }]).contains("NaN"));
    }
}

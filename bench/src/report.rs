//! Figures as a table.

/// Middle, smallest and largest of some figures.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

/// Summarises; zero when empty.
pub(crate) fn spread(mut figures: Vec<f64>) -> Spread {
    figures.sort_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or(0.0);
    Spread { min: at(0), median: at(figures.len() / 2), max: at(figures.len().saturating_sub(1)) }
}

/// Prints one figure.
pub(crate) fn line(what: &str, s: Spread, unit: &str) {
    println!("{what:<56} {:>10.2} {unit} (min {:.2}, max {:.2})", s.median, s.min, s.max);
}

//! Reports medians of alternating rounds, printed as ratios.

use std::time::Duration;

/// The results of waft and of its baseline for one figure, round by round.
#[derive(Default)]
pub(crate) struct Pairs {
    waft: Vec<f64>,
    baseline: Vec<f64>,
}

impl Pairs {
    pub(crate) fn push(&mut self, waft: f64, baseline: f64) {
        self.waft.push(waft);
        self.baseline.push(baseline);
    }

    /// Prints rates: the ratio is waft's share of the baseline's.
    pub(crate) fn print_rates(&self, what: &str, baseline: &str, unit: &str) {
        let (share, least, most) = self.ratios();
        println!(
            "{what:32} waft {:>8.0} {unit}   {baseline} {:>8.0} {unit}   {share:.2} of it ({least:.2} to {most:.2})",
            median(&self.waft),
            median(&self.baseline),
        );
    }

    /// Prints times in seconds: the ratio is how many times as long waft takes.
    pub(crate) fn print_times(&self, what: &str, baseline: &str) {
        let (times, least, most) = self.ratios();
        println!(
            "{what:32} waft {:>11}   {baseline} {:>11}   {times:.2} times ({least:.2} to {most:.2})",
            duration(median(&self.waft)),
            duration(median(&self.baseline)),
        );
    }

    fn ratios(&self) -> (f64, f64, f64) {
        let mut ratios: Vec<f64> = self.waft.iter().zip(&self.baseline).map(|(waft, base)| waft / base).collect();
        ratios.sort_by(f64::total_cmp);
        let (least, most) = (ratios.first().copied().unwrap_or(0.0), ratios.last().copied().unwrap_or(0.0));
        (median(&ratios), least, most)
    }
}

/// The median of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Formats seconds for printing.
pub(crate) fn duration(seconds: f64) -> String {
    format!("{:.2?}", Duration::from_secs_f64(seconds.max(0.0)))
}

//! One figure, measured again and again.

use serde::{Deserialize, Serialize};

/// The values of repeated runs, in the order in which they were measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs {
    values: Vec<f64>,
}

/// What repeated runs come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the runs had less.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Runs {
    /// No runs yet.
    pub fn new() -> Runs {
        Runs::default()
    }

    /// Adds the value of one more run.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Each value.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Median, least and most; `None` without any run. With an even number of runs the median is the mean of
    /// the two in the middle.
    pub fn spread(&self) -> Option<Spread> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Spread { median, min, max })
    }

    /// The median; NaN without any run.
    pub fn median(&self) -> f64 {
        self.spread().map_or(f64::NAN, |spread| spread.median)
    }
}

impl FromIterator<f64> for Runs {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Runs {
        Runs { values: values.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Runs::new().spread(), None);
        let odd: Runs = [3.0, 1.0, 2.0].into_iter().collect();
        assert_eq!(odd.spread(), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        let even: Runs = [4.0, 1.0, 2.0, 3.0].into_iter().collect();
        assert_eq!(even.spread(), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(even.values(), [4.0, 1.0, 2.0, 3.0]);
    }
}

//! The settings: what cannot be used, and what is accepted with a warning.

use super::report::{Finding, Outcome};
use crate::config::{Config, Problems, Written};

const CHECK: &str = "settings";

/// Every problem by itself; values that may be secrets are masked there already.
pub(super) fn refused(problems: &Problems) -> Vec<Finding> {
    let text = problems.to_string();
    let lines = text.lines().skip(1).map(str::trim);
    let fault = |line| Outcome::fault(line, "correct it in the place that stands in brackets");
    lines.map(|line| Finding::new(CHECK, fault(line))).collect()
}

pub(super) fn accepted(config: &Config, written: &Written) -> Vec<Finding> {
    let warnings = config.warnings(written);
    if warnings.is_empty() {
        return vec![Finding::new(CHECK, Outcome::fine("they can be used"))];
    }
    let remedy = "change it, unless it is meant; `acemux config show` says where each value comes from";
    warnings.into_iter().map(|warning| Finding::new(CHECK, Outcome::warning(warning, remedy))).collect()
}

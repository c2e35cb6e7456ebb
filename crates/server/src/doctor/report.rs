//! What was found, and how it is told.

use std::fmt::Write as _;
use std::time::Duration;

use acemux_engine::text;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cli::Exit;

/// Longest check. What it asks has shorter deadlines of its own, the longest of which is a registry's.
const DEADLINE: Duration = Duration::from_secs(12);
/// Longest sentence, and the longest remedy: a role for gluetun.
const LONGEST: usize = 600;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is well: what was found.
    Fine(String),
    /// It works, and not as well as it could.
    Warning(Trouble),
    /// It does not work.
    Fault(Trouble),
}

/// What is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    wrong: String,
    remedy: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    Warning,
    Fault,
}

/// One check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    check: &'static str,
    /// Which of several: a VPN, an engine.
    about: Option<String>,
    outcome: Outcome,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(Vec<Finding>);

impl Outcome {
    pub(super) fn fine(found: impl Into<String>) -> Self {
        Self::Fine(found.into())
    }

    pub(super) fn warning(wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Warning(Trouble { wrong: wrong.into(), remedy: remedy.into() })
    }

    pub(super) fn fault(wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Fault(Trouble { wrong: wrong.into(), remedy: remedy.into() })
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Fine(_) => Verdict::Ok,
            Self::Warning(_) => Verdict::Warning,
            Self::Fault(_) => Verdict::Fault,
        }
    }
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
        }
    }
}

impl Finding {
    pub(super) fn new(check: &'static str, outcome: Outcome) -> Self {
        Self { check, about: None, outcome }
    }

    pub(super) fn about(self, which: impl Into<String>) -> Self {
        Self { about: Some(which.into()), ..self }
    }

    /// The outcome of a look, or that it took too long.
    pub(super) async fn of(check: &'static str, look: impl Future<Output = Outcome>) -> Self {
        let late = |_| {
            Outcome::fault(
                format!("nothing was found out within {} s", DEADLINE.as_secs()),
                "see whether this machine, its disk or its network is stuck, and ask again",
            )
        };
        Self::new(check, timeout(DEADLINE, look).await.unwrap_or_else(late))
    }

    pub(super) fn is_fine(&self) -> bool {
        self.verdict() == Verdict::Ok
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.outcome.verdict()
    }

    /// Both texts, each one line without anything that steers a terminal.
    fn words(&self) -> (String, Option<String>) {
        let line = |text: &str| text::line(text, LONGEST);
        match &self.outcome {
            Outcome::Fine(found) => (line(found), None),
            Outcome::Warning(Trouble { wrong, remedy }) | Outcome::Fault(Trouble { wrong, remedy }) => {
                (line(wrong), Some(line(remedy)))
            }
        }
    }

    fn to_json(&self) -> Value {
        let (message, remedy) = self.words();
        json!({
            "check": self.check,
            "about": self.about,
            "verdict": self.verdict(),
            "message": message,
            "remedy": remedy,
        })
    }

    pub(super) fn to_line(&self) -> String {
        let (message, remedy) = self.words();
        let about = self.about.as_ref().map(|which| format!(" {which}")).unwrap_or_default();
        let mut line = format!("{:<8} {}{about}: {message}", self.verdict().as_str(), self.check);
        if let Some(remedy) = remedy {
            write!(line, ". To mend it: {remedy}").expect("writing to a String cannot fail");
        }
        line
    }
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self(findings)
    }

    /// For people: a line for each finding, and how many are bad.
    pub fn to_text(&self) -> String {
        let lines = self.0.iter().map(|finding| finding.to_line() + "\n");
        let (faults, warnings) = (self.count(Verdict::Fault), self.count(Verdict::Warning));
        lines.collect::<String>() + &format!("{faults} fault(s), {warnings} warning(s)")
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        let checks: Vec<Value> = self.0.iter().map(Finding::to_json).collect();
        let report = json!({ "healthy": self.exit() == Exit::Success, "checks": checks });
        serde_json::to_string_pretty(&report).expect("findings are plain text")
    }

    /// A warning is no failure.
    pub fn exit(&self) -> Exit {
        if self.count(Verdict::Fault) == 0 { Exit::Success } else { Exit::Failed }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|finding| finding.verdict() == verdict).count()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_a_fault_in_its_time() {
        let began = tokio::time::Instant::now();
        let finding = Finding::of("docker", pending()).await;
        assert_eq!((finding.verdict(), began.elapsed()), (Verdict::Fault, DEADLINE));
    }

    #[test]
    fn a_report_has_one_line_each_and_fails_for_a_fault_alone() {
        let warning = Finding::new("clock", Outcome::warning("it is\nlate\u{1b}[2J", "wait"));
        let fine = Finding::new("docker", Outcome::fine("it answers"));
        let report = Report::new(vec![fine, warning.about("here")]);
        assert_eq!(report.exit(), Exit::Success);
        insta::assert_snapshot!(report.to_text(), @"
        ok       docker: it answers
        warning  clock here: it is late [2J. To mend it: wait
        0 fault(s), 1 warning(s)
        ");
        let fault = Finding::new("port", Outcome::fault("it is taken", "take another one"));
        let report = Report::new(vec![fault]);
        assert_eq!(report.exit(), Exit::Failed);
        insta::assert_snapshot!(report.to_json(), @r#"
        {
          "checks": [
            {
              "about": null,
              "check": "port",
              "message": "it is taken",
              "remedy": "take another one",
              "verdict": "fault"
            }
          ],
          "healthy": false
        }
        "#);
    }
}

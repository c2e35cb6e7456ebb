//! In which text format metrics are written: `OpenMetrics` for who asks for it, Prometheus' own for everybody else.
//!
//! Both have the same samples. `OpenMetrics` names the family of a counter without `_total`, says units, and closes with
//! `# EOF`; Prometheus' format 0.0.4 knows none of the three.

use std::borrow::Cow;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Plain,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// What `Accept` asks for. Who says nothing, or something else, gets what every reader understands.
    pub fn asked_for(headers: &HeaderMap) -> Self {
        let ranges = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range<'_>> =
            ranges.flat_map(|value| value.split(',')).filter_map(Range::read).collect();
        let best =
            |wanted: &str| ranges.iter().filter(|range| range.name == wanted).map(|range| range.weight).max();
        match (best("application/openmetrics-text"), best("text/plain")) {
            (Some(open), plain) if open > 0 && plain.is_none_or(|plain| open >= plain) => Self::OpenMetrics,
            _ => Self::Plain,
        }
    }

    /// Its media type.
    pub const fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Plain => PLAIN,
            Self::OpenMetrics => OPEN_METRICS,
        })
    }

    /// A page of `OpenMetrics` in this format.
    pub fn of(self, page: String) -> String {
        match self {
            Self::Plain => plain(&page),
            Self::OpenMetrics => page,
        }
    }
}

/// One of the media ranges of `Accept`, of a version that is spoken here.
struct Range<'a> {
    name: &'a str,
    /// Thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next()?;
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let value = |wanted: &str| {
            parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
        };
        let is_spoken = value("version").is_none_or(|version| matches!(version, "1.0.0" | "0.0.4"));
        let weight = value("q").map_or(Some(1000), thousandths)?;
        is_spoken.then_some(Self { name, weight })
    }
}

/// `0.5` as 500. At most three digits, as RFC 9110 has it.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() != 1 || part.len() > 3 {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u16>().ok().map(|whole| whole * 1000 + part).filter(|weight| *weight <= 1000)
}

/// The same samples in the format 0.0.4.
fn plain(page: &str) -> String {
    let counters: Vec<&str> = page.lines().filter_map(counter).collect();
    let mut plain = String::with_capacity(page.len());
    for line in page.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        plain.push_str(&renamed(line, &counters));
        plain.push('\n');
    }
    plain
}

/// The family that this line makes a counter.
fn counter(line: &str) -> Option<&str> {
    line.strip_prefix("# TYPE ")?.strip_suffix(" counter")
}

/// What is said of a counter's family is said of its samples' name.
fn renamed<'a>(line: &'a str, counters: &[&str]) -> Cow<'a, str> {
    let described = ["# HELP ", "# TYPE "].into_iter().find(|keyword| line.starts_with(keyword));
    let name = |keyword: &str| line[keyword.len()..].split(' ').next().unwrap_or_default();
    match described.map(|keyword| (keyword, name(keyword))) {
        Some((keyword, name)) if counters.contains(&name) => {
            format!("{keyword}{name}_total{}", &line[keyword.len() + name.len()..]).into()
        }
        _ => line.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &[&'static str]) -> Format {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        Format::asked_for(&headers)
    }

    #[test]
    fn only_who_asks_for_open_metrics_gets_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(asked(&[prometheus]), Format::OpenMetrics);
        assert_eq!(asked(&["text/plain", "application/openmetrics-text"]), Format::OpenMetrics);
        for accept in [
            &[][..],
            &["*/*"],
            &["text/html,application/xhtml+xml"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;version=0.0.1;q=0.9,text/plain;version=0.0.4;q=0.3"],
            &["application/openmetrics-text;q=0.2,text/plain;q=0.9"],
            &["application/openmetrics-text;q=1.5", "application/openmetrics-text;q=x"],
        ] {
            assert_eq!(asked(accept), Format::Plain, "{accept:?}");
        }
    }

    #[test]
    fn the_plain_format_has_the_same_samples_and_counters_by_their_full_names() {
        let open = "# HELP acemux_starts Starts. Of streams.\n# TYPE acemux_starts counter\n\
                    acemux_starts_total{result=\"ok\"} 3\n# HELP acemux_start_seconds Time.\n\
                    # TYPE acemux_start_seconds histogram\n# UNIT acemux_start_seconds seconds\n\
                    acemux_start_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
        insta::assert_snapshot!(Format::Plain.of(open.to_owned()), @r#"
        # HELP acemux_starts_total Starts. Of streams.
        # TYPE acemux_starts_total counter
        acemux_starts_total{result="ok"} 3
        # HELP acemux_start_seconds Time.
        # TYPE acemux_start_seconds histogram
        acemux_start_seconds_bucket{le="+Inf"} 1
        "#);
        assert_eq!(Format::OpenMetrics.of(open.to_owned()), open);
    }
}

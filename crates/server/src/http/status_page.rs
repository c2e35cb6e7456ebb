//! `/status`: the dashboard's sentences on one page without a script, for old televisions, text browsers and who has no
//! key. It tells what `/proxy/status`, `/engines` and `/vpn/status` tell everybody, and in no more than 3 KB.

use std::fmt::Write as _;
use std::sync::LazyLock;

use acemux_relay::session::{Phase, SessionSnapshot};
use acemux_relay::verdict::Verdict;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY};
use sha2::{Digest as _, Sha256};

use crate::http::api::status::Overview;

const REFRESH: HeaderName = HeaderName::from_static("refresh");
/// Seconds between two looks.
const EVERY: HeaderValue = HeaderValue::from_static("10");

/// Longest lists: the page stays small whatever happens.
const MOST_PROBLEMS: usize = 6;
const MOST_VPNS: usize = 4;
const MOST_STREAMS: usize = 12;
/// Longest sentence and longest name, in bytes of the page. An id has 40.
const LONGEST: usize = 110;
const LONGEST_NAME: usize = 44;

const STYLE: &str = ":root{color-scheme:light dark}body{font:1.1em/1.5 system-ui,sans-serif;max-width:50em;margin:1em auto;padding:0 1em}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2em .6em .2em 0;overflow-wrap:anywhere}";

/// The one style of the page is named by its hash; nothing else is loaded or run.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 is a header value")
});

/// What is told.
#[derive(Debug, Default)]
struct Page {
    problems: Vec<String>,
    streams: Vec<Row>,
    viewers: usize,
    slots: (usize, usize),
    engines: (usize, usize),
    vpns: Vec<String>,
}

#[derive(Debug)]
struct Row {
    name: String,
    verdict: String,
    viewers: usize,
}

/// What plays and what is wrong, on one page without a script.
#[utoipa::path(
    get, path = "/status", tag = "dashboard",
    responses((status = 200, description = "At most 3 KB; it asks to be loaded again every 10 s", body = String, content_type = "text/html"))
)]
pub(crate) async fn status(State(seen): State<Overview>) -> Response {
    let page = Page::of(&seen).to_html();
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, POLICY.clone()),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (REFRESH, EVERY),
    ];
    (headers, page).into_response()
}

impl Page {
    fn of(Overview { relay, engines: all, vpns, channel_names, .. }: &Overview) -> Self {
        let members = all.all();
        let is_well = |health: &str| health == "healthy";
        let well = members.iter().filter(|member| is_well(member.knowledge().health.as_str())).count();
        let cut_off = vpns.cut_off(all);
        let sessions = relay.sessions();
        let mut page = Self {
            viewers: relay.viewers(),
            slots: (
                members.iter().map(|member| member.used()).sum(),
                members.iter().map(|member| member.slots).sum(),
            ),
            engines: (well, members.len()),
            ..Self::default()
        };
        if well == 0 {
            page.problems.push("No engine works: nothing new can start.".to_owned());
        }
        for vpn in &vpns.view(all).vpns {
            let state = vpn.report.health.as_str();
            page.vpns.push(format!("{}: {state}", vpn.name));
            if let Some(why) = vpn.report.health.why() {
                page.problems.push(format!("VPN {} is {state}: {why}.", vpn.name));
            }
        }
        for session in &sessions {
            let name = channel_names.of(session).unwrap_or_else(|| session.label.clone());
            page.add(name, session, Verdict::of_stream(session, cut_off.of(session)));
        }
        page
    }

    fn add(&mut self, name: String, session: &SessionSnapshot, verdict: Verdict) {
        if !matches!(verdict.as_str(), "smooth" | "starting") && session.phase == Phase::Live {
            self.problems.push(format!("{name}: {}, {verdict}.", verdict.as_str().replace('_', " ")));
        }
        let verdict = verdict.as_str().replace('_', " ");
        self.streams.push(Row { name, verdict, viewers: session.viewers });
    }

    fn to_html(&self) -> String {
        let mut html = String::with_capacity(3_000);
        html += "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>";
        match self.problems.len() {
            0 => html += "acemux: all good",
            wrong => write(&mut html, format_args!("▲{wrong} acemux")),
        }
        write(&mut html, format_args!("</title><style>{STYLE}</style><h1>acemux</h1>"));
        self.say_what_is_wrong(&mut html);
        write(
            &mut html,
            format_args!(
                "<p>{} watching · {} streams · {} of {} places in use · {} of {} engines well</p>",
                self.viewers,
                self.streams.len(),
                self.slots.0,
                self.slots.1,
                self.engines.0,
                self.engines.1,
            ),
        );
        for vpn in self.vpns.iter().take(MOST_VPNS) {
            write(&mut html, format_args!("<p>VPN {}</p>", escaped(vpn, LONGEST_NAME)));
        }
        self.say_who_watches(&mut html);
        html += "<p><a href=panel/>Dashboard</a></p></html>\n";
        html
    }

    fn say_what_is_wrong(&self, html: &mut String) {
        if self.problems.is_empty() {
            *html += "<p><strong>✔ All good.</strong></p>";
            return;
        }
        *html += "<ul>";
        for problem in self.problems.iter().take(MOST_PROBLEMS) {
            write(html, format_args!("<li>▲ {}</li>", escaped(problem, LONGEST)));
        }
        *html += "</ul>";
        say_how_many_more(html, self.problems.len(), MOST_PROBLEMS);
    }

    fn say_who_watches(&self, html: &mut String) {
        if self.streams.is_empty() {
            *html += "<p>Nobody is watching.</p>";
            return;
        }
        *html += "<table><tr><th>Stream<th>State<th>Viewers";
        for Row { name, verdict, viewers } in self.streams.iter().take(MOST_STREAMS) {
            write(
                html,
                format_args!(
                    "<tr><td>{}<td>{}<td>{viewers}",
                    escaped(name, LONGEST_NAME),
                    escaped(verdict, LONGEST_NAME)
                ),
            );
        }
        *html += "</table>";
        say_how_many_more(html, self.streams.len(), MOST_STREAMS);
    }
}

fn say_how_many_more(html: &mut String, all: usize, shown: usize) {
    if let Some(more) = all.checked_sub(shown).filter(|more| *more > 0) {
        write(html, format_args!("<p>and {more} more</p>"));
    }
}

fn write(html: &mut String, text: std::fmt::Arguments<'_>) {
    html.write_fmt(text).expect("writing to a String cannot fail");
}

/// Names come from streams and engines, and from whoever asked for a stream.
fn escaped(text: &str, longest: usize) -> String {
    let mut safe = String::with_capacity(text.len());
    for sign in text.chars() {
        let mut own = [0; 4];
        let written = match sign {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&#39;",
            sign if sign.is_control() => " ",
            sign => sign.encode_utf8(&mut own),
        };
        if safe.len() + written.len() > longest {
            break;
        }
        safe += written;
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_three_kilobytes_whatever_there_is() {
        for sign in ["a", "&", "\"", "é", "📺"] {
            let long = sign.repeat(1_000);
            let row = || Row { name: long.clone(), verdict: "viewer behind".to_owned(), viewers: 10_000 };
            let page = Page {
                problems: vec![long.clone(); 1_000],
                streams: (0..1_000).map(|_| row()).collect(),
                vpns: vec![long.clone(); 1_000],
                ..Page::default()
            };
            let html = page.to_html();
            assert!(html.contains("and 994 more") && html.contains("and 988 more"), "{html}");
            assert!(html.len() <= 3_072, "{sign}: {}", html.len());
        }
    }

    #[test]
    fn text_of_others_is_never_markup() {
        let hostile = "<script>alert(1)</script>\"'&\u{1b}[2J\n";
        let page = Page {
            problems: vec![hostile.to_owned()],
            streams: vec![Row { name: hostile.to_owned(), verdict: hostile.to_owned(), viewers: 1 }],
            vpns: vec![hostile.to_owned()],
            ..Page::default()
        };
        let html = page.to_html();
        assert!(!html.contains("<script") && !html.contains('\u{1b}'), "{html}");
        assert_eq!(html.matches("&lt;script&gt;").count(), 4);
    }

    #[test]
    fn its_style_is_the_only_thing_that_may_be_applied() {
        let policy = POLICY.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"));
    }
}

//! Rows 76 to 91 of the fault catalogue: a request, and its answer to the letter. Where the catalogue wants another answer,
//! the row says what is answered instead and why.

use acemux_testkit::app::{Setup, TestApp, until};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::{Call, FakeDockerd};
use acemux_testkit::send;

const KEY: &str = "a-key-of-twenty-signs";

/// One row: its number, method and path, header lines, a body, and status and code of the answer. No code is a success.
type Row<'a> = (u8, &'a str, &'a str, &'a str, u16, &'a str);

/// Asks and compares everything that the answer to an error must have.
async fn assert_golden(app: &TestApp, (row, line, headers, body, status, code): Row<'_>) {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request = format!("{line} HTTP/1.1\r\n{headers}{length}Connection: close\r\n\r\n{body}");
    let shown: String = request.chars().take(300).collect();
    let mut reply = send(app.address(), &request).await;
    assert_eq!(reply.status, status, "row {row}: {shown}");
    for never in ["set-cookie", "access-control-allow-origin", "access-control-allow-credentials"] {
        assert_eq!(reply.header(never), None, "row {row}: {never}: {shown}");
    }
    for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff")] {
        assert_eq!(reply.header(name), Some(value), "row {row}: {shown}");
    }
    let bearer = (status == 401).then_some("Bearer realm=\"acemux\"");
    assert_eq!(reply.header("www-authenticate"), bearer, "row {row}: {shown}");
    assert_eq!(reply.header("allow").is_some(), status == 405, "row {row}: {shown}");
    if code.is_empty() {
        return;
    }
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "row {row}: {shown}");
    let id = reply.header("x-request-id").expect("every answer has one").to_owned();
    let problem = reply.json().await;
    let fields = problem.as_object().expect("an object");
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["code", "detail", "request_id", "status"], "row {row}");
    assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "row {row}: {shown}");
    assert_eq!(problem["request_id"], id, "row {row}");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.len() <= 200 && !detail.contains(['<', '\n', '\r']), "row {row}: {detail}");
}

const CHANGE: &str = "POST /events/cleanup";
const HOST: &str = "Host: localhost\r\n";

/// Header lines behind the host.
fn with(more: &str) -> String {
    format!("{HOST}{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_missing_wrong_or_at_the_wrong_place() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let upper = KEY.to_uppercase();
    let wrong: Vec<String> = [&format!("{KEY}1"), &KEY[..20], "", "a", &upper, "schl\u{fc}ssel", "\u{1f511}"]
        .into_iter()
        .map(|key| with(&format!("X-API-KEY: {key}")))
        .collect();
    for headers in &wrong {
        assert_golden(&app, (77, CHANGE, headers, "", 401, "wrong_key")).await;
    }
    let huge = with(&format!("X-API-KEY: {}", "k".repeat(20_000)));
    let two = [
        format!("Authorization: Bearer {KEY}\r\nAuthorization: Bearer no"),
        format!("Authorization: Basic no\r\nAuthorization: Bearer {KEY}"),
        format!("X-API-KEY: {KEY}\r\nX-API-KEY: {KEY}"),
    ];
    // Not two of a kind: the second is for a proxy in front.
    let both = with(&format!("X-API-KEY: {KEY}\r\nAuthorization: Bearer no"));
    let cookie = with(&format!("Cookie: session={KEY}; key={KEY}"));
    let schemes = ["Bearer", "bearer", "BEARER", "Bearer "]
        .map(|scheme| with(&format!("Authorization: {scheme} {KEY}")));
    let basic = with(&format!("Authorization: Basic {KEY}"));
    let in_query = format!("{CHANGE}?api_key={KEY}&key={KEY}&access_token={KEY}");
    let rows: Vec<Row<'_>> = vec![
        (76, CHANGE, HOST, "", 401, "missing_key"),
        (77, CHANGE, &huge, "", 431, "headers_too_large"),
        // Not read at all: whoever sends it there learns that it is missing, and where it belongs.
        (78, &in_query, HOST, "", 401, "missing_key"),
        (79, CHANGE, &basic, "", 401, "missing_key"),
        // There are no sessions: a cookie opens nothing.
        (81, CHANGE, &cookie, "", 401, "missing_key"),
    ];
    for row in rows {
        assert_golden(&app, row).await;
    }
    for headers in &schemes {
        assert_golden(&app, (79, CHANGE, headers, "", 200, "")).await;
    }
    assert_golden(&app, (79, CHANGE, &both, "", 200, "")).await;
    for headers in two.map(|lines| with(&lines)) {
        assert_golden(&app, (79, CHANGE, &headers, "", 400, "ambiguous_key")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_names_of_strangers_and_reads_that_would_change() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let key = format!("X-API-KEY: {KEY}\r\n");
    let origin = with(&format!("{key}Origin: https://evil.example"));
    let null = with(&format!("{key}Origin: null"));
    let site = with(&format!("{key}Sec-Fetch-Site: cross-site"));
    let cookie = with("Cookie: session=a\r\nOrigin: https://evil.example");
    let kinds = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"]
        .map(|kind| with(&format!("{key}Content-Type: {kind}")));
    let preflight = with("Origin: https://evil.example\r\nAccess-Control-Request-Method: POST");
    let private =
        with(&format!("{}Access-Control-Request-Private-Network: true", preflight.trim_start_matches(HOST)));
    let hosts = ["evil.example", "127.0.0.1.nip.io", "a:99999", "[::1", "a@b"]
        .map(|host| format!("Host: {host}\r\n"));
    let overridden = with(&format!("{key}X-HTTP-Method-Override: POST"));
    let mut rows: Vec<Row<'_>> = vec![
        (82, CHANGE, &origin, "", 403, "bad_origin"),
        (82, "DELETE /proxy/viewers/1", &null, "", 403, "bad_origin"),
        (82, CHANGE, &cookie, "", 403, "bad_origin"),
        (83, "POST /api/v1/scale/1", &site, "", 403, "bad_origin"),
        (85, "OPTIONS /events/cleanup", &preflight, "", 405, "method_not_allowed"),
        (85, "OPTIONS /api/v1/scale/1", &private, "", 405, "method_not_allowed"),
        (87, "GET /events/cleanup", &overridden, "", 405, "method_not_allowed"),
        (87, "HEAD /scale/1", HOST, "", 405, ""),
        (87, "GET /api/stop?id=1", HOST, "", 404, "not_found"),
        (88, "GET /looping-streams/clear", &overridden, "", 405, "method_not_allowed"),
    ];
    rows.extend(kinds.iter().map(|kind| {
        (
            84,
            "POST /events/stream_ended",
            kind.as_str(),
            "{\"stream_id\":\"a\"}",
            415,
            "unsupported_media_type",
        )
    }));
    rows.extend(hosts.iter().map(|host| (86, "GET /events", host.as_str(), "", 421, "bad_host")));
    for row in rows {
        assert_golden(&app, row).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_none_or_not_what_a_page_accepts() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let headers = with(&format!("X-API-KEY: {KEY}\r\nContent-Type: application/json"));
    let keys: Vec<String> = (0..2_000).map(|n| format!("\"{n:040}\":1")).collect();
    let many = format!("{{{}}}", keys.join(","));
    let deep = format!("{{\"stream_id\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let bad = [
        "{\"stream_id\":NaN}",
        "{\"stream_id\":Infinity}",
        "{\"stream_id\":\"\\ud800\"}",
        "{\"stream_id\":\"a\"}trailing",
        "{\"stream_id\":\"a\",\"stream_id\":\"b\"}",
        "{'stream_id':'a'}",
        "{\"stream_id\":",
        "[\"<script>\"]",
        "\"<script>\"",
        deep.as_str(),
    ];
    for body in bad {
        assert_golden(&app, (89, "POST /events/stream_ended", &headers, body, 400, "invalid_body")).await;
    }
    assert_golden(&app, (89, "POST /events/stream_ended", &headers, &many, 413, "body_too_large")).await;
    // Nothing here has a prototype: it is one more field that nobody knows, and refused where fields are counted.
    let proto = "{\"__proto__\":{\"image\":\"evil\"}}";
    assert_golden(&app, (89, "POST /provision/acestream", &headers, proto, 400, "invalid_body")).await;
    let markup = "{\"name\":\"<img src=x onerror=alert(1)>\",\"config\":{}}";
    assert_golden(&app, (89, "POST /custom-variant/templates/1", &headers, markup, 400, "invalid_body"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_known_by_their_whole_ids_and_ended_once() {
    let daemon = FakeDockerd::start(&[FAST], true);
    let foreign = daemon.add_foreign("neighbour", &[("orchestrator.managed", "acestream")]);
    let settings = [
        ("API_KEY", KEY),
        ("ENGINE_PROVISIONER", "docker"),
        ("DOCKER_HOST", &daemon.host),
        ("ENGINE_IMAGE", FAST),
        ("ENGINE_VARIANT", "krinkuto11-amd64"),
        ("MIN_REPLICAS", "1"),
        ("PORT_RANGE_HOST", "24460-24479"),
    ];
    let app =
        settings.into_iter().fold(Setup::new(), |setup, (name, value)| setup.set(name, value)).start().await;
    let ours =
        || daemon.containers().into_iter().find(|(id, _, state)| *id != foreign && *state == "running");
    until("an engine runs", || ours().is_some() && app.app.engines.all().len() == 2).await;
    let (own, name, _) = ours().expect("it runs");
    let headers = with(&format!("X-API-KEY: {KEY}"));
    for id in
        [&foreign, &own[..11], &own[..12], &name, "neighbour", ".*", "x", "..%2fx", "%2e%2e", &"f".repeat(64)]
    {
        for method in ["GET", "DELETE"] {
            assert_golden(&app, (90, &format!("{method} /containers/{id}"), &headers, "", 404, "not_found"))
                .await;
        }
    }
    assert_eq!((daemon.calls(Call::Remove), daemon.calls(Call::Stop)), (0, 0));
    // Answered when it is done, so 200 where the catalogue has 202.
    let delete = format!("DELETE /containers/{own}");
    let request = format!("{delete} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    let (first, second) = tokio::join!(send(app.address(), &request), send(app.address(), &request));
    let mut both = [first.status, second.status];
    both.sort_unstable();
    assert!(matches!(both, [200, 200 | 404]), "row 91: {both:?}");
    assert_golden(&app, (91, &delete, &headers, "", 404, "not_found")).await;
    assert!(daemon.calls(Call::Remove) <= 1, "row 91: one removal");
    assert!(daemon.containers().iter().any(|(id, _, state)| *id == foreign && *state == "running"));
    assert_eq!(daemon.violations(), [] as [String; 0]);
}

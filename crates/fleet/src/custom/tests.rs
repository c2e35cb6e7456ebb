use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::parameters::DEFAULTS;
use super::*;
use crate::allowed::{Extra, HostPorts};
use crate::recipe::{EnginePorts, Reach, Recipe};
use crate::spec::{EngineSpec, Limits, Network};

/// The table of the reference: name, type, value and whether it is on.
const REFERENCE: &str = "
    --client-console                     flag    true          on
    --bind-all                           flag    true          on
    --service-remote-access              flag    false         off
    --allow-user-config                  flag    false         off
    --stats-report-peers                 flag    false         off
    --access-token                       string  \"\"            off
    --service-access-token               string  \"\"            off
    --cache-dir                          path    ~/.ACEStream  off
    --log-file                           path    \"\"            off
    --live-cache-type                    string  memory        on
    --live-cache-size                    bytes   268435456     on
    --vod-cache-type                     string  disk          on
    --vod-cache-size                     bytes   536870912     on
    --vod-drop-max-age                   int     0             off
    --max-file-size                      bytes   2147483648    on
    --live-buffer                        int     10            on
    --vod-buffer                         int     5             on
    --refill-buffer-interval             int     5             on
    --max-connections                    int     200           on
    --max-peers                          int     40            on
    --max-upload-slots                   int     4             on
    --auto-slots                         int     1             on
    --download-limit                     int     0             off
    --upload-limit                       int     0             off
    --port                               int     8621          off
    --webrtc-allow-outgoing-connections  int     0             off
    --webrtc-allow-incoming-connections  int     0             off
    --stats-report-interval              int     60            on
    --slots-manager-use-cpu-limit        int     0             off
    --core-skip-have-before-playback-pos int     0             off
    --core-dlr-periodic-check-interval   int     10            on
    --check-live-pos-interval            int     10            on
    --log-debug                          int     0             off
    --log-max-size                       bytes   10485760      on
    --log-backup-count                   int     3             on";

fn number(value: i64) -> Value {
    Value::Number(value)
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned().into())
}

/// The default document with `name` on and set to `value`; the parameter is added if it is not there.
fn with(name: &str, value: Value) -> Document {
    let mut document = Document::default_for(Platform::Amd64);
    document.parameters.retain(|one| one.name != name);
    let kind = parameters::accepts(name).map_or(Kind::String, Accepts::kind);
    document.parameters.push(Parameter { name: name.to_owned(), kind, value, enabled: true });
    document
}

fn enabled(platform: Platform) -> Document {
    Document { enabled: true, ..Document::default_for(platform) }
}

fn check(document: &Document) -> Result<CustomVariant, Problems> {
    CustomVariant::try_from(document.clone())
}

fn problems_of(document: &Document) -> Vec<String> {
    check(document).map_or_else(|problems| problems.iter().map(Problem::to_string).collect(), |_| Vec::new())
}

/// What the engine gets for one parameter.
fn arguments_of(name: &str, value: Value) -> Option<String> {
    let all = check(&with(name, value)).ok()?.arguments();
    let at = all.iter().position(|word| word == name).unwrap_or(all.len());
    Some(all[at..].join(" "))
}

fn spec(variant: &CustomVariant, p2p: Option<u16>) -> EngineSpec {
    let recipe = Recipe {
        profile: variant.profile(None),
        image: None,
        limits: Limits::default(),
        read_only: true,
        network: Network::Named { name: "acemux".parse().unwrap(), own: true },
        behind_vpn: false,
        reach: Reach::Published,
        map_https: false,
        label: "orchestrator.managed=acestream".parse().unwrap(),
        instance: "test".parse().unwrap(),
    };
    let port = |port| HostPorts::new(port..=port).port(port).unwrap();
    recipe.spec(
        1,
        "acestream-1",
        EnginePorts { http: port(19_001), https: port(45_001), p2p, shared: None },
        &Extra::default(),
    )
}

#[test]
fn the_default_document_is_the_references_table() {
    let rows: Vec<Vec<&str>> =
        REFERENCE.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let document = Document::default_for(Platform::Amd64);
    assert_eq!((rows.len(), document.parameters.len()), (35, 35));
    for (row, parameter) in rows.iter().zip(&document.parameters) {
        let value = match &parameter.value {
            Value::Flag(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) if text.is_empty() => "\"\"".to_owned(),
            Value::Text(text) => text.to_string(),
        };
        let (kind, on) = (parameter.kind.to_string(), if parameter.enabled { "on" } else { "off" });
        assert_eq!(row, &[parameter.name.as_str(), &kind, &value, on]);
    }
}

#[test]
fn the_default_document_has_the_references_json() {
    let mut shown = serde_json::to_value(Document::default_for(Platform::Arm64)).unwrap();
    shown["parameters"].as_array_mut().unwrap().drain(6..);
    insta::assert_snapshot!(shown, @r#"{"arm_version":"3.2.13","enabled":false,"memory_limit":null,"parameters":[{"enabled":true,"name":"--client-console","type":"flag","value":true},{"enabled":true,"name":"--bind-all","type":"flag","value":true},{"enabled":false,"name":"--service-remote-access","type":"flag","value":false},{"enabled":false,"name":"--allow-user-config","type":"flag","value":false},{"enabled":false,"name":"--stats-report-peers","type":"flag","value":false},{"enabled":false,"name":"--access-token","type":"string","value":""}],"platform":"arm64","torrent_folder_container_path":"/root/.ACEStream/collected_torrent_files","torrent_folder_host_path":null,"torrent_folder_mount_enabled":false}"#);
}

#[test]
fn a_document_needs_its_platform_only_and_survives_being_stored() {
    let least: Document = serde_json::from_value(json!({ "platform": "arm32" })).unwrap();
    assert_eq!(least, Document { parameters: Vec::new(), ..Document::default_for(Platform::Arm32) });
    let full = Document { memory_limit: Some("512m".into()), ..enabled(Platform::Amd64) };
    let stored = serde_json::to_string(&check(&full).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Document>(&stored).unwrap(), full);
}

#[test]
fn json_of_another_shape_is_refused() {
    let parameter = |value| json!({ "platform": "amd64", "parameters": [value] });
    for wrong in [
        json!({}),
        json!({ "platform": "mips" }),
        json!({ "platform": "amd64", "arm_version": "3.2.15" }),
        json!({ "platform": "amd64", "binds": ["/:/host"] }),
        json!({ "platform": "amd64", "enabled": "yes" }),
        json!({ "platform": "amd64", "memory_limit": 512 }),
        parameter(json!({ "name": "--port", "type": "number", "value": 1 })),
        parameter(json!({ "name": "--port", "type": "int" })),
        parameter(json!({ "name": "--port", "type": "int", "value": null })),
        parameter(json!({ "name": "--port", "type": "int", "value": 1.5 })),
        parameter(json!({ "name": "--port", "type": "int", "value": u64::MAX })),
        parameter(json!({ "name": "--port", "type": "int", "value": [8621] })),
        parameter(json!({ "name": "--port", "type": "int", "value": 8621, "shell": true })),
    ] {
        assert!(serde_json::from_value::<Document>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn each_platform_is_fed_as_its_image_reads() {
    let fed = |platform| {
        let spec = spec(&check(&enabled(platform)).unwrap(), None);
        format!(
            "{} {}\n{:?}\n{}",
            spec.image,
            spec.labels["acestream.engine_variant"],
            spec.env.iter().map(|one| (one.name(), one.value())).collect::<Vec<_>>(),
            spec.command.join(" ")
        )
    };
    insta::assert_snapshot!(fed(Platform::Amd64), @r#"
    jopsis/acestream:x64 custom-amd64
    [("ACESTREAM_ARGS", "--client-console --bind-all --live-cache-type memory --live-cache-size 268435456 --vod-cache-type disk --vod-cache-size 536870912 --max-file-size 2147483648 --live-buffer 10 --vod-buffer 5 --refill-buffer-interval 5 --max-connections 200 --max-peers 40 --max-upload-slots 4 --auto-slots 1 --stats-report-interval 60 --core-dlr-periodic-check-interval 10 --check-live-pos-interval 10 --log-max-size 10485760 --log-backup-count 3 --http-port 19001 --https-port 45001")]
    "#);
    insta::assert_snapshot!(fed(Platform::Arm32), @r"
    jopsis/acestream:arm32-v3.2.13 custom-arm32
    []
    python main.py --client-console --bind-all --live-cache-type memory --live-cache-size 268435456 --vod-cache-type disk --vod-cache-size 536870912 --max-file-size 2147483648 --live-buffer 10 --vod-buffer 5 --refill-buffer-interval 5 --max-connections 200 --max-peers 40 --max-upload-slots 4 --auto-slots 1 --stats-report-interval 60 --core-dlr-periodic-check-interval 10 --check-live-pos-interval 10 --log-max-size 10485760 --log-backup-count 3 --http-port 19001 --https-port 45001
    ");
    let newer = Document { arm_version: ArmVersion::V3_2_14, ..enabled(Platform::Arm64) };
    assert_eq!(check(&newer).unwrap().profile(None).image.as_str(), "jopsis/acestream:arm64-v3.2.14");
}

#[test]
fn its_engines_carry_the_templates_name_and_are_for_its_platform() {
    let profile = check(&enabled(Platform::Arm64)).unwrap().profile(Some("Evening"));
    assert_eq!((profile.name.as_str(), profile.platform), ("Evening", Some(Platform::Arm64)));
    assert!(profile.fits(Platform::Amd64).is_err());
}

#[test]
fn a_forwarded_port_replaces_the_one_of_the_document() {
    let variant = check(&with("--port", number(7000))).unwrap();
    let ports_of = |p2p| {
        let spec = spec(&variant, p2p);
        let words: Vec<String> = spec.env[0].value().split(' ').map(str::to_owned).collect();
        let after = words.iter().zip(words.iter().skip(1)).filter(|(flag, _)| *flag == "--port");
        after.map(|(_, port)| port.clone()).collect::<Vec<_>>()
    };
    assert_eq!((ports_of(None), ports_of(Some(51_413))), (vec!["7000".to_owned()], vec!["51413".to_owned()]));
}

#[test]
fn values_in_their_range_reach_the_engine() {
    for (name, value, rendered) in [
        ("--service-remote-access", Value::Flag(true), "--service-remote-access"),
        ("--service-remote-access", Value::Flag(false), ""),
        ("--disable-upnp", Value::Flag(true), "--disable-upnp"),
        ("--live-cache-type", text("hybrid"), "--live-cache-type hybrid"),
        ("--auto-slots", number(0), "--auto-slots 0"),
        ("--auto-slots", Value::Flag(true), "--auto-slots 1"),
        ("--port", number(1024), "--port 1024"),
        ("--port", number(65_535), "--port 65535"),
        ("--live-cache-size", number(1 << 20), "--live-cache-size 1048576"),
        ("--live-mem-cache-size", number(104_857_600), "--live-mem-cache-size 104857600"),
        ("--access-token", text("b3a1-9_x.Z"), "--access-token b3a1-9_x.Z"),
        ("--cache-dir", text("~/.ACEStream"), "--cache-dir /root/.ACEStream"),
        ("--cache-dir", text("/acestream/.ACEStream/cache"), "--cache-dir /acestream/.ACEStream/cache"),
        ("--log-file", text("/var/log/engine.log"), "--log-file /var/log/engine.log"),
    ] {
        assert_eq!(arguments_of(name, value).as_deref(), Some(rendered));
    }
}

#[test]
fn values_outside_their_range_are_refused_with_what_is_accepted() {
    for (name, value) in [
        ("--bind-all", number(1)),
        ("--bind-all", text("true")),
        ("--live-buffer", text("5")),
        ("--live-buffer", Value::Flag(true)),
        ("--live-buffer", number(-1)),
        ("--live-buffer", number(3601)),
        ("--auto-slots", number(2)),
        ("--max-peers", number(0)),
        ("--port", number(1023)),
        ("--port", number(65_536)),
        ("--api-port", number(0)),
        ("--log-debug", number(3)),
        ("--live-cache-size", number(0)),
        ("--live-cache-size", number(i64::MAX)),
        ("--live-cache-type", text("")),
        ("--live-cache-type", text("Memory")),
        ("--live-cache-type", text("memory --api-port 1")),
        ("--cache-dir", text("")),
        ("--cache-dir", text("/etc")),
        ("--cache-dir", text("/")),
        ("--cache-dir", text("tmp")),
        ("--cache-dir", text("~")),
        ("--cache-dir", text("~root/.ACEStream")),
        ("--cache-dir", text("/tmpfoo")),
        ("--cache-dir", text("/tmp/../etc")),
        ("--cache-dir", text("/tmp/a b")),
        ("--log-file", text("/tmp/$(id)")),
        ("--log-file", text("/tmp/a\nb")),
        ("--log-file", text(&format!("/tmp/{}", "x".repeat(255)))),
        ("--access-token", text("")),
        ("--access-token", text("short")),
        ("--access-token", text("acestream")),
        ("--service-access-token", text("root")),
        ("--access-token", text("--bind-all")),
        ("--access-token", text("12345678;id")),
        ("--access-token", text("1234 5678")),
        ("--access-token", text("*********")),
        ("--access-token", text(&"x".repeat(129))),
    ] {
        let problems = problems_of(&with(name, value.clone()));
        let accepted = parameters::accepts(name).unwrap().to_string();
        assert_eq!(problems, [format!("{name} accepts {accepted}")], "{value:?}");
    }
}

#[test]
fn only_parameters_of_the_list_are_taken() {
    for name in [
        "--password",
        "--cache-dir=/etc",
        "--allow-remote-access",
        "bind-all",
        "",
        "--bind-all ",
        "-v",
        "--BIND-ALL",
    ] {
        let problems = problems_of(&with(name, Value::Flag(true)));
        assert_eq!(problems, [format!("{name:?} is no parameter that engines are given here")]);
    }
    let long = problems_of(&with(&"x".repeat(100_000), Value::Flag(true)));
    assert!(long[0].len() < 200, "{}", long[0].len());
    let port = problems_of(&with("--http-port", number(6878)));
    assert_eq!(port, ["--http-port is chosen by the fleet, for each engine another one"]);
}

#[test]
fn a_parameter_is_of_its_own_type_and_stands_once() {
    let mut document = with("--live-buffer", number(5));
    document.parameters.last_mut().unwrap().kind = Kind::Bytes;
    assert_eq!(problems_of(&document), ["--live-buffer is of type int, not bytes"]);
    let mut document = with("--live-buffer", number(5));
    document.parameters.push(document.parameters[0].clone());
    assert_eq!(problems_of(&document), ["\"--client-console\" stands more than once"]);
}

#[test]
fn every_problem_is_named_at_once() {
    let mut document = with("--live-buffer", number(-1));
    document.parameters.push(Parameter {
        name: "--x".into(),
        kind: Kind::Flag,
        value: Value::Flag(true),
        enabled: true,
    });
    document.memory_limit = Some("10T".into());
    document.torrent_folder_mount_enabled = true;
    document.torrent_folder_host_path = Some("/".into());
    document.torrent_folder_container_path = "relative".into();
    insta::assert_snapshot!(check(&document).unwrap_err().to_string().replace("; ", "\n"), @r#"
    --live-buffer accepts a whole number from 0 to 3600
    "--x" is no parameter that engines are given here
    memory_limit accepts 0 for none, or up to 15 digits with b, k, m or g, from 32m to 128g
    torrent_folder_mount_enabled and torrent_folder_host_path are refused: no folder of the host is mounted into engines at the request of a page
    torrent_folder_container_path accepts an absolute path without ..
    "#);
}

#[test]
fn endless_lists_are_refused_before_they_are_read() {
    let one = Parameter { name: "--x".into(), kind: Kind::Flag, value: Value::Flag(true), enabled: true };
    let document = Document { parameters: vec![one; 65], ..Document::default_for(Platform::Amd64) };
    assert_eq!(problems_of(&document), ["at most 64 parameters are accepted"]);
}

#[test]
fn no_folder_of_the_host_can_be_mounted() {
    for path in ["/", "/var/run/docker.sock", "..", "relative"] {
        let document = Document {
            torrent_folder_host_path: Some(path.into()),
            ..Document::default_for(Platform::Amd64)
        };
        assert_eq!(
            check(&document).unwrap_err().iter().collect::<Vec<_>>(),
            [&Problem::HostFolder],
            "{path}"
        );
    }
    let document = Document { torrent_folder_mount_enabled: true, ..Document::default_for(Platform::Amd64) };
    assert_eq!(check(&document).unwrap_err().iter().collect::<Vec<_>>(), [&Problem::HostFolder]);
    let empty =
        Document { torrent_folder_host_path: Some(String::new()), ..Document::default_for(Platform::Amd64) };
    assert_eq!(check(&empty).unwrap().document().torrent_folder_host_path, None);
    for path in ["", "a/b", "/a/../b", "/a\nb"] {
        let container = Document { torrent_folder_container_path: path.into(), ..enabled(Platform::Amd64) };
        assert_eq!(
            check(&container).unwrap_err().iter().collect::<Vec<_>>(),
            [&Problem::ContainerFolder],
            "{path:?}"
        );
    }
}

#[test]
fn engines_that_could_not_answer_are_refused_when_they_would_be_used() {
    let without = |platform, name: &str| {
        let mut document = enabled(platform);
        document.parameters.retain(|one| one.name != name);
        document
    };
    assert!(problems_of(&without(Platform::Arm64, "--bind-all"))[0].starts_with("--bind-all must be on"));
    assert!(
        problems_of(&without(Platform::Amd64, "--client-console"))[0]
            .starts_with("--client-console must be on")
    );
    assert_eq!(problems_of(&without(Platform::Arm64, "--client-console")), [""; 0]);
    let mut off = enabled(Platform::Amd64);
    off.parameters[1].enabled = false;
    assert_eq!(problems_of(&off).len(), 1);
    assert_eq!(problems_of(&Document { enabled: false, ..off }), [""; 0], "nothing is made from it");
}

#[test]
fn what_is_off_reaches_no_engine_whatever_it_says() {
    let mut document = with("--access-token", text("$(id) `id`"));
    document.parameters.last_mut().unwrap().enabled = false;
    let variant = check(&document).unwrap();
    assert!(!variant.arguments().iter().any(|word| word.contains("id") || word == "--access-token"));
    document.parameters.last_mut().unwrap().value = text(&"x".repeat(1025));
    assert_eq!(problems_of(&document).len(), 1, "it is stored all the same");
}

#[test]
fn the_memory_limit_is_its_own_or_the_fleets() {
    let memory = |text: Option<&str>| {
        let memory_limit = text.map(str::to_owned);
        check(&Document { memory_limit, ..enabled(Platform::Amd64) }).map(|variant| variant.memory())
    };
    assert_eq!((memory(None), memory(Some(""))), (Ok(None), Ok(None)));
    assert_eq!(memory(Some("0")), Ok(Some(MemoryLimit::Unlimited)));
    assert_eq!(memory(Some("1g")), Ok(Some(MemoryLimit::Bytes(1 << 30))));
    assert_eq!(memory(Some("-1")).unwrap_err().iter().collect::<Vec<_>>(), [&Problem::Memory]);
}

#[test]
fn tokens_are_shown_to_nobody_who_may_not_change_them() {
    let document = with("--access-token", text("correct-horse-1"));
    let shown = document.without_tokens();
    assert!(!serde_json::to_string(&shown).unwrap().contains("horse"));
    assert!(!format!("{document:?}").contains("horse"));
    assert_eq!(problems_of(&shown).len(), 1, "saved back it would replace the token");
    let mut off = shown;
    off.parameters.last_mut().unwrap().enabled = false;
    assert_eq!(problems_of(&off).len(), 1);
    let untouched = Document::default_for(Platform::Amd64);
    assert_eq!(untouched.without_tokens(), untouched);
}

/// Mostly almost right: one character of any kind in a text that would be accepted without it.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(/tmp/|~/[.]ACEStream/)[a-z]{1,3}[ -~\n\t]?[a-z]{0,3}",
        4 => "[a-z0-9]{8,12}[ -~\n\t]?[a-z]{0,3}",
        1 => any::<String>(),
        1 => "[a-z0-9._/~-]{0,40}",
        1 => prop::sample::select(vec!["memory", "disk", "hybrid"]).prop_map(str::to_owned),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => any::<bool>().prop_map(Value::Flag),
        1 => any::<i64>().prop_map(Value::Number),
        1 => (-1..70_000_i64).prop_map(Value::Number),
        3 => any_text().prop_map(|text| Value::Text(text.into())),
    ]
}

fn any_parameter() -> impl Strategy<Value = Parameter> {
    let all = DEFAULTS.iter().map(|definition| definition.name).chain(["--api-port", "--x"]);
    let is_text = |name: &&str| matches!(parameters::accepts(name), Some(Accepts::Token | Accepts::Path));
    let (texts, all): (Vec<&str>, Vec<&str>) = (all.clone().filter(is_text).collect(), all.collect());
    let text = (prop::sample::select(texts), any_text().prop_map(|text| Value::Text(text.into())));
    let named = prop_oneof![text, (prop::sample::select(all), any_value())];
    (named, prop::bool::weighted(0.9)).prop_map(|((name, value), enabled)| {
        let kind = parameters::accepts(name).map_or(Kind::Flag, Accepts::kind);
        Parameter { name: name.to_owned(), kind, value, enabled }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_shell_reads_every_argument_as_one_plain_word(any in prop::collection::vec(any_parameter(), 0..12)) {
        let of = |parameters| Document { parameters, ..Document::default_for(Platform::Amd64) };
        // Only what is accepted on its own, so that accepted documents are not the rare ones.
        let mut seen = BTreeSet::new();
        let is_accepted = |one: &Parameter| check(&of(vec![one.clone()])).is_ok() && seen.insert(one.name.clone());
        let variant = check(&of(any.into_iter().filter(is_accepted).collect())).unwrap();
        let arguments = variant.arguments();
        for word in &arguments {
            prop_assert!(!word.is_empty());
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            prop_assert!(word.chars().all(is_plain), "{:?}", word);
        }
        let spec = spec(&variant, None);
        let split: Vec<&str> = spec.env[0].value().split([' ', '\t', '\n']).collect();
        prop_assert_eq!(&split[..split.len() - 4], &arguments[..]);
    }

    #[test]
    fn whatever_is_written_is_checked_without_a_panic(
        name in any::<String>(),
        value in any_value(),
        memory in any::<Option<String>>(),
    ) {
        let document = Document { memory_limit: memory, enabled: true, ..with(&name, value) };
        prop_assert!(!problems_of(&document).is_empty(), "{:?} is no parameter", name);
    }
}

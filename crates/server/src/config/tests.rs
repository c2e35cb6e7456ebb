//! What settings mean together.

use std::time::Duration;

use super::setting::Item;
use super::*;

/// Whether the settings are what an assignment means.
type IsMeant = fn(&Config) -> bool;

/// Every assignment that the deployment guide prints, as it prints it, with what it means here.
const GUIDE: [(&str, IsMeant); 16] = [
    ("MIN_REPLICAS=3", |config| config.fleet.min_replicas == 3),
    ("MAX_REPLICAS=20", |config| config.fleet.max_replicas == 20),
    // Everybody knows it.
    ("API_KEY=your-secure-key", |config| config.api_key.is_none()),
    ("EMPTY_STREAM_TIMEOUT = 30  # Seconds to wait for initial data", |config| {
        config.streams.empty_stream_timeout == Duration::from_secs(30)
    }),
    ("STREAM_IDLE_TIMEOUT = 300  # Seconds before cleanup (5 minutes)", |config| {
        config.streams.idle_timeout == Duration::from_mins(5)
    }),
    ("STREAM_BUFFER_SIZE = 4 * 1024 * 1024  # 4 MB", |config| config.streams.buffer_bytes == 4 << 20),
    ("COPY_CHUNK_SIZE = 64 * 1024  # 64 KB", |config| config.streams.chunk_bytes == 64 << 10),
    ("ENGINE_SELECTION_TIMEOUT = 5  # Seconds", |config| {
        config.engines.selection_timeout == Duration::from_secs(5)
    }),
    // Without meaning here.
    ("ENGINE_CACHE_TTL = 2  # Seconds", |_| true),
    ("MAX_STREAMS_PER_ENGINE = 10  # Maximum per engine", |config| {
        config.engines.max_streams_per_engine == 10
    }),
    ("MAX_REPLICAS=50", |config| config.fleet.max_replicas == 50),
    ("STREAM_IDLE_TIMEOUT = 120  # 2 minutes", |config| {
        config.streams.idle_timeout == Duration::from_mins(2)
    }),
    ("STREAM_BUFFER_SIZE = 8 * 1024 * 1024  # 8 MB", |config| config.streams.buffer_bytes == 8 << 20),
    // More than 64 KiB gains nothing.
    ("COPY_CHUNK_SIZE = 128 * 1024  # 128 KB", |config| config.streams.chunk_bytes == 64 << 10),
    ("STREAM_BUFFER_SIZE = 2 * 1024 * 1024  # 2 MB", |config| config.streams.buffer_bytes == 2 << 20),
    ("COPY_CHUNK_SIZE = 32 * 1024  # 32 KB", |config| config.streams.chunk_bytes == 32 << 10),
];

#[test]
fn every_assignment_of_the_deployment_guide_means_what_it_says_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acemux.toml");
    for (line, is_meant) in GUIDE {
        let (name, value) = line.split_once('=').unwrap();
        let name = name.trim();
        let in_environment = Config::from_pairs([(name, value)]).unwrap();
        let in_dot_env = resolve::resolve(&Written::from_dot_env(line)).unwrap();
        std::fs::write(&file, format!("{} = {value:?}\n", name.to_lowercase())).unwrap();
        let (in_file, _) = Config::load(Some(&file), &[]).unwrap();
        for (place, config) in [("environment", in_environment), (".env", in_dot_env), ("file", in_file)] {
            assert!(is_meant(&config), "{line} in {place}");
        }
    }
}

#[test]
fn every_default_is_a_value_of_its_kind_and_written_as_it_is_read() {
    for item in settings::all() {
        if let Some(default) = item.default() {
            assert!(item.admits(&default), "{item:?}={default}");
        }
    }
    assert!(Config::from_pairs([("", "")]).is_ok());
}

#[test]
fn a_name_is_listed_once() {
    let ignored = settings::ignored::IGNORED.iter().map(|ignored| ignored.name);
    let names: Vec<&str> = settings::all().map(Item::name).chain(ignored).collect();
    let distinct: std::collections::HashSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len());
}

#[test]
fn all_problems_are_reported_at_once_and_secrets_are_not_shown() {
    let pairs = [
        ("APP_PORT", "eight thousand"),
        ("MIN_REPLICAS", "9"),
        ("MAX_REPLICAS", "4"),
        ("STREAM_IDLE_TIMEOUT", "soon"),
        ("ENGINES", "a:1,a:1"),
        ("VPN_MODE", "redundant"),
        ("COPY_CHUNK_SIZE", "2 MiB"),
        ("API_KEY", "húsh"),
    ];
    let problems = Config::from_pairs(pairs).unwrap_err().to_string();
    insta::assert_snapshot!(problems, @r"
    7 setting(s) cannot be used:
      APP_PORT=eight thousand (environment): accepted is a port: 0-65535
      API_KEY=*** (environment): accepted is printable ASCII without blanks at its ends
      STREAM_IDLE_TIMEOUT=soon (environment): accepted is a duration of at most a year: 30, 30s, 250ms, 5m, 1h, 7d
      COPY_CHUNK_SIZE=2 MiB (environment): accepted is 1316 bytes to 1 MiB, written like 65536, 64 KiB, 512m or 8 * 1024 * 1024
      ENGINES=a:1,a:1 (environment): accepted is host:port,host:port, each once
      MIN_REPLICAS=9 (environment): accepted is at most MAX_REPLICAS, which is 4
      VPN_MODE=redundant (environment): accepted is two different GLUETUN_CONTAINER_NAME and _2 with redundant
    ");
}

#[test]
fn a_value_that_is_refused_shows_no_credentials() {
    for (name, value) in [
        ("ENGINES", "http://user:hush@engine:6878"),
        ("ENGINES", "user:hush@engine:6878"),
        ("ENGINE_IMAGE", "https://user:hush@ghcr.io/a/b"),
        ("APP_HOST", "http://a/?token=hush"),
    ] {
        let problem = refused(&[(name, value)]);
        assert!(problem.contains("***") && !problem.contains("hush"), "{problem}");
    }
}

#[test]
fn acexy_users_keep_their_settings() {
    let engines = |pairs: &[(&str, &str)]| {
        let config = Config::from_pairs(pairs.iter().copied()).unwrap();
        config.engines.external.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(engines(&[("ACEXY_HOST", "engine"), ("ACEXY_PORT", "6879")]), ["engine:6879"]);
    assert_eq!(engines(&[("ACEXY_HOST", "engine")]), ["engine:6878"]);
    assert_eq!(engines(&[("ACEXY_HOST", "engine"), ("ENGINES", "other:1")]), ["other:1"]);
    let config = Config::from_pairs([("ACEXY_MAX_STREAMS_PER_ENGINE", "7")]).unwrap();
    assert_eq!(config.engines.max_streams_per_engine, 7);
}

#[test]
fn an_unknown_key_in_the_file_is_answered_with_the_nearest_known_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acemux.toml");
    std::fs::write(&file, "app_prot = 8001\nmax_viewers = 7\n").unwrap();
    let problems = Config::load(Some(&file), &[]).unwrap_err().to_string();
    assert!(problems.contains("app_prot") && problems.contains("the nearest is app_port"), "{problems}");
}

#[test]
fn the_vpn_settings_of_the_reference_are_read_as_they_were_meant() {
    let config = Config::from_pairs([
        ("VPN_MODE", "redundant"),
        ("GLUETUN_CONTAINER_NAME", "gluetun"),
        ("GLUETUN_CONTAINER_NAME_2", "gluetun2"),
        ("GLUETUN_API_PORT", "8001"),
        ("GLUETUN_PORT_RANGE_1", "19000-19499"),
        ("GLUETUN_PORT_RANGE_2", "19500-19999"),
        ("VPN_RESTART_ENGINES_ON_RECONNECT", "true"),
        ("VPN_UNHEALTHY_RESTART_TIMEOUT_S", "60"),
        ("MAX_ACTIVE_REPLICAS", "20"),
    ])
    .unwrap();
    assert_eq!(tunnels(&config), ["gluetun 19000-19499", "gluetun2 19500-19999"]);
    assert_eq!((config.vpn.mode, config.vpn.control_port), (VpnMode::Redundant, Some(8001)));
    assert_eq!(config.vpn.restart_after, Some(Duration::from_mins(1)));
}

/// The reference has one setting that turns it on. Who copies it must not be left without a VPN.
#[test]
fn a_container_that_is_named_turns_the_vpn_on() {
    let mode = |pairs: &[(&str, &str)]| Config::from_pairs(pairs.iter().copied()).unwrap().vpn.mode;
    assert_eq!(mode(&[]), VpnMode::Off);
    assert_eq!(mode(&[("GLUETUN_CONTAINER_NAME", "gluetun")]), VpnMode::Single);
    assert_eq!(mode(&[("GLUETUN_CONTAINER_NAMES", "a,b,c")]), VpnMode::Redundant);
    let off = Written::from_pairs([("VPN_MODE", "off"), ("GLUETUN_CONTAINER_NAME", "gluetun")]);
    let config = resolve::resolve(&off).unwrap();
    assert!(config.vpn.tunnels.is_empty());
    let warned = config.warnings(&off).join("\n");
    assert!(warned.contains("engines use this machine's own address"), "{warned}");
}

#[test]
fn any_number_of_vpns_shares_the_ports_of_the_host() {
    let config = Config::from_pairs([
        ("GLUETUN_CONTAINER_NAME", "a"),
        ("GLUETUN_CONTAINER_NAMES", "b, c, d"),
        ("PORT_RANGE_HOST", "19000-19399"),
    ])
    .unwrap();
    assert_eq!(tunnels(&config), ["a 19000-19099", "b 19100-19199", "c 19200-19299", "d 19300-19399"]);
    let config = Config::from_pairs([
        ("GLUETUN_CONTAINER_NAMES", "b,c"),
        ("GLUETUN_PORT_RANGES", "20000-20009,20010-20019"),
    ])
    .unwrap();
    assert_eq!(tunnels(&config), ["b 20000-20009", "c 20010-20019"]);
}

#[test]
fn a_range_of_a_vpn_that_has_a_port_for_every_engine_is_enough() {
    let warned = |range| {
        let written = Written::from_pairs([
            ("GLUETUN_CONTAINER_NAME", "gluetun"),
            ("GLUETUN_PORT_RANGE_1", range),
            ("MIN_REPLICAS", "5"),
            ("MAX_REPLICAS", "5"),
        ]);
        resolve::resolve(&written).unwrap().warnings(&written).join("\n")
    };
    assert!(!warned("19000-19004").contains("ranges of the VPNs"), "{}", warned("19000-19004"));
    assert!(
        warned("19000-19003").contains("4 ports for MIN_REPLICAS=5 engines"),
        "{}",
        warned("19000-19003")
    );
}

#[test]
fn vpn_settings_that_contradict_each_other_are_refused_with_a_sentence() {
    let one = ("GLUETUN_CONTAINER_NAME", "gluetun");
    let two = ("GLUETUN_CONTAINER_NAME_2", "gluetun2");
    for (pairs, sentence) in [
        (vec![("VPN_MODE", "single")], "one GLUETUN_CONTAINER_NAME with single"),
        (vec![("VPN_MODE", "single"), one, two], "one GLUETUN_CONTAINER_NAME with single"),
        (vec![("VPN_MODE", "redundant"), one], "two different GLUETUN_CONTAINER_NAME"),
        (
            vec![("VPN_MODE", "redundant"), one, ("GLUETUN_CONTAINER_NAME_2", "gluetun")],
            "two different GLUETUN_CONTAINER_NAME",
        ),
        (vec![one, ("ENGINES", "engine:6878")], "cannot be put behind one"),
        (vec![one, ("ENGINE_PROVISIONER", "none")], "cannot be put behind one"),
        (
            vec![one, two, ("GLUETUN_PORT_RANGE_1", "19000-19500"), ("GLUETUN_PORT_RANGE_2", "19500-19999")],
            "ranges of ports that do not overlap",
        ),
        (vec![one, ("GLUETUN_API_PORT", "19001")], "outside of the ranges"),
        (vec![one, ("GLUETUN_API_PORT", "45001")], "outside of the ranges"),
        (vec![one, ("GLUETUN_PORT_RANGE_1", "7990-8010"), ("APP_PORT", "9000")], "without gluetun's own"),
        (vec![one, ("GLUETUN_PORT_RANGE_1", "8001-8100"), ("APP_PORT", "9000")], "without gluetun's own"),
        (vec![one, ("ACE_HTTPS_RANGE", "7000-8000")], "without gluetun's own"),
        (
            vec![one, ("GLUETUN_PORT_RANGE_1", "45900-46100")],
            "engines' HTTP and HTTPS ports that do not overlap",
        ),
        (vec![one, ("ACE_HTTPS_RANGE", "19400-20400")], "engines' HTTP and HTTPS ports that do not overlap"),
        (
            vec![one, two, ("GLUETUN_PORT_RANGE_1", "19000-19099"), ("GLUETUN_PORT_RANGE_2", "44900-45000")],
            "engines' HTTP and HTTPS ports that do not overlap",
        ),
        (vec![one, ("MAX_ACTIVE_REPLICAS", "3"), ("MIN_REPLICAS", "4")], "at most MAX_ACTIVE_REPLICAS"),
        (vec![one, ("GLUETUN_API_USER", "u")], "a user with a GLUETUN_API_PASSWORD"),
        (
            vec![one, ("GLUETUN_API_USER", "u"), ("GLUETUN_API_PASSWORD", "p"), ("GLUETUN_API_KEY", "k")],
            "not both",
        ),
        (vec![("HOST_PUBLIC_IP", "192.168.1.2")], "public addresses"),
        (
            vec![("ENGINE_PROXY", "socks5://u:hush@p:1080"), ("ENGINE_VARIANT", "krinkuto11-amd64")],
            "set with ENGINE_VARIANT=outpace alone",
        ),
        (vec![one, ("ENGINE_PROXY", "socks5://p:1080"), ("ENGINE_VARIANT", "outpace")], "set without a VPN"),
        (vec![("ENGINE_PROXY", "http://u:hush@p:1080")], "socks5://host:port"),
    ] {
        let problem = refused(&pairs);
        assert!(problem.contains(sentence) && !problem.contains("hush"), "{pairs:?}: {problem}");
    }
}

fn tunnels(config: &Config) -> Vec<String> {
    let one = |tunnel: &TunnelSettings| {
        let PortRange { first, last } = tunnel.ports;
        format!("{} {first}-{last}", tunnel.container.as_str())
    };
    config.vpn.tunnels.iter().map(one).collect()
}

#[test]
fn a_flag_wins_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acemux.toml");
    std::fs::write(&file, "app_port = 8001\nmax_viewers = 7\n").unwrap();
    let (config, _) = Config::load(Some(&file), &[("APP_PORT", "8002".into())]).unwrap();
    assert_eq!((config.listen.port, config.viewers.max), (8002, 7));
}

#[test]
fn a_secret_shows_nothing() {
    let config = Config::from_pairs([("API_KEY", "hush-hush-hush-hush")]).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    assert_eq!(config.api_key.unwrap().reveal(), "hush-hush-hush-hush");
}

#[test]
fn old_names_without_meaning_are_accepted_with_a_warning() {
    let written = Written::from_pairs([("REDIS_HOST", "localhost"), ("API_KEY", "defaultpassword")]);
    let config = resolve::resolve(&written).unwrap();
    let warnings = config.warnings(&written).join("\n");
    assert!(warnings.contains("REDIS_HOST") && warnings.contains("API_KEY"), "{warnings}");
}

fn refused(pairs: &[(&str, &str)]) -> String {
    Config::from_pairs(pairs.iter().copied()).unwrap_err().to_string()
}

fn warned(pairs: &[(&str, &str)]) -> String {
    let written = Written::from_pairs(pairs.iter().copied());
    resolve::resolve(&written).unwrap().warnings(&written).join("\n")
}

#[test]
fn raising_or_lowering_one_limit_does_not_take_two_settings() {
    let config = Config::from_pairs([("MAX_REPLICAS", "1"), ("MAX_VIEWERS", "10000")]).unwrap();
    assert_eq!((config.fleet.min_replicas, config.fleet.min_free_replicas), (1, 1));
    assert_eq!(config.listen.max_connections, 10_256);
}

#[test]
fn a_value_that_is_refused_itself_is_not_compared_with_others() {
    let problems = refused(&[("MIN_REPLICAS", "50"), ("MAX_REPLICAS", "many")]);
    assert!(problems.starts_with("1 setting(s)"), "{problems}");
}

#[test]
fn an_engine_named_as_acexy_does_is_never_dropped_silently() {
    for pairs in
        [[("ACEXY_HOST", "http://engine"), ("", "")], [("ACEXY_HOST", "engine"), ("ACEXY_PORT", "0")]]
    {
        assert!(refused(&pairs).contains("ACEXY_HOST"));
    }
    let config = Config::from_pairs([("ACEXY_HOST", "::1")]).unwrap();
    assert_eq!(config.engines.external[0].to_string(), "[::1]:6878");
}

#[test]
fn values_that_no_stream_could_live_with_are_refused() {
    for (name, value) in [
        ("HOLD_TIMEOUT", "0"),
        ("EMPTY_STREAM_TIMEOUT", "0"),
        ("STREAM_IDLE_TIMEOUT", "9000h"),
        ("STREAM_MEMORY", "1 MiB"),
        ("VIEWER_SNDBUF", "8g"),
        ("MAX_VIEWERS", "1000001"),
        ("MAX_VIEWERS", "-1"),
        ("PORT_RANGE_HOST", "7000-9000"),
        ("PORT_RANGE_HOST", "9000-7000"),
        // Each would be asked of Docker, or done to engines, without a pause.
        ("MONITOR_INTERVAL_S", "0"),
        ("MONITOR_INTERVAL_S", "0.9"),
        ("STARTUP_TIMEOUT_S", "0"),
        ("ENGINE_MAX_AGE", "0"),
        ("ENGINE_MAX_AGE", "59s"),
        ("ENGINE_MAX_MEMORY", "0"),
        ("CIRCUIT_BREAKER_RECOVERY_TIMEOUT_S", "0"),
        ("GLUETUN_HEALTH_CHECK_INTERVAL_S", "0"),
        ("VPN_UNHEALTHY_RESTART_TIMEOUT_S", "1ms"),
        ("VIEWER_STALL_TIMEOUT", "1ms"),
    ] {
        assert!(refused(&[(name, value)]).contains(name), "{name}={value}");
    }
}

#[test]
fn the_ends_of_every_range_are_accepted_and_what_is_beyond_them_is_not() {
    let mut seen = 0;
    for item in settings::all() {
        for (value, is_accepted) in item.kind().edges() {
            assert_eq!(item.admits(&value), is_accepted, "{item:?}={value}");
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
    let problem = refused(&[("ENGINE_MAX_AGE", "59s")]);
    assert!(problem.contains("from 60s"), "{problem}");
}

#[test]
fn what_has_no_effect_or_not_as_written_is_said_once() {
    assert_eq!(warned(&[("GLUETUN_CONTAINER_NAME", "vpn")]), "");
    assert!(
        warned(&[("GLUETUN_CONTAINER_NAME", "vpn"), ("ACE_MAP_HTTPS", "true")]).contains("ACE_MAP_HTTPS")
    );
    assert!(warned(&[("COPY_CHUNK_SIZE", "131072")]).contains("means 64 KiB"));
    assert!(warned(&[("JOIN_BURST", "20s")]).contains("JOIN_BURST"));
    assert!(warned(&[("MAX_CONNECTIONS", "10")]).contains("MAX_CONNECTIONS"));
    assert_eq!(warned(&[]), "");
}

#[test]
fn what_opens_more_than_it_seems_is_warned_of() {
    for (name, value, said) in [
        ("TRUSTED_PROXIES", "0.0.0.0/0", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "127.0.0.1,::/0", "::/0"),
        ("TRUSTED_PROXIES", "0.0.0.0/1", "0.0.0.0/1"),
        ("ENGINE_CAPABILITIES", "ALL", "leaves ALL"),
        ("ENGINE_CAPABILITIES", "chown,cap_sys_admin", "leaves SYS_ADMIN"),
        ("ENGINE_CAPABILITIES", "NET_RAW,EVIL", "1 name(s) of no Linux capability"),
        ("ENGINE_IMAGE", "engine:fast", "neither registry nor owner"),
        ("PORT_RANGE_HOST", "1000-1999", "begins at 1000"),
        ("DOCKER_HOST", "tcp://192.0.2.1:2375", "without TLS"),
        ("DOCKER_HOST", "http://docker.example:2375", "without TLS"),
        ("DOCKER_HOST", "tcp://[2001:db8::1]:2375", "without TLS"),
    ] {
        let warnings = warned(&[(name, value)]);
        assert!(warnings.contains(name) && warnings.contains(said), "{name}={value}: {warnings}");
    }
    for (name, value) in [
        ("TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8,192.0.2.1"),
        ("ENGINE_CAPABILITIES", "NET_RAW,CHOWN"),
        ("ENGINE_IMAGE", "ghcr.io/jamezrin/outpace"),
        ("DOCKER_HOST", "unix:///var/run/docker.sock"),
        ("DOCKER_HOST", "tcp://127.0.0.1:2375"),
        ("DOCKER_HOST", "tcp://[::1]:2375"),
        ("DOCKER_HOST", "tcp://socket-proxy:2375"),
    ] {
        assert_eq!(warned(&[(name, value)]), "", "{name}={value}");
    }
    let unknown = Config::from_pairs([("ENGINE_CAPABILITIES", "EVIL,CHOWN")]).unwrap();
    let kept: Vec<&str> = unknown.fleet.engine.capabilities.iter().map(|one| one.as_str()).collect();
    assert_eq!(kept, ["CHOWN"]);
}

#[test]
fn what_docker_would_take_for_something_else_is_refused() {
    for (name, value) in [
        ("ENGINE_IMAGE", "--privileged"),
        ("ENGINE_IMAGE", "https://ghcr.io/a/b"),
        ("ENGINE_IMAGE", "Evil/Image"),
        ("ENGINE_IMAGE", "a b"),
        ("ENGINE_ARM64_VERSION", "latest@sha256:0"),
        ("ENGINE_ARM32_VERSION", "a/b"),
        ("DOCKER_NETWORK", "container:other"),
        ("DOCKER_NETWORK", "a b"),
        ("GLUETUN_CONTAINER_NAME", "../x"),
        ("CONTAINER_LABEL", "a=b\ntraefik.enable"),
        ("CONTAINER_LABEL", "io.acemux.instance=other"),
        ("CONTAINER_LABEL", "a=\u{202e}b"),
        ("DB_PATH", "data\n/acemux.db"),
    ] {
        assert!(refused(&[(name, value)]).contains(name), "{name}={value}");
    }
}

#[test]
fn a_key_that_others_can_guess_is_warned_of() {
    assert!(warned(&[("API_KEY", "your-secure-key")]).contains("printed example"));
    assert!(warned(&[("API_KEY", "short")]).contains("16 characters"));
    assert!(warned(&[("API_KEY", "short"), ("APP_HOST", "127.0.0.1")]).contains("16 characters"));
    assert_eq!(warned(&[("API_KEY", "a-key-of-twenty-signs")]), "");
}

#[test]
fn allowed_hosts_are_names_and_nothing_else() {
    let config = Config::from_pairs([("ALLOWED_HOSTS", "tv.example, iptv_1.example.com,")]).unwrap();
    assert_eq!(config.allowed_hosts, ["tv.example", "iptv_1.example.com"]);
    for wrong in ["tv.example:8000", "https://tv.example", "*", "*.example", "[::1]"] {
        assert!(refused(&[("ALLOWED_HOSTS", wrong)]).contains("without ports"), "{wrong}");
    }
}

#[test]
fn nobody_does_without_a_key_unless_somebody_says_so() {
    let read = |pairs: &[(&str, &str)]| Config::from_pairs(pairs.iter().copied()).unwrap().without_key;
    assert_eq!(read(&[]), WithoutKey::Nobody);
    assert_eq!(read(&[("OPERATOR_WITHOUT_KEY", "off")]), WithoutKey::Nobody);
    assert_eq!(read(&[("OPERATOR_WITHOUT_KEY", "loopback")]), WithoutKey::Loopback);
    assert!(refused(&[("OPERATOR_WITHOUT_KEY", "all")]).contains("off, loopback"));
    let demo = crate::demo::config(&[], 0).unwrap();
    assert_eq!(demo.without_key, WithoutKey::Loopback, "whoever tries it has no key");
}

#[test]
fn a_secret_file_may_be_named_in_the_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("acemux.toml"), folder.path().join("key"));
    std::fs::write(&key, "from-the-file\n").unwrap();
    std::fs::write(&file, format!("api_key_file = {:?}\n", key.to_str().unwrap())).unwrap();
    let (config, _) = Config::load(Some(&file), &[]).unwrap();
    assert_eq!(config.api_key.unwrap().reveal(), "from-the-file");
}

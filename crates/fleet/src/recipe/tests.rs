//! Every family of images, made into containers.

use super::*;
use crate::allowed::{Asked, HostPorts};
use crate::profile::*;

fn port(port: u16) -> HostPort {
    HostPorts::new(port..=port).port(port).unwrap()
}

fn ports() -> EnginePorts {
    EnginePorts { http: port(19_001), https: port(45_001), p2p: None, shared: None }
}

fn recipe(variant: Variant) -> Recipe {
    Recipe {
        profile: Profile::of(variant, &ArmTags::default()),
        image: None,
        limits: Limits::default(),
        read_only: true,
        network: Network::Named { name: "acemux".parse().unwrap(), own: true },
        behind_vpn: false,
        reach: Reach::Published,
        map_https: false,
        label: "orchestrator.managed=acestream".parse().unwrap(),
        instance: "test".parse().unwrap(),
    }
}

fn fed(variant: Variant) -> String {
    let spec = recipe(variant).spec(1, "acestream-1", ports(), &Extra::default());
    let env: Vec<String> = spec.env.iter().map(|one| format!("{}={:?}", one.name(), one.value())).collect();
    format!("{}\n{}\n{}", spec.image, env.join(" "), spec.command.join(" "))
}

#[test]
fn every_family_is_fed_its_own_way() {
    insta::assert_snapshot!(fed(Variant::Krinkuto11Amd64), @r#"
    ghcr.io/krinkuto11/acestream-http-proxy:latest
    INTERNAL_BUFFERING="60" CACHE_LIMIT="1" CONF="--http-port=19001\n--https-port=45001\n--bind-all" HTTP_PORT="19001" HTTPS_PORT="45001" BIND_ALL="true"
    "#);
    insta::assert_snapshot!(fed(Variant::JopsisArm64), @r"
    jopsis/acestream:arm64-v3.2.13

    python main.py --bind-all --client-console --live-cache-type memory --live-mem-cache-size 104857600 --disable-sentry --log-stdout --disable-upnp --http-port 19001 --https-port 45001
    ");
    insta::assert_snapshot!(fed(Variant::AceServeAmd64), @r"
    ghcr.io/krinkuto11/acestream:latest-amd64

    python main.py --bind-all --live-cache-type memory --live-mem-cache-size 104857600 --live-buffer 25 --disable-sentry --log-stdout --disable-upnp --http-port 19001 --https-port 45001
    ");
    insta::assert_snapshot!(fed(Variant::AcestreamHttpProxy), @r#"
    ghcr.io/martinbjeldbak/acestream-http-proxy:latest
    ALLOW_REMOTE_ACCESS="yes" EXTRA_FLAGS="--http-port 19001 --https-port 45001"
    "#);
    insta::assert_snapshot!(fed(Variant::Outpace), @r#"
    ghcr.io/outpace-stream/outpace-engine:latest
    OUTPACE_ACE_COMPAT="1" OUTPACE_EXPERIMENTAL_ACE_COMPAT="1" OUTPACE_CACHE_TYPE="memory" OUTPACE_PREBUFFER_MS="0" OUTPACE_PREFETCH_PIECES="64" OUTPACE_RTMP_BIND="127.0.0.1:0" OUTPACE_BIND="0.0.0.0:19001" OUTPACE_ENABLE_INBOUND="0"
    "#);
    insta::assert_snapshot!(fed(Variant::JopsisAmd64), @r#"
    jopsis/acestream:x64
    ACESTREAM_ARGS="--client-console --bind-all --stats-report-peers --live-cache-type memory --live-cache-size 209715200 --vod-cache-type memory --cache-dir /acestream/.ACEStream --vod-drop-max-age 120 --max-file-size 2147483648 --live-buffer 25 --vod-buffer 10 --max-connections 500 --max-peers 50 --max-upload-slots 50 --auto-slots 0 --download-limit 0 --upload-limit 0 --stats-report-interval 2 --slots-manager-use-cpu-limit 1 --core-skip-have-before-playback-pos 1 --core-dlr-periodic-check-interval 5 --check-live-pos-interval 5 --refill-buffer-interval 1 --webrtc-allow-outgoing-connections 1 --log-debug 0 --log-max-size 15000000 --log-backup-count 1 --http-port 19001 --https-port 45001"
    "#);
}

#[test]
fn families_of_several_platforms_differ_in_their_image_only() {
    let image_of =
        |variant| fed(variant).split_once('\n').map(|(image, rest)| (image.to_owned(), rest.to_owned()));
    let (jopsis, ace_serve) =
        (image_of(Variant::JopsisArm64).unwrap().1, image_of(Variant::AceServeAmd64).unwrap().1);
    for (variant, image, rest) in [
        (Variant::JopsisArm32, "jopsis/acestream:arm32-v3.2.13", &jopsis),
        (Variant::AceServeArm32, "ghcr.io/krinkuto11/acestream:latest-arm32", &ace_serve),
        (Variant::AceServeArm64, "ghcr.io/krinkuto11/acestream:latest-arm64", &ace_serve),
    ] {
        assert_eq!(image_of(variant), Some((image.to_owned(), rest.clone())));
    }
    let tags = ArmTags { arm32: "a".parse().unwrap(), arm64: "b".parse().unwrap() };
    assert_eq!(Profile::of(Variant::JopsisArm32, &tags).image.as_str(), "jopsis/acestream:a");
    assert_eq!(Profile::of(Variant::JopsisArm64, &tags).image.as_str(), "jopsis/acestream:b");
    let default = Profile::of(Variant::default_for(Platform::here()), &tags);
    assert_eq!(Profile::of(Variant::Custom, &tags), default);
}

#[test]
fn the_open_engine_listens_to_peers_on_a_forwarded_port_only() {
    let env_of =
        |p2p| recipe(Variant::Outpace).spec(1, "a", EnginePorts { p2p, ..ports() }, &Extra::default()).env;
    let has = |p2p, name: &'static str, value: &str| env_of(p2p).contains(&Variable::ours(name, value));
    assert!(
        has(Some(51_413), "OUTPACE_PEER_LISTEN", "0.0.0.0:51413")
            && !has(Some(1), "OUTPACE_ENABLE_INBOUND", "0")
    );
    assert!(has(None, "OUTPACE_ENABLE_INBOUND", "0"));
    assert!(!env_of(None).iter().any(|one| one.name() == "OUTPACE_PEER_LISTEN"));
}

#[test]
fn only_images_that_keep_to_their_folder_get_a_read_only_root() {
    for (name, variant) in VARIANTS {
        let limits = recipe(variant).spec(1, "acestream-1", ports(), &Extra::default()).limits;
        let is_outpace = recipe(variant).profile.feed == Feed::Outpace;
        assert_eq!((limits.read_only, limits.tmpfs.is_empty()), (is_outpace, !is_outpace), "{name}");
    }
    let limits = recipe(Variant::Outpace).spec(1, "acestream-1", ports(), &Extra::default()).limits;
    let tmpfs = [("/var/lib/outpace".to_owned(), 256 << 20), ("/tmp".to_owned(), 64 << 20)];
    assert_eq!(limits.tmpfs, tmpfs);
}

#[test]
fn no_family_opens_the_engine_to_everybody_who_knows_the_usual_tokens() {
    for (name, variant) in VARIANTS {
        let fed = fed(variant);
        assert!(!fed.contains("token") && !fed.contains("service-remote-access"), "{name}");
    }
}

#[test]
fn a_forwarded_port_reaches_every_family() {
    for (name, variant) in VARIANTS {
        let forwarded = EnginePorts { p2p: Some(51_413), ..ports() };
        let spec = recipe(variant).spec(1, "acestream-1", forwarded, &Extra::default());
        let all = format!("{:?} {:?}", spec.env, spec.command);
        assert!(all.contains("51413"), "{name}");
    }
}

#[test]
fn what_an_operator_asks_for_goes_before_a_familys_default_and_never_before_what_the_fleet_chose() {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let asked = Asked {
        labels: pairs(&[("stream_id", "ch-42"), ("io.acemux.user.room", "blue")]),
        env: pairs(&[("CACHE_LIMIT", "9"), ("TZ", "UTC")]),
        ..Asked::default()
    };
    let recipe = recipe(Variant::Krinkuto11Amd64);
    let extra = asked.check(&HostPorts::new(19_000..=19_999), recipe.image().as_str()).unwrap();
    let spec = recipe.spec(1, "acestream-1", ports(), &extra);
    let plain = recipe.spec(1, "acestream-1", ports(), &Extra::default());
    let added = |name: &str| spec.labels.get(name).map(String::as_str);
    assert_eq!((added("stream_id"), added("io.acemux.user.room")), (Some("ch-42"), Some("blue")));
    assert!(plain.labels.iter().all(|(name, value)| spec.labels.get(name) == Some(value)));
    let env = |spec: &EngineSpec| spec.env.iter().map(ToString::to_string).collect::<Vec<_>>();
    let asked = ["CACHE_LIMIT=9".to_owned(), "TZ=UTC".to_owned()];
    let kept = env(&plain).into_iter().filter(|one| !one.starts_with("CACHE_LIMIT="));
    assert_eq!(env(&spec), asked.into_iter().chain(kept).collect::<Vec<_>>());
}

#[test]
fn every_variable_of_every_family_is_in_the_list() {
    // `Variable::ours` asserts it.
    for (_, variant) in VARIANTS {
        for p2p in [None, Some(51_413)] {
            let ports = EnginePorts { p2p, ..ports() };
            assert!(recipe(variant).spec(1, "a", ports, &Extra::default()).env.len() <= 16);
        }
    }
}

#[test]
fn every_engine_carries_what_the_fleet_must_know_of_it_after_a_restart() {
    let recipe = recipe(Variant::AceServeAmd64);
    let mut labels = BTreeMap::clone(&recipe.spec(2, "acestream-7", ports(), &Extra::default()).labels);
    assert_eq!(labels.remove(label::RECIPE), Some(recipe.fingerprint()));
    let shown: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    acestream.engine_variant=AceServe-amd64
    acestream.http_port=19001
    acestream.https_port=45001
    host.http_port=19001
    io.acemux.instance=test
    io.acemux.name=acestream-7
    io.acemux.place=2
    io.acemux.role=engine
    orchestrator.managed=acestream
    ");
}

#[test]
fn ports_are_published_for_containers_with_a_network_of_their_own() {
    let published = |network: &Network, reach, map_https| {
        let recipe = Recipe { network: network.clone(), reach, map_https, ..recipe(Variant::Outpace) };
        let spec = recipe.spec(1, "acestream-1", ports(), &Extra::default());
        (spec.publish, spec.labels.get(label::HOST_HTTPS_PORT).cloned())
    };
    let bridge = Network::Named { name: "acemux".parse().unwrap(), own: true };
    assert_eq!(published(&bridge, Reach::Published, false), (vec![port(19_001)], None));
    assert_eq!(
        published(&bridge, Reach::Published, true),
        (vec![port(19_001), port(45_001)], Some("45001".to_owned()))
    );
    for (network, reach) in [(&bridge, Reach::ByName), (&Network::Host, Reach::Published)] {
        assert_eq!(published(network, reach, true), (Vec::new(), None), "{network:?}");
    }
}

#[test]
fn an_engine_behind_a_vpn_is_in_its_network_and_reached_at_its_address() {
    let (vpn, namespace) = vpn();
    let recipe = Recipe { behind_vpn: true, reach: Reach::Published, ..recipe(Variant::AceServeAmd64) };
    let forwarded = EnginePorts { p2p: Some(51_413), ..inside() };
    let engine = (1, "acestream-1");
    let spec = recipe.spec_inside((&vpn, &namespace), engine, forwarded, &Extra::default());
    assert_eq!(spec.network, Network::Container(namespace.id().clone()));
    assert!(spec.publish.is_empty(), "it is the VPN's container that publishes");
    let labels = BTreeMap::clone(&spec.labels);
    assert_eq!(labels[label::VPN_CONTAINER], "gluetun");
    assert_eq!((labels[label::FORWARDED].as_str(), labels[label::P2P_PORT].as_str()), ("true", "51413"));
    assert_eq!(labels[label::NAMESPACE].parse(), Ok(namespace));
    let at = |address: Option<&str>| {
        let address = address.map(|address| address.parse().unwrap());
        recipe.endpoint(&labels, "acestream-1", address).map(|at| at.to_string())
    };
    assert_eq!(at(Some("172.20.0.3")).as_deref(), Some("172.20.0.3:19001"));
    assert_eq!(at(Some("fd00::3")).as_deref(), Some("[fd00::3]:19001"));
    assert_eq!(at(None), None, "never at its own name or at this host");
}

#[test]
fn the_fingerprint_changes_with_what_matters_and_with_nothing_else() {
    let one = recipe(Variant::Outpace);
    assert_eq!(one.fingerprint(), "aec8a0e0a724beb8", "it stands in labels of running engines");
    let other = Recipe { instance: "other".parse().unwrap(), ..one.clone() };
    let named = Profile { name: "Evening".into(), ..one.profile.clone() };
    let unseen = [
        other,
        Recipe { profile: named, ..one.clone() },
        Recipe { label: "a=b".parse().unwrap(), ..one.clone() },
        Recipe { network: Network::Named { name: "acemux".parse().unwrap(), own: false }, ..one.clone() },
    ];
    for same in unseen {
        assert_eq!(one.fingerprint(), same.fingerprint());
    }
    let labels = one.spec(3, "other", EnginePorts { p2p: Some(1), ..ports() }, &Extra::default()).labels;
    assert_eq!(labels[label::RECIPE], one.fingerprint());
    let limited = |limits| Recipe { limits, ..one.clone() };
    let told = Variable::ours("OUTPACE_SEED_STORE_BYTES", "1");
    let env = one.profile.env.iter().cloned().chain([told]).collect();
    for changed in [
        limited(Limits { nano_cpus: Some(1), ..Limits::default() }),
        limited(Limits { pids: 1, ..Limits::default() }),
        limited(Limits { capabilities: vec!["CHOWN".parse().unwrap()], ..Limits::default() }),
        limited(Limits { new_privileges: true, ..Limits::default() }),
        limited(Limits { tmpfs: vec![("/x".into(), 1)], ..Limits::default() }),
        Recipe { profile: Profile { env, ..one.profile.clone() }, ..one.clone() },
        Recipe { reach: Reach::ByName, ..one.clone() },
        Recipe { map_https: true, ..one.clone() },
        Recipe { network: Network::Named { name: "host".parse().unwrap(), own: true }, ..one.clone() },
        Recipe { behind_vpn: true, ..one.clone() },
        Recipe { image: Some("else".parse().unwrap()), ..one.clone() },
        Recipe { limits: Limits { memory: Some(1), ..Limits::default() }, ..one.clone() },
        Recipe { network: Network::Host, ..one.clone() },
        Recipe { read_only: false, ..one.clone() },
        recipe(Variant::JopsisArm64),
    ] {
        assert_ne!(one.fingerprint(), changed.fingerprint());
    }
}

#[test]
fn an_existing_container_is_reached_as_its_labels_say() {
    let published = recipe(Variant::Outpace);
    let by_name = Recipe { reach: Reach::ByName, ..published.clone() };
    let labels = published.spec(1, "acestream-1", ports(), &Extra::default()).labels;
    let at = |recipe: &Recipe| recipe.endpoint(&labels, "acestream-1", None).map(|at| at.to_string());
    assert_eq!(at(&published).as_deref(), Some("127.0.0.1:19001"));
    assert_eq!(at(&by_name).as_deref(), Some("acestream-1:19001"));
    assert_eq!(published.endpoint(&BTreeMap::new(), "acestream-1", None), None);
}

#[test]
fn the_fingerprint_is_the_published_hash() {
    let mut print = Fingerprint::new();
    print.bytes(b"foobar");
    assert_eq!(print.to_string(), "85944171f73967e8");
    let of = |lists: &[&[&str]]| {
        let mut print = Fingerprint::new();
        for list in lists {
            print.texts(*list);
        }
        print.to_string()
    };
    assert_ne!(of(&[&["ab", "c"]]), of(&[&["a", "bc"]]));
    assert_ne!(of(&[&["a"], &["b"]]), of(&[&["a", "b"], &[]]));
}

fn vpn() -> (DockerName, Namespace) {
    let id = "a".repeat(64).parse().unwrap();
    ("gluetun".parse().unwrap(), Namespace::new(id, "2026-11-28T22:45:43Z"))
}

/// The ports of an engine that shares its network with others.
fn inside() -> EnginePorts {
    EnginePorts { shared: Some(SharedPorts { p2p: 30_001, api: 31_001 }), ..ports() }
}

/// Two engines in one network with one port in common are one engine too many.
#[test]
fn every_family_is_told_every_port_that_it_could_share_with_a_neighbour() {
    let (vpn, namespace) = vpn();
    for variant in [
        Variant::Krinkuto11Amd64,
        Variant::JopsisAmd64,
        Variant::JopsisArm64,
        Variant::AceServeAmd64,
        Variant::AcestreamHttpProxy,
    ] {
        for (p2p, peers) in [(None, "30001"), (Some(51_413), "51413")] {
            let ports = EnginePorts { p2p, ..inside() };
            let spec = recipe(variant).spec_inside((&vpn, &namespace), (1, "a"), ports, &Extra::default());
            let fed = spec.env.iter().map(|variable| variable.value().replace(['=', '\n'], " "));
            let fed = fed.chain([spec.command.join(" ")]).collect::<Vec<_>>().join(" ");
            let says = |flag: &str| {
                let mut words = fed.split_whitespace().skip_while(|word| *word != flag).skip(1);
                words.next().map(str::to_owned)
            };
            assert_eq!(says("--port").as_deref(), Some(peers), "{variant:?}: {fed}");
            assert_eq!(says("--api-port").as_deref(), Some("31001"), "{variant:?}: {fed}");
            assert_eq!(says("--http-port").as_deref(), Some("19001"), "{variant:?}: {fed}");
            assert_eq!(spec.labels.contains_key(label::FORWARDED), p2p.is_some());
        }
    }
    let ports = EnginePorts { p2p: None, ..inside() };
    let open = recipe(Variant::Outpace).spec_inside((&vpn, &namespace), (1, "a"), ports, &Extra::default());
    assert!(open.env.iter().any(|variable| variable.to_string() == "OUTPACE_ENABLE_INBOUND=0"));
}

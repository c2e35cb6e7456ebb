//! Every fault is shown to the checks by probes that are told what to say.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use acemux_engine::{Endpoint, EngineError};
use acemux_fleet::docker::Source;
use acemux_fleet::ident::DockerName;
use acemux_fleet::image::ImageRef;
use acemux_fleet::profile::Platform;
use acemux_fleet::provisioner::{Check, ContainerState, Daemon, ProvisionError};
use acemux_fleet::tunnel::gluetun::visit::{Control, Visit};
use acemux_store::OpenError;
use jiff::{SignedDuration, Timestamp};

use super::probes::{Listener, Probes};
use super::report::{Finding, Report, Verdict};
use super::{look, settings};
use crate::cli::Exit;
use crate::config::{Config, ListenHost, Written};

/// A machine on which all is well, but for what a test changes.
struct Fake {
    knock: Option<io::ErrorKind>,
    daemon: Result<Daemon, ProvisionError>,
    processor: &'static str,
    own_networks: Option<Vec<&'static str>>,
    networks: usize,
    image: Result<Source, ProvisionError>,
    own_ports: Vec<u16>,
    visit: Result<Visit, ProvisionError>,
    listen: Option<io::ErrorKind>,
    listener: Listener,
    engine: fn() -> Result<String, EngineError>,
    resolve: Option<io::ErrorKind>,
    folder: Option<io::ErrorKind>,
    free_ports: usize,
    descriptors: u64,
    page_size: usize,
    platform: Platform,
    ahead: SignedDuration,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            knock: None,
            daemon: Ok(Daemon { version: "28.2.2".to_owned(), api_version: "1.50".to_owned() }),
            processor: "amd64",
            own_networks: None,
            networks: 1,
            image: Ok(Source::Here { processor: "amd64".to_owned() }),
            own_ports: Vec::new(),
            visit: Ok(Visit::Running { check: Some(Check::Healthy), control: says("running", false) }),
            listen: None,
            listener: Listener::Stranger,
            engine: || Ok("acestream 3.2.11".to_owned()),
            resolve: None,
            folder: None,
            free_ports: 1000,
            descriptors: 1 << 20,
            page_size: 4096,
            platform: Platform::Amd64,
            ahead: SignedDuration::from_secs(1),
        }
    }
}

fn says(status: &'static str, is_off: bool) -> Control {
    Control::Says { status, is_off, address: Some([203, 0, 113, 7].into()) }
}

fn failing(kind: Option<io::ErrorKind>) -> io::Result<()> {
    kind.map_or(Ok(()), |kind| Err(kind.into()))
}

impl Probes for Fake {
    async fn knock(&self) -> io::Result<()> {
        failing(self.knock)
    }
    async fn daemon(&self) -> Result<Daemon, ProvisionError> {
        self.daemon.clone()
    }
    async fn processor(&self) -> Result<String, ProvisionError> {
        Ok(self.processor.to_owned())
    }
    async fn own_networks(&self) -> Option<Vec<DockerName>> {
        Some(self.own_networks.as_ref()?.iter().map(|name| name.parse().unwrap()).collect())
    }
    async fn networks_called(&self, _name: &DockerName) -> Result<usize, ProvisionError> {
        Ok(self.networks)
    }
    async fn find_image(&self, _image: &ImageRef) -> Result<Source, ProvisionError> {
        self.image.clone()
    }
    async fn own_ports(&self) -> Result<Vec<u16>, ProvisionError> {
        Ok(self.own_ports.clone())
    }
    async fn visit(&self, _vpn: &DockerName) -> Result<Visit, ProvisionError> {
        self.visit.clone()
    }
    async fn listen(&self, _host: ListenHost, _port: u16) -> io::Result<()> {
        failing(self.listen)
    }
    async fn who_listens(&self, _address: SocketAddr) -> Listener {
        self.listener.clone()
    }
    async fn engine(&self, _endpoint: &Endpoint) -> Result<String, EngineError> {
        (self.engine)()
    }
    async fn resolve(&self, _host: &str) -> io::Result<()> {
        failing(self.resolve)
    }
    async fn try_folder(&self, folder: &Path) -> Result<(), OpenError> {
        failing(self.folder)
            .map_err(|error| OpenError::Unwritable { path: folder.to_owned(), source: Box::new(error) })
    }
    fn free_ports(&self, _range: RangeInclusive<u16>, most: usize) -> usize {
        self.free_ports.min(most)
    }
    fn descriptors(&self) -> u64 {
        self.descriptors
    }
    fn page_size(&self) -> usize {
        self.page_size
    }
    fn platform(&self) -> Platform {
        self.platform
    }
    fn now(&self) -> Timestamp {
        self.has_been() + self.ahead
    }
    fn has_been(&self) -> Timestamp {
        "2026-11-29T03:00:00Z".parse().unwrap()
    }
}

const IMAGE: (&str, &str) = ("ENGINE_VARIANT", "krinkuto11-amd64");

async fn findings(fake: &Fake, pairs: &[(&str, &str)]) -> Vec<Finding> {
    look(&Config::from_pairs(pairs.iter().copied()).unwrap(), fake).await
}

/// The one line that is not fine.
async fn only_trouble(fake: &Fake, pairs: &[(&str, &str)]) -> (Verdict, String) {
    let troubles: Vec<_> = findings(fake, pairs).await.into_iter().filter(|one| !one.is_fine()).collect();
    let [trouble] = troubles.as_slice() else { panic!("one trouble is expected: {troubles:?}") };
    (trouble.verdict(), trouble.to_line())
}

/// One fault, whose line names all of these.
async fn is_fault(fake: Fake, pairs: &[(&str, &str)], words: &[&str]) {
    let (verdict, line) = only_trouble(&fake, pairs).await;
    assert_eq!(verdict, Verdict::Fault, "{line}");
    for word in words {
        assert!(line.contains(word), "{word} is not in: {line}");
    }
    assert_eq!(Report::new(findings(&fake, pairs).await).exit(), Exit::Failed);
}

async fn is_warning(fake: Fake, pairs: &[(&str, &str)], words: &[&str]) {
    let (verdict, line) = only_trouble(&fake, pairs).await;
    assert_eq!(verdict, Verdict::Warning, "{line}");
    for word in words {
        assert!(line.contains(word), "{word} is not in: {line}");
    }
}

async fn is_fine(fake: Fake, pairs: &[(&str, &str)]) {
    let findings = findings(&fake, pairs).await;
    assert!(findings.iter().all(Finding::is_fine), "{findings:?}");
}

#[tokio::test]
async fn where_all_is_well_every_check_says_what_it_found() {
    let report = Report::new(findings(&Fake::default(), &[IMAGE, ("DB_PATH", "/data/acemux.db")]).await);
    assert_eq!(report.exit(), Exit::Success);
    insta::assert_snapshot!(report.to_text(), @"
    ok       docker: Docker 28.2.2 answers (API 1.50)
    ok       network: acemux exists
    ok       image: ghcr.io/krinkuto11/acestream-http-proxy:latest is here
    ok       engine_ports: PORT_RANGE_HOST=19000-19999 has ports for all engines
    ok       dns ghcr.io: its address is known
    ok       port: APP_PORT=8000 is free
    ok       data: /data can be written
    ok       descriptors: enough for MAX_VIEWERS=5000
    ok       clock: it is 2026-11-29T03:00:01Z
    0 fault(s), 0 warning(s)
    ");
}

#[tokio::test]
async fn a_socket_that_is_missing_closed_or_silent_is_told_apart() {
    let knock = |kind| Fake { knock: Some(kind), ..Fake::default() };
    is_fault(knock(io::ErrorKind::NotFound), &[], &["docker:", "no Docker socket", "/var/run/docker.sock"])
        .await;
    is_fault(knock(io::ErrorKind::PermissionDenied), &[], &["no permission", "DOCKER_GID", "usermod"]).await;
    is_fault(knock(io::ErrorKind::ConnectionRefused), &[], &["does not run", "systemctl start docker"]).await;
    is_fault(knock(io::ErrorKind::TimedOut), &[], &["cannot be connected to", "DOCKER_HOST"]).await;
    let elsewhere = [("DOCKER_HOST", "unix:///run/user/1000/docker.sock")];
    is_fault(knock(io::ErrorKind::NotFound), &elsewhere, &["/run/user/1000/docker.sock"]).await;
}

#[tokio::test]
async fn a_daemon_that_answers_nonsense_or_not_is_a_fault() {
    let detail = || "it did not answer in time".to_owned();
    for error in [
        ProvisionError::Unreachable { detail: detail() },
        ProvisionError::BadReply { detail: detail() },
        ProvisionError::Refused { detail: detail() },
    ] {
        let fake = Fake { daemon: Err(error), ..Fake::default() };
        is_fault(fake, &[], &["docker:", "did not answer", "docker version"]).await;
    }
}

#[tokio::test]
async fn a_network_that_is_not_there_or_not_ours_is_named() {
    let wanted = [("DOCKER_NETWORK", "tv")];
    let none = || Fake { networks: 0, ..Fake::default() };
    is_fault(none(), &wanted, &["network:", "DOCKER_NETWORK=tv does not exist", "docker network create tv"])
        .await;
    is_fine(none(), &[]).await;
    is_fault(Fake { networks: 2, ..Fake::default() }, &wanted, &["2 networks have the name tv"]).await;
    let inside = |own| Fake { own_networks: Some(own), ..Fake::default() };
    is_warning(
        inside(vec!["a", "b"]),
        &wanted,
        &["not in the engines' network tv", "docker network connect tv"],
    )
    .await;
    is_warning(inside(vec![]), &wanted, &["not in the engines' network tv"]).await;
    is_fault(Fake { networks: 0, ..inside(vec!["a"]) }, &wanted, &["DOCKER_NETWORK=tv does not exist"]).await;
    is_fine(inside(vec!["a", "tv"]), &wanted).await;
    is_fine(inside(vec!["a"]), &[]).await;
    is_warning(inside(vec![]), &[], &["not in the engines' network acemux", "puts its container there"])
        .await;
    is_warning(Fake { networks: 0, ..inside(vec![]) }, &[], &["not in the engines' network acemux"]).await;
    // Engines behind a VPN are in its network.
    is_fine(none(), &[("DOCKER_NETWORK", "tv"), ("GLUETUN_CONTAINER_NAME", "gluetun")]).await;
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_told_from_one_that_is_not_here_yet() {
    let image = |source| Fake { image: Ok(source), ..Fake::default() };
    let settings = [("ENGINE_IMAGE", "ghcr.io/owner/engine:1")];
    let why = || "pull access denied".to_owned();
    is_fault(
        image(Source::Nowhere { why: why() }),
        &settings,
        &["image:", "ghcr.io/owner/engine:1", "neither"],
    )
    .await;
    is_warning(image(Source::Unknown { why: why() }), &settings, &["could not be asked", "docker pull"])
        .await;
    let for_these =
        |all: &[&str]| Source::Registry { processors: all.iter().map(ToString::to_string).collect() };
    is_fine(image(for_these(&["arm64", "amd64"])), &settings).await;
    is_fine(image(for_these(&[])), &settings).await;
    is_fault(image(for_these(&["arm64", "arm"])), &settings, &["for amd64", "arm64, arm", "ENGINE_VARIANT"])
        .await;
    let here = |processor: &str| Source::Here { processor: processor.to_owned() };
    is_fault(image(here("arm64")), &settings, &["for amd64", "it is for arm64"]).await;
    is_fine(image(here("")), &settings).await;
    // It is Docker's machine that counts, which may be another one; it runs 32-bit programs, too.
    for processor in ["arm64", "arm"] {
        is_fine(Fake { processor: "arm64", ..image(here(processor)) }, &settings).await;
    }
    is_fault(Fake { processor: "arm64", ..image(here("amd64")) }, &settings, &["for arm64"]).await;
}

#[tokio::test]
async fn engines_need_ports_unless_their_network_has_its_own() {
    let free = |free_ports, own_ports| Fake { own_ports, free_ports, ..Fake::default() };
    let few = [("MAX_REPLICAS", "4"), ("PORT_RANGE_HOST", "19000-19009")];
    is_fault(free(0, vec![]), &few, &["engine_ports:", "PORT_RANGE_HOST=19000-19009"]).await;
    is_warning(free(1, vec![19_000, 19_001]), &few, &["3 of MAX_REPLICAS=4"]).await;
    is_fine(free(2, vec![19_000, 19_001]), &few).await;
    // Ports of another range are no ports of this one.
    is_fault(free(0, vec![25_000]), &few, &["no port"]).await;
    is_fine(Fake { own_networks: Some(vec!["acemux"]), ..free(0, vec![]) }, &few).await;
}

#[tokio::test]
async fn what_a_vpn_lacks_is_named_with_the_line_to_add() {
    let vpn = [("GLUETUN_CONTAINER_NAME", "gluetun"), ("HOST_PUBLIC_IP", "198.51.100.7")];
    let visit = |visit| Fake { visit: Ok(visit), ..Fake::default() };
    let running = |control| Visit::Running { check: None, control };
    is_fine(visit(running(says("running", false))), &vpn).await;
    let remedy = "add to /gluetun/auth/config.toml the line roles = […]".to_owned();
    let closed = visit(running(Control::Closed { remedy: remedy.clone() }));
    is_fault(closed, &vpn, &["vpn gluetun:", "401", &remedy]).await;
    is_fault(visit(Visit::Absent), &vpn, &["no container of this name", "GLUETUN_CONTAINER_NAME"]).await;
    let stopped = visit(Visit::Stopped(ContainerState::Exited));
    is_fault(stopped, &vpn, &["does not run: it is exited", "docker start gluetun"]).await;
    is_fault(visit(running(says("crashed", true))), &vpn, &["its VPN is crashed", "docker logs gluetun"])
        .await;
    let silent = Control::Silent("its control server did not answer within 3 s".to_owned());
    is_fault(visit(running(silent)), &vpn, &["did not answer", "GLUETUN_API_PORT"]).await;
    let checked = |check| visit(Visit::Running { check: Some(check), control: says("running", false) });
    is_fault(checked(Check::Unhealthy), &vpn, &["health check fails"]).await;
    is_warning(checked(Check::Starting), &vpn, &["not passed yet"]).await;
    let own = [("GLUETUN_CONTAINER_NAME", "gluetun"), ("HOST_PUBLIC_IP", "203.0.113.7")];
    is_fault(Fake::default(), &own, &["this machine's own address"]).await;
}

#[tokio::test]
async fn each_vpn_and_each_engine_has_its_own_line() {
    let pairs = [
        ("GLUETUN_CONTAINER_NAME", "one"),
        ("GLUETUN_CONTAINER_NAME_2", "two"),
        ("VPN_MODE", "redundant"),
        ("ENGINES", "10.0.0.1:6878,10.0.0.2:6878"),
        ("ENGINE_PROVISIONER", "docker"),
    ];
    let text = Report::new(findings(&Fake::default(), &pairs).await).to_text();
    for about in ["vpn one:", "vpn two:", "engine 10.0.0.1:6878:", "engine 10.0.0.2:6878:"] {
        assert_eq!(text.matches(about).count(), 1, "{about}: {text}");
    }
}

#[tokio::test]
async fn an_engine_that_is_not_reached_or_is_none_is_named() {
    let settings = [("ENGINES", "10.0.0.1:6878"), ("ENGINE_PROVISIONER", "none")];
    let engine = |engine| Fake { engine, ..Fake::default() };
    is_fault(
        engine(|| Err(EngineError::Unreachable { source: io::ErrorKind::ConnectionRefused.into() })),
        &settings,
        &["engine 10.0.0.1:6878:", "connection refused", "ENGINES"],
    )
    .await;
    is_fault(
        engine(|| Err(EngineError::BadReply { what: "it is no JSON".into() })),
        &settings,
        &["is no engine", "6878"],
    )
    .await;
    is_fault(engine(|| Err(EngineError::Ended)), &settings, &["closed the connection", "restart it"]).await;
    is_fine(Fake::default(), &settings).await;
    is_fault(Fake::default(), &[("ENGINE_PROVISIONER", "none")], &["there is none", "ENGINES="]).await;
}

#[tokio::test]
async fn names_that_nobody_knows_are_a_fault_of_engines_and_a_warning_of_registries() {
    let unknown = || Fake { resolve: Some(io::ErrorKind::NotFound), ..Fake::default() };
    let engine = [("ENGINES", "engine.lan:6878"), ("ENGINE_PROVISIONER", "none")];
    is_fault(unknown(), &engine, &["dns engine.lan:", "/etc/resolv.conf"]).await;
    is_fine(unknown(), &[("ENGINES", "10.0.0.1:1,[::1]:2"), ("ENGINE_PROVISIONER", "none")]).await;
    for (image, registry) in [
        ("ghcr.io/owner/engine", "dns ghcr.io:"),
        ("owner/engine:tag", "dns registry-1.docker.io:"),
        ("registry.example:5000/engine", "dns registry.example:"),
    ] {
        is_warning(unknown(), &[("ENGINE_IMAGE", image)], &[registry, "no image can be pulled"]).await;
    }
    for image in ["engine:local", "localhost:5000/engine", "127.0.0.1:5000/engine"] {
        is_fine(unknown(), &[("ENGINE_IMAGE", image)]).await;
    }
}

#[tokio::test]
async fn a_port_is_free_ours_or_somebody_elses() {
    let taken = |listener| Fake { listen: Some(io::ErrorKind::AddrInUse), listener, ..Fake::default() };
    is_fault(
        taken(Listener::Stranger),
        &[("APP_PORT", "8123")],
        &["port:", "APP_PORT=8123 is taken", "ss -ltnp"],
    )
    .await;
    is_fine(taken(Listener::Acemux), &[]).await;
    let why = "no engine is ready yet";
    is_warning(taken(Listener::NotReady(why.to_owned())), &[], &["takes no streams", why]).await;
    let refused = |kind| Fake { listen: Some(kind), ..Fake::default() };
    is_fault(refused(io::ErrorKind::PermissionDenied), &[("APP_PORT", "80")], &["below 1024"]).await;
    let elsewhere = [("APP_HOST", "192.0.2.1")];
    is_fault(refused(io::ErrorKind::AddrNotAvailable), &elsewhere, &["APP_HOST is no address"]).await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named_with_its_cause() {
    for kind in
        [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::StorageFull]
    {
        let fake = Fake { folder: Some(kind), ..Fake::default() };
        is_fault(fake, &[("DB_PATH", "/data/acemux.db")], &["data:", "/data", &kind.to_string(), "chown"])
            .await;
    }
    let fake = Fake { folder: Some(io::ErrorKind::StorageFull), ..Fake::default() };
    is_fine(fake, &[("DB_PATH", ":memory:")]).await;
}

#[tokio::test]
async fn too_few_descriptors_are_a_warning_until_hardly_anybody_can_watch() {
    let with = |descriptors| Fake { descriptors, ..Fake::default() };
    is_warning(with(4096), &[], &["descriptors:", "4096 files", "MAX_VIEWERS=5000", "LimitNOFILE"]).await;
    is_fault(with(256), &[], &["256 files", "ulimit -Hn"]).await;
    is_fine(with(1024), &[("MAX_VIEWERS", "100")]).await;
}

#[tokio::test]
async fn a_clock_before_what_has_been_is_a_fault_and_a_correction_is_none() {
    let ahead = |ahead| Fake { ahead, ..Fake::default() };
    is_fine(ahead(SignedDuration::from_mins(-4)), &[]).await;
    is_fine(ahead(SignedDuration::from_hours(24 * 365)), &[]).await;
    let years = ahead(SignedDuration::from_hours(-24 * 365 * 50));
    is_fault(years, &[], &["clock:", "1976-", "2026-11-29", "set-ntp"]).await;
}

/// A Raspberry Pi 5 as it comes has 16 KiB pages, some servers' kernels 64.
#[tokio::test]
async fn an_arm_kernel_whose_pages_the_closed_engine_cannot_live_with_is_a_fault() {
    let image = |processor: &str| Ok(Source::Here { processor: processor.to_owned() });
    let arm = |page_size, platform| Fake {
        page_size,
        platform,
        processor: "arm64",
        image: image("arm64"),
        ..Fake::default()
    };
    for (page, said) in [(16 << 10, "16 KiB"), (64 << 10, "64 KiB")] {
        for variant in ["jopsis-arm64", "AceServe-arm64", "jopsis-arm32", "AceServe-arm32"] {
            let words = ["page_size:", said, variant, "kernel=kernel8.img", "ENGINE_VARIANT=outpace"];
            is_fault(arm(page, Platform::Arm64), &[("ENGINE_VARIANT", variant)], &words).await;
        }
        is_fine(arm(page, Platform::Arm64), &[("ENGINE_VARIANT", "outpace")]).await;
        let elsewhere = [("ENGINE_PROVISIONER", "none"), ("ENGINES", "10.0.0.1:6878")];
        is_fine(arm(page, Platform::Arm64), &elsewhere).await;
        is_fine(Fake { page_size: page, ..Fake::default() }, &[IMAGE]).await;
    }
    is_fine(arm(4 << 10, Platform::Arm64), &[("ENGINE_VARIANT", "jopsis-arm64")]).await;
    is_fine(arm(4 << 10, Platform::Arm32), &[("ENGINE_VARIANT", "jopsis-arm32")]).await;
}

#[test]
fn settings_that_cannot_be_used_are_a_fault_each_and_warnings_are_warnings() {
    let problems = Config::from_pairs([("APP_PORT", "many"), ("API_KEY", "húsh-húsh")]).unwrap_err();
    let report = Report::new(settings::refused(&problems));
    assert_eq!(report.exit(), Exit::Failed);
    let text = report.to_text();
    assert!(
        text.contains("APP_PORT=many") && text.contains("2 fault(s)") && !text.contains("húsh"),
        "{text}"
    );
    let pairs = [("REDIS_HOST", "localhost"), ("API_KEY", "short")];
    let written = Written::from_pairs(pairs);
    let accepted = settings::accepted(&Config::from_pairs(pairs).unwrap(), &written);
    let report = Report::new(accepted);
    assert_eq!(report.exit(), Exit::Success);
    assert!(report.to_text().contains("2 warning(s)"), "{}", report.to_text());
}

#[tokio::test]
async fn no_secret_is_in_any_line() {
    let pairs = [
        ("API_KEY", "hush-hush-hush-hush"),
        ("DOCKER_HOST", "tcp://user:hush@10.0.0.1:2375"),
        ("GLUETUN_CONTAINER_NAME", "gluetun"),
        ("GLUETUN_API_KEY", "hush-hush"),
        ("ENGINES", "10.0.0.1:6878"),
        ("ENGINE_PROVISIONER", "docker"),
    ];
    let knock = Some(io::ErrorKind::ConnectionRefused);
    for fake in [Fake::default(), Fake { knock, ..Fake::default() }] {
        let report = Report::new(findings(&fake, &pairs).await);
        for text in [report.to_text(), report.to_json()] {
            assert!(!text.contains("hush") && text.contains("10.0.0.1:6878"), "{text}");
        }
    }
}

//! Requirements of the catalogue's threat model that no other promise proves. Decision 19 lists where each of them is proved.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acemux_testkit::app::{Setup, until, within};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::FakeDockerd;
use acemux_testkit::process::Process;
use acemux_testkit::rawengine::RawEngine;
use acemux_testkit::{get, send};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::books::ask;
use crate::markup::every_page;
use crate::{ID, stream};

/// Listens, remembers all that is said to it, and answers nothing but an error. Ends with its tasks.
struct Canary {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Canary {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (mut tasks, book) = (JoinSet::new(), Arc::clone(&heard));
        tasks.spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut said = vec![0; 16_384];
                let length = socket.read(&mut said).await.unwrap_or_default();
                book.lock().push(String::from_utf8_lossy(&said[..length]).into_owned());
                let refusal = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _left = socket.write_all(refusal).await;
            }
        });
        Self { address, heard, _tasks: tasks }
    }
}

/// S17: engines are asked for nothing but what is typed, by no proxy of the environment, and no header of a client, cookie
/// or key comes along.
#[tokio::test(flavor = "multi_thread")]
async fn s17_an_engine_hears_nothing_of_clients_and_no_proxy_of_the_environment_is_used() {
    let (proxy, engine) = (Canary::start().await, Canary::start().await);
    let through = format!("http://{}", proxy.address);
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let settings = names.map(|name| (name, through.as_str()));
    let program = Process::start(&[engine.address.parse().expect("an address")], &settings).await;
    let at = program.address;
    let request = format!(
        "GET {}&token=secret HTTP/1.1\r\nHost: {at}\r\nCookie: a=secret\r\nAuthorization: Bearer secret\r\nX-API-KEY: secret\r\n\
         X-Forwarded-For: 192.0.2.1\r\nUser-Agent: secret\r\nReferer: http://secret/\r\nRange: bytes=5-\r\n\r\n",
        stream(ID)
    );
    let reply = within(Duration::from_secs(20), "a refusal", send(at, &request)).await;
    assert!(matches!(reply.status, 502..=504), "{}", reply.status);
    let heard = engine.heard.lock().clone();
    assert!(heard.iter().any(|head| head.starts_with("GET /ace/getstream?")), "{heard:?}");
    let mut names = BTreeSet::new();
    for head in &heard {
        assert!(!head.contains("secret") && !head.contains("192.0.2.1"), "{head}");
        names.extend(
            head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase())),
        );
    }
    let allowed = ["accept", "accept-encoding", "connection", "host", "user-agent"];
    assert!(names.iter().all(|name| allowed.contains(&name.as_str())), "{names:?}");
    assert_eq!(*proxy.heard.lock(), [] as [String; 0], "nothing goes through a proxy");
}

/// S23 and S28: what an engine's container may do, to the letter. `containers` asks Docker itself.
#[tokio::test(flavor = "multi_thread")]
async fn s23_s28_an_engine_is_created_with_no_right_that_it_does_not_need() {
    let daemon = FakeDockerd::start(&[FAST], true);
    let settings =
        [("ENGINE_MEMORY_LIMIT", "512m"), ("MIN_REPLICAS", "1"), ("PORT_RANGE_HOST", "24540-24559")];
    let setup = Setup::new().set_all(settings).set_all(daemon.settings());
    let _app = setup.start().await;
    until("an engine was created", || !daemon.bodies().is_empty()).await;
    let body = daemon.bodies().remove(0);
    let mut host = body["HostConfig"].clone();
    let ports = host.as_object_mut().and_then(|host| host.remove("PortBindings")).expect("ports");
    let published: Vec<&Value> = ports.as_object().into_iter().flat_map(|ports| ports.values()).collect();
    assert_eq!(published.len(), 1, "the API, and neither telnet nor peers: {ports}");
    for binding in published.iter().filter_map(|bindings| bindings.as_array()).flatten() {
        assert_eq!(binding["HostIp"], "127.0.0.1", "{ports}");
    }
    let network = host.as_object_mut().and_then(|host| host.remove("NetworkMode")).expect("a network");
    assert!(
        network.as_str().is_some_and(|name| name != "host" && !name.starts_with("container:")),
        "{network}"
    );
    let profile = json!({
        "AutoRemove": false,
        "CapDrop": ["ALL"],
        "Init": true,
        "LogConfig": { "Type": "json-file", "Config": { "max-file": "2", "max-size": "10m" } },
        "Memory": 512 << 20,
        "MemorySwap": 512 << 20,
        "OomScoreAdj": 500,
        "PidsLimit": 512,
        "Privileged": false,
        // This image writes all over its own; `only_images_that_keep_to_their_folder_get_a_read_only_root`.
        "ReadonlyRootfs": false,
        "RestartPolicy": { "Name": "no" },
        "SecurityOpt": ["no-new-privileges:true"],
        "Tmpfs": {},
    });
    assert_eq!(host, profile);
    let fields: Vec<_> = body.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["Env", "ExposedPorts", "HostConfig", "Image", "Labels", "NetworkingConfig"]);
    assert_eq!(daemon.violations(), [] as [String; 0]);
}

/// S32.
#[tokio::test(flavor = "multi_thread")]
async fn s32_it_runs_as_nobody_without_a_capability() {
    let engine = RawEngine::start(|_| None).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    let database = folder.path().join("acemux.db").to_str().expect("text").to_owned();
    let engines = [engine.address().parse().expect("an address")];
    let program = Process::start_unprivileged(&engines, &[("DB_PATH", &database)]).await;
    let status = program.status();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned();
    assert_eq!(field("Uid:"), ["65532"; 4].join("\t"));
    for sets in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(sets), "0".repeat(16), "{sets}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(get(program.address, &stream(ID)).await.status, 200);
    assert!(Path::new(&database).exists());
}

/// Files of the product's own crates, tests among them.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crates").to_owned()
}

/// S33.
#[test]
fn s33_the_product_starts_no_other_program() {
    let mut files = Vec::new();
    for name in ["media", "engine", "relay", "fleet", "store", "server"] {
        sources(&crates().join(name).join("src"), &mut files);
    }
    assert!(files.len() > 100);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        for word in ["process::Command", "Command::new(", "libc::", "fork("] {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

/// S34: secrets of every kind, used in every way, stand nowhere but where they were set.
#[tokio::test(flavor = "multi_thread")]
async fn s34_no_secret_is_on_a_page_in_the_log_in_metrics_or_in_the_data_directory() {
    let engine = RawEngine::start(|_| None).await;
    let daemon = FakeDockerd::start(&[FAST], true);
    let key = "canary-of-the-api-key";
    let settings = [
        ("API_KEY", key),
        ("LOG_LEVEL", "trace"),
        ("ENGINE_PROVISIONER", "docker"),
        ("DOCKER_HOST", daemon.host.as_str()),
        ("ENGINE_IMAGE", FAST),
        ("ENGINE_VARIANT", "krinkuto11-amd64"),
        ("MIN_REPLICAS", "1"),
        ("PORT_RANGE_HOST", "24560-24579"),
        ("GLUETUN_CONTAINER_NAME", "gluetun"),
        ("GLUETUN_API_KEY", "canary-of-the-control-server"),
    ];
    daemon.add_vpn(
        "gluetun",
        engine.address().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port"),
    );
    let program = Process::start(&[engine.address().parse().expect("an address")], &settings).await;
    let at = program.address;
    let playing = get(at, &stream(ID)).await;
    assert_eq!(playing.status, 200);
    let with = |key: &str| format!("X-API-KEY: {key}\r\n");
    let wrong = "canary-of-a-wrong-key";
    assert_eq!(ask(at, "POST", "/events/cleanup", &with(wrong), &Value::Null).await.status, 401);
    assert_eq!(ask(at, "POST", "/events/cleanup", &with(key), &Value::Null).await.status, 200);
    let in_query = format!("/events?api_key={key}");
    assert_eq!(get(at, &in_query).await.status, 200);
    let login = ask(at, "POST", "/api/v1/login", "", &json!({ "key": key })).await;
    let cookie =
        login.header("set-cookie").and_then(|set| set.split([';', '=']).nth(1)).expect("a cookie").to_owned();
    let mine = format!(
        "Cookie: {}\r\nSec-Fetch-Site: same-origin\r\n",
        login.header("set-cookie").expect("a cookie").split(';').next().expect("a pair")
    );
    assert_eq!(ask(at, "POST", "/events/cleanup", &mine, &Value::Null).await.status, 200);
    let secrets = [key, wrong, "canary-of-the-control-server", cookie.as_str()];
    let assert_none = |place: &str, text: &[u8]| {
        for secret in secrets {
            let is_there = text.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!is_there, "{secret} is in {place}");
        }
    };
    for page in every_page(&program, key).await {
        assert_none(&page.path, page.text.as_bytes());
    }
    let asks_vpn = |target: &String| target.starts_with("/v1/");
    assert!(engine.asked().iter().any(asks_vpn), "its control server was asked, too: {:?}", engine.asked());
    let log = program.log();
    assert!(log.contains("/events/cleanup"), "what an operator does is in the log");
    assert_none("the log", log.as_bytes());
    for entry in std::fs::read_dir(program.data()).expect("it is there").filter_map(Result::ok) {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        assert_none(&entry.path().display().to_string(), &bytes);
    }
    drop(playing);
}

/// S35: whatever is an export by its path, in every form: nobody has it without the key, and no secret is in it.
#[tokio::test(flavor = "multi_thread")]
async fn s35_exports_are_the_operators_and_have_no_secret_of_the_settings_in_them() {
    let (key, others) = ("canary-of-the-api-key", "canary-of-the-control-server");
    let settings = [
        ("API_KEY", key),
        ("GLUETUN_API_KEY", others),
        ("DOCKER_HOST", "tcp://user:canary-of-the-daemon@127.0.0.1:1"),
    ];
    let setup = settings.into_iter().fold(Setup::new(), |setup, (name, value)| setup.set(name, value));
    let app = setup.start().await;
    let document: Value = get(app.address(), "/openapi.json").await.json().await;
    let paths = document["paths"].as_object().expect("paths");
    let exports: Vec<String> = paths
        .iter()
        .filter(|(path, methods)| path.contains("export") && methods.get("get").is_some())
        .map(|(path, _)| path.replace("{slot}", "1"))
        .collect();
    assert!(exports.len() >= 2 && exports.iter().all(|path| !path.contains('{')), "{exports:?}");
    let mine = format!("X-API-KEY: {key}\r\n");
    let config = get(app.address(), "/custom-variant/config").await.json().await;
    let template = json!({ "name": "one", "config": config });
    let saved = ask(app.address(), "POST", "/custom-variant/templates/1", &mine, &template).await;
    assert_eq!(saved.status, 200);
    for path in exports {
        for query in ["", "?all=true", "?all=true&format=env", "?format=env", "?secrets=true"] {
            for prefix in ["", "/api/v1"] {
                let path = format!("{prefix}{path}{query}");
                assert_eq!(get(app.address(), &path).await.status, 401, "{path}");
                let mut export = ask(app.address(), "GET", &path, &mine, &Value::Null).await;
                assert_eq!(export.status, 200, "{path}");
                let text = String::from_utf8(export.body().await.0).expect("text");
                assert!(!text.is_empty() && !text.contains("canary"), "{path}: {text}");
            }
        }
    }
    app.stop().await;
}

/// S41: the list of what proves what is true.
#[test]
fn s41_every_test_that_the_list_names_is_there() {
    let list = crates().parent().expect("the repository").join("docs/decisions/0019-answers-to-bad-input.md");
    let list = std::fs::read_to_string(list).expect("it is there");
    let mut files = Vec::new();
    sources(&crates(), &mut files);
    let code: String =
        files.iter().map(|file| std::fs::read_to_string(file).expect("it can be read")).collect();
    let named: Vec<&str> = list.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        let test = name.rsplit("::").next().expect("a name");
        assert!(code.contains(&format!("fn {test}(")), "there is no test {name}");
    }
    for row in [
        "S17", "S18", "S19", "S20", "S23", "S24", "S26", "S28", "S29", "S30", "S31", "S32", "S33", "S34",
        "S35",
    ] {
        assert!(list.contains(&format!("| {row} |")), "{row} is not in the list");
    }
}

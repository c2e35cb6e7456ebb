//! The guide's commands, as it prints them, in folders of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::http::try_send;

/// Longest wait for the service behind it.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a compose file has brought up. Dropping it takes everything down again.
pub struct Compose {
    /// Where the service listens.
    pub address: SocketAddr,
    /// Whose engines are its own.
    pub instance: String,
    folder: PathBuf,
    file: String,
}

impl Compose {
    /// `cp .env.example .env && docker-compose -f <file> up -d`, with an instance and a port of its own and these settings in
    /// `.env`.
    pub async fn up(file: &str, settings: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let instance = format!("compose-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(format!("acemux-{instance}"));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        std::fs::copy(root.join(file), folder.join(file)).expect("it is there");
        // What one of the files mounts.
        let mounted = Path::new("deploy/socket-proxy/haproxy.cfg");
        std::fs::create_dir_all(folder.join(mounted).parent().expect("a folder")).expect("it can be written");
        std::fs::copy(root.join(mounted), folder.join(mounted)).expect("it is there");
        let mut env = std::fs::read_to_string(root.join(".env.example")).expect("it is there");
        let port = 20_000 + u16::try_from(std::process::id() % 2_000).unwrap_or_default() + number;
        env.extend([format!("\nINSTANCE_ID={instance}\nAPP_PORT={port}\n")]);
        env.extend(settings.iter().map(|(name, value)| format!("{name}={value}\n")));
        std::fs::write(folder.join(".env"), env).expect("the temporary folder can be written");
        let compose =
            Self { folder, file: file.to_owned(), address: ([127, 0, 0, 1], port).into(), instance };
        compose.run(&["up", "-d"]);
        compose.ready().await;
        compose
    }

    /// `docker-compose -f <file> …`. Panics when it fails.
    pub fn run(&self, arguments: &[&str]) {
        let output = self.try_run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || std::thread::panicking(), "docker-compose {arguments:?}: {said}");
    }

    /// `docker-compose -f <file> down …`. The network is everybody's who runs these files: while another test is in it, it
    /// stays.
    pub fn down(&self, arguments: &[&str]) {
        let output = self.try_run(&[&["down"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let is_down = output.status.success() || said.contains("has active endpoints");
        assert!(is_down || std::thread::panicking(), "docker-compose down: {said}");
        if arguments.contains(&"--volumes") {
            // Compose gives up at such a network, before the volumes.
            let volumes = self.left(&["volume", "ls"]);
            let _gone =
                Command::new("docker").args(["volume", "rm"]).args(volumes.split_whitespace()).output();
        }
    }

    /// What is left of the project: names or ids.
    fn left(&self, list: &[&str]) -> String {
        let project = format!("label=com.docker.compose.project=acemux-{}", self.instance);
        let list = Command::new("docker").args(list).args(["--quiet", "--filter", &project]).output();
        String::from_utf8_lossy(&list.expect("the docker command is installed").stdout).into_owned()
    }

    /// The three commands that the documentation has for it, after which nothing is left. Panics when something is.
    pub fn leave_nothing_behind(&self) {
        self.run(&["stop"]);
        self.run(&["run", "--rm", "acemux", "engines", "remove", "--all"]);
        self.down(&["--volumes"]);
        assert_eq!(self.engines(), Vec::<String>::new(), "engines are left");
        // The network is everybody's who runs these files.
        for kind in [&["ps", "--all"][..], &["volume", "ls"]] {
            assert_eq!(self.left(kind), "", "{kind:?}");
        }
    }

    /// The container of this service of the file.
    pub fn container(&self, service: &str) -> String {
        let output = self.try_run(&["ps", "--quiet", service]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What a command in the container of the service prints, and whether it ended well.
    pub fn says(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.try_run(&[&["exec", "-T", "acemux", "/acemux"], arguments].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker-compose");
        command.args(["-f", &self.file]).args(arguments).current_dir(&self.folder).env_remove("APP_PORT");
        command.output().expect("docker-compose is installed")
    }

    /// Its engines, running or not: ids.
    pub fn engines(&self) -> Vec<String> {
        let filter = format!("label=io.acemux.instance={}", self.instance);
        let list = Command::new("docker").args(["ps", "-aq", "--no-trunc", "--filter", &filter]).output();
        let ids = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        ids.split_whitespace().map(str::to_owned).collect()
    }

    async fn ready(&self) {
        let began = Instant::now();
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        loop {
            match try_send(self.address, request).await {
                Ok(reply) if reply.status == 200 => return,
                _ => assert!(began.elapsed() < PATIENCE, "it does not become ready"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", String::from_utf8_lossy(&self.try_run(&["logs"]).stdout));
        }
        self.run(&["stop"]);
        for id in self.engines() {
            // What is left over has an instance of its own and disturbs nobody.
            let _removed = Command::new("docker").args(["rm", "-f", &id]).output();
        }
        self.down(&["--volumes"]);
        let _cleared = std::fs::remove_dir_all(&self.folder);
    }
}

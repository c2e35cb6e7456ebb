//! Reverse proxies as Debian has them, told nothing but where to send what they get.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Longest wait until one listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// Another program may take the port between the moment in which it was found free and that in which it is bound.
const TRIES: usize = 5;

/// Which one, and what it is told beside the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NGINX with these lines beside `proxy_pass`.
    Nginx(&'static str),
    /// HAProxy in this mode, `http` or `tcp`.
    HaProxy(&'static str),
}

/// The running proxy. Dropping it ends the process.
pub struct Front {
    /// Where its clients connect.
    pub address: SocketAddr,
    folder: PathBuf,
    _child: Child,
}

impl Front {
    /// Starts one before `server`. Fails when it is not installed.
    pub async fn start(kind: Kind, server: SocketAddr) -> io::Result<Self> {
        for _ in 0..TRIES {
            if let Some(front) = Self::try_start(kind, server).await? {
                return Ok(front);
            }
        }
        panic!("{kind:?} never listened; it wrote to this test's standard error why")
    }

    /// `None` when it ended at once, as when its port was taken.
    async fn try_start(kind: Kind, server: SocketAddr) -> io::Result<Option<Self>> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("acemux-front-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let file = folder.join("conf");
        std::fs::write(&file, kind.settings(&folder, address, server))?;
        let mut child = kind.command(&folder, &file).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let began = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if began.elapsed() > PATIENCE || child.try_wait()?.is_some() {
                let _cleared = std::fs::remove_dir_all(&folder);
                return Ok(None);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Some(Self { address, folder, _child: child }))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _cleared = std::fs::remove_dir_all(&self.folder);
    }
}

impl Kind {
    /// In the foreground and as one process, so that it ends with this one.
    fn command(self, folder: &Path, file: &Path) -> Command {
        match self {
            Self::Nginx(_) => {
                let mut nginx = program("nginx");
                nginx.arg("-p").arg(folder).arg("-c").arg(file).arg("-e").arg("stderr");
                nginx
            }
            Self::HaProxy(_) => {
                let mut haproxy = program("haproxy");
                haproxy.arg("-q").arg("-db").arg("-f").arg(file);
                haproxy
            }
        }
    }

    fn settings(self, folder: &Path, address: SocketAddr, server: SocketAddr) -> String {
        match self {
            Self::Nginx(more) => {
                let at = |name: &str| folder.join(name).display().to_string();
                let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
                let folders = kinds.map(|kind| format!("{kind}_temp_path {};", at(kind))).join(" ");
                format!(
                    "daemon off; master_process off; pid {};\nevents {{}}\nhttp {{ access_log off; {folders}\n\
                     server {{ listen {address}; location / {{ proxy_pass http://{server}; {more} }} }} }}\n",
                    at("pid")
                )
            }
            // The timeouts are those of Debian's own file.
            Self::HaProxy(mode) => format!(
                "defaults\n mode {mode}\n timeout connect 5000\n timeout client 50000\n timeout server 50000\n\
                 listen front\n bind {address}\n server acemux {server}\n"
            ),
        }
    }
}

/// Debian puts them where only root looks.
fn program(name: &str) -> Command {
    let file = Path::new("/usr/sbin").join(name);
    Command::new(if file.exists() { file } else { PathBuf::from(name) })
}

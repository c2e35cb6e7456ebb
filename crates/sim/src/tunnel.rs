//! An engine that depends on a simulated tunnel: it asks the script port whether packets pass.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::core::Core;

/// Time between two questions: what a dead tunnel does shows so much later.
const PERIOD: Duration = Duration::from_millis(100);
/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(1);
/// The answer grows with the requests that the control server got.
const LONGEST: u64 = 4 * 1024 * 1024;

/// Follows the tunnel until the engine ends. A tunnel that does not answer is gone, as in the namespace of a container that
/// was removed.
pub(crate) async fn follow(core: Arc<Core>, script: SocketAddr) {
    loop {
        let is_up = matches!(timeout(DEADLINE, ask(script)).await, Ok(Ok(true)));
        core.set_offline(!is_up);
        sleep(PERIOD).await;
    }
}

async fn ask(script: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(script).await?;
    stream.write_all(b"GET /__sim/status HTTP/1.1\r\nHost: gluetun\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer).await?;
    Ok(answer.contains("\"up\": true"))
}

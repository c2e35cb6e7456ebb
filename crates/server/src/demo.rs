//! `acemux demo`: the service on two simulated engines in the same process, with nothing else needed.

use std::fmt::Write as _;

use acemux_sim::{DEMO_CHANNELS, SimEngine, SimOptions, infohash_of};

use crate::config::{Config, Problems, WithoutKey};

/// The id that the deployment guide prints. It plays like any other.
const GUIDE_ID: &str = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d";

/// Engines of the demo: two, so that the choice between them can be seen.
const ENGINES: usize = 2;

/// Starts the engines; they end with their handles.
pub async fn engines() -> std::io::Result<Vec<SimEngine>> {
    let mut engines = Vec::with_capacity(ENGINES);
    for number in 1..=ENGINES {
        let options = SimOptions { name: format!("demo-{number}"), ..SimOptions::default() };
        engines.push(SimEngine::start(options).await?);
    }
    Ok(engines)
}

/// The service's settings: the usual ones, on these engines and this port.
pub fn config(engines: &[SimEngine], port: u16) -> Result<Config, Problems> {
    let endpoints: Vec<String> = engines.iter().map(|engine| engine.addr().to_string()).collect();
    let flags = [
        ("ENGINES", endpoints.join(",")),
        ("APP_PORT", port.to_string()),
        ("ENGINE_PROVISIONER", "none".to_owned()),
        ("DB_PATH", ":memory:".to_owned()),
    ];
    let (mut config, written) = Config::load(None, &flags)?;
    // Whoever tries it has no key, and it keeps none.
    if !written.says_who_needs_no_key() {
        config.without_key = WithoutKey::Loopback;
    }
    Ok(config)
}

/// What to open and what to type.
pub fn instructions(port: u16, engines: &[SimEngine]) -> String {
    let base = format!("http://localhost:{port}");
    let url = format!("{base}/ace/getstream?id={GUIDE_ID}");
    let mut text = format!(
        "acemux demo: two simulated engines, every id plays\n\n\
         In a browser, to watch and to see who watches:\n\n  {base}/panel\n\nIn a player:\n\n  \
         vlc \"{url}\"\n  mpv \"{url}\"\n  ffplay \"{url}\"\n  curl \"{url}\" > stream.ts\n\n\
         The same channel by its infohash, for another player at the same time:\n\n  \
         mpv \"{base}/ace/getstream?infohash={}\"\n\nOther channels:\n\n",
        infohash_of(GUIDE_ID),
    );
    for channel in &DEMO_CHANNELS {
        line(&mut text, format_args!("  {base}/ace/getstream?id={}   {}", channel.content_id, channel.name));
    }
    line(&mut text, format_args!("\nLook inside:\n\n  curl {base}/proxy/status\n  curl {base}/engines"));
    for engine in engines {
        line(&mut text, format_args!("  curl http://{}/__sim/ledger", engine.control_addr()));
    }
    line(&mut text, format_args!("\nCtrl-C ends it."));
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

//! The `acemux` binary: picks the command, owns the runtime and the exit code, nothing else.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use acemux_server::app::{self, BuildError, Service};
use acemux_server::cli::{Cli, Command, ConfigAction, EnginesAction, Exit, ServeFlags, Sim};
use acemux_server::config::{Config, ListenHost, Problems, Written, show, show_json};
use acemux_server::http::api::docs;
use acemux_server::http::key::Key;
use acemux_server::http::limits::{self, Shares};
use acemux_server::own_engines::{self, Chosen, Told};
use acemux_server::record::logging;
use acemux_server::simargs::{self, BadValue, SimRun, Simulated};
use acemux_server::{demo, doctor};
use acemux_sim::{GluetunOptions, SimOptions};
use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Steady over weeks, and required where the C library's allocator is slow (static builds).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest wait for the answer of `acemux healthcheck`.
const HEALTH_DEADLINE: Duration = Duration::from_secs(3);

/// How long the end of the process waits for what blocks a thread, such as a look-up of a name.
const LOOKUPS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    if let Some(run) = simargs::from_process() {
        return run_sim_image(run);
    }
    let exit = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => {
            // Also how --help and --version arrive. Nobody is left to tell when the terminal is gone.
            let _printed = error.print();
            if error.use_stderr() { Exit::Configuration } else { Exit::Success }
        }
    };
    exit.into()
}

fn run(cli: Cli) -> Exit {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(flags) => serve(&flags),
        Command::Demo { port } => run_demo(port),
        Command::Doctor { json, flags } => examine(&flags, json),
        Command::Engines { action } => engines(action),
        Command::Config { action: ConfigAction::Check(flags) } => check(&flags),
        Command::Config { action: ConfigAction::Show { json, flags } } => show_config(&flags, json),
        Command::Key(flags) => print_key(&flags),
        Command::Openapi => print_openapi(),
        Command::Healthcheck(flags) => healthcheck(&flags),
        Command::Sim { what: Sim::Engine(flags) } => simulate(flags.into(), Duration::ZERO),
        Command::Sim { what: Sim::Gluetun(flags) } => simulate_gluetun(flags.into()),
    }
}

fn load(flags: &ServeFlags) -> Result<(Config, Written), Exit> {
    Config::load(flags.config.as_deref(), &flags.settings()).map_err(|problems| refuse(&problems))
}

fn refuse(problems: &Problems) -> Exit {
    eprintln!("{problems}");
    Exit::Configuration
}

fn serve(flags: &ServeFlags) -> Exit {
    let (config, written) = match load(flags) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let _flush = logging::init(config.log);
    for warning in config.warnings(&written) {
        tracing::warn!("{warning}");
    }
    if config.engines.external.is_empty() && !config.fleet.is_docker {
        tracing::warn!(
            "no engine is configured: set ENGINES=host:port[,host:port], or ENGINE_PROVISIONER=docker"
        );
    }
    with_runtime(|runtime| runtime.block_on(run_service(fitted(config))))
}

/// The settings within what the system gives.
fn fitted(mut config: Config) -> Config {
    let descriptors = limits::raise_descriptors();
    let Shares { viewers, connections, loopback, doorway } =
        Shares::of(descriptors, config.viewers.max, config.listen.max_connections);
    if viewers < config.viewers.max {
        let wanted = config.viewers.max;
        tracing::warn!(
            wanted,
            viewers,
            descriptors,
            "MAX_VIEWERS lowered: the descriptor limit is too small"
        );
        config.viewers.max = viewers;
    }
    config.listen.max_connections = connections;
    config.listen.loopback_places = loopback;
    config.listen.doorway = doorway;
    config
}

async fn run_service(config: Config) -> Exit {
    let stop = CancellationToken::new();
    let service = match Service::build(&config, stop.clone()).await {
        Ok(service) => service,
        Err(error) => {
            eprintln!("{error}");
            let is_address = matches!(error, BuildError::Listen { .. });
            return if is_address { Exit::CannotListen } else { Exit::Configuration };
        }
    };
    tracing::info!(address = %service.address(), engines = config.engines.external.len(), "serving");
    tokio::select! {
        // Why it failed is in the log.
        ended = service.run() => if ended.is_ok() { Exit::Success } else { Exit::Internal },
        exit = told_twice(stop) => exit,
    }
}

/// The first signal stops in order; the second one exits at once.
async fn told_twice(stop: CancellationToken) -> Exit {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return Exit::Internal;
    };
    for _ in 0..2 {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if stop.is_cancelled() {
            break;
        }
        stop.cancel();
    }
    Exit::Success
}

fn run_demo(port: u16) -> Exit {
    with_runtime(|runtime| {
        runtime.block_on(async {
            let engines = match demo::engines().await {
                Ok(engines) => engines,
                Err(error) => {
                    eprintln!("cannot start the simulated engines: {error}");
                    return Exit::CannotListen;
                }
            };
            let config = match demo::config(&engines, port) {
                Ok(config) => config,
                Err(problems) => return refuse(&problems),
            };
            let _flush = logging::init(config.log);
            println!("{}", demo::instructions(port, &engines));
            run_service(fitted(config)).await
        })
    })
}

fn examine(flags: &ServeFlags, json: bool) -> Exit {
    let loaded = Config::load(flags.config.as_deref(), &flags.settings());
    with_runtime(|runtime| {
        let report = runtime.block_on(doctor::examine(loaded));
        println!("{}", if json { report.to_json() } else { report.to_text() });
        report.exit()
    })
}

fn engines(action: EnginesAction) -> Exit {
    match action {
        EnginesAction::List { json, flags } => {
            with_config(&flags, async |config: Config| own_engines::list(&config, json).await)
        }
        EnginesAction::Remove { names, all, flags } => {
            let chosen = match (all, names.is_empty()) {
                (true, _) => Chosen::All,
                (false, true) => Chosen::Ended,
                (false, false) => Chosen::Named(names),
            };
            with_config(&flags, async |config: Config| own_engines::remove(&config, &chosen).await)
        }
    }
}

fn with_config(flags: &ServeFlags, run: impl AsyncFnOnce(Config) -> Told) -> Exit {
    let config = match load(flags) {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    with_runtime(|runtime| {
        let Told { text, notes, exit } = runtime.block_on(run(config));
        if !text.is_empty() {
            println!("{text}");
        }
        for note in notes {
            eprintln!("{note}");
        }
        exit
    })
}

fn check(flags: &ServeFlags) -> Exit {
    match load(flags) {
        Ok((config, written)) => {
            config.warnings(&written).iter().for_each(|warning| eprintln!("warning: {warning}"));
            println!("the settings can be used");
            for sentence in Config::moved(&written) {
                println!("{sentence}");
            }
            Exit::Success
        }
        Err(exit) => exit,
    }
}

fn show_config(flags: &ServeFlags, json: bool) -> Exit {
    match load(flags) {
        Ok((_, written)) => {
            print!("{}", if json { show_json(&written) } else { show(&written) });
            Exit::Success
        }
        Err(exit) => exit,
    }
}

/// The key alone on standard output, for `"$(acemux key)"`. Only reads, so it works beside the service.
fn print_openapi() -> Exit {
    let document = docs::text(&app::surface().document());
    // Whoever reads only the beginning of it has what they want.
    let _written = std::io::stdout().write_all(document.as_bytes());
    Exit::Success
}

fn print_key(flags: &ServeFlags) -> Exit {
    let config = match load(flags) {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    let Key { place, key } = Key::find(&config);
    eprintln!("{place}");
    match key {
        Ok(key) => {
            println!("{}", key.reveal());
            Exit::Success
        }
        Err(lack) => {
            eprintln!("{lack}");
            Exit::Failed
        }
    }
}

fn healthcheck(flags: &ServeFlags) -> Exit {
    let config = match load(flags) {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    let address = match config.listen.host {
        ListenHost::Address(address) => SocketAddr::new(address, config.listen.port),
        ListenHost::All => SocketAddr::from(([127, 0, 0, 1], config.listen.port)),
    };
    match answers_ok(address, "/livez") {
        Ok(true) => Exit::Success,
        Ok(false) => Exit::Failed,
        Err(error) => {
            eprintln!("{address}: {error}");
            Exit::Failed
        }
    }
}

/// Whether the page answers 200.
fn answers_ok(address: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect_timeout(&address, HEALTH_DEADLINE)?;
    connection.set_read_timeout(Some(HEALTH_DEADLINE))?;
    connection.set_write_timeout(Some(HEALTH_DEADLINE))?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    connection.read_exact(&mut status)?;
    Ok(status == *b"HTTP/1.1 200")
}

/// One container of the simulated engine's image, or its health check.
fn run_sim_image(what: Result<Simulated, BadValue>) -> ExitCode {
    match what {
        Ok(Simulated::Engine(run)) => match *run {
            SimRun { exit: Some(code), .. } => ExitCode::from(code),
            SimRun { options, boot, exit: None } => simulate(options, boot).into(),
        },
        Ok(Simulated::Gluetun(options)) => simulate_gluetun(*options).into(),
        Ok(Simulated::HealthCheck(address)) => ask_health(address).into(),
        Err(problem) => {
            eprintln!("{problem}");
            Exit::Configuration.into()
        }
    }
}

fn ask_health(address: SocketAddr) -> Exit {
    match answers_ok(address, "/") {
        Ok(true) => Exit::Success,
        Ok(false) => Exit::Failed,
        Err(error) => {
            eprintln!("{address}: {error}");
            Exit::Failed
        }
    }
}

fn simulate(options: SimOptions, boot: Duration) -> Exit {
    until_told(async |stop: CancellationToken| {
        tokio::time::sleep(boot).await;
        acemux_sim::run_engine(options, stop.cancelled_owned()).await
    })
}

fn simulate_gluetun(options: GluetunOptions) -> Exit {
    until_told(async |stop: CancellationToken| acemux_sim::run_gluetun(options, stop.cancelled_owned()).await)
}

/// Runs a simulation until a signal stops it.
fn until_told(run: impl AsyncFnOnce(CancellationToken) -> std::io::Result<()>) -> Exit {
    with_runtime(|runtime| {
        runtime.block_on(async {
            let stop = CancellationToken::new();
            tokio::select! {
                ended = run(stop.clone()) => match ended {
                    Ok(()) => Exit::Success,
                    Err(error) => {
                        eprintln!("cannot run the simulation: {error}");
                        Exit::CannotListen
                    }
                },
                exit = told_twice(stop) => exit,
            }
        })
    })
}

fn with_runtime(run: impl FnOnce(&Runtime) -> Exit) -> Exit {
    match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = run(&runtime);
            runtime.shutdown_timeout(LOOKUPS);
            exit
        }
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            Exit::Internal
        }
    }
}

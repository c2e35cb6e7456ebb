//! `acemux engines`: the engine containers of this instance, also when the service does not run. A stop of the service
//! leaves them for its next start, and so does `docker-compose down`.
//!
//! Only what carries both our product's label and this instance's is ever removed; Docker is asked for the label once more
//! before each removal.

use std::fmt::Write as _;

use acemux_engine::text;
use acemux_fleet::ident::InstanceId;
use acemux_fleet::provisioner::{Container, ContainerState, ProvisionError, Provisioner};
use acemux_fleet::spec::label;
use acemux_store::{OpenError, directory};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Exit;
use crate::config::Config;
use crate::doctor;
use crate::planes::setup;

/// Containers that are removed at a time: as many calls as go to Docker at once, because the wait for a turn counts.
const AT_ONCE: usize = 4;
/// Digits of an id as people know it.
const SHORT_ID: usize = 12;
/// Longest text of a label that is shown.
const LONGEST: usize = 64;

/// What is printed, and how the process ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// For standard output.
    pub text: String,
    /// For standard error, a line each.
    pub notes: Vec<String>,
    /// The exit code.
    pub exit: Exit,
}

/// Which engines are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Those whose process has ended.
    Ended,
    /// These, by name, full id or the first 12 or more digits of one.
    Named(Vec<String>),
    /// All of this instance, with whatever plays on them.
    All,
}

/// One engine's line.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    id: String,
    state: ContainerState,
    /// Where it is reached on this host or in its network.
    ports: Vec<u16>,
    created: Timestamp,
    age_seconds: i64,
    variant: Option<String>,
    instance: String,
}

/// What is on this daemon.
struct Engines {
    own: Vec<Container>,
    others: Vec<Container>,
}

/// Whose engines are ours: what the settings say, else what is kept beside the database. `None` where the service has kept
/// nothing yet.
pub fn instance(config: &Config) -> Result<Option<InstanceId>, OpenError> {
    if let Some(instance) = &config.fleet.instance {
        return Ok(Some(instance.clone()));
    }
    let Some(folder) = doctor::data_folder(config) else { return Ok(None) };
    Ok(directory::find_instance_id(&folder)?.and_then(|id| id.parse().ok()))
}

/// `acemux engines list`.
pub async fn list(config: &Config, json: bool) -> Told {
    let (instance, engines) = match find(config).await {
        Ok(found) => found,
        Err(failure) => return failed(failure),
    };
    let now = Timestamp::now();
    let rows = |containers: &[Container]| containers.iter().map(|one| Row::of(one, now)).collect::<Vec<_>>();
    let (own, others) = (rows(&engines.own), rows(&engines.others));
    let mut notes = Vec::new();
    if instance.is_none() {
        notes.push(unknown_instance());
    }
    let text = if json {
        let all = serde_json::json!({ "instance": instance.as_ref().map(InstanceId::as_str), "engines": own, "others": others });
        serde_json::to_string_pretty(&all).expect("rows are plain text")
    } else {
        notes.extend(own.is_empty().then(|| "there is no engine of this instance".to_owned()));
        notes.extend(of_others(&others));
        table(&own)
    };
    Told { text, notes, exit: Exit::Success }
}

/// `acemux engines remove`.
pub async fn remove(config: &Config, chosen: &Chosen) -> Told {
    let (instance, engines) = match find(config).await {
        Ok(found) => found,
        Err(failure) => return failed(failure),
    };
    let Some(instance) = instance else { return failed(unknown_instance()) };
    let (targets, mut notes) = choose(&engines, chosen);
    let mut exit = if notes.is_empty() { Exit::Success } else { Exit::Failed };
    let docker = match setup::docker(config, instance) {
        Ok(docker) => docker,
        Err(error) => return failed(error.to_string()),
    };
    let removals = targets.iter().map(|one| async { (*one, docker.remove(&one.id).await) });
    let results: Vec<_> = stream::iter(removals).buffered(AT_ONCE).collect().await;
    let mut text = String::new();
    for (container, result) in results {
        match result {
            Ok(()) => line(&mut text, format_args!("removed {} ({})", container.name, container.id)),
            Err(error) => {
                notes.push(format!("{} was not removed: {error}", container.name));
                exit = Exit::Failed;
            }
        }
    }
    if targets.is_empty() && notes.is_empty() {
        line(&mut text, format_args!("{}", nothing_to_do(&engines, chosen)));
    }
    if !targets.is_empty() && doctor::is_running(config).await {
        notes.push(
            "the service runs: it makes new engines as it needs them. Stop it first to leave none".to_owned(),
        );
    }
    Told { text: text.trim_end().to_owned(), notes, exit }
}

/// Those of this instance and those of others. An error is one line.
async fn find(config: &Config) -> Result<(Option<InstanceId>, Engines), String> {
    let instance = instance(config).map_err(|error| error.to_string())?;
    // Nobody has this one: then all are others'.
    let asking = instance.clone().unwrap_or_else(|| "-".parse().expect("it is one word"));
    let docker = setup::docker(config, asking).map_err(|error| error.to_string())?;
    let found = async { Ok::<_, ProvisionError>((docker.list().await?, docker.neighbours().await?)) };
    let (mut own, neighbours) = found.await.map_err(|error| error.to_string())?;
    own.retain(is_engine);
    own.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((instance, Engines { own, others: neighbours.engines }))
}

/// Somebody may have given our instance's label to something else.
fn is_engine(container: &Container) -> bool {
    container.labels.get(label::PRODUCT).is_some_and(|role| role == label::PRODUCT_ENGINE)
}

fn failed(why: String) -> Told {
    Told { text: String::new(), notes: vec![why], exit: Exit::Failed }
}

fn unknown_instance() -> String {
    "whose engines are meant is not known: the service has not run with this DB_PATH yet, and INSTANCE_ID is not set"
        .to_owned()
}

/// The engines, and a line for each name that is none of ours.
fn choose<'a>(engines: &'a Engines, chosen: &Chosen) -> (Vec<&'a Container>, Vec<String>) {
    let own = engines.own.iter();
    match chosen {
        Chosen::All => (own.collect(), Vec::new()),
        Chosen::Ended => (own.filter(|one| has_ended(one.state)).collect(), Vec::new()),
        Chosen::Named(names) => {
            let mut notes = Vec::new();
            for name in names.iter().filter(|name| !engines.own.iter().any(|one| is_called(one, name))) {
                notes.push(not_ours(engines, name));
            }
            let is_named = |one: &&Container| names.iter().any(|name| is_called(one, name));
            (own.filter(is_named).collect(), notes)
        }
    }
}

fn has_ended(state: ContainerState) -> bool {
    match state {
        ContainerState::Exited | ContainerState::Dead => true,
        // A service that runs may be about to start it.
        ContainerState::Created
        | ContainerState::Running
        | ContainerState::Paused
        | ContainerState::Restarting
        | ContainerState::Removing => false,
    }
}

fn is_called(container: &Container, name: &str) -> bool {
    let is_id = name.len() >= SHORT_ID && container.id.as_str().starts_with(name);
    container.name == name || is_id
}

fn not_ours(engines: &Engines, name: &str) -> String {
    let shown = text::line(name, LONGEST);
    match engines.others.iter().find(|one| is_called(one, name)) {
        Some(other) => format!("{shown} belongs to instance {} and is left alone", instance_of(other)),
        None => format!("no engine of this instance is called {shown}"),
    }
}

fn nothing_to_do(engines: &Engines, chosen: &Chosen) -> String {
    match (chosen, engines.own.len()) {
        (_, 0) => "there is no engine of this instance".to_owned(),
        (Chosen::Ended, there) => {
            format!("none of {there} engine(s) has ended: name those to remove, or use --all")
        }
        (Chosen::Named(_) | Chosen::All, _) => "nothing was removed".to_owned(),
    }
}

fn instance_of(container: &Container) -> String {
    container.labels.get(label::INSTANCE).map_or_else(String::new, |instance| text::line(instance, LONGEST))
}

impl Row {
    fn of(container: &Container, now: Timestamp) -> Self {
        let Container { id, name, state, created, labels, .. } = container;
        Self {
            name: name.clone(),
            id: id.as_str().to_owned(),
            state: *state,
            ports: ports(container),
            created: *created,
            age_seconds: now.duration_since(*created).as_secs().max(0),
            variant: labels.get(label::VARIANT).map(|variant| text::line(variant, LONGEST)),
            instance: instance_of(container),
        }
    }
}

/// Published ones; where there are none, the one at which it is reached over its network.
fn ports(container: &Container) -> Vec<u16> {
    let mut published: Vec<u16> = container.ports.iter().map(|(_, _, port)| *port).collect();
    published.sort_unstable();
    published.dedup();
    if published.is_empty() {
        let told = [label::HOST_HTTP_PORT, label::HTTP_PORT].into_iter();
        published.extend(told.filter_map(|name| container.labels.get(name)?.parse::<u16>().ok()).take(1));
    }
    published
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let columns = ["NAME", "ID", "STATE", "PORTS", "AGE", "VARIANT", "INSTANCE"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let ports = row.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        [
            row.name.clone(),
            row.id.chars().take(SHORT_ID).collect(),
            row.state.as_str().to_owned(),
            ports,
            age(row.age_seconds),
            row.variant.clone().unwrap_or_default(),
            row.instance.clone(),
        ]
    });
    let lines: Vec<_> = std::iter::once(columns).chain(cells).collect();
    let width =
        |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for cells in &lines {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(&mut text, format_args!("{}", padded.collect::<Vec<_>>().join("  ").trim_end()));
    }
    text.trim_end().to_owned()
}

/// The largest unit alone, as people say it.
fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// One line about each other instance, with what makes its engines ours.
fn of_others(others: &[Row]) -> Vec<String> {
    let mut by_instance: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for row in others {
        by_instance.entry(&row.instance).or_default().push(&row.name);
    }
    let told = by_instance.into_iter().map(|(instance, names)| {
        format!(
            "{} of instance {instance} are left alone; INSTANCE_ID={instance} makes them ours",
            names.join(", ")
        )
    });
    told.collect()
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(number: u8, name: &str, state: ContainerState, instance: &str) -> Container {
        let labels = [
            (label::PRODUCT, label::PRODUCT_ENGINE),
            (label::INSTANCE, instance),
            (label::VARIANT, "outpace"),
            (label::HTTP_PORT, "19001"),
        ];
        Container {
            id: format!("{number:02x}").repeat(32).parse().unwrap(),
            name: name.to_owned(),
            image: "image".to_owned(),
            state,
            created: "2026-11-29T00:00:00Z".parse().unwrap(),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ports: Vec::new(),
            inside: None,
        }
    }

    fn engines() -> Engines {
        Engines {
            own: vec![
                container(1, "acestream-1", ContainerState::Running, "home"),
                container(2, "acestream-2", ContainerState::Exited, "home"),
                container(3, "acestream-3", ContainerState::Paused, "home"),
            ],
            others: vec![container(9, "acestream-9", ContainerState::Exited, "work")],
        }
    }

    fn chosen(chosen: &Chosen) -> (Vec<String>, Vec<String>) {
        let engines = engines();
        let (targets, notes) = choose(&engines, chosen);
        (targets.into_iter().map(|one| one.name.clone()).collect(), notes)
    }

    fn named(names: &[&str]) -> Chosen {
        Chosen::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn what_runs_goes_only_when_it_is_named_or_all_are() {
        assert_eq!(chosen(&Chosen::Ended).0, ["acestream-2"]);
        assert_eq!(chosen(&Chosen::All).0, ["acestream-1", "acestream-2", "acestream-3"]);
        let (full, short) = ("01".repeat(32), "030303030303");
        assert_eq!(
            chosen(&named(&[&full, short])),
            (vec!["acestream-1".to_owned(), "acestream-3".to_owned()], Vec::new())
        );
    }

    #[test]
    fn what_is_not_ours_or_not_named_clearly_is_left_alone_and_said() {
        // Another instance's, by name and by id; the beginning of a name; too few digits; a name of nobody.
        for name in ["acestream-9", "090909090909", "acestream-", "0101", "", "acestream-1\u{1b}[2J"] {
            let (targets, notes) = chosen(&named(&[name]));
            assert!(targets.is_empty(), "{name}: {targets:?}");
            assert!(notes.len() == 1 && !notes[0].contains('\u{1b}'), "{notes:?}");
        }
        assert!(chosen(&named(&["acestream-9"])).1[0].contains("belongs to instance work"));
        let (targets, notes) = chosen(&named(&["acestream-9", "acestream-1"]));
        assert_eq!((targets, notes.len()), (vec!["acestream-1".to_owned()], 1));
    }

    #[test]
    fn a_container_with_our_instance_and_without_our_products_label_is_no_engine() {
        let mut one = container(1, "database", ContainerState::Exited, "home");
        assert!(is_engine(&one));
        one.labels.insert(label::PRODUCT.to_owned(), "network".to_owned());
        assert!(!is_engine(&one));
        one.labels.remove(label::PRODUCT);
        assert!(!is_engine(&one));
    }

    #[test]
    fn the_list_says_what_each_is_and_whose() {
        let now = "2026-11-29T03:00:00Z".parse().unwrap();
        let mut engines = engines();
        engines.own[0].ports =
            vec![(19_000, "127.0.0.1".to_owned(), 19_000), (19_000, "::1".to_owned(), 19_000)];
        let rows: Vec<Row> = engines.own.iter().take(2).map(|one| Row::of(one, now)).collect();
        insta::assert_snapshot!(table(&rows), @"
        NAME         ID            STATE    PORTS  AGE  VARIANT  INSTANCE
        acestream-1  010101010101  running  19000  3h   outpace  home
        acestream-2  020202020202  exited   19001  3h   outpace  home
        ");
        let others: Vec<Row> = engines.others.iter().map(|one| Row::of(one, now)).collect();
        assert!(of_others(&others)[0].contains("INSTANCE_ID=work"));
    }

    #[test]
    fn whose_engines_are_ours_stands_in_the_settings_or_beside_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("acemux.db");
        let of = |pairs: &[(&str, &str)]| {
            let path = [("DB_PATH", database.to_str().unwrap())];
            instance(&Config::from_pairs(path.into_iter().chain(pairs.iter().copied())).unwrap()).unwrap()
        };
        assert_eq!(of(&[]), None);
        let held = acemux_store::DataDir::open(folder.path()).unwrap();
        assert_eq!(of(&[]).unwrap().as_str(), held.instance_id());
        assert_eq!(of(&[("INSTANCE_ID", "home")]).unwrap().as_str(), "home");
        assert_eq!(instance(&Config::from_pairs([("DB_PATH", ":memory:")]).unwrap()).unwrap(), None);
    }
}

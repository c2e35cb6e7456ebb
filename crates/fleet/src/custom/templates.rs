//! Ten places in which custom variants are kept, one of them perhaps in use.
//!
//! Operations on a value; who holds a [`TemplatesDocument`] stores it after each change.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use acemux_engine::text;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problems;
use super::{CustomVariant, Document};

/// Places, numbered from 1.
const PLACES: u8 = 10;
/// Characters; a name stands in labels and lists.
const LONGEST_NAME: usize = 64;
/// Bytes of an exported template: several times what all parameters need.
const LONGEST_IMPORT: usize = 64 * 1024;

/// A place for a template, 1 to 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(minimum = 1, maximum = 10)]
#[serde(try_from = "u8")]
pub struct TemplateId(u8);

/// A template and its place, as pages and exported files have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Template<'a> {
    /// Its place.
    pub slot_id: TemplateId,
    /// What people call it.
    pub name: &'a str,
    /// What it holds.
    pub config: &'a Document,
}

/// All places, as the page of templates has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TemplateList)]
pub struct Listing {
    /// Ten of them.
    pub templates: Vec<Listed>,
    /// Which one was taken over last.
    pub active_template_id: Option<TemplateId>,
}

/// One place in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TemplateNote)]
pub struct Listed {
    /// The place.
    pub slot_id: TemplateId,
    /// What people call it; of an empty place `Template 1`.
    pub name: String,
    /// Whether something is there.
    pub exists: bool,
}

/// The ten places, as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplatesDocument {
    templates: BTreeMap<TemplateId, Kept>,
    active: Option<TemplateId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    name: String,
    config: Document,
}

/// Why an operation was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not 1 to 10: a bad request.
    #[error("templates are numbered from 1 to {PLACES}")]
    NoSuchPlace,
    /// Nothing is kept there: not found.
    #[error("template {0} is empty")]
    Empty(TemplateId),
    /// It is in use: a bad request.
    #[error("template {0} is active; activate another one first")]
    Active(TemplateId),
    /// Not a name: a bad request.
    #[error("a name has 1 to {LONGEST_NAME} characters, none of them a control character or invisible")]
    Name,
    /// What it holds cannot run: a bad request.
    #[error(transparent)]
    Invalid(#[from] Problems),
    /// What was imported is no template: a bad request.
    #[error("not a template: {0}")]
    Import(BadImport),
}

/// What is wrong with what was imported, without its words: a file comes from anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImport {
    /// Longer than a template can be.
    #[error("longer than {LONGEST_IMPORT} bytes")]
    TooLong,
    /// No JSON from there on.
    #[error("line {line}, column {column} is no JSON")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
    },
    /// JSON, but with something that a template does not have there.
    #[error("a name and a config are expected; line {line}, column {column} is something else")]
    Form {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
    },
}

impl From<serde_json::Error> for BadImport {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        if error.is_data() { Self::Form { line, column } } else { Self::Syntax { line, column } }
    }
}

impl TemplateError {
    /// Whether the place is empty, rather than the request wrong.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Empty(_))
    }
}

impl TemplateId {
    /// All ten.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=PLACES).map(Self)
    }

    /// Name of the file that [`TemplatesDocument::export`] is saved as.
    pub fn file_name(self) -> String {
        format!("template_{self}.json")
    }
}

impl TryFrom<u8> for TemplateId {
    type Error = TemplateError;

    fn try_from(number: u8) -> Result<Self, TemplateError> {
        (1..=PLACES).contains(&number).then_some(Self(number)).ok_or(TemplateError::NoSuchPlace)
    }
}

impl FromStr for TemplateId {
    type Err = TemplateError;

    /// Plain digits; `+1` and `01` are no places.
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Self::all().find(|id| id.to_string() == text).ok_or(TemplateError::NoSuchPlace)
    }
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TemplatesDocument {
    /// All ten places.
    pub fn list(&self) -> Listing {
        let listed = |id: TemplateId| {
            let kept = self.templates.get(&id);
            let name = kept.map_or_else(|| format!("Template {id}"), |kept| kept.name.clone());
            Listed { slot_id: id, name, exists: kept.is_some() }
        };
        let active_template_id = self.active().map(|active| active.slot_id);
        Listing { templates: TemplateId::all().map(listed).collect(), active_template_id }
    }

    /// The template at `id`.
    pub fn get(&self, id: TemplateId) -> Result<Template<'_>, TemplateError> {
        let kept = self.templates.get(&id).ok_or(TemplateError::Empty(id))?;
        Ok(Template { slot_id: id, name: &kept.name, config: &kept.config })
    }

    /// The template that was taken over last, when it is still there.
    pub fn active(&self) -> Option<Template<'_>> {
        self.get(self.active?).ok()
    }

    /// Keeps `config` at `id`, in place of what was there. The variant in use stays as it is, also when `id` is active.
    pub fn save(&mut self, id: TemplateId, name: &str, config: CustomVariant) -> Result<(), TemplateError> {
        let kept = Kept { name: named(name)?, config: config.into_document() };
        self.templates.insert(id, kept);
        Ok(())
    }

    /// Calls the template at `id` something else.
    pub fn rename(&mut self, id: TemplateId, name: &str) -> Result<(), TemplateError> {
        let kept = self.templates.get_mut(&id).ok_or(TemplateError::Empty(id))?;
        kept.name = named(name)?;
        Ok(())
    }

    /// Empties the place `id`, unless its template is in use.
    pub fn delete(&mut self, id: TemplateId) -> Result<(), TemplateError> {
        self.get(id)?;
        if self.active == Some(id) {
            return Err(TemplateError::Active(id));
        }
        self.templates.remove(&id);
        Ok(())
    }

    /// Takes the template at `id` over: the answer is to be used in place of `current`. Whether the custom variant is
    /// used at all stays as it is: a template says what engines are made of, not that they are.
    pub fn activate(&mut self, id: TemplateId, current: &Document) -> Result<CustomVariant, TemplateError> {
        let config = Document { enabled: current.enabled, ..self.get(id)?.config.clone() };
        let variant = CustomVariant::try_from(config)?;
        self.active = Some(id);
        Ok(variant)
    }

    /// The same with every access token as `change` has it.
    pub fn with_tokens(mut self, change: &dyn Fn(&str) -> String) -> Self {
        let kept = |Kept { name, config }| Kept { name, config: config.with_tokens(change) };
        self.templates = self.templates.into_iter().map(|(id, template)| (id, kept(template))).collect();
        self
    }

    /// The template at `id` as a file.
    pub fn export(&self, id: TemplateId) -> Result<String, TemplateError> {
        let template = self.get(id)?;
        Ok(serde_json::to_string_pretty(&template).expect("a template has text keys only"))
    }

    /// Keeps an exported template at `id`, whatever place it came from.
    pub fn import(&mut self, id: TemplateId, json: &str) -> Result<(), TemplateError> {
        if json.len() > LONGEST_IMPORT {
            return Err(TemplateError::Import(BadImport::TooLong));
        }
        let imported: Imported =
            serde_json::from_str(json).map_err(BadImport::from).map_err(TemplateError::Import)?;
        self.save(id, &imported.name, imported.config.try_into()?)
    }
}

/// An exported file; its place and what later releases add are passed over.
#[derive(Deserialize)]
struct Imported {
    name: String,
    config: Document,
}

fn named(name: &str) -> Result<String, TemplateError> {
    let name = name.trim();
    let fits = (1..=LONGEST_NAME).contains(&name.chars().count()) && text::is_plain(name);
    fits.then(|| name.to_owned()).ok_or(TemplateError::Name)
}

#[cfg(test)]
mod tests {
    use super::super::problem::Problem;
    use super::super::{Parameter, Value};
    use super::*;
    use crate::profile::Platform;

    fn id(number: u8) -> TemplateId {
        number.try_into().unwrap()
    }

    fn variant(platform: Platform) -> CustomVariant {
        Document::default_for(platform).try_into().unwrap()
    }

    fn two() -> TemplatesDocument {
        let mut templates = TemplatesDocument::default();
        templates.save(id(1), "Day", variant(Platform::Amd64)).unwrap();
        templates.save(id(10), " Night ", variant(Platform::Arm64)).unwrap();
        templates
    }

    #[test]
    fn places_are_one_to_ten() {
        assert_eq!(TemplateId::all().count(), 10);
        assert_eq!("10".parse(), Ok(id(10)));
        for wrong in ["0", "11", "01", "+1", "-1", "1 ", "", "x", "256"] {
            assert_eq!(wrong.parse::<TemplateId>(), Err(TemplateError::NoSuchPlace), "{wrong:?}");
        }
        assert!(serde_json::from_str::<TemplateId>("11").is_err());
    }

    #[test]
    fn the_list_has_all_places() {
        let mut templates = two();
        templates.activate(id(10), &Document::default_for(Platform::Amd64)).unwrap();
        let list = serde_json::to_value(templates.list()).unwrap();
        assert_eq!(list["active_template_id"], 10);
        assert_eq!(list["templates"].as_array().unwrap().len(), 10);
        insta::assert_snapshot!(list["templates"][0], @r#"{"exists":true,"name":"Day","slot_id":1}"#);
        insta::assert_snapshot!(list["templates"][1], @r#"{"exists":false,"name":"Template 2","slot_id":2}"#);
        insta::assert_snapshot!(list["templates"][9], @r#"{"exists":true,"name":"Night","slot_id":10}"#);
    }

    #[test]
    fn an_empty_place_is_not_found() {
        let mut templates = two();
        let (empty, current) = (id(2), Document::default_for(Platform::Amd64));
        let results = [
            templates.get(empty).map(|_| ()),
            templates.export(empty).map(|_| ()),
            templates.rename(empty, "x"),
            templates.delete(empty),
            templates.activate(empty, &current).map(|_| ()),
        ];
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error, TemplateError::Empty(empty));
            assert!(error.is_not_found() && !TemplateError::Active(empty).is_not_found());
        }
        assert_eq!(templates, two(), "nothing was changed");
    }

    #[test]
    fn names_are_trimmed_and_not_empty() {
        let mut templates = two();
        assert_eq!(templates.get(id(10)).unwrap().name, "Night");
        for wrong in ["", "  ", "a\nb", "a\u{202e}b", "a\u{200b}", "a\u{2028}b", &"x".repeat(65)] {
            assert_eq!(templates.rename(id(1), wrong), Err(TemplateError::Name), "{wrong:?}");
            assert_eq!(templates.save(id(1), wrong, variant(Platform::Arm32)), Err(TemplateError::Name));
        }
        assert_eq!(templates, two());
        templates.rename(id(1), &"ü".repeat(64)).unwrap();
        assert_eq!(templates.list().templates[0].name, "ü".repeat(64));
    }

    #[test]
    fn the_template_in_use_is_not_deleted() {
        let mut templates = two();
        templates.activate(id(1), &Document::default_for(Platform::Amd64)).unwrap();
        assert_eq!(templates.delete(id(1)), Err(TemplateError::Active(id(1))));
        assert_eq!(templates.active().unwrap().name, "Day");
        templates.activate(id(10), &Document::default_for(Platform::Amd64)).unwrap();
        templates.delete(id(1)).unwrap();
        assert!(!templates.list().templates[0].exists);
        assert_eq!(templates.active().unwrap().slot_id, id(10));
    }

    #[test]
    fn taking_a_template_over_switches_nothing_on_or_off() {
        let mut templates = TemplatesDocument::default();
        for (number, is_on) in [(1, true), (2, false)] {
            let saved = Document { enabled: is_on, ..Document::default_for(Platform::Arm64) };
            templates.save(id(number), "x", saved.try_into().unwrap()).unwrap();
            for is_enabled in [true, false] {
                let current = Document { enabled: is_enabled, ..Document::default_for(Platform::Amd64) };
                let taken = templates.activate(id(number), &current).unwrap();
                assert_eq!((taken.is_enabled(), taken.document().platform), (is_enabled, Platform::Arm64));
                assert_eq!(templates.list().active_template_id, Some(id(number)));
            }
        }
    }

    #[test]
    fn a_template_that_cannot_run_is_not_taken_over() {
        let mut templates = TemplatesDocument::default();
        let empty = Document { parameters: Vec::new(), ..Document::default_for(Platform::Arm64) };
        templates.save(id(3), "no parameters", empty.clone().try_into().unwrap()).unwrap();
        let current = Document { enabled: true, ..Document::default_for(Platform::Arm64) };
        let refused = templates.activate(id(3), &current);
        assert!(matches!(refused, Err(TemplateError::Invalid(_))), "{refused:?}");
        assert_eq!(templates.list().active_template_id, None);
        assert!(templates.activate(id(3), &empty).is_ok(), "while the variant is off");
    }

    #[test]
    fn an_exported_template_is_imported_at_any_place() {
        let mut templates = two();
        let json = templates.export(id(10)).unwrap();
        assert!(json.starts_with(
            "{\n  \"slot_id\": 10,\n  \"name\": \"Night\",\n  \"config\": {\n    \"enabled\": false,"
        ));
        assert_eq!(id(10).file_name(), "template_10.json");
        templates.import(id(4), &json).unwrap();
        let (from, to) = (templates.get(id(10)).unwrap(), templates.get(id(4)).unwrap());
        assert_eq!((from.name, from.config), (to.name, to.config));
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_reason() {
        let config = serde_json::to_string(&Document::default_for(Platform::Amd64)).unwrap();
        let mut templates = two();
        let mut reason = |json: &str| match templates.import(id(1), json) {
            Err(TemplateError::Import(reason)) => reason.to_string(),
            other => panic!("{json}: {other:?}"),
        };
        let (syntax, form) = ("is no JSON", "a name and a config are expected; line 1, column ");
        assert_eq!(reason("{"), "line 1, column 1 is no JSON");
        assert!(reason(&format!("{{\"more\":{}", "[".repeat(50_000))).ends_with(syntax));
        assert!(reason("[]").starts_with(form));
        assert!(reason(&format!("{{\"config\":{config}}}")).starts_with(form));
        assert!(reason("{\"name\":\"x\"}").starts_with(form));
        let evil = "\u{202e}<script>";
        for json in [
            format!("{{\"name\":\"x\",\"config\":{{\"platform\":\"{evil}\"}}}}"),
            format!("{{\"name\":\"x\",\"config\":{{\"{evil}\":1}}}}"),
            format!("{{\"name\":\"x\",\"config\":\"{evil}\"}}"),
            format!("\"{evil}\""),
        ] {
            let reason = reason(&json);
            assert!(reason.starts_with(form) && !reason.contains("script"), "{json}: {reason}");
        }
        assert_eq!(reason(&" ".repeat(LONGEST_IMPORT + 1)), "longer than 65536 bytes");
        assert_eq!(templates, two());
    }

    #[test]
    fn an_import_is_checked_like_anything_that_is_saved() {
        let mut evil = Document::default_for(Platform::Amd64);
        let kind = super::super::Kind::Path;
        let value = Value::Text("/tmp/$(id)".into());
        evil.parameters.retain(|one| one.name != "--log-file");
        evil.parameters.push(Parameter { name: "--log-file".into(), kind, value, enabled: true });
        evil.torrent_folder_mount_enabled = true;
        let json = serde_json::json!({ "slot_id": 99, "name": "x", "config": evil }).to_string();
        let mut templates = two();
        let Err(TemplateError::Invalid(problems)) = templates.import(id(1), &json) else {
            panic!("it was taken")
        };
        assert_eq!(problems.iter().filter(|one| **one == Problem::HostFolder).count(), 1);
        assert_eq!(problems.iter().count(), 2);
        assert_eq!(templates, two());
    }

    #[test]
    fn the_places_survive_being_stored() {
        let mut templates = two();
        templates.activate(id(10), &Document::default_for(Platform::Amd64)).unwrap();
        let stored = serde_json::to_string(&templates).unwrap();
        assert_eq!(serde_json::from_str::<TemplatesDocument>(&stored).unwrap(), templates);
    }

    #[test]
    fn a_stored_active_place_without_a_template_is_none() {
        let stored = r#"{"templates":{},"active":3}"#;
        let templates: TemplatesDocument = serde_json::from_str(stored).unwrap();
        assert_eq!((templates.active(), templates.list().active_template_id), (None, None));
    }
}

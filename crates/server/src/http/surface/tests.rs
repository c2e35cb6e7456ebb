use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::app::surface;
use crate::http::api::docs;

fn document() -> Value {
    serde_json::to_value(surface().document()).unwrap()
}

/// Every operation, with its path and method.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(key, _)| *key != "servers");
        methods.map(|(method, operation)| (path.clone(), method.clone(), operation.clone()))
    });
    operations.collect()
}

#[test]
fn the_committed_document_is_what_the_pages_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.json");
    let generated = docs::text(&surface().document());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == generated, "openapi.json is not what the pages say: run with UPDATE_DOCS=1");
}

#[test]
fn every_way_to_ask_is_described_once_by_an_id_of_its_own_and_a_sentence() {
    let document = document();
    let tags: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().filter_map(|tag| tag["name"].as_str()).collect();
    let mut ids = BTreeMap::new();
    for (path, method, operation) in operations(&document) {
        let way = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert_eq!(ids.insert(id.clone(), way.clone()), None, "{id} is also {way}");
        assert!(
            operation["summary"].as_str().is_some_and(|summary| summary.ends_with('.')),
            "{way}: {operation}"
        );
        let own = operation["tags"].as_array().unwrap();
        assert!(own.len() == 1 && tags.contains(own[0].as_str().unwrap()), "{way}: {own:?}");
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let described = answer.get("$ref").is_some() || answer["description"].is_string();
            assert!(status.parse::<u16>().is_ok() && described, "{way}: {status}: {answer}");
        }
    }
}

#[test]
fn whatever_is_referred_to_is_there_and_whatever_is_there_is_referred_to() {
    let document = document();
    let text = document.to_string();
    let named: BTreeSet<&str> =
        text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let mut there = BTreeSet::new();
    for kind in ["schemas", "responses"] {
        let all = document["components"][kind].as_object().unwrap();
        there.extend(all.keys().map(|name| format!("#/components/{kind}/{name}")));
    }
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    assert_eq!(named.difference(&there).collect::<Vec<_>>(), Vec::<&&str>::new(), "is not there");
    assert_eq!(there.difference(&named).collect::<Vec<_>>(), Vec::<&&str>::new(), "nobody refers to it");
}

#[test]
fn no_link_that_only_rustdoc_follows_is_in_the_document() {
    let text = document().to_string();
    let links: Vec<&str> = text.split("[`").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links, Vec::<&str>::new());
}

#[test]
fn the_document_and_the_router_have_the_same_ways() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, method, _) in operations(&document) {
        let mirrored = document["paths"][&path]["servers"].as_array();
        let places = mirrored.into_iter().flatten().filter_map(|server| server["url"].as_str());
        let places: Vec<&str> = places.map(|url| url.trim_end_matches('/')).collect();
        for place in if places.is_empty() { vec![""] } else { places } {
            described.insert((method.to_uppercase(), format!("{place}{path}")));
        }
    }
    let there: BTreeSet<_> =
        surface().entries().into_iter().map(|entry| (entry.method.to_string(), entry.path)).collect();
    assert_eq!(described, there);
}

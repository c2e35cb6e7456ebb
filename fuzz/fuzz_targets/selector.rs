//! Any text as a query: no panic, the same answer each time, and an accepted channel stands in the query.

#![no_main]

use acemux_engine::{ContentId, Selector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    let answer = Selector::from_query(Some(query));
    assert_eq!(answer, Selector::from_query(Some(query)));
    if let Ok(content) = answer {
        let canonical = match content {
            ContentId::Id(hash) => format!("id={hash}"),
            ContentId::Infohash(infohash) => format!("infohash={infohash}"),
        };
        assert_eq!(Selector::from_query(Some(&canonical)), Ok(content));
        assert!(Selector::from_query(Some(&format!("{canonical}&{query}"))).is_err());
        if !query.contains('%') {
            assert!(query.to_ascii_lowercase().contains(&content.to_string()));
        }
    }
    let _ = ContentId::from_any_form(query);
});

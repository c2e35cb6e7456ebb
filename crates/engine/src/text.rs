//! Text of others (engines, containers, players, requests) made fit to stand among ours.
//!
//! A name may hold line ends that begin a second line of a log, sequences that steer a terminal, marks that turn the
//! reading order around, and characters without width that make two names look the same. Here is the one list of them;
//! whatever shows or keeps such text takes it through [`line()`], whatever refuses it asks [`is_plain`].

/// One line: white space and control characters become one blank, characters that nobody sees go, and what is longer than
/// `most` characters is cut and ends in `…`.
pub fn line(text: &str, most: usize) -> String {
    let mut kept = Vec::with_capacity(text.len().min(most.saturating_mul(4)));
    let mut is_blank_due = false;
    for c in text.chars().filter(|c| !is_invisible(*c)) {
        if c.is_whitespace() || c.is_control() {
            is_blank_due = !kept.is_empty();
            continue;
        }
        if is_blank_due {
            kept.push(' ');
            is_blank_due = false;
        }
        kept.push(c);
        if kept.len() > most {
            kept.truncate(most.saturating_sub(1));
            kept.push('…');
            break;
        }
    }
    kept.truncate(most);
    kept.into_iter().collect()
}

/// Whether the text is a line already, but for its length and its blanks: no control characters, no line ends, nothing
/// that nobody sees.
pub fn is_plain(text: &str) -> bool {
    !text.contains(steers)
}

/// Whether the character steers a terminal or who reads it.
pub fn steers(c: char) -> bool {
    c.is_control() || is_line_end(c) || is_invisible(c)
}

/// The line ends that are no control characters.
pub fn is_line_end(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// What Unicode calls `Default_Ignorable_Code_Point`, bidirectional marks and characters without width among it, and the
/// marks of interlinear notes. Zero-width joiners of scripts and emoji go, too: a name is read just as well without.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each of what the log and a page must never show, in the middle of a word.
    const STEERING: [char; 27] = [
        '\0',
        '\u{7}',
        '\u{8}',
        '\t',
        '\n',
        '\r',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{61c}',
        '\u{200b}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202b}',
        '\u{202c}',
        '\u{202d}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn what_steers_a_terminal_or_the_eye_goes() {
        for c in STEERING {
            let name = format!("a{c}b");
            assert!(!is_plain(&name), "{c:?}");
            assert!(["ab", "a b"].contains(&line(&name, 10).as_str()), "{c:?}");
        }
        assert_eq!(line(" a\r\n\u{1b}[31mb\u{0}c\t\u{202e} ", 20), "a [31mb c");
        assert_eq!(line("\u{200b}\n\u{feff}", 20), "");
    }

    #[test]
    fn what_people_write_stays() {
        for name in ["Größe", "Канал 1", "قناة", "频道", "a [31m", "📺 1", "e\u{301}"] {
            assert!(is_plain(name), "{name}");
            assert_eq!(line(name, 20), name);
        }
    }

    #[test]
    fn a_cut_is_seen() {
        assert_eq!(line(&"ü".repeat(5), 5), "ü".repeat(5));
        assert_eq!(line(&"ü".repeat(6), 5), "üüüü…");
        assert_eq!(line("a b c", 4), "a b…");
        assert_eq!((line("ab", 1), line("ab", 0)), ("…".to_owned(), String::new()));
    }

    proptest! {
        #[test]
        fn every_line_is_plain_short_and_stays_as_it_is(text: String, most in 0_usize..50) {
            let once = line(&text, most);
            prop_assert!(is_plain(&once) && once.chars().count() <= most);
            prop_assert_eq!(line(&once, most), once);
        }
    }
}

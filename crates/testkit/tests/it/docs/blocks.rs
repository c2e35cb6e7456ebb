//! The fenced blocks of a Markdown page, and the names of its headings.

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The page and the line of its fence, for messages.
    pub(crate) place: String,
    /// The heading that it stands under, as the page has it.
    pub(crate) heading: String,
    /// The word behind the fence; empty when there is none.
    pub(crate) language: String,
    /// What is in it, every line with its end.
    pub(crate) text: String,
}

/// All blocks of a page.
pub(crate) fn of(page: &str, text: &str) -> Vec<Block> {
    let (mut blocks, mut heading, mut open) = (Vec::new(), String::new(), None::<Block>);
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                let place = format!("{page}:{number}");
                let (heading, language) = (heading.clone(), language.to_owned());
                open = Some(Block { place, heading, language, text: String::new() });
            }
            (None, None) => {
                if let Some(title) = title(line) {
                    title.clone_into(&mut heading);
                }
            }
        }
    }
    assert_eq!(open, None, "{page} ends in the middle of a block");
    blocks
}

/// What GitHub and mdBook call each heading of a page in links.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut fenced = false;
    let is_heading = |line: &&str| {
        fenced ^= line.starts_with("```");
        !fenced
    };
    text.lines().filter(is_heading).filter_map(title).map(anchor).collect()
}

fn title(line: &str) -> Option<&str> {
    line.starts_with('#').then(|| line.trim_start_matches('#').trim())
}

fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The commands of a shell block, one in each line: continued lines are joined, and what is only a comment is left out.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

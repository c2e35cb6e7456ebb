//! The document as a page for people: one file, without scripts, readable in a terminal's browser too.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How the page looks.
pub(super) const STYLE: &str = include_str!("page.css");

/// What the document calls a schema.
const SCHEMAS: &str = "#/components/schemas/";

/// Methods in the order in which they are told.
const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

/// Renders the document.
pub(super) fn of(document: &Value) -> String {
    let page = Page { document, text: String::new() };
    page.render()
}

struct Page<'a> {
    document: &'a Value,
    text: String,
}

/// One way to ask for a page.
struct Operation<'a> {
    path: &'a str,
    method: &'static str,
    about: &'a Value,
    /// Where else it is.
    mirror: Option<&'a str>,
}

impl Page<'_> {
    fn render(mut self) -> String {
        let title = escaped(text(&self.document["info"]["title"]));
        let version = escaped(text(&self.document["info"]["version"]));
        self.add(&format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title} {version}: HTTP API</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n"
        ));
        let tags = self.document["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.contents(&title, tags);
        self.add(&format!("<main>\n<header>\n<h1>{title} <small>{version}</small></h1>\n"));
        self.add(&prose(text(&self.document["info"]["description"])));
        self.add("<p>For programs: <a href=\"/openapi.json\">openapi.json</a>.</p>\n</header>\n");
        for tag in tags {
            self.group(tag);
        }
        self.schemas();
        self.add("</main>\n</body>\n</html>\n");
        self.text
    }

    fn add(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn contents(&mut self, title: &str, tags: &[Value]) {
        self.add(&format!("<nav>\n<a href=\"#\"><b>{title}</b></a>\n"));
        for tag in tags {
            let name = escaped(text(&tag["name"]));
            self.add(&format!("<a href=\"#{name}\">{name}</a>\n"));
        }
        self.add("<a href=\"#schemas\">schemas</a>\n</nav>\n");
    }

    fn group(&mut self, tag: &Value) {
        let name = text(&tag["name"]);
        self.add(&format!("<section id=\"{0}\">\n<h2>{0}</h2>\n", escaped(name)));
        self.add(&prose(text(&tag["description"])));
        for operation in operations(self.document).filter(|operation| operation.about["tags"][0] == name) {
            self.operation(&operation);
        }
        self.add("</section>\n");
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        let Operation { path, method, about, mirror } = operation;
        let (id, access) = (escaped(text(&about["operationId"])), escaped(text(&about["x-access"])));
        let (path, summary) = (escaped(path), inline(text(&about["summary"])));
        self.add(&format!(
            "<details id=\"{id}\">\n<summary><b class=\"{method}\">{}</b> <code>{path}</code> <i class=\"{access}\">{access}</i> \
             <span>{summary}</span></summary>\n",
            method.to_uppercase()
        ));
        self.add(&prose(text(&about["description"])));
        if let Some(mirror) = mirror {
            self.add(&format!("<p>Also at <code>{}{path}</code>.</p>\n", escaped(mirror)));
        }
        self.parameters(about);
        self.body(&about["requestBody"]);
        self.answers(about);
        self.add("</details>\n");
    }

    fn parameters(&mut self, about: &Value) {
        let Some(parameters) = about["parameters"].as_array() else { return };
        self.add("<h4>Takes</h4>\n<table>\n");
        for parameter in parameters {
            let required = if parameter["required"] == true { " <em>required</em>" } else { "" };
            self.add(&format!(
                "<tr><th><code>{}</code>{required}<td>{}<td>{}\n",
                escaped(text(&parameter["name"])),
                kind(&parameter["schema"]),
                inline(text(&parameter["description"])),
            ));
        }
        self.add("</table>\n");
    }

    fn body(&mut self, body: &Value) {
        for (media, content) in fields(&body["content"]) {
            let media = escaped(media);
            self.add(&format!("<h4>Body</h4>\n<p><code>{media}</code>: {}</p>\n", kind(&content["schema"])));
        }
    }

    fn answers(&mut self, about: &Value) {
        self.add("<h4>Answers</h4>\n<table>\n");
        for (status, answer) in fields(&about["responses"]) {
            let named = answer["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
            let answer = named.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(answer);
            let contents = fields(&answer["content"]).filter(|_| named.is_none());
            let contents = contents.map(|(media, content)| {
                format!("<code>{}</code>: {}", escaped(media), kind(&content["schema"]))
            });
            let lines = text(&answer["description"]).lines().map(inline).chain(contents);
            self.add(&format!("<tr><th>{}<td>{}\n", escaped(status), lines.collect::<Vec<_>>().join("<br>")));
        }
        self.add("</table>\n");
    }

    fn schemas(&mut self) {
        self.add("<section id=\"schemas\">\n<h2>schemas</h2>\n");
        for (name, schema) in fields(&self.document["components"]["schemas"]) {
            let name = escaped(name);
            self.add(&format!(
                "<h3 id=\"schema-{name}\">{name}</h3>\n{}",
                prose(text(&schema["description"]))
            ));
            self.schema(schema);
        }
        self.add("</section>\n");
    }

    fn schema(&mut self, schema: &Value) {
        let parts = schema["allOf"].as_array();
        for part in parts.into_iter().flatten() {
            self.schema(part);
        }
        if schema["properties"].is_object() {
            self.properties(schema);
        } else if parts.is_none() {
            self.add(&format!("<p>{}</p>\n", kind(schema)));
        }
    }

    fn properties(&mut self, schema: &Value) {
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.add("<table>\n");
        for (name, property) in fields(&schema["properties"]) {
            let may_be_missing = if required.iter().any(|known| known == name) { "" } else { "?" };
            self.add(&format!(
                "<tr><th><code>{}{may_be_missing}</code><td>{}<td>{}\n",
                escaped(name),
                kind(property),
                inline(text(&property["description"])),
            ));
        }
        self.add("</table>\n");
    }
}

fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    fields(&document["paths"]).flat_map(|(path, item)| {
        METHODS.into_iter().filter_map(move |method| {
            let mirror = item["servers"][1]["url"].as_str();
            item.get(method).map(|about| Operation { path, method, about, mirror })
        })
    })
}

/// A schema in a few words, with links to those that have a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix(SCHEMAS)) {
        let name = escaped(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().map(|word| format!("<code>{}</code>", escaped(&plain(word))));
        return words.collect::<Vec<_>>().join(" | ");
    }
    for (several, between) in [("oneOf", " | "), ("anyOf", " | "), ("allOf", " and ")] {
        if let Some(kinds) = schema[several].as_array() {
            return kinds.iter().map(kind).collect::<Vec<_>>().join(between);
        }
    }
    let names = match &schema["type"] {
        Value::Array(types) => {
            types.iter().map(|name| one_kind(name, schema)).collect::<Vec<_>>().join(" | ")
        }
        name => one_kind(name, schema),
    };
    names + &limits(schema)
}

fn one_kind(name: &Value, schema: &Value) -> String {
    match name.as_str() {
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("{} by name", kind(&schema["additionalProperties"]))
        }
        Some("object") if schema["properties"].is_object() => {
            let fields = fields(&schema["properties"]);
            let fields =
                fields.map(|(name, field)| format!("<code>{}</code>: {}", escaped(name), kind(field)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Some("string") if schema["format"] == "date-time" => "time".to_owned(),
        Some(name) => escaped(name),
        None => "anything".to_owned(),
    }
}

fn limits(schema: &Value) -> String {
    let mut said = String::new();
    let words = [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "at least, in characters,"),
        ("maxLength", "at most, in characters,"),
        ("pattern", "like"),
        ("default", "else"),
    ];
    for (name, word) in words {
        if let Some(limit) = schema.get(name) {
            write!(said, " {word} <code>{}</code>", escaped(&plain(limit))).expect("a text takes any text");
        }
    }
    said
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Paragraphs and lists.
fn prose(text: &str) -> String {
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    let block = |block: &str| {
        if block.starts_with("* ") {
            let items = block.split("\n* ").map(|item| item.trim_start_matches("* "));
            format!(
                "<ul>{}</ul>\n",
                items.map(|item| format!("<li>{}", inline(item))).collect::<Vec<_>>().concat()
            )
        } else {
            format!("<p>{}</p>\n", inline(block))
        }
    };
    blocks.map(block).collect()
}

/// Text with `code` in it.
fn inline(text: &str) -> String {
    let mut is_code = false;
    let mut html = String::new();
    for part in text.split('`') {
        let part = escaped(part);
        let part = if is_code { format!("<code>{part}</code>") } else { part };
        html.push_str(&part);
        is_code = !is_code;
    }
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_the_document_are_text_whatever_they_are() {
        let document = json!({
            "info": { "title": "a", "version": "<b>", "description": "1 < 2\n\n* `x<y`\n* \"z\"" },
            "tags": [{ "name": "t\"><script>", "description": "<img src=x>" }],
            "paths": { "/<p>": { "get": {
                "tags": ["t\"><script>"], "operationId": "\"id", "x-access": "\"media", "summary": "<s>",
                "parameters": [{ "name": "<n>", "schema": { "type": "<t>", "default": "<d>", "pattern": "<q>" } }],
                "responses": { "<200>": { "description": "<r>", "content": { "<m>": { "schema": { "enum": ["<e>"] } } } } },
            } } },
            "components": { "schemas": { "<S>": { "properties": { "<f>": { "$ref": "#/components/schemas/<S>" } } } } },
        });
        let page = of(&document);
        for ours in [
            "<script", "<img", "<s>", "<n>", "<t>", "<d>", "<q>", "<r>", "<m>", "<e>", "<S>", "<f>", "\"\"",
            "<200>", "</p>\":",
        ] {
            assert!(!page.contains(ours), "{ours}");
        }
        for word in ["1 &lt; 2", "<li><code>x&lt;y</code>", "&lt;S&gt;", "t&quot;&gt;&lt;script&gt;"] {
            assert!(page.contains(word), "{word}");
        }
    }

    #[test]
    fn a_schema_is_told_in_words() {
        for (schema, told) in [
            (
                json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 9 }),
                "integer | null from <code>1</code> to <code>9</code>",
            ),
            (
                json!({ "type": "array", "items": { "$ref": "#/components/schemas/A" } }),
                "list of <a href=\"#schema-A\">A</a>",
            ),
            (json!({ "type": "object", "additionalProperties": { "type": "string" } }), "string by name"),
            (json!({ "enum": ["a", "b"] }), "<code>a</code> | <code>b</code>"),
            (
                json!({ "oneOf": [{ "type": "string", "format": "date-time" }, { "type": "null" }] }),
                "time | null",
            ),
            (json!({}), "anything"),
        ] {
            assert_eq!(kind(&schema), told);
        }
    }
}

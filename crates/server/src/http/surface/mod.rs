//! The HTTP surface: every page with its description and with who may ask for it.
//!
//! A page gets here by [`Pages::page`] alone, which takes its class, and handlers that are described where they stand
//! (`#[utoipa::path]`). So no page answers that is in no document and no class, and [`Surface::entries`] names them all:
//! the test `classes` asks every one as a stranger, as a viewer and as the operator.

mod document;
pub mod fails;
pub mod shapes;
pub mod words;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::routing::MethodRouter;
use http::Method;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa_axum::router::UtoipaMethodRouter;

/// Where pages of the system before us are mirrored, and where those are that it does not have.
pub const MIRROR: &str = "/api/v1";

/// Who may ask for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Everybody, and pages of every origin: what players fetch.
    Media,
    /// Everybody, by any name of this machine: whether the service lives. It tells nothing else.
    Probe,
    /// Everybody who asks by a name that no stranger can own: what the guide prints without a key.
    Status,
    /// The same, and whoever has the key is shown more. A wrong key is refused, or it could be guessed here.
    Extended,
    /// The same; what is to open stands in the body.
    Login,
    /// Whoever has the key.
    Operator,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Media, Self::Probe, Self::Status, Self::Extended, Self::Login, Self::Operator];

    /// As the document has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Probe => "probe",
            Self::Status => "status",
            Self::Extended => "extended",
            Self::Login => "login",
            Self::Operator => "operator",
        }
    }

    /// The same in a sentence.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Media => "Public, and readable by pages of any origin.",
            Self::Probe => "Public, by any name of this machine.",
            Self::Status => "Public, by a name that no stranger can own (421 `bad_host` otherwise).",
            Self::Extended => "Public; whoever gives the key is shown more.",
            Self::Login => "Public; the key stands in the body.",
            Self::Operator => "Needs the key, or the cookie of a login.",
        }
    }

    /// Whether a name that could be a stranger's is refused.
    fn asks_for_host(self) -> bool {
        !matches!(self, Self::Media | Self::Probe)
    }
}

/// One page: a path, some of its methods, and who may ask.
#[derive(Clone)]
struct Page {
    path: String,
    item: PathItem,
    class: Class,
}

/// Pages that stand at one place.
pub struct Pages<S> {
    router: Router<S>,
    all: Vec<Page>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl<S: Clone + Send + Sync + 'static> Default for Pages<S> {
    fn default() -> Self {
        Self { router: Router::new(), all: Vec::new(), schemas: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Pages<S> {
    /// Handlers of one path, as `routes!` collects them, and who may ask them.
    ///
    /// # Panics
    ///
    /// If they are described with different paths, or one has a place already.
    pub fn page(self, class: Class, routes: UtoipaMethodRouter<S>) -> Self {
        self.page_also_at(class, [], routes)
    }

    /// The same at further paths.
    ///
    /// # Panics
    ///
    /// As [`Pages::page`].
    pub fn page_also_at(
        mut self,
        class: Class,
        further: impl IntoIterator<Item = &'static str>,
        (schemas, paths, methods): UtoipaMethodRouter<S>,
    ) -> Self {
        let mut described = paths.paths.into_iter();
        let (Some((path, item)), None) = (described.next(), described.next()) else {
            panic!("the handlers of a page have one path");
        };
        self.schemas.extend(schemas);
        self.add(&path, item.clone(), class, methods.clone());
        for path in further {
            self.add(path, item.clone(), class, methods.clone());
        }
        self
    }

    fn add(&mut self, path: &str, item: PathItem, class: Class, methods: MethodRouter<S>) {
        self.router = std::mem::take(&mut self.router).route(path, methods);
        self.all.push(Page { path: path.to_owned(), item, class });
    }

    /// These and those.
    pub fn and(mut self, others: Self) -> Self {
        self.all.extend(others.all);
        self.schemas.extend(others.schemas);
        Self { router: self.router.merge(others.router), ..self }
    }

    /// With something around each of them.
    pub fn within(self, around: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        Self { router: around(self.router), ..self }
    }
}

/// All pages, by where they are.
pub struct Surface<S> {
    /// At the root only.
    pub root: Pages<S>,
    /// At the root, and under [`MIRROR`].
    pub mirrored: Pages<S>,
    /// Under [`MIRROR`] only, and described without it.
    pub own: Pages<S>,
}

/// One way to ask for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// By which method.
    pub method: Method,
    /// Where, as the router has it: `/proxy/sessions/{id}`.
    pub path: String,
    /// Who may.
    pub class: Class,
}

impl<S: Clone + Send + Sync + 'static> Surface<S> {
    /// As requests find them.
    pub fn router(self) -> Router<S> {
        let mirrored = self.mirrored.router;
        self.root.router.merge(mirrored.clone()).nest(MIRROR, self.own.router.merge(mirrored))
    }

    /// Every way to ask for a page, at every place where it is.
    pub fn entries(&self) -> Vec<Entry> {
        let under_mirror = |entry: Entry| Entry { path: format!("{MIRROR}{}", entry.path), ..entry };
        let (root, mirrored, own) = (&self.root.all, &self.mirrored.all, &self.own.all);
        let at_root = root.iter().chain(mirrored).flat_map(Page::entries);
        at_root.chain(mirrored.iter().chain(own).flat_map(Page::entries).map(under_mirror)).collect()
    }

    /// What OpenAPI says of them.
    pub fn document(&self) -> OpenApi {
        document::of(self)
    }
}

impl Page {
    fn entries(&self) -> Vec<Entry> {
        let entry =
            |(method, _): (Method, &Operation)| Entry { method, path: self.path.clone(), class: self.class };
        operations(&self.item).into_iter().map(entry).collect()
    }
}

/// The operations of a path, by their methods.
fn operations(item: &PathItem) -> Vec<(Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::HEAD, &item.head),
        (Method::OPTIONS, &item.options),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?))).collect()
}

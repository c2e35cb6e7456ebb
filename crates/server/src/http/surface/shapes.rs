//! Types that exist in the document only: bytes, and an entity of which only some is told.

use std::borrow::Cow;

use utoipa::openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// Some fields of a `T`.
#[derive(Debug)]
pub struct Fields<T>(T);

/// The same, or null when it is gone.
#[derive(Debug)]
pub struct OrGone<T>(T);

impl<T: ToSchema> PartialSchema for Fields<T> {
    fn schema() -> RefOr<Schema> {
        let mut schema = T::schema();
        require_nothing(&mut schema);
        schema
    }
}

impl<T: ToSchema> ToSchema for Fields<T> {
    fn name() -> Cow<'static, str> {
        format!("{}{FIELDS}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

impl<T: ToSchema> PartialSchema for OrGone<T> {
    fn schema() -> RefOr<Schema> {
        let gone = ObjectBuilder::new().schema_type(Type::Null);
        OneOfBuilder::new().item(Fields::<T>::schema()).item(gone).into()
    }
}

impl<T: ToSchema> ToSchema for OrGone<T> {
    fn name() -> Cow<'static, str> {
        format!("{}{CHANGE}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

/// How the names of such schemas end.
const FIELDS: &str = "Fields";
const CHANGE: &str = "Change";

/// Whether it is one of them, in which a field that may be null may be missing as well.
pub(super) fn is_partial(name: &str) -> bool {
    name.ends_with(FIELDS) || name.ends_with(CHANGE)
}

/// Bytes that are no text.
#[derive(Debug)]
pub enum Binary {}

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for Binary {}

fn require_nothing(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => object.required.clear(),
        RefOr::T(Schema::AllOf(of)) => of.items.iter_mut().for_each(require_nothing),
        _ => {}
    }
}

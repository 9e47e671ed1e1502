//! The OpenAPI document, made from the route table: what is routed is described, and nothing else.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    http::{Method, header},
    response::IntoResponse,
};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem,
        Paths, PathsBuilder, Ref, RefOr, Required, ResponseBuilder, Schema,
        path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{ArrayBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::types::Problem;
use crate::http::{
    progress::NDJSON,
    routes::{Listed, Needs},
};

/// The document's name for the bearer token.
const TOKEN: &str = "token";

/// One route, described.
pub struct Doc {
    summary: &'static str,
    parameters: Vec<Parameter>,
    body: Option<Shape>,
    status: u16,
    answer: Option<Shape>,
    lines: Option<Shape>,
    files: &'static [&'static str],
}

/// A type's place in the document, and the named types that it needs.
struct Shape {
    schema: RefOr<Schema>,
    named: Vec<(String, RefOr<Schema>)>,
}

impl Doc {
    /// A route that answers 204, until it is said otherwise.
    pub fn new(summary: &'static str) -> Self {
        Self { summary, parameters: Vec::new(), body: None, status: 204, answer: None, lines: None, files: &[] }
    }

    /// Takes the fields of `T` in its query.
    pub fn query<T: IntoParams>(mut self) -> Self {
        self.parameters.extend(T::into_params(|| Some(ParameterIn::Query)));
        self
    }

    /// Takes a JSON body.
    pub fn takes<T: ToSchema>(mut self) -> Self {
        self.body = Some(Shape::of::<T>());
        self
    }

    /// Answers JSON.
    pub fn gives<T: ToSchema>(mut self, status: u16) -> Self {
        self.status = status;
        self.answer = Some(Shape::of::<T>());
        self
    }

    /// Answers, to those who accept it, one JSON value a line instead.
    pub fn or_lines<T: ToSchema>(mut self) -> Self {
        self.lines = Some(Shape::of::<T>());
        self
    }

    /// Answers a file of one of these media types.
    pub fn gives_file(mut self, media_types: &'static [&'static str]) -> Self {
        self.status = 200;
        self.files = media_types;
        self
    }

    /// Answers one page of a list.
    pub fn gives_page<T: ToSchema>(mut self) -> Self {
        self.status = 200;
        self.answer = Some(Shape::page_of::<T>());
        self
    }

    /// Answers JSON of no fixed shape.
    pub fn gives_json(mut self, status: u16) -> Self {
        self.status = status;
        self.answer = Some(Shape { schema: ObjectBuilder::new().into(), named: Vec::new() });
        self
    }

    /// Needs the revision that was read.
    pub fn if_match(self) -> Self {
        self.matching(Required::True)
    }

    /// Takes the revision that was read.
    pub fn may_match(self) -> Self {
        self.matching(Required::False)
    }

    fn matching(mut self, required: Required) -> Self {
        let header = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .required(required)
            .description(Some("The revision that was read, in quotes"))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some("^\"[0-9]+\"$"))));
        self.parameters.push(header.build());
        self
    }
}

impl Shape {
    fn of<T: ToSchema>() -> Self {
        let mut named = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut named);
        Self { schema: Ref::from_schema_name(T::name()).into(), named }
    }

    fn page_of<T: ToSchema>() -> Self {
        let Self { schema, named } = Self::of::<T>();
        let page = ObjectBuilder::new()
            .property("items", ArrayBuilder::new().items(schema))
            .required("items")
            .property("next_cursor", ObjectBuilder::new().schema_type(Type::String));
        Self { schema: page.into(), named }
    }
}

/// Answers the document.
pub async fn serve() -> impl IntoResponse {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| document(crate::http::routes().list()).to_pretty_json().expect("the document serializes"));
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}

/// The described routes as one document.
pub fn document(routes: &[Listed]) -> OpenApi {
    let mut named = BTreeMap::new();
    let problem = Shape::of::<Problem>();
    named.extend(problem.named);
    let mut paths = PathsBuilder::new();
    for route in routes {
        let Some(doc) = &route.doc else { continue };
        for shape in doc.body.iter().chain(&doc.answer).chain(&doc.lines) {
            named.extend(shape.named.iter().cloned());
        }
        paths = paths.path(route.path, operation(route, doc, &problem.schema));
    }
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API token, `srm_…`"));
    let components =
        ComponentsBuilder::new().schemas_from_iter(named).security_scheme(TOKEN, SecurityScheme::Http(token.build()));
    let info = InfoBuilder::new()
        .title("Strongroom")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Shared accounts and secrets, encrypted under a key in the customer's own Azure Key Vault."));
    let paths: Paths = paths.build();
    OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components.build())).build()
}

fn operation(route: &Listed, doc: &Doc, problem: &RefOr<Schema>) -> PathItem {
    let json = |schema: &RefOr<Schema>| ContentBuilder::new().schema(Some(schema.clone())).build();
    let mut answer = ResponseBuilder::new().description(doc.summary);
    if let Some(shape) = &doc.answer {
        answer = answer.content("application/json", json(&shape.schema));
    }
    if let Some(shape) = &doc.lines {
        answer = answer.content(NDJSON, json(&shape.schema));
    }
    for media_type in doc.files {
        answer = answer.content(*media_type, ContentBuilder::new().build());
    }
    let refused = ResponseBuilder::new().description("A problem").content("application/problem+json", json(problem));
    let mut operation = OperationBuilder::new()
        .summary(Some(doc.summary))
        .operation_id(Some(operation_id(route)))
        .parameters(Some(path_parameters(route.path).chain(doc.parameters.iter().cloned())))
        .response(doc.status.to_string(), answer.build())
        .response("default", refused.build());
    if let Some(shape) = &doc.body {
        let body = RequestBodyBuilder::new().content("application/json", json(&shape.schema));
        operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
    }
    if let Needs::Token(_) = route.needs {
        operation = operation.security(SecurityRequirement::new(TOKEN, std::iter::empty::<String>()));
    }
    PathItem::new(verb(&route.method), operation.build())
}

fn path_parameters(path: &'static str) -> impl Iterator<Item = Parameter> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        let schema = ObjectBuilder::new().schema_type(if matches!(name, "revision" | "generation") {
            Type::Integer
        } else {
            Type::String
        });
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        parameter.schema(Some(schema)).build()
    })
}

/// `patch_vaults_vault`: stable, and unique because method and path are.
fn operation_id(route: &Listed) -> String {
    let path = route.path.trim_start_matches("/api/v1").trim_start_matches("/workspaces/{workspace}");
    let words = path.split(['/', '-', '.']).map(|word| word.trim_matches(['{', '}'])).filter(|word| !word.is_empty());
    let method = route.method.as_str().to_lowercase();
    std::iter::once(method.as_str()).chain(words).collect::<Vec<_>>().join("_")
}

fn verb(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

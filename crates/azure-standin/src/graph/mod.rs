//! Microsoft Graph, as far as setting up needs it: applications, their credentials, service principals, users.
//! Source: learn.microsoft.com/graph/api (v1.0: application, federatedIdentityCredential, servicePrincipal, user).

mod applications;
mod credentials;
mod principals;
mod query;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) use credentials::new_secret;

use crate::World;
use crate::http::{Answer, Reply, Request, new_id};
use crate::jwt::{self, Claims, Distrust};
use crate::paging;
use crate::state::State;

pub(crate) const HOST: &str = "graph.microsoft.com";

/// One authenticated call, with what its handlers need.
struct Call<'a> {
    world: &'a World,
    request: &'a Request,
    claims: Claims,
}

pub(crate) fn handle(world: &World, request: &Request) -> Answer {
    let claims = world.read(|state| authenticate(world, state, request))?;
    let call = Call { world, request, claims };
    let segments = request.segments();
    let Some(("v1.0", rest)) = segments.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(error(400, "BadRequest", "Invalid version."));
    };
    match (request.method.as_str(), rest) {
        ("GET", ["me"]) => call.me(),
        ("GET", ["users"]) => call.list(Kind::User),
        ("GET", ["users", id]) => call.get(Kind::User, id),
        ("GET", ["applications"]) => call.list(Kind::Application),
        ("GET", ["applications", id]) => call.get(Kind::Application, id),
        (_, ["applications", rest @ ..]) => applications::handle(&call, rest),
        ("GET", ["servicePrincipals"]) => call.list(Kind::ServicePrincipal),
        ("GET", ["servicePrincipals", id]) => call.get(Kind::ServicePrincipal, id),
        (_, ["servicePrincipals", rest @ ..]) => principals::handle(&call, rest),
        ("POST", ["directoryObjects", "getByIds"]) => call.by_ids(),
        _ => Err(no_segment(rest)),
    }
}

/// The kinds of object that can be listed and fetched.
#[derive(Clone, Copy)]
enum Kind {
    User,
    Application,
    ServicePrincipal,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Application => "application",
            Self::ServicePrincipal => "servicePrincipal",
        }
    }
}

fn authenticate(world: &World, state: &State, request: &Request) -> Result<Claims, Reply> {
    let refuse = |message: &str| error(401, "InvalidAuthenticationToken", message);
    let token = request.bearer().ok_or_else(|| refuse("Access token is empty."))?;
    let claims = jwt::verify(&state.signing_key, world.now(), token).map_err(|distrust| match distrust {
        Distrust::Signature => refuse("Access token validation failure. Invalid signature."),
        Distrust::Expired(_) => refuse("Lifetime validation failed, the token is expired."),
        Distrust::NotYetValid => refuse("Lifetime validation failed, the token is not yet valid."),
    })?;
    if claims.aud.trim_end_matches('/') != "https://graph.microsoft.com" {
        return Err(refuse("Access token validation failure. Invalid audience."));
    }
    let admin = state.principals.iter().any(|found| found.id == claims.oid && found.directory_admin)
        || state.users.iter().any(|found| found.id == claims.oid);
    let denied = || error(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.");
    admin.then_some(claims).ok_or_else(denied)
}

impl Call<'_> {
    fn body(&self) -> Result<Value, Reply> {
        self.request.json().ok_or_else(|| {
            let message = "Unable to read JSON request payload. Please ensure Content-Type header is set and payload \
                           is of valid JSON format.";
            error(400, "BadRequest", message)
        })
    }

    /// Every object of one kind in the caller's tenant.
    fn objects(&self, kind: Kind) -> Vec<Value> {
        let here = |tenant: &String| *tenant == self.claims.tid;
        self.world.read(|state| match kind {
            Kind::User => state.users.iter().filter(|found| here(&found.tenant)).map(principals::user).collect(),
            Kind::Application => {
                let owned = state.applications.iter().filter(|found| here(&found.tenant));
                owned.map(|found| applications::show(state, found)).collect()
            }
            Kind::ServicePrincipal => {
                state.principals.iter().filter(|found| here(&found.tenant)).map(principals::show).collect()
            }
        })
    }

    fn list(&self, kind: Kind) -> Answer {
        let keep = query::Filter::parse(self.request.query("$filter").unwrap_or_default())?;
        let mut found = self.objects(kind);
        found.retain(|object| keep.matches(object));
        let mut page = paging::page(self.request, found, "@odata.nextLink");
        page["@odata.context"] = format!("https://{HOST}/v1.0/$metadata#{}s", kind.name()).into();
        Ok(Reply::json(200, &page))
    }

    fn get(&self, kind: Kind, id: &str) -> Answer {
        let named = |object: &Value| object["id"] == id || object["userPrincipalName"] == id;
        let found = self.objects(kind).into_iter().find(named);
        found.map(|object| Reply::json(200, &object)).ok_or_else(|| not_found(id))
    }

    fn me(&self) -> Answer {
        let found = self.objects(Kind::User).into_iter().find(|user| user["id"] == self.claims.oid.as_str());
        // A service principal is nobody's sign-in, so Graph has no "me" for it.
        let nobody = || error(400, "BadRequest", "/me request is only valid with delegated authentication flow.");
        found.map(|user| Reply::json(200, &user)).ok_or_else(nobody)
    }

    fn by_ids(&self) -> Answer {
        let body = self.body()?;
        let ids = body["ids"].as_array().map_or(&[][..], Vec::as_slice);
        let ids: Vec<String> = ids.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Reply::json(200, &json!({"value": self.objects_of(&ids)})))
    }

    /// The objects with these ids, each with its type.
    fn objects_of(&self, ids: &[String]) -> Vec<Value> {
        let wanted = |object: &Value| ids.iter().any(|id| object["id"] == id.as_str());
        let mut found = Vec::new();
        for kind in [Kind::User, Kind::Application, Kind::ServicePrincipal] {
            for mut object in self.objects(kind).into_iter().filter(wanted) {
                object["@odata.type"] = format!("#microsoft.graph.{}", kind.name()).into();
                found.push(object);
            }
        }
        found
    }
}

pub(crate) fn iso(second: i64) -> String {
    Timestamp::from_second(second).unwrap_or_default().to_string()
}

/// A time in a request, in seconds; none if it is missing or no time.
fn time(value: &Value) -> Option<i64> {
    value.as_str().and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_second)
}

fn no_segment(rest: &[&str]) -> Reply {
    error(400, "BadRequest", &format!("Resource not found for the segment '{}'.", rest.join("/")))
}

fn not_found(id: &str) -> Reply {
    let message =
        format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present.");
    error(404, "Request_ResourceNotFound", &message)
}

fn bad_request(message: &str) -> Reply {
    error(400, "Request_BadRequest", message)
}

fn conflict(message: &str) -> Reply {
    error(409, "Request_MultipleObjectsWithSameKeyValue", message)
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    let inner = json!({"request-id": new_id(), "client-request-id": new_id()});
    Reply::json(status, &json!({"error": {"code": code, "message": message, "innerError": inner}}))
}

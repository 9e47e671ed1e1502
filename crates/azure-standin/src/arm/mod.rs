//! Azure Resource Manager, as far as a Key Vault needs it: subscriptions, resource groups, providers, and who may.
//! Key Vaults are in `vaults`, role definitions and assignments in `roles`.

mod roles;
mod vaults;

use serde_json::{Value, json};

use crate::World;
use crate::graph::iso;
use crate::http::{Answer, Reply, Request, new_id};
use crate::jwt::{self, Claims, Distrust};
use crate::paging;
use crate::rbac;
use crate::state::{ResourceGroup, State};

pub(crate) const HOST: &str = "management.azure.com";

/// One authenticated call, with what its handlers need.
struct Call<'a> {
    world: &'a World,
    request: &'a Request,
    claims: Claims,
}

pub(crate) fn handle(world: &World, request: &Request) -> Answer {
    let claims = world.read(|state| authenticate(world, state, request))?;
    if request.query("api-version").is_none() {
        let message = "The api-version query parameter (?api-version=) is required for all requests.";
        return Err(error(400, "MissingApiVersionParameter", message));
    }
    let call = Call { world, request, claims };
    let segments = request.segments();
    let lower: Vec<String> = segments.iter().map(|part| part.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    if let Some(at) = lower.windows(2).rposition(|pair| pair == ["providers", "microsoft.authorization"]) {
        let scope = format!("/{}", segments[..at].join("/"));
        return roles::handle(&call, scope.trim_end_matches('/'), &lower[at + 2..]);
    }
    if (request.method.as_str(), lower.as_slice()) == ("GET", &["tenants"]) {
        return call.tenants();
    }
    let subscription = world.read(|state| state.subscription.clone());
    let Some(("subscriptions", rest)) = lower.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(no_route(request));
    };
    let Some((asked, rest)) = rest.split_first() else { return call.subscriptions() };
    if *asked != subscription {
        return Err(error(404, "SubscriptionNotFound", &format!("The subscription '{asked}' could not be found.")));
    }
    match (request.method.as_str(), rest) {
        ("GET", []) => call.subscription(),
        ("GET", ["resources"]) => vaults::resources(&call),
        ("GET", ["resourcegroups"]) => call.groups(),
        (_, ["resourcegroups", _]) => call.group(segments[3]),
        ("GET", ["providers", namespace]) => {
            call.provider(namespace, "Microsoft.Resources/subscriptions/providers/read")
        }
        ("POST", ["providers", namespace, "register"]) => {
            call.provider(namespace, "Microsoft.KeyVault/register/action")
        }
        (_, ["providers", "microsoft.keyvault", ..] | ["resourcegroups", _, "providers", "microsoft.keyvault", ..]) => {
            vaults::handle(&call, &segments[2..], rest)
        }
        _ => Err(no_route(request)),
    }
}

fn authenticate(world: &World, state: &State, request: &Request) -> Result<Claims, Reply> {
    let tenant = &state.tenants[0].id;
    let refuse = |code: &str, message: &str| {
        let header = format!(
            "Bearer authorization_uri=\"https://login.windows.net/{tenant}\", error=\"invalid_token\", \
             error_description=\"{message}\""
        );
        error(401, code, message).with("WWW-Authenticate", &header)
    };
    let Some(token) = request.bearer() else {
        return Err(refuse("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."));
    };
    let claims = jwt::verify(&state.signing_key, world.now(), token).map_err(|distrust| match distrust {
        Distrust::Expired(at) => refuse(
            "ExpiredAuthenticationToken",
            &format!(
                "The access token expiry UTC time '{}' is earlier than current UTC time '{}'.",
                iso(at),
                iso(world.now())
            ),
        ),
        _ => refuse("InvalidAuthenticationToken", "The access token is invalid."),
    })?;
    if !["https://management.azure.com", "https://management.core.windows.net"]
        .contains(&claims.aud.trim_end_matches('/'))
    {
        let message = format!(
            "The access token has been obtained for wrong audience or resource '{}'. It should exactly match with one \
             of the allowed audiences 'https://management.core.windows.net/','https://management.core.windows.net',\
             'https://management.azure.com/','https://management.azure.com'.",
            claims.aud
        );
        return Err(refuse("InvalidAuthenticationToken", &message));
    }
    Ok(claims)
}

impl Call<'_> {
    /// Refuses what no role of the caller allows.
    fn permit(&self, state: &State, action: &str, scope: &str) -> Result<(), Reply> {
        let Claims { oid, tid, .. } = &self.claims;
        if *tid != state.tenants[0].id {
            let message = format!(
                "The access token is from the wrong issuer '{}'. It must match the tenant \
                 'https://sts.windows.net/{}/' associated with this subscription.",
                self.claims.iss, state.tenants[0].id
            );
            return Err(error(401, "InvalidAuthenticationTokenTenant", &message));
        }
        let allowed = rbac::allows(state, self.world.now(), oid, scope, action);
        allowed.then_some(()).ok_or_else(|| {
            let message = format!(
                "The client '{oid}' with object id '{oid}' does not have authorization to perform action '{action}' \
                 over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your \
                 credentials."
            );
            error(403, "AuthorizationFailed", &message)
        })
    }

    fn body(&self) -> Result<Value, Reply> {
        self.request.json().ok_or_else(|| {
            error(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
        })
    }

    /// Lists in pages, as ARM does.
    fn page(&self, rows: Vec<Value>) -> Answer {
        Ok(Reply::json(200, &paging::page(self.request, rows, "nextLink")))
    }

    /// The tenants that the caller is in: its own.
    fn tenants(&self) -> Answer {
        let own = self.world.read(|state| state.tenant(&self.claims.tid).cloned());
        let rows = own.into_iter().map(|tenant| {
            json!({
                "id": format!("/tenants/{}", tenant.id),
                "tenantId": tenant.id,
                "tenantCategory": "Home",
                "tenantType": "AAD",
                "displayName": tenant.name,
                "defaultDomain": tenant.domain,
                "domains": [tenant.domain],
                "country": "Netherlands",
                "countryCode": "NL",
            })
        });
        self.page(rows.collect())
    }

    fn subscriptions(&self) -> Answer {
        self.world.read(|state| {
            let now = self.world.now();
            let scope = format!("/subscriptions/{}", state.subscription);
            let read = "Microsoft.Resources/subscriptions/read";
            let visible = rbac::allows(state, now, &self.claims.oid, &scope, read);
            let rows = if visible { vec![subscription(state)] } else { Vec::new() };
            Ok(Reply::json(200, &json!({"count": {"type": "Total", "value": rows.len()}, "value": rows})))
        })
    }

    fn subscription(&self) -> Answer {
        self.world.read(|state| {
            let scope = format!("/subscriptions/{}", state.subscription);
            self.permit(state, "Microsoft.Resources/subscriptions/read", &scope)?;
            Ok(Reply::json(200, &subscription(state)))
        })
    }

    fn provider(&self, namespace: &str, action: &str) -> Answer {
        self.world.read(|state| {
            let scope = format!("/subscriptions/{}", state.subscription);
            self.permit(state, action, &scope)?;
            let known =
                [("microsoft.keyvault", "Microsoft.KeyVault"), ("microsoft.authorization", "Microsoft.Authorization")];
            let Some((_, name)) = known.iter().find(|(lower, _)| *lower == namespace) else {
                let message = format!("The resource namespace '{namespace}' is invalid.");
                return Err(error(404, "InvalidResourceNamespace", &message));
            };
            Ok(Reply::json(
                200,
                &json!({
                    "id": format!("{scope}/providers/{name}"),
                    "namespace": name,
                    "registrationPolicy": "RegistrationRequired",
                    "registrationState": "Registered",
                    "resourceTypes": [],
                }),
            ))
        })
    }

    fn groups(&self) -> Answer {
        self.world.read(|state| {
            let scope = format!("/subscriptions/{}", state.subscription);
            self.permit(state, "Microsoft.Resources/subscriptions/resourceGroups/read", &scope)?;
            self.page(state.groups.iter().map(|found| group(state, found)).collect())
        })
    }

    fn group(&self, name: &str) -> Answer {
        const KIND: &str = "Microsoft.Resources/subscriptions/resourceGroups";
        let scope = |state: &State| format!("/subscriptions/{}/resourceGroups/{name}", state.subscription);
        match self.request.method.as_str() {
            "GET" | "HEAD" => self.world.read(|state| {
                self.permit(state, &format!("{KIND}/read"), &scope(state))?;
                let found = find_group(state, name)?;
                let head = self.request.method == "HEAD";
                Ok(if head { Reply::empty(204) } else { Reply::json(200, &group(state, found)) })
            }),
            "PUT" => {
                let body = self.body()?;
                self.world.write(|state| {
                    self.permit(state, &format!("{KIND}/write"), &scope(state))?;
                    put_group(state, name, &body)
                })
            }
            "DELETE" => self.world.write(|state| {
                self.permit(state, &format!("{KIND}/delete"), &scope(state))?;
                let name = find_group(state, name)?.name.clone();
                vaults::delete_group(state, self.world.now(), &name);
                state.groups.retain(|found| found.name != name);
                let scope = scope(state);
                state.assignments.retain(|found| !rbac::within(&found.scope, &scope));
                Ok(Reply::empty(200))
            }),
            _ => Err(no_route(self.request)),
        }
    }
}

fn put_group(state: &mut State, name: &str, body: &Value) -> Answer {
    let Some(location) = body["location"].as_str() else {
        return Err(error(400, "LocationRequired", "The location property is required for this definition."));
    };
    if name.len() > 90
        || name.ends_with('.')
        || !name.chars().all(|char| char.is_alphanumeric() || "-_.()".contains(char))
    {
        let message = format!("The provided resource group name '{name}' has these invalid characters or is too long.");
        return Err(error(400, "InvalidResourceGroup", &message));
    }
    let tags = if body["tags"].is_object() { body["tags"].clone() } else { json!({}) };
    let position = state.groups.iter().position(|found| found.name.eq_ignore_ascii_case(name));
    let (at, status) = match position {
        Some(at) if state.groups[at].location != location => {
            let message = format!(
                "Invalid resource group location '{location}'. The Resource group already exists in location '{}'.",
                state.groups[at].location
            );
            return Err(error(409, "InvalidResourceGroupLocation", &message));
        }
        Some(at) => (at, 200),
        None => {
            state.groups.push(ResourceGroup { name: name.into(), location: location.into(), tags: json!({}) });
            (state.groups.len() - 1, 201)
        }
    };
    state.groups[at].tags = tags;
    Ok(Reply::json(status, &group(state, &state.groups[at])))
}

fn find_group<'a>(state: &'a State, name: &str) -> Result<&'a ResourceGroup, Reply> {
    state
        .groups
        .iter()
        .find(|found| found.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| error(404, "ResourceGroupNotFound", &format!("Resource group '{name}' could not be found.")))
}

fn subscription(state: &State) -> Value {
    json!({
        "id": format!("/subscriptions/{}", state.subscription),
        "subscriptionId": state.subscription,
        "tenantId": state.tenants[0].id,
        "displayName": "Stand-in subscription",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
    })
}

fn group(state: &State, found: &ResourceGroup) -> Value {
    json!({
        "id": format!("/subscriptions/{}/resourceGroups/{}", state.subscription, found.name),
        "name": found.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": found.location,
        "tags": found.tags,
        "properties": {"provisioningState": "Succeeded"},
    })
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"code": code, "message": message}})).with("x-ms-failure-cause", "gateway")
}

fn no_route(request: &Request) -> Reply {
    let message = format!("No HTTP resource was found that matches the request URI '{}'.", request.path);
    error(404, "InvalidResourceType", &message).with("x-ms-routing-request-id", &new_id())
}

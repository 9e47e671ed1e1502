//! The documents by which clients find their way: instance discovery, OpenID configuration, and the key set.

use serde_json::json;

use super::{HOST, tenant_or};
use crate::World;
use crate::http::{Answer, Reply};
use crate::jwt;

pub(super) fn instance() -> Reply {
    let endpoint = format!("https://{HOST}/common/v2.0/.well-known/openid-configuration");
    Reply::json(
        200,
        &json!({
            "tenant_discovery_endpoint": endpoint,
            "api-version": "1.1",
            "metadata": [{
                "preferred_network": HOST,
                "preferred_cache": "login.windows.net",
                "aliases": [HOST, "login.windows.net", "login.microsoft.com", "sts.windows.net"],
            }],
        }),
    )
}

pub(super) fn openid(world: &World, tenant: &str, v2: bool) -> Answer {
    let id = match tenant {
        "common" | "organizations" => "{tenantid}".to_owned(),
        _ => world.read(|state| tenant_or(world, state, tenant, "invalid_tenant").map(|tenant| tenant.id.clone()))?,
    };
    let base = format!("https://{HOST}/{tenant}");
    let (issuer, version) = match v2 {
        true => (format!("https://{HOST}/{id}/v2.0"), "v2.0/"),
        false => (format!("https://sts.windows.net/{id}/"), ""),
    };
    Ok(Reply::json(
        200,
        &json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}/oauth2/{version}authorize"),
            "token_endpoint": format!("{base}/oauth2/{version}token"),
            "device_authorization_endpoint": format!("{base}/oauth2/{version}devicecode"),
            "jwks_uri": format!("{base}/discovery/{version}keys"),
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
            "cloud_graph_host_name": "graph.windows.net",
            "msgraph_host": "graph.microsoft.com",
        }),
    ))
}

pub(super) fn key_set(world: &World) -> Reply {
    let mut key = world.read(|state| state.signing_key.public_jwk());
    for (name, value) in [("kty", "RSA"), ("use", "sig"), ("kid", jwt::KEY_ID), ("x5t", jwt::KEY_ID)] {
        key[name] = value.into();
    }
    Reply::json(200, &json!({"keys": [key]}))
}

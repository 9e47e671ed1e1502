//! What surrounds every request: addresses that do not exist, headers, panics, the log.

use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use strongroom::http::{
    self,
    routes::{Needs, Routes},
};

use super::{Api, DELETE, GET, POST, request};
use crate::world::on_both_engines;

#[test]
fn what_is_not_routed_is_a_problem() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        for path in ["/api/v1/nothing", "/nothing", "/api/v1/workspaces/acme/vaults/", "/api/v2/workspaces"] {
            let answer = api.send(request(&api.token, GET, path), Value::Null).await;
            assert_eq!(answer.problem(), (404, "route.not_found"), "{path}");
        }
        let answer = api.ask(DELETE, "/vaults", Value::Null).await;
        assert_eq!(answer.problem(), (405, "route.method"));
        assert_eq!(answer.header(header::ALLOW), "GET,HEAD,POST");
    });
}

#[test]
fn every_answer_carries_an_id_and_the_headers_that_browsers_obey() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let mut ids = Vec::new();
        for path in ["/healthz/live", "/healthz/ready", "/api/v1/openapi.json", "/nothing", "/api/v1/workspaces"] {
            let answer = api.send(request(&api.token, GET, path), Value::Null).await;
            assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
            assert_eq!(answer.header(header::REFERRER_POLICY), "no-referrer", "{path}");
            assert_eq!(answer.header(header::CACHE_CONTROL), "no-store", "{path}");
            ids.push(answer.header(header::HeaderName::from_static("x-request-id")).to_owned());
        }
        ids.sort();
        ids.dedup();
        assert!(ids.len() == 5 && ids.iter().all(|id| id.len() == 16), "{ids:?}");
    });
}

#[test]
fn a_panic_in_a_handler_is_a_problem_that_tells_nothing() {
    on_both_engines(async |world| {
        async fn panics() -> StatusCode {
            panic!("hunter2")
        }
        let routes = Routes::new().at(GET, "/api/panics", Needs::Nobody, panics);
        let router = http::serving(routes, Arc::clone(&world.app));
        let api = Api { router, ..Api::over(world).await };
        let answer = api.send(request("", GET, "/api/panics"), Value::Null).await;
        assert_eq!(answer.problem(), (500, "internal"));
        assert!(!answer.body.to_string().contains("hunter2"));
    });
}

/// The log's lines, shared with the subscriber that writes them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no holder panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_log_names_the_route_and_nothing_that_was_sent() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        let _logging = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
        let item = api.account("hunter2").await;
        api.ask(POST, &format!("/items/{item}/reveal"), Value::Null).await;
        api.ask(POST, "/items/search", json!({"query": "hunter2"})).await;
        api.ask(GET, "/items?cursor=hunter2", Value::Null).await;
        api.send(request("srm_hunter2", GET, "/hunter2?hunter2"), Value::Null).await;
        let log = String::from_utf8(lines.0.lock().expect("no holder panics").clone()).expect("text");
        assert!(log.contains("/api/v1/workspaces/{workspace}/items/{item}/reveal"), "{log}");
        assert_eq!(log.matches("strongroom::http::frame: request").count(), 5, "{log}");
        for secret in ["hunter2", "s3cret", api.token.as_str(), &item] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
    });
}

//! What is served under one path, and which faults its requests meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::answer::Answer;
use super::entity::Entity;
use super::fault::Fault;
use super::plan::Plan;
use crate::headers::Head;

/// An entity and its faults; cheap to clone, as the bytes are shared.
///
/// Requests count from 0, and `GET` requests only.
#[derive(Clone, Debug)]
pub struct Route {
    entity: Entity,
    allow_head: bool,
    authorization: Option<String>,
    faults: Vec<Scheduled>,
}

/// A fault, and the requests from `first` up to but not including `end` that it befalls.
#[derive(Clone, Debug)]
struct Scheduled {
    first: usize,
    end: usize,
    fault: Fault,
}

impl Route {
    /// Serves `bytes` with neither `ETag` nor `Last-Modified`.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self {
            entity: Entity::new(bytes.into()),
            allow_head: false,
            authorization: None,
            faults: Vec::new(),
        }
    }

    /// Sends this entity tag, quotes (and `W/`) included.
    #[must_use]
    pub fn etag(mut self, etag: &str) -> Self {
        self.entity.headers.set("ETag", etag);
        self
    }

    /// Sends this HTTP date as `Last-Modified`.
    #[must_use]
    pub fn last_modified(mut self, date: &str) -> Self {
        self.entity.headers.set("Last-Modified", date);
        self
    }

    /// Sends this header field with the entity.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.entity.headers.push(name, value);
        self
    }

    /// Answers `HEAD` in the place of refusing it with 405.
    #[must_use]
    pub fn allow_head(mut self) -> Self {
        self.allow_head = true;
        self
    }

    /// Answers 401 to requests without exactly this `Authorization`.
    #[must_use]
    pub fn require_authorization(mut self, value: &str) -> Self {
        self.authorization = Some(value.to_owned());
        self
    }

    /// Every request meets this fault.
    #[must_use]
    pub fn fault(self, fault: Fault) -> Self {
        self.schedule(0, usize::MAX, fault)
    }

    /// The `n`-th request alone meets this fault.
    #[must_use]
    pub fn fault_on(self, n: usize, fault: Fault) -> Self {
        self.schedule(n, n + 1, fault)
    }

    /// The requests before the `n`-th meet this fault.
    #[must_use]
    pub fn fault_until(self, n: usize, fault: Fault) -> Self {
        self.schedule(0, n, fault)
    }

    /// The `n`-th request and all after it meet this fault.
    #[must_use]
    pub fn fault_from(self, n: usize, fault: Fault) -> Self {
        self.schedule(n, usize::MAX, fault)
    }

    fn schedule(mut self, first: usize, end: usize, fault: Fault) -> Self {
        self.faults.push(Scheduled { first, end, fault });
        self
    }
}

/// A route in its place on a server, with the count of its requests.
#[derive(Debug)]
pub(super) struct Mounted {
    route: Route,
    requests: AtomicUsize,
}

impl Mounted {
    pub(super) fn new(route: Route) -> Self {
        Self { route, requests: AtomicUsize::new(0) }
    }

    /// How to answer this request, faults included.
    pub(super) fn plan(&self, head: &Head) -> Plan {
        let method = head.word(0);
        if method != "GET" && !(method == "HEAD" && self.route.allow_head) {
            return Plan::from(Answer::method_not_allowed());
        }
        let faults = self.faults_of_next(method);
        let asked = head.headers.get("authorization");
        if self.route.authorization.is_some() && self.route.authorization.as_deref() != asked {
            return Plan::from(Answer::unauthorized());
        }
        let mut plan = Plan::new(head, &self.route.entity, &faults);
        if method == "HEAD" {
            plan.omit_body();
        }
        plan
    }

    fn faults_of_next(&self, method: &str) -> Vec<Fault> {
        if method == "HEAD" {
            return Vec::new();
        }
        let n = self.requests.fetch_add(1, Ordering::SeqCst);
        self.route
            .faults
            .iter()
            .filter(|scheduled| (scheduled.first..scheduled.end).contains(&n))
            .map(|scheduled| scheduled.fault.clone())
            .collect()
    }
}

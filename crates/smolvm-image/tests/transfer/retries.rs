//! What is tried again, how often, and what a server has to say about when.

use std::time::{Duration, SystemTime};

use smolvm_image::{ErrorKind, Event, TransferError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::noise;
use crate::scene::{Scene, failure, pauses, quick, received};

const SIZE: usize = 100_000;

/// Behaviour 12: a connection that breaks, in whatever way, is tried again from where it broke.
#[test]
fn a_broken_connection_goes_on_from_where_it_broke() {
    for fault in [
        Fault::CutAt(60_000),
        Fault::ResetAt(60_000),
        Fault::stall_at(60_000),
        Fault::CutAt(0),
        Fault::ResetAt(0),
        Fault::CloseUnanswered,
        Fault::CutInHead,
        Fault::StallInHead,
    ] {
        let (scene, server) = (Scene::new(), Server::start());
        let kernel = noise(10, SIZE);
        let route = Route::new(kernel.clone()).etag("\"v1\"").fault_on(0, fault.clone());
        server.route("/kernel", route);
        let manager = scene
            .builder(&server.url("/kernel"), Some(&sha256_hex(&kernel)))
            .stall_timeout(Duration::from_millis(300))
            .build()
            .unwrap();
        assert_eq!(scene.ensure(&manager).unwrap(), kernel, "{fault:?}");
        let events = scene.events();
        assert!(!pauses(&events).is_empty(), "{fault:?}");
        assert_eq!(received(&events), Some(SIZE as u64), "{fault:?}: nothing came twice");
        let asked = &server.requests()[1];
        let came = server.requests()[0].body_bytes;
        let range = (came > 0).then(|| format!("bytes={came}-"));
        assert_eq!(asked.header("Range"), range.as_deref(), "{fault:?}");
    }
}

/// Behaviour 12: after a bounded number of attempts there is one error, which names the URL, the
/// attempts and the last cause.
#[test]
fn a_transfer_that_does_not_get_on_ends_with_one_clear_error() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(noise(10, SIZE)).fault(Fault::CloseUnanswered));
    let url = server.url("/kernel");
    let error = scene.fetch(&url, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let message = error.to_string();
    assert!(message.contains(&url) && message.contains("after 5 attempts"), "{message}");
    let (attempts, cause) = failure(Err(error));
    assert!(message.ends_with(&cause.to_string()), "{message}");
    assert_eq!((attempts, server.hits("/kernel")), (5, 5));
    let events = scene.events();
    let tried = events.iter().filter_map(|event| match event {
        Event::Retrying { attempt, .. } => Some(*attempt),
        _ => None,
    });
    assert_eq!(tried.collect::<Vec<_>>(), [1, 2, 3, 4]);
    scene.assert_nothing_is_left();
}

/// Behaviour 12: a server that is not there is tried again, too, and named.
#[test]
fn a_refused_connection_names_the_url() {
    let scene = Scene::new();
    let url = Server::start().url("/kernel");
    let error = scene.fetch(&url, None).unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
    assert_eq!(failure(Err(error)).0, 5);
}

/// Behaviour 12: the pauses grow from the first one, with jitter, up to the longest.
#[test]
fn pauses_back_off() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(noise(10, SIZE)).fault(Fault::Status(500)));
    let mut policy = quick();
    policy.attempts = 7;
    policy.longest_pause = Duration::from_millis(8);
    let manager = scene.builder(&server.url("/kernel"), None).retry_policy(policy).build().unwrap();
    failure(scene.ensure(&manager));
    let pauses = pauses(&scene.events());
    assert_eq!(pauses.len(), 6);
    for (pause, least) in pauses.iter().zip([1, 2, 4, 8, 8, 8]) {
        let least = Duration::from_millis(least);
        assert!((least..=2 * least).contains(pause), "{pause:?} is not {least:?} and jitter");
    }
    let rounded = pauses.iter().filter(|pause| pause.subsec_nanos() % 1_000_000 == 0).count();
    assert!(rounded < pauses.len(), "no jitter in {pauses:?}");
}

/// Behaviour 12: a stall is no bytes for so long; a slow transfer that gets on is none, however
/// long it takes as a whole.
#[test]
fn a_slow_body_is_no_stall() {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(10, SIZE);
    let route = (1..=10).fold(Route::new(kernel.clone()), |route, tenth| {
        route.fault(Fault::StallAt(tenth * 9_000, Duration::from_millis(150)))
    });
    server.route("/kernel", route);
    let manager = scene
        .builder(&server.url("/kernel"), None)
        .stall_timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    assert_eq!(scene.ensure(&manager).unwrap(), kernel);
    assert_eq!(server.hits("/kernel"), 1);
}

/// Behaviour 12: a stall that does not end is an error that says so.
#[test]
fn a_stall_is_named() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(noise(10, SIZE)).fault(Fault::stall_at(1000)));
    let manager = scene
        .builder(&server.url("/kernel"), None)
        .stall_timeout(Duration::from_millis(100))
        .attempts(2)
        .build()
        .unwrap();
    let (attempts, error) = failure(scene.ensure(&manager));
    assert_eq!((attempts, server.hits("/kernel")), (2, 2));
    assert_eq!(error.to_string(), "no data for 0.1 s");
}

/// Behaviour 12: a long transfer over a bad line goes on as long as it gets on.
#[test]
fn progress_begins_the_count_of_attempts_anew() {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(11, 12 << 20);
    let route = Route::new(kernel.clone()).etag("\"v1\"").fault(Fault::CutAt(5 << 18));
    server.route("/kernel", route);
    let manager = scene.builder(&server.url("/kernel"), None).attempts(2).build().unwrap();
    assert_eq!(scene.ensure(&manager).unwrap(), kernel);
    assert_eq!(server.hits("/kernel"), 10);
    assert_eq!(server.bytes_sent(), 12 << 20);
}

/// Behaviour 13: a definite refusal is not tried again.
#[test]
fn definite_refusals_are_final() {
    for status in [400, 401, 403, 404, 405, 406, 409, 410, 451] {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", Route::new(noise(10, SIZE)).fault(Fault::Status(status)));
        let error = scene.fetch(&server.url("/kernel"), None).unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        let (attempts, error) = failure(Err(error));
        assert!(matches!(error, TransferError::Status(s) if s == status), "{error}");
        assert_eq!((attempts, server.hits("/kernel")), (1, 1), "{status}");
        scene.assert_nothing_is_left();
    }
}

/// Behaviour 13: statuses that may pass are tried again.
#[test]
fn statuses_that_may_pass_are_tried_again() {
    let kernel = noise(10, SIZE);
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        let (scene, server) = (Scene::new(), Server::start());
        let route = Route::new(kernel.clone()).fault_until(2, Fault::Status(status));
        server.route("/kernel", route);
        assert_eq!(scene.fetch(&server.url("/kernel"), None).unwrap(), kernel, "{status}");
        assert_eq!(server.hits("/kernel"), 3, "{status}");
    }
}

/// Behaviour 13: the pause is what `Retry-After` says, in seconds or as a date, up to a limit.
#[test]
fn retry_after_is_honoured_in_both_its_forms() {
    let in_an_hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_hours(1));
    let hour = Duration::from_hours(1);
    for (value, limit, expected) in [
        ("3600", 2 * hour, hour..=hour),
        (&*in_an_hour, 2 * hour, hour / 2..=hour),
        ("3600", Duration::from_mins(7), Duration::from_mins(7)..=Duration::from_mins(7)),
        ("99999999999999999999999", hour, hour..=hour),
        ("0", hour, Duration::ZERO..=Duration::ZERO),
        ("Tue, 01 Jul 2025 10:00:00 GMT", hour, Duration::ZERO..=Duration::ZERO),
        ("in a while", hour, Duration::from_millis(1)..=Duration::from_millis(2)),
    ] {
        for status in [429, 503] {
            let (scene, server) = (Scene::new(), Server::start());
            let fault = Fault::RetryAfter { status, value: value.to_owned() };
            server.route("/kernel", Route::new(noise(10, SIZE)).fault_on(0, fault));
            let mut policy = quick();
            policy.longest_retry_after = limit;
            let manager =
                scene.builder(&server.url("/kernel"), None).retry_policy(policy).build().unwrap();
            scene.cancel_when(&manager, |event| matches!(event, Event::Retrying { .. }));
            let pauses = pauses(&scene.events());
            assert_eq!(pauses.len(), 1, "{value}");
            assert!(expected.contains(&pauses[0]), "{value}: {pauses:?}");
        }
    }
}

/// Behaviour 12: interim answers are no answers, and a head that never ends is an error.
#[test]
fn interim_answers_are_skipped_and_endless_heads_refused() {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(10, SIZE);
    let route = Route::new(kernel.clone()).fault(Fault::Interim(103)).fault(Fault::Interim(102));
    server.route("/interim", route);
    assert_eq!(scene.fetch(&server.url("/interim"), None).unwrap(), kernel);

    server.route("/endless", Route::new(kernel).fault(Fault::EndlessHead));
    let (attempts, error) = failure(Scene::new().fetch(&server.url("/endless"), None));
    assert_eq!(attempts, 1, "{error}");
    assert!(error.to_string().contains("its header"), "{error}");
}

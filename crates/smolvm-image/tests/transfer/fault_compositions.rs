//! Faults in any composition: an error or the right bytes, never others, and no trace once the
//! faults are over.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use smolvm_image::ImageError;
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::Scene;

const SIZE: u64 = 60_000;

/// The requests that may meet faults.
const FAULTY: usize = 4;

fn kernel() -> Bytes {
    noise(140, usize::try_from(SIZE).unwrap())
}

/// Another version, of the same size.
fn other() -> Bytes {
    noise(141, usize::try_from(SIZE).unwrap())
}

/// Faults that a careful client sees through, with a pin and without.
fn visible() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => (0..=SIZE).prop_map(Fault::CutAt),
        3 => (0..=SIZE).prop_map(Fault::ResetAt),
        1 => Just(Fault::CloseUnanswered),
        1 => Just(Fault::CutInHead),
        1 => Just(Fault::EndlessHead),
        1 => Just(Fault::Interim(103)),
        1 => Just(Fault::RawHead(b"HTTP/9\r\n\r\n".to_vec())),
        2 => Just(Fault::Chunked),
        1 => Just(Fault::NoContentLength),
        1 => Just(Fault::ContentLength("many".to_owned())),
        1 => Just(Fault::ContentLength("7, 7".to_owned())),
        1 => Just(Fault::IgnoreRange),
        1 => Just(Fault::IgnoreIfRange),
        1 => Just(Fault::WrongRange),
        1 => Just(Fault::RangeNotSatisfiable),
        1 => (0..SIZE).prop_map(|at| Fault::ContentRange(format!("bytes {at}-{}/{SIZE}", SIZE - 1))),
        2 => Just(Fault::replaced("\"v2\"", other())),
        1 => Just(Fault::Gzip),
        1 => Just(Fault::ErrorPage),
        1 => prop::sample::select(vec![404, 408, 416, 429, 500, 503]).prop_map(Fault::Status),
        1 => Just(Fault::RetryAfter { status: 503, value: "0".to_owned() }),
        1 => Just(Fault::RedirectTo("/elsewhere".to_owned())),
        1 => Just(Fault::RedirectLoop),
        1 => Just(Fault::Header("Content-Encoding", "br".to_owned())),
        1 => Just(Fault::Header("Age", "60".to_owned())),
    ]
}

/// Faults that only a digest can see.
fn invisible() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0..SIZE).prop_map(Fault::FlipByteAt),
        (0..2 * SIZE).prop_map(|length| Fault::ContentLength(length.to_string())),
        (1..SIZE).prop_map(Fault::ExtraBytes),
        // Alone it says nothing; with `NoContentLength` it is the only one.
        Just(Fault::RepeatContentLength("7".to_owned())),
        Just(Fault::WithoutHeader("ETag")),
        Just(Fault::WithoutHeader("Content-Range")),
        (0..2 * SIZE).prop_map(|total| Fault::ContentRange(format!("bytes */{total}"))),
        (0..SIZE).prop_map(|at| Fault::ContentRange(format!("bytes {at}-{}/*", SIZE - 1))),
        Just(Fault::Header("Content-Encoding", "gzip".to_owned())),
    ]
}

fn schedule(fault: impl Strategy<Value = Fault>) -> impl Strategy<Value = Vec<(usize, Fault)>> {
    prop::collection::vec((0..FAULTY, fault), 0..10)
}

/// Fetches through the faults, then without them; `acceptable` are the versions that may come
/// through.
fn fetch_through(
    faults: Vec<(usize, Fault)>,
    pin: Option<&str>,
    acceptable: &[Bytes],
) -> Result<(), TestCaseError> {
    let (scene, server) = (Scene::new(), Server::start());
    let sound = Route::new(kernel()).etag("\"v1\"");
    server.route("/elsewhere", sound.clone());
    let broken = faults
        .into_iter()
        .fold(sound.clone(), |route, (request, fault)| route.fault_on(request, fault));
    server.route("/kernel", broken);
    let url = server.url("/kernel");
    match scene.fetch(&url, pin) {
        Ok(bytes) => prop_assert!(acceptable.contains(&bytes), "wrong bytes"),
        Err(error) => {
            let expected = matches!(
                error,
                ImageError::Fetch { .. }
                    | ImageError::Mismatch { .. }
                    | ImageError::NotAnImage { .. }
            );
            prop_assert!(expected, "{error:?}");
            prop_assert!(scene.kernel().is_none(), "bytes under the final name after {error}");
        }
    }
    server.route("/kernel", sound);
    let options = scene.options().refresh(true);
    let manager = scene.builder(&url, pin).build().unwrap();
    match scene.ensure_with(&manager, &options) {
        Ok(bytes) => prop_assert!(bytes == kernel(), "wrong bytes without faults"),
        Err(error) => prop_assert!(false, "without faults: {error}"),
    }
    prop_assert_eq!(scene.leavings(), []);
    Ok(())
}

fn config() -> ProptestConfig {
    // What fails is printed in full, shrunk; there is no file to keep it in.
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Behaviours 4, 11, 12, 14, 15 and 16: with a pin, exactly the pinned bytes or an error,
    /// whatever the server does; and the pinned bytes once it has stopped.
    #[test]
    fn with_a_pin_the_pinned_bytes_or_an_error(
        faults in schedule(prop_oneof![3 => visible().boxed(), 1 => invisible().boxed()])
    ) {
        fetch_through(faults, Some(&sha256_hex(&kernel())), &[kernel()])?;
    }

    /// Behaviours 11, 12, 14, 15 and 16: without a pin, one version as a whole or an error, as
    /// long as the server's own words are not lies that nobody could tell.
    #[test]
    fn without_a_pin_one_version_or_an_error(faults in schedule(visible())) {
        fetch_through(faults, None, &[kernel(), other()])?;
    }
}

//! The real squid as a proxy, so that our own is not the only judge.

use std::fs::Permissions;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Authority, Route, Server, skip};

use crate::bytes::{Bytes, noise};
use crate::child::{Child, Outcome};

/// A running squid that ends with the value.
struct Squid {
    process: Process,
    port: u16,
    directory: tempfile::TempDir,
}

impl Squid {
    /// Starts squid with a small cache in memory; `None`, said aloud, where there is none.
    fn start() -> Option<Self> {
        let Some(binary) = find() else {
            skip("there is no squid; Debian's squid has it");
            return None;
        };
        (0..10).find_map(|_| Self::launch(&binary))
    }

    fn launch(binary: &Path) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        // As root, squid becomes another user before it writes its files.
        fs_err::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = directory.path().display();
        let config = format!(
            "http_port 127.0.0.1:{port}\nvisible_hostname localhost\nhttp_access allow all\n\
             pid_filename {at}/squid.pid\naccess_log stdio:{at}/access.log\n\
             cache_log {at}/cache.log\ncoredump_dir {at}\ncache_mem 8 MB\n\
             pinger_enable off\nshutdown_lifetime 0 seconds\nlogfile_rotate 0\n"
        );
        fs_err::write(directory.path().join("squid.conf"), config).unwrap();
        let process = Command::new(binary)
            .arg("-N")
            .arg("-f")
            .arg(directory.path().join("squid.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut squid = Self { process, port, directory };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            // Another process may have taken the port.
            if !matches!(squid.process.try_wait(), Ok(None)) || Instant::now() > deadline {
                let log = fs_err::read_to_string(squid.directory.path().join("cache.log"));
                eprintln!("squid does not start: {log:?}");
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(squid)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join("squid"))
        .find(|binary| binary.is_file())
}

fn kernel() -> Bytes {
    noise(160, 100_000)
}

/// Behaviour 23: squid forwards http URLs and tunnels https ones.
#[test]
fn squid_forwards_http_and_tunnels_https() {
    let Some(child) = Child::of_this_test() else { return };
    let Some(squid) = Squid::start() else { return };
    let authority = Authority::new();
    let child = child
        .var("http_proxy", &squid.url())
        .var("https_proxy", &squid.url())
        .var("SMOLVM_CA_FILE", authority.ca_pem_path().to_str().unwrap());
    for server in [Server::start(), Server::start_tls(&authority)] {
        server.route("/kernel", Route::new(kernel()).etag("\"v1\""));
        assert_eq!(child.fetch(&server.url("/kernel"), None), Outcome::fetched(&kernel()));
        let asked = &server.requests()[0];
        let via = asked.header("Via").is_some_and(|via| via.contains("squid"));
        assert_eq!(via, server.url("/").starts_with("http:"), "{asked:?}");
    }
}

/// Behaviour 27: what squid has cached of an earlier version is no mismatch: it is asked once
/// more for what the server has.
#[test]
fn a_stale_answer_of_squid_is_asked_for_again() {
    let Some(child) = Child::of_this_test() else { return };
    let Some(squid) = Squid::start() else { return };
    let child = child.var("http_proxy", &squid.url());
    let server = Server::start();
    let old = noise(161, 100_000);
    let now = httpdate::fmt_http_date(SystemTime::now());
    let route = Route::new(old.clone()).header("Cache-Control", "max-age=86400");
    // Without a date, squid takes nothing for fresh.
    server.route("/kernel", route.header("Date", &now));
    let url = server.url("/kernel");
    assert_eq!(child.fetch(&url, Some(&sha256_hex(&old))), Outcome::fetched(&old));
    server.route("/kernel", Route::new(kernel()));
    assert_eq!(child.fetch(&url, Some(&sha256_hex(&old))), Outcome::fetched(&old));
    assert_eq!(server.requests().len(), 1, "squid does not cache, so this test shows nothing");
    assert_eq!(child.fetch(&url, Some(&sha256_hex(&kernel()))), Outcome::fetched(&kernel()));
    assert_eq!(server.requests().len(), 2);
}

//! The real nginx on a loopback port, so that our own server is not the only judge.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::access_log::{FORMAT, LogLine};
use crate::authority::Authority;
use crate::requirement::skip;

/// How long nginx may take to start, to write its log, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// Between picking a port and binding it, another process may take it.
const ATTEMPTS: usize = 10;

/// Whether nginx is there; where it is not, says that the test is skipped.
///
/// ```no_run
/// use smolvm_testkit::{Nginx, require_nginx};
///
/// if !require_nginx() {
///     return;
/// }
/// let nginx = Nginx::start("images".as_ref());
/// ```
///
/// # Panics
///
/// Where nginx is missing and [`REQUIRE_ALL`](crate::REQUIRE_ALL) is set.
pub fn require_nginx() -> bool {
    let found = Nginx::find().is_some();
    if !found {
        skip("there is no nginx; Debian's nginx-light has it");
    }
    found
}

/// A running nginx that serves one directory; it ends when dropped.
#[derive(Debug)]
pub struct Nginx {
    scheme: &'static str,
    port: u16,
    directory: TempDir,
    master: Child,
}

/// How to start an [`Nginx`].
#[derive(Debug)]
pub struct NginxBuilder<'a> {
    root: PathBuf,
    authority: Option<&'a Authority>,
    lines: String,
}

impl Nginx {
    /// The nginx binary in `PATH` or where distributions put it, if there is one.
    pub fn find() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .map(|directory| directory.join("nginx"))
            .find(|binary| binary.is_file())
    }

    /// Serves the files below `root` over plain HTTP.
    ///
    /// # Panics
    ///
    /// When nginx is missing or does not start.
    pub fn start(root: &Path) -> Self {
        Self::builder(root).start()
    }

    /// To serve the files below `root` with more than the defaults.
    pub fn builder<'a>(root: &Path) -> NginxBuilder<'a> {
        NginxBuilder { root: root.to_owned(), authority: None, lines: String::new() }
    }

    /// The URL of `path` (with its leading slash) on this server.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.host())
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests in the log by now.
    ///
    /// nginx logs a request when it has ended, which may be a moment after the client has its
    /// last byte; [`Nginx::wait_for_log`] and [`Nginx::stop`] are sure to show it.
    pub fn log(&self) -> Vec<LogLine> {
        read_log(self.directory.path())
    }

    /// The requests in the log as soon as there are at least `count`.
    ///
    /// # Panics
    ///
    /// After half a minute: they are not coming.
    pub fn wait_for_log(&self, count: usize) -> Vec<LogLine> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if log.len() >= count {
                return log;
            }
            assert!(Instant::now() < deadline, "{count} requests, not {log:?}");
            thread::sleep(POLL);
        }
    }

    /// Lets the open requests end, then nginx, and returns the whole log.
    pub fn stop(mut self) -> Vec<LogLine> {
        self.end(Signal::QUIT);
        self.log()
    }

    /// The process id of the master process.
    pub fn pid(&self) -> u32 {
        self.master.id()
    }

    /// Sends the signal to the master alone, which ends its workers, and waits for it.
    fn end(&mut self, signal: Signal) {
        if matches!(self.master.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = i32::try_from(self.master.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, signal));
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.master.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.master.kill();
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.end(Signal::TERM);
    }
}

impl<'a> NginxBuilder<'a> {
    /// Speaks HTTPS, with a certificate for `localhost` and `127.0.0.1` signed by `authority`.
    #[must_use]
    pub fn tls(mut self, authority: &'a Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Adds lines to the `server` block, such as `limit_rate 10k;` or a `location`.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.lines.push_str(lines);
        self.lines.push('\n');
        self
    }

    /// Starts nginx and waits until it listens.
    ///
    /// # Panics
    ///
    /// When nginx is missing, or refuses the configuration; the message has its error log.
    pub fn start(self) -> Nginx {
        let binary = Nginx::find().expect("nginx; see require_nginx");
        let mut refusals = String::new();
        for _ in 0..ATTEMPTS {
            match self.launch(&binary) {
                Ok(nginx) => return nginx,
                Err(log) if log.contains("bind()") => refusals = log,
                Err(log) => panic!("nginx does not start:\n{log}"),
            }
        }
        panic!("nginx found no port:\n{refusals}");
    }

    /// One attempt; the error log where it ended instead of listening.
    fn launch(&self, binary: &Path) -> Result<Nginx, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let config = directory.path().join("nginx.conf");
        fs_err::write(&config, self.configuration(directory.path(), port)).expect("a new file");
        let error_log = directory.path().join("error.log");
        let master = Command::new(binary)
            .args([OsStr::new("-p"), directory.path().as_os_str()])
            .args([OsStr::new("-c"), config.as_os_str()])
            .args([OsStr::new("-e"), error_log.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx can be run");
        let scheme = match self.authority {
            Some(_) => "https",
            None => "http",
        };
        let mut nginx = Nginx { scheme, port, directory, master };
        // nginx writes its process id once it listens.
        let pid_file = nginx.directory.path().join("nginx.pid");
        let deadline = Instant::now() + PATIENCE;
        while !pid_file.exists() {
            let ended = !matches!(nginx.master.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                return Err(fs_err::read_to_string(error_log).unwrap_or_default());
            }
            thread::sleep(POLL);
        }
        Ok(nginx)
    }

    fn configuration(&self, directory: &Path, port: u16) -> String {
        let directory = directory.display();
        let root = self.root.display();
        let lines = &self.lines;
        // As root, the workers would change to a user who cannot read a test's directories.
        let user = if geteuid().is_root() { "user root;" } else { "" };
        let (ssl, certificate) = match self.authority {
            None => ("", String::new()),
            Some(authority) => (
                " ssl",
                format!(
                    "ssl_certificate {}; ssl_certificate_key {};",
                    authority.server_pem_path().display(),
                    authority.server_key_path().display()
                ),
            ),
        };
        format!(
            "daemon off; {user} worker_processes 1; pid {directory}/nginx.pid;\n\
             error_log {directory}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
             log_format testkit escape=none '{FORMAT}';\n\
             access_log {directory}/access.log testkit;\n\
             client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;\n\
             fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;\n\
             scgi_temp_path {directory}/scgi;\n\
             default_type application/octet-stream;\n\
             server {{ listen 127.0.0.1:{port}{ssl}; {certificate}\n\
             root {root};\n{lines}}}\n}}\n"
        )
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a port")
        .port()
}

fn read_log(directory: &Path) -> Vec<LogLine> {
    let text = fs_err::read_to_string(directory.join("access.log")).unwrap_or_default();
    text.split_inclusive('\n').filter_map(LogLine::parse).collect()
}

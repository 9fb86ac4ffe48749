//! nginx on loopback, with its own settings, ended with this program.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::tied_command;

/// A path that is answered and not logged.
const BARRIER: &str = "/.barrier";

/// A running nginx; dropping it ends it.
pub(crate) struct Server {
    nginx: Child,
    scheme: &'static str,
    port: u16,
    log: PathBuf,
}

/// What a server shows to clients that speak TLS, as PEM files.
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Server {
    /// Serves the files below `files` at a free port. Settings and logs go to
    /// the directory `scratch`.
    pub(crate) fn start(files: &Path, scratch: &Path) -> Result<Self> {
        Self::try_ports(files, scratch, None)
    }

    /// The same, over TLS.
    pub(crate) fn start_tls(files: &Path, scratch: &Path, tls: &Tls) -> Result<Self> {
        Self::try_ports(files, scratch, Some(tls))
    }

    fn try_ports(files: &Path, scratch: &Path, tls: Option<&Tls>) -> Result<Self> {
        const TRIES: u32 = 5;

        let mut tries = 1;
        loop {
            match Self::start_at(free_port()?, files, scratch, tls) {
                // Between our look and nginx's, somebody took the port.
                Err(_) if tries < TRIES => tries += 1,
                started => return started,
            }
        }
    }

    fn start_at(port: u16, files: &Path, scratch: &Path, tls: Option<&Tls>) -> Result<Self> {
        let settings = scratch.join("nginx.conf");
        fs_err::write(&settings, settings_text(port, files, scratch, tls))?;
        let errors = scratch.join("nginx-errors.log");
        let mut command = tied_command("nginx");
        // With `-e`, what is said before the settings are read goes there too.
        command.arg("-p").arg(scratch).arg("-e").arg(&errors).arg("-c").arg(&settings);
        let nginx = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nginx; `cargo xtask setup` installs it")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut server = Self { nginx, scheme, port, log: scratch.join("nginx-access.log") };
        server.wait_until_ready(&errors)?;
        Ok(server)
    }

    fn wait_until_ready(&mut self, errors: &Path) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.nginx.try_wait()? {
                let said = fs_err::read_to_string(errors).unwrap_or_default();
                bail!("nginx ended at once ({status}): {}", said.trim());
            }
            if Instant::now() > deadline {
                bail!("nginx does not answer at port {}", self.port);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where the files are, without a slash at the end.
    pub(crate) fn address(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// The requests that nginx answered since the server started, each as
    /// method, path, status and bytes sent.
    pub(crate) fn requests(&self) -> Result<Vec<String>> {
        // A client may have its last byte before the request is in the log;
        // the one process that serves has noted it before it answers this.
        let mut barrier = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(barrier, "GET {BARRIER} HTTP/1.0\r\n\r\n")?;
        barrier.read_to_end(&mut Vec::new())?;
        let log = fs_err::read_to_string(&self.log)?;
        Ok(log.lines().map(str::to_owned).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to end.
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// One process, run by whoever runs this: a worker of another user could not
/// read a work tree in somebody's home.
fn settings_text(port: u16, files: &Path, scratch: &Path, tls: Option<&Tls>) -> String {
    let (files, scratch) = (files.display(), scratch.display());
    let (ssl, certificate) = match tls {
        None => ("", String::new()),
        Some(Tls { certificate, key }) => {
            let (certificate, key) = (certificate.display(), key.display());
            (" ssl", format!("ssl_certificate \"{certificate}\"; ssl_certificate_key \"{key}\";"))
        }
    };
    format!(
        r#"daemon off;
master_process off;
pid "{scratch}/nginx.pid";
events {{ worker_connections 256; }}
http {{
    log_format requests '$request_method $uri $status $body_bytes_sent';
    access_log "{scratch}/nginx-access.log" requests;
    client_body_temp_path "{scratch}/nginx-temp";
    proxy_temp_path "{scratch}/nginx-temp";
    fastcgi_temp_path "{scratch}/nginx-temp";
    uwsgi_temp_path "{scratch}/nginx-temp";
    scgi_temp_path "{scratch}/nginx-temp";
    sendfile on;
    server {{
        listen 127.0.0.1:{port}{ssl};
        {certificate}
        root "{files}";
        location = {BARRIER} {{
            access_log off;
            return 204;
        }}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::command;

    #[test]
    fn files_are_served_requests_noted_and_nginx_ends_with_its_owner() {
        if crate::command::find("nginx").is_none() {
            smolvm_testkit::skip("there is no nginx");
            return;
        }
        let (files, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs_err::write(files.path().join("kernel"), "content").unwrap();
        let server = Server::start(files.path(), scratch.path()).unwrap();

        let url = format!("{}/kernel", server.address());
        let body =
            crate::command::capture(command("curl").args(["--silent", "--noproxy", "*", &url]));
        assert_eq!(body.unwrap(), "content");
        assert_eq!(server.requests().unwrap(), ["GET /kernel 200 7"]);

        let port = server.port;
        drop(server);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

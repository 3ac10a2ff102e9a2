//! A file over HTTP: nginx serves it, curl fetches it, sha256sum compares.

use std::fs;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::{Host, Namespace};
use crate::job::Job;

/// How long a server may run and a transfer may take.
const LIMIT: Duration = Duration::from_secs(180);

/// A file of bytes without pattern, with its SHA-256.
pub struct File {
    folder: tempfile::TempDir,
    length: u64,
    sha256: String,
}

impl File {
    /// A file of `length` bytes.
    ///
    /// # Panics
    ///
    /// If it can't be written.
    #[must_use]
    pub fn new(host: &Host, length: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        write(&path, length).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            sha256: sha256(host, &path),
            folder,
            length,
        }
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Its SHA-256, as `sha256sum` writes it.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// An HTTP server in a namespace.
pub struct Server {
    _job: Job,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Serves `file` on all addresses of `namespace`, as fast as it goes.
    ///
    /// # Panics
    ///
    /// If nginx does not start.
    #[must_use]
    pub fn start(namespace: &Namespace, file: &File) -> Self {
        // To nginx, no limit.
        Self::start_at(namespace, file, 0)
    }

    /// Serves `file` likewise, with so many bytes a second.
    ///
    /// # Panics
    ///
    /// If nginx does not start.
    #[must_use]
    pub fn start_at(namespace: &Namespace, file: &File, rate: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().display();
        let configuration = format!(
            "daemon off; master_process off; user root; pid {own}/pid; error_log stderr notice;\n\
             events {{ worker_connections 64; }}\n\
             http {{\n\
             access_log off; sendfile on; limit_rate {rate}; root {};\n\
             client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;\n\
             fastcgi_temp_path {own}/fastcgi; uwsgi_temp_path {own}/uwsgi;\n\
             scgi_temp_path {own}/scgi;\n\
             server {{ listen 80; listen [::]:80; }}\n\
             }}\n",
            file.folder.path().display()
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, configuration).expect("a file");
        let line = format!("nginx -e stderr -p {own} -c {}", path.display());
        let mut job = namespace.start(&line, LIMIT);
        // nginx writes its pid when it listens.
        let pid = folder.path().join("pid");
        job.wait_until("the pid file", |_| {
            fs::metadata(&pid).is_ok_and(|file| file.len() > 0)
        });
        Self {
            _job: job,
            _folder: folder,
        }
    }
}

/// Fetches the file from `server` into a folder of its own and asserts that it is the same.
/// Returns bytes a second, as curl counts them.
///
/// # Panics
///
/// If it does not arrive, or not the same.
#[track_caller]
pub fn fetch(host: &Host, namespace: &Namespace, server: IpAddr, file: &File) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    let server = match server {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let line = format!(
        "curl --globoff --silent --show-error --fail --write-out %{{speed_download}} --output {} \
         http://{server}/file",
        path.display()
    );
    let speed = namespace.start(&line, LIMIT).end().success();
    let length = fs::metadata(&path).expect("a file").len();
    assert_eq!(length, file.length, "bytes");
    assert_eq!(sha256(host, &path), file.sha256, "SHA-256");
    speed.trim().parse().expect("bytes a second")
}

fn sha256(host: &Host, path: &Path) -> String {
    let mut command = host.tools().command("sha256sum --binary");
    let printed = Job::start(command.arg(path), LIMIT).end().success();
    let digest = printed.split_whitespace().next().unwrap_or_default();
    assert_eq!(digest.len(), 64, "{printed}");
    digest.to_owned()
}

/// xorshift64: no two blocks of a stream are equal, so none can take another's place unseen.
fn write(path: &Path, length: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..length / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&state.to_le_bytes())?;
    }
    out.write_all(&vec![0x5a; (length % 8) as usize])?;
    out.flush()
}

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use xtask::debian;

use crate::{Client, TestSetup};

/// Real reverse proxy, for `https://{name}`.
pub struct Proxy {
    server: Child,
    directory: TempDir,
}

impl Proxy {
    /// Starts nginx, with these directives in the server's block.
    pub async fn nginx(setup: &TestSetup, name: &str, directives: &str) -> (Self, Client) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = directory.path().display();
        let address = setup.network.address_of(name);
        let (certificate, key) = setup.authority.certificate_files(name);
        let (certificate, key) = (certificate.display(), key.display());
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {place}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid {place}/pid;\nerror_log {place}/log;\nevents {{}}\nhttp {{\n\
             {temporary}    access_log off;\n    server {{\n        listen {address}:443 ssl;\n        server_name {name};\n\
             \x20       ssl_certificate {certificate};\n        ssl_certificate_key {key};\n{directives}\n    }}\n}}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, config).expect("a file");
        let mut command = Self::command("nginx");
        command.arg("-c").arg(file).arg("-p").arg(directory.path()).args(["-e", "log"]);
        let client = Client::with_tls(SocketAddr::new(address, 443), name, &setup.authority.pem());
        Self::start(command, directory, client).await
    }

    /// Starts Caddy, with this configuration of a site. It makes its certificates itself.
    pub async fn caddy(setup: &TestSetup, name: &str, site: &str) -> (Self, Client) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = setup.network.address_of(name);
        let options = format!(
            "{{\n    admin off\n    local_certs\n    skip_install_trust\n    default_bind {address}\n    storage file_system {}\n}}\n",
            directory.path().display()
        );
        let file = directory.path().join("Caddyfile");
        fs::write(&file, options + site + "\n").expect("a file");
        let mut command = Self::command("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file).env("HOME", directory.path());
        let root = directory.path().join("pki/authorities/local/root.crt");
        let client = Client::with_tls(SocketAddr::new(address, 443), name, &root);
        Self::start(command, directory, client).await
    }

    /// Starts this Traefik, with this dynamic configuration.
    pub async fn traefik(program: &Path, setup: &TestSetup, name: &str, dynamic: &str) -> (Self, Client) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = setup.network.address_of(name);
        let (certificate, key) = setup.authority.certificate_files(name);
        let (certificate, key) = (certificate.display(), key.display());
        let files = directory.path().join("dynamic");
        fs::create_dir(&files).expect("a directory");
        fs::write(files.join("service.yaml"), dynamic).expect("a file");
        let tls = format!("tls:\n  certificates:\n    - certFile: {certificate}\n      keyFile: {key}\n");
        fs::write(files.join("tls.yaml"), tls).expect("a file");
        let mut command = Command::new(program);
        command.env_clear().current_dir(&directory);
        command.arg(format!("--entryPoints.websecure.address={address}:443"));
        command.arg("--providers.file.directory").arg(files);
        command.args(["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]);
        let client = Client::with_tls(SocketAddr::new(address, 443), name, &setup.authority.pem());
        Self::start(command, directory, client).await
    }

    fn command(server: &str) -> Command {
        let mut command = Command::new(debian::server(server).unwrap_or_else(|error| panic!("{error:#}")));
        command.env_clear();
        command
    }

    async fn start(mut command: Command, directory: TempDir, client: Client) -> (Self, Client) {
        let log = fs::File::options().create(true).append(true).open(directory.path().join("log")).expect("a file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log")).stderr(log);
        let mut proxy = Self { server: command.spawn().expect("the proxy can be started"), directory };
        let poll = async {
            while !client.is_answered().await {
                let ended = proxy.server.try_wait().expect("it is my child");
                assert!(ended.is_none(), "{ended:?}: {}", proxy.log());
                sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = timeout(Duration::from_secs(60), poll).await.is_ok();
        assert!(in_time, "the proxy doesn't answer: {}", proxy.log());
        (proxy, client)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the proxy's log:\n{}", self.log());
        }
        // A kill would leave nginx's worker behind.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.server.id()).expect("a process id"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.server.wait();
    }
}

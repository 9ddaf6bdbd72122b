use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use fakes::Names;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// Network and host table that only the calling thread can see, and the threads and processes that it starts from
/// then on.
///
/// It has only loopback, which also has addresses of the public internet: the worker runs in its
/// production configuration, which refuses private addresses, and reaches fakes on ports 443 and 8448 under names of
/// their own.
///
/// It needs Linux and the program `ip` (package `iproute2`). Without root the test program starts itself again as
/// root of a user namespace.
pub struct Network {
    directory: TempDir,
    names: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    taken: AtomicU8,
}

impl Network {
    /// Moves the calling thread into a new network. The runtime of the test must be single-threaded.
    pub fn enter() -> Self {
        match unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
            Ok(()) => {}
            Err(Errno::EPERM) if env::var_os(REENTERED).is_none() => start_again_in_user_namespace(),
            Err(error) => panic!("no network namespace of my own: {error}"),
        }
        // Without this the mounts below would be the whole machine's.
        mount_flags("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        configure_loopback();

        let network = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            names: Mutex::default(),
            taken: AtomicU8::new(0),
        };
        for (system_file, content) in SHADOWED {
            network.shadow(system_file, content);
        }
        network
    }

    /// Returns the address of `host`: an IP literal's own, a known name's, or else a public IPv4 address of no other
    /// name.
    pub fn address_of(&self, host: &str) -> IpAddr {
        if let Ok(literal) = host.trim_matches(['[', ']']).parse() {
            return literal;
        }
        let known = self.names.lock().unwrap().get(host).and_then(|addresses| addresses.first().copied());
        known.unwrap_or_else(|| {
            let address = self.unused_address();
            self.point(host, address);
            address
        })
    }

    /// Returns a public IPv4 address that isn't in use yet.
    pub fn unused_address(&self) -> IpAddr {
        let [a, b, c, _] = PUBLIC_V4.octets();
        IpAddr::from([a, b, c, self.taken.fetch_add(1, Ordering::SeqCst) + 1])
    }

    /// Lets `name` resolve to `address`, of any kind.
    pub fn point(&self, name: &str, address: IpAddr) {
        self.point_to_all(name, &[address]);
    }

    /// Lets `name` resolve to all of these addresses, or to none.
    pub fn point_to_all(&self, name: &str, addresses: &[IpAddr]) {
        let mut names = self.names.lock().unwrap();
        names.insert(name.to_owned(), addresses.to_vec());
        // In place: the file that is mounted over /etc/hosts stays the same one.
        fs::write(self.directory.path().join("hosts"), host_table(&names)).expect("my host table");
    }

    /// Replaces a system file by one with this content, for this network only.
    fn shadow(&self, system_file: &str, content: &str) {
        let name = Path::new(system_file).file_name().unwrap();
        let file = self.directory.path().join(name);
        fs::write(&file, content).expect("a file to mount");
        mount(Some(&file), system_file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .unwrap_or_else(|error| panic!("can't mount over {system_file}: {error}"));
    }
}

impl Names for Network {
    fn address_of(&self, host: &str) -> IpAddr {
        self.address_of(host)
    }
}

impl Drop for Network {
    /// Restores the system's files for a thread that enters another network afterwards.
    fn drop(&mut self) {
        for (system_file, _) in SHADOWED {
            let _ = umount2(system_file, MntFlags::MNT_DETACH);
        }
    }
}

fn host_table(names: &BTreeMap<String, Vec<IpAddr>>) -> String {
    let mut table = LOCALHOST.to_owned();
    for (name, addresses) in names {
        for address in addresses {
            table.push_str(&format!("{address} {name}\n"));
        }
    }
    table
}

fn mount_flags(target: &str, flags: MsFlags) {
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .unwrap_or_else(|error| panic!("can't make the mounts my own: {error}"));
}

fn configure_loopback() {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program `ip` (package iproute2) is needed");
    let commands = format!(
        "link set lo up\n\
         addr add {PUBLIC_V4}/24 dev lo\n\
         addr add {PUBLIC_V6}/64 dev lo nodad\n\
         addr add 10.0.0.0/8 dev lo\n\
         addr add 100.64.0.0/10 dev lo\n\
         addr add 169.254.0.0/16 dev lo\n\
         addr add 172.16.0.0/12 dev lo\n\
         addr add 192.168.0.0/16 dev lo\n\
         addr add fd00::1/64 dev lo nodad\n"
    );
    let mut stdin = ip.stdin.take().unwrap();
    stdin.write_all(commands.as_bytes()).expect("`ip` takes its commands");
    drop(stdin);
    assert!(ip.wait().expect("`ip` ends").success(), "`ip` refused to set up loopback");
}

/// A process with several threads, as a test program is, can't make a user namespace for itself.
fn start_again_in_user_namespace() -> ! {
    let error = Command::new("unshare")
        .arg("--map-root-user")
        .arg(env::current_exe().expect("my own path"))
        .args(env::args_os().skip(1))
        .env(REENTERED, "1")
        .exec();
    panic!("can't start again in a user namespace (run as root instead): {error}")
}

/// System files of name resolution, with their contents here: the host table is the only source.
const SHADOWED: [(&str, &str); 3] =
    [("/etc/nsswitch.conf", "hosts: files dns\n"), ("/etc/resolv.conf", ""), ("/etc/hosts", LOCALHOST)];
const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost\n";

const REENTERED: &str = "BLACK_BOX_USER_NAMESPACE";

/// Address of the public internet that loopback has here.
const PUBLIC_V4: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 0);
/// Public IPv6 address that every [`Network`] has.
pub const PUBLIC_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x220, 1, 0, 0, 0, 5);

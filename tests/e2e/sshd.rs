//! A private sshd on loopback and tunnels through it: own keys, own configuration, no PAM.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::endpoint::{PROMPT, free_port};
use crate::fixture::Fixture;
use crate::process::Process;
use crate::wait::wait_for;

/// A running server that lets in whoever runs the tests.
pub struct Sshd<'a> {
    fixture: &'a Fixture,
    dir: PathBuf,
    port: u16,
    _server: Process,
}

impl<'a> Sshd<'a> {
    /// Starts it on a free port and waits until it listens.
    pub fn start(fixture: &'a Fixture) -> Self {
        let dir = fixture.path().join("ssh");
        fs::create_dir(&dir).unwrap();
        for key in ["host_key", "user_key"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(key));
            fixture
                .start("ssh-keygen", &mut keygen)
                .expect_success(PROMPT);
        }
        fs::copy(dir.join("user_key.pub"), dir.join("authorized_keys")).unwrap();
        let port = free_port();
        let config = dir.join("sshd_config");
        fs::write(&config, configuration(&dir, port)).unwrap();
        make_privilege_separation_directory();
        let mut command = Command::new(path_of_sshd());
        command.args(["-D", "-e", "-f"]).arg(&config);
        let mut server = fixture.start("sshd", &mut command);
        wait_until_listening(&mut server, port);
        Self {
            fixture,
            dir,
            port,
            _server: server,
        }
    }

    /// Forwards local ports to ports of the server's host by `ssh -L`, as an operator would. The tunnel
    /// lives as long as the process.
    pub fn forward(&self, ports: &[(u16, u16)]) -> Process {
        let mut command = Command::new("ssh");
        command.args(["-N", "-F", "none", "-p", &self.port.to_string()]);
        command.arg("-i").arg(self.dir.join("user_key"));
        let known_hosts = format!(
            "UserKnownHostsFile={}",
            self.dir.join("known_hosts").display()
        );
        for option in [
            "BatchMode=yes",
            "ExitOnForwardFailure=yes",
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=accept-new",
            &known_hosts,
        ] {
            command.args(["-o", option]);
        }
        for (local, remote) in ports {
            command.args(["-L", &format!("127.0.0.1:{local}:127.0.0.1:{remote}")]);
        }
        command.arg(format!("{}@127.0.0.1", user_name()));
        let mut tunnel = self.fixture.start("tunnel", &mut command);
        for (local, _) in ports {
            wait_until_listening(&mut tunnel, *local);
        }
        tunnel
    }
}

fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "ListenAddress 127.0.0.1:{port}\n\
         HostKey {dir}/host_key\n\
         AuthorizedKeysFile {dir}/authorized_keys\n\
         PidFile none\n\
         StrictModes no\n\
         UsePAM no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\n\
         AllowTcpForwarding yes\n"
    )
}

/// sshd started by root refuses to run without it; where no init system does, nothing makes it at boot.
fn make_privilege_separation_directory() {
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all("/run/sshd").unwrap();
    }
}

/// sshd insists on being started by an absolute path.
fn path_of_sshd() -> &'static Path {
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
        .expect("sshd is installed; scripts/test installs it")
}

fn user_name() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until somebody listens at a port of loopback, without connecting to it: the endpoint behind a
/// tunnel would see a stranger.
fn wait_until_listening(process: &mut Process, port: u16) {
    wait_for(&format!("a listener at port {port}"), PROMPT, || {
        process.assert_running();
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        let local = format!("0100007F:{port:04X}");
        let listens = sockets.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            // Local address, remote address, state: 0A is LISTEN.
            fields.next() == Some(&local) && fields.nth(1) == Some("0A")
        });
        if listens {
            Ok(())
        } else {
            Err("nobody listens".to_owned())
        }
    });
}

/// What the ssh test relies on: a tunnel carries bytes, dies with its client, and can be laid again.
#[test]
fn a_tunnel_can_be_cut_and_laid_again() {
    let fixture = Fixture::new();
    let sshd = Sshd::start(&fixture);
    let behind = TcpListener::bind("127.0.0.1:0").unwrap();
    let (local, remote) = (free_port(), behind.local_addr().unwrap().port());
    for _ in 0..2 {
        let mut tunnel = sshd.forward(&[(local, remote)]);
        let mut client = TcpStream::connect(("127.0.0.1", local)).unwrap();
        let (mut server, _) = behind.accept().unwrap();
        client.write_all(b"through").unwrap();
        let mut received = [0; 7];
        server.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"through");
        tunnel.kill();
        assert_eq!(
            server.read(&mut received).unwrap(),
            0,
            "the cut is seen behind the tunnel"
        );
    }
}

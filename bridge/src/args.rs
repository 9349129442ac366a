//! Owns the command line, and the decision whether it is safe to start with it.
//!
//! Invariant: where others than this machine's processes may connect, frames are encrypted and clients
//! show who they are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use resized_client::Endpoint;
use resized_protocol::VERSIONS;
use thiserror::Error;

/// Lets clients on other machines use this machine's resized daemon.
///
/// Clients connect by tcp://HOST:PORT, or tls://HOST:PORT where a certificate is given. On
/// addresses other than loopback a certificate is needed, and a token or an authority that clients'
/// certificates come from.
#[derive(Clone, Debug, Parser)]
#[command(name = "resized-bridge", version, long_version = VERSIONS.as_str())]
pub struct Args {
    /// Address to listen at; may be repeated
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "RESIZED_BRIDGE_LISTEN",
        default_value = "127.0.0.1:7788",
        value_delimiter = ',',
        value_parser = address
    )]
    pub listen: Vec<SocketAddr>,

    /// The daemon [default: where clients on this machine find it]
    #[arg(long, value_name = "unix:PATH", env = "RESIZED_ENDPOINT")]
    pub daemon: Option<Endpoint>,

    /// The bridge's certificate and those up to its authority (PEM): clients must use TLS
    #[arg(long, value_name = "FILE", env = "RESIZED_BRIDGE_CERTIFICATE", requires = "key")]
    pub certificate: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", env = "RESIZED_BRIDGE_KEY", requires = "certificate")]
    pub key: Option<PathBuf>,

    /// A file with tokens, one in each line, of which clients must have one
    #[arg(long, value_name = "FILE", env = "RESIZED_BRIDGE_TOKEN")]
    pub token: Option<PathBuf>,

    /// Authorities (PEM) of which one must have signed a client's certificate
    #[arg(long, value_name = "FILE", env = "RESIZED_BRIDGE_CLIENT_CA", requires = "certificate")]
    pub client_ca: Option<PathBuf>,

    /// NATS servers (nats://HOST:PORT) of the service to join: clients are sent here while there is
    /// room, and single pictures are taken
    #[arg(long, value_name = "URL", env = "RESIZED_BRIDGE_NATS", value_delimiter = ',')]
    pub nats: Vec<ServerAddr>,

    /// NATS credentials file
    #[arg(long, value_name = "FILE", env = "RESIZED_BRIDGE_NATS_CREDENTIALS", requires = "nats")]
    pub nats_credentials: Option<PathBuf>,

    /// Authorities (PEM) of which one must have signed the NATS servers' certificates, in place of the
    /// system's: they must have TLS
    #[arg(long, value_name = "FILE", env = "RESIZED_BRIDGE_NATS_CA", requires = "nats")]
    pub nats_ca: Option<PathBuf>,

    /// Where clients of the service can connect, tcp://HOST:PORT or tls://HOST:PORT [default: the first
    /// address of --listen by which other machines reach this one; or one of loopback, if all NATS servers
    /// are at loopback, too]
    #[arg(long, value_name = "ENDPOINT", env = "RESIZED_BRIDGE_ADVERTISE", requires = "nats")]
    pub advertise: Option<Endpoint>,

    /// Single pictures of the service that are worked on at the same time; 0 to take none [default:
    /// one for each core]
    #[arg(long, value_name = "N", env = "RESIZED_BRIDGE_PICTURES", requires = "nats",
          value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub pictures: Option<u32>,

    /// Connections at the same time
    #[arg(long, value_name = "N", env = "RESIZED_BRIDGE_CONNECTIONS", default_value_t = 256,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub connections: usize,

    /// MiB for the rings of one connection, and for the JPEGs in them
    #[arg(
        long,
        value_name = "MIB",
        env = "RESIZED_BRIDGE_CONNECTION_MEMORY",
        default_value_t = 512,
        value_parser = clap::value_parser!(u64).range(1..=1 << 24)
    )]
    pub connection_memory: u64,

    /// MiB for the rings and JPEGs of all connections together [default: a quarter of the machine's
    /// memory, or of what the bridge's control group may have]
    #[arg(long, value_name = "MIB", env = "RESIZED_BRIDGE_MEMORY",
          value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub memory: Option<u64>,

    /// Millions of pixels that a JPEG may have, and a single picture before and after
    #[arg(long, value_name = "N", env = "RESIZED_BRIDGE_MEGAPIXELS", default_value_t = 64,
          value_parser = megapixels)]
    pub megapixels: u64,

    /// Seconds that a client may take to send or to read the next piece of a frame; one whose machine
    /// does not answer for as long is given up
    #[arg(long, value_name = "SECONDS", env = "RESIZED_BRIDGE_PATIENCE", default_value = "30",
          value_parser = seconds)]
    pub patience: Duration,

    /// Seconds that a single picture may wait for its turn, and a daemon that is away for: for tests,
    /// which are not to fail on a loaded machine
    #[arg(long, hide = true, value_name = "SECONDS", default_value = "4", value_parser = seconds)]
    pub picture_patience: Duration,

    /// What is logged: error, warn, info, debug, or directives of tracing's EnvFilter
    #[arg(
        long,
        value_name = "FILTER",
        env = "RESIZED_LOG",
        default_value = "info,async_nats=warn"
    )]
    pub log: String,
}

/// Why a bridge does not start with these arguments.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unsafe {
    /// Frames would travel unencrypted.
    #[error(
        "{0} can be reached by other machines: that takes --certificate and --key, or frames could be \
         read and changed on the way"
    )]
    Plain(SocketAddr),
    /// Anybody could connect.
    #[error(
        "{0} can be reached by other machines: that takes --token or --client-ca, or anybody could use \
         the daemon"
    )]
    Open(SocketAddr),
    /// The daemon is named by the address of a bridge.
    #[error("--daemon (RESIZED_ENDPOINT) is a daemon's own socket: unix:PATH")]
    Chain,
    /// Clients of the service would be sent where they can't connect, or would not.
    #[error(
        "--advertise is where clients connect to this bridge: tls://HOST:PORT, or tcp://HOST:PORT on \
         this machine"
    )]
    Nowhere,
}

impl Args {
    /// Whether it is safe to start with these.
    pub fn check(&self) -> Result<(), Unsafe> {
        if matches!(self.daemon, Some(Endpoint::Remote(_))) {
            return Err(Unsafe::Chain);
        }
        if self
            .advertise
            .as_ref()
            .is_some_and(|at| !matches!(at, Endpoint::Remote(remote) if remote.can_be_offered()))
        {
            return Err(Unsafe::Nowhere);
        }
        match self.listen.iter().find(|address| !address.ip().to_canonical().is_loopback()) {
            Some(&address) if self.certificate.is_none() => Err(Unsafe::Plain(address)),
            Some(&address) if self.token.is_none() && self.client_ca.is_none() => {
                Err(Unsafe::Open(address))
            }
            _ => Ok(()),
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.parse::<SocketAddr>();
    let address =
        address.map_err(|_| "write ADDRESS:PORT, numbers only, such as 127.0.0.1:7788")?;
    // One of IPv4 may be written as one of IPv6, of which no socket is that is for IPv6 alone.
    let ip = address.ip().to_canonical();
    Ok(if ip.is_ipv4() { SocketAddr::new(ip, address.port()) } else { address })
}

fn megapixels(text: &str) -> Result<u64, &'static str> {
    let megapixels = text.parse().ok().filter(|megapixels| (1..=1000).contains(megapixels));
    megapixels.ok_or("write millions of pixels, a whole number from 1 to 1000")
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("1 to 3600 seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;
    use resized_protocol::VERSION;

    use super::*;
    use crate::listener::Socket;

    #[test]
    fn the_long_version_says_the_protocols() {
        let said = Args::command().render_long_version();
        assert!(said.ends_with(&format!(" (protocol {VERSION})\n")), "{said}");
    }

    fn check(arguments: &str) -> Result<(), Unsafe> {
        let arguments = arguments.split_whitespace();
        Args::try_parse_from(["resized-bridge"].into_iter().chain(arguments)).unwrap().check()
    }

    #[test]
    fn loopback_needs_nothing() {
        for address in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(check(&format!("--listen {address}")), Ok(()), "{address}");
        }
    }

    #[test]
    fn an_address_of_ipv4_is_bound_however_it_is_written() {
        for text in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0"] {
            let bound = Socket::bind(address(text).unwrap());
            assert_eq!(bound.unwrap().address.ip().to_string(), "127.0.0.1", "{text}");
        }
        // What else belongs to one of IPv6 is kept.
        assert_eq!(address("[fe80::1%2]:1").unwrap().to_string(), "[fe80::1%2]:1");
    }

    #[test]
    fn the_rest_of_the_world_needs_tls_and_a_key() {
        for address in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let at = super::address(address).unwrap();
            // One among others is enough.
            let check =
                |more: &str| check(&format!("--listen 127.0.0.1:1 --listen {address} {more}"));
            assert_eq!(check(""), Err(Unsafe::Plain(at)));
            assert_eq!(check("--token t"), Err(Unsafe::Plain(at)));
            assert_eq!(check("--certificate c --key k"), Err(Unsafe::Open(at)));
            assert_eq!(check("--certificate c --key k --token t"), Ok(()));
            assert_eq!(check("--certificate c --key k --client-ca a"), Ok(()));
        }
    }

    #[test]
    fn numbers_that_no_bridge_could_hold_are_refused() {
        for option in ["--connections", "--connection-memory", "--memory"] {
            for number in ["0", "17592186044416", "18446744073709551615"] {
                let parsed = Args::try_parse_from(["resized-bridge", option, number]);
                assert!(parsed.is_err(), "{option} {number}");
            }
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (option, value, words) in [
            ("--listen", "localhost:7788", "write ADDRESS:PORT, numbers only"),
            ("--listen", "7788", "write ADDRESS:PORT, numbers only"),
            ("--megapixels", "0.5", "a whole number from 1 to 1000"),
            ("--megapixels", "1001", "a whole number from 1 to 1000"),
        ] {
            let error = Args::try_parse_from(["resized-bridge", option, value]).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn servers_that_are_no_addresses_are_refused() {
        let parsed = |url| Args::try_parse_from(["resized-bridge", "--nats", url]);
        for url in ["http://a:4222", "nats://a:port", "nats://a,nast://b"] {
            assert!(parsed(url).is_err(), "{url}");
        }
        assert_eq!(parsed("nats://a,tls://b:1,c:2").unwrap().nats.len(), 3);
    }

    #[test]
    fn clients_are_sent_where_they_can_connect() {
        let check = |advertised| check(&format!("--nats nats://a --advertise {advertised}"));
        assert_eq!(check("tcp://127.0.0.1:1"), Ok(()));
        assert_eq!(check("tls://host:1"), Ok(()));
        for advertised in ["unix:/run/socket", "nats://host:1/stream", "tcp://host:1"] {
            assert_eq!(check(advertised), Err(Unsafe::Nowhere), "{advertised}");
        }
    }

    #[test]
    fn the_file_of_variables_has_each_as_a_comment_and_no_other() {
        let text = include_str!("../../systemd/bridge.env");
        let shown = text.lines().filter_map(|line| line.strip_prefix("#RESIZED_")?.split_once('='));
        let shown: BTreeSet<_> = shown.map(|(name, _)| format!("RESIZED_{name}")).collect();
        let command = Args::command();
        let variables = command.get_arguments().filter_map(|argument| argument.get_env());
        let variables = variables.map(|name| name.to_string_lossy().into_owned());
        assert_eq!(shown, variables.collect());
    }

    #[test]
    fn bridges_do_not_lead_to_bridges() {
        assert_eq!(check("--daemon tcp://127.0.0.1:1"), Err(Unsafe::Chain));
    }
}

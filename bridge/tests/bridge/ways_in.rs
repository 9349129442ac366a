//! Who is let in: by certificates, by tokens; and that everybody else is told why not.

use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use resized_client::{Client, Credentials, Endpoint, Error, PixelFormat, Reconnect, Refusal};

use crate::network::with_network;
use crate::support::{
    Authority, Bridge, Local, bounded, command, connect, resized, spec, text, until,
};

/// By who goes on for ever as long as it may help.
fn connect_in_the_end(endpoint: &Endpoint, credentials: &Credentials) -> Result<Client, Error> {
    let reconnect = Reconnect { within: Duration::MAX, ..Reconnect::default() };
    Client::connect_as(endpoint, reconnect, credentials)
}

/// The innermost cause.
fn cause(error: &Error) -> String {
    match error {
        Error::Connect { error, .. } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_has_certificate_and_token_is_let_in() {
    bounded(|| {
        let local = Local::start();
        let authority = Authority::new();
        let (certificate, key) = authority.sign("bridge", false);
        let token = authority.write("token", "open sesame\n\n  also this \r\n");
        let flags =
            ["--certificate", text(&certificate), "--key", text(&key), "--token", text(&token)];
        let bridge = Bridge::start(&local, &flags);
        let authorities = Some(authority.certificate());
        let credentials = |name, words| Credentials {
            token: Some(authority.write(name, words)),
            authorities: authorities.clone(),
            ..Credentials::default()
        };
        let right = credentials("right", "open sesame");
        let client = connect(&bridge.secure(), &right).unwrap();
        let spec = spec(PixelFormat::Rgba, 2);
        let (near, far) = (local.client().open(&spec).unwrap(), client.open(&spec).unwrap());
        for seed in 0..10 {
            assert_eq!(resized(&near, seed).unwrap(), resized(&far, seed).unwrap());
        }
        assert!(connect(&bridge.secure(), &credentials("second", "also this\nnot this")).is_ok());
        for wrong in [
            credentials("empty line", " also"),
            credentials("both", "open sesame also this"),
            credentials("wrong", "open barley"),
            credentials("short", "open"),
            credentials("long", "open sesame please"),
            Credentials { token: None, ..right.clone() },
        ] {
            let error = connect(&bridge.secure(), &wrong).unwrap_err();
            assert!(matches!(error, Error::Refused(Refusal::Token)), "{error:?}");
        }
        // A token that is replaced is replaced.
        authority.write("token", "changed");
        assert!(connect(&bridge.secure(), &right).is_err());
        assert!(connect(&bridge.secure(), &credentials("next", "changed")).is_ok());
        // And who is in stays in.
        assert!(resized(&far, 1).is_ok());
        let lost = connect(&bridge.secure(), &credentials("none", "\n")).unwrap_err();
        assert!(cause(&lost).contains("none holds no token"), "{lost}");
    });
}

#[test]
fn a_token_is_not_sent_where_others_can_read_it() {
    bounded(|| {
        with_network("ways_in::a_token_is_not_sent_where_others_can_read_it", |mut network| {
            let (here, there) = (network.host(), network.host());
            let files = Authority::new();
            let token = Some(files.write("token", "open sesame"));
            let listener = there.run(|| TcpListener::bind(there.at(0))).unwrap();
            let endpoint = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
            let heard = |token| {
                let credentials = Credentials { token, ..Credentials::default() };
                thread::scope(|scope| {
                    let heard = scope.spawn(|| {
                        let mut heard = vec![0; 4096];
                        let len = listener.accept().unwrap().0.read(&mut heard).unwrap();
                        heard[..len].to_vec()
                    });
                    let error = here.run(|| connect(&endpoint, &credentials)).unwrap_err();
                    (heard.join().unwrap(), error)
                })
            };
            let (said, error) = heard(token);
            assert!(cause(&error).contains("write tls://"), "{error}");
            assert_eq!(said, b"");
            assert_ne!(heard(None).0, b"");
        });
    });
}

#[test]
fn a_new_token_costs_who_is_in_a_pause() {
    bounded(|| {
        let local = Local::start();
        let files = Authority::new();
        let (bridges, own) = (files.write("bridge", "old"), files.write("own", "old"));
        let mut bridge = Bridge::start(&local, &["--token", text(&bridges)]);
        let credentials = Credentials { token: Some(own), ..Credentials::default() };
        let reconnect = Reconnect::default();
        let client = Client::connect_as(&bridge.endpoint(), reconnect, &credentials).unwrap();
        let stream = client.open(&spec(PixelFormat::Gray8, 2)).unwrap();
        let expected = resized(&stream, 1).unwrap();
        files.write("bridge", "new");
        bridge.kill();
        bridge.start_again();
        // Who comes for the first time is told.
        let error = Client::connect_as(&bridge.endpoint(), reconnect, &credentials).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Token)), "{error:?}");
        thread::scope(|scope| {
            let again = scope.spawn(|| resized(&stream, 1));
            until("the client was refused", || bridge.log().matches("token").count() > 1);
            files.write("own", "new");
            assert_eq!(again.join().unwrap().unwrap(), expected);
        });
    });
}

#[test]
fn a_bridge_that_can_not_be_trusted_is_not() {
    bounded(|| {
        let local = Local::start();
        let (authority, other) = (Authority::new(), Authority::new());
        let trusting = |authority: &Authority| Credentials {
            authorities: Some(authority.certificate()),
            ..Credentials::default()
        };
        for (expired, trusted, why) in [
            (false, &authority, None),
            (true, &authority, Some("expired")),
            (false, &other, Some("none in ")),
        ] {
            let (certificate, key) = authority.sign("bridge", expired);
            let flags = ["--certificate", text(&certificate), "--key", text(&key)];
            let bridge = Bridge::start(&local, &flags);
            let connected = connect(&bridge.secure(), &trusting(trusted));
            match why {
                None => drop(connected.unwrap()),
                Some(why) => {
                    let said = cause(&connected.unwrap_err());
                    assert!(said.contains(why), "{said}");
                }
            }
            // By an address that the certificate is not for.
            let address = format!("tls://{}", bridge.address).parse().unwrap();
            assert!(connect(&address, &trusting(trusted)).is_err());
        }
    });
}

#[test]
fn who_has_a_certificate_of_its_own_is_let_in() {
    bounded(|| {
        let local = Local::start();
        let (authority, other) = (Authority::new(), Authority::new());
        let (certificate, key) = authority.sign("bridge", false);
        let ca = authority.certificate();
        let flags =
            ["--certificate", text(&certificate), "--key", text(&key), "--client-ca", text(&ca)];
        let bridge = Bridge::start(&local, &flags);
        let with = |identity: Option<_>| {
            let (certificate, key) = identity.unzip();
            let authorities = Some(authority.certificate());
            Credentials { authorities, certificate, key, ..Credentials::default() }
        };
        assert!(connect(&bridge.secure(), &with(Some(authority.sign("me", false)))).is_ok());
        for stranger in [None, Some(other.sign("me", false)), Some(authority.sign("old", true))] {
            let error = connect_in_the_end(&bridge.secure(), &with(stranger)).unwrap_err();
            assert!(cause(&error).contains("$RESIZED_CERTIFICATE"), "{error}");
        }
        // Another's key.
        let ((mine, _), (_, theirs)) = (authority.sign("mine", false), authority.sign("x", false));
        let error = connect_in_the_end(&bridge.secure(), &with(Some((mine, theirs)))).unwrap_err();
        let said = cause(&error);
        assert!(said.contains("mine.pem") && said.contains("x.key"), "{said}");
    });
}

#[test]
fn tls_and_plain_do_not_understand_each_other_and_say_so() {
    bounded(|| {
        let local = Local::start();
        let authority = Authority::new();
        let (certificate, key) = authority.sign("bridge", false);
        let secure =
            Bridge::start(&local, &["--certificate", text(&certificate), "--key", text(&key)]);
        let error = connect_in_the_end(&secure.endpoint(), &Credentials::default()).unwrap_err();
        let advice = format!("TLS is spoken there: write tls://{}", secure.address);
        assert_eq!(cause(&error), advice);
        let plain = Bridge::start(&local, &[]);
        let trusting =
            Credentials { authorities: Some(authority.certificate()), ..Credentials::default() };
        let said = cause(&connect_in_the_end(&plain.secure(), &trusting).unwrap_err());
        let advice = format!("write tcp://localhost:{}", plain.address.port());
        assert!(said.contains(&advice), "{said}");
        assert!(connect(&secure.secure(), &trusting).is_ok());
        assert!(connect(&plain.endpoint(), &Credentials::default()).is_ok());
    });
}

/// What is behind a load balancer that speaks, or does not: who is hung up on tries again.
#[test]
fn whoever_hangs_up_without_a_word_may_do_better_the_next_time() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let balancer = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", balancer.local_addr().unwrap()).parse().unwrap();
        let address = bridge.address;
        let balance = thread::spawn(move || {
            // In good order, before and after it has read; and as what does not read is hung up on.
            drop(balancer.accept().unwrap());
            let (socket, _) = balancer.accept().unwrap();
            assert!((&socket).read(&mut [0; 4096]).unwrap() > 0);
            drop(socket);
            let (socket, _) = balancer.accept().unwrap();
            assert!(socket.peek(&mut [0]).unwrap() > 0);
            drop(socket);
            let (client, _) = balancer.accept().unwrap();
            let behind = TcpStream::connect(address).unwrap();
            let (mut from, mut to) = (behind.try_clone().unwrap(), client.try_clone().unwrap());
            let back = thread::spawn(move || std::io::copy(&mut from, &mut to));
            let _ = std::io::copy(&mut &client, &mut &behind);
            let _ = behind.shutdown(Shutdown::Both);
            let _ = back.join();
        });
        let client = connect_in_the_end(&endpoint, &Credentials::default()).unwrap();
        assert!(client.stats().is_ok());
        drop(client);
        balance.join().unwrap();
    });
}

#[test]
fn as_many_are_let_in_as_the_limit_says() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &["--connections", "2"]);
        let (one, _two) = (bridge.client(), bridge.client());
        let third = connect(&bridge.endpoint(), &Credentials::default()).unwrap_err();
        let said = third.to_string();
        assert!(
            said.contains("another connection") && said.contains("the bridge may have"),
            "{said}"
        );
        drop(one);
        until("there is room", || connect(&bridge.endpoint(), &Credentials::default()).is_ok());
    });
}

#[test]
fn what_would_be_unsafe_does_not_start() {
    for (flags, named) in [
        (&["--listen", "0.0.0.0:0"][..], "--certificate and --key"),
        (&["--listen", "127.0.0.1:0", "--token", "/nowhere"], "/nowhere"),
        (&["--certificate", "/nowhere", "--key", "/nowhere"], "can't read /nowhere"),
        (&["--certificate", "/nowhere"], "--key"),
        (&["--daemon", "tcp://127.0.0.1:1"], "--daemon"),
        (&["--listen", "203.0.113.77:1", "--token", "/x"], "203.0.113.77:1"),
        (&["--listen", "127.0.0.1:0", "--nats", "nats://203.0.113.1"], "--advertise"),
    ] {
        let run = command().args(flags).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success() && said.contains(named), "{flags:?}: {said}");
    }
}

/// As a file of variables takes a setting back.
#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let mut bridge = command();
    for name in ["ENDPOINT", "LOG", "BRIDGE_TOKEN", "BRIDGE_NATS", "BRIDGE_MEMORY", "BRIDGE_LISTEN"]
    {
        bridge.env(format!("RESIZED_{name}"), "");
    }
    // It goes as far as to look for this.
    let run = bridge.args(["--token", "/nowhere"]).output().unwrap();
    assert_eq!(run.status.code(), Some(78), "{run:?}");
    assert!(String::from_utf8(run.stderr).unwrap().contains("can't read /nowhere"));
}

/// A lack of descriptors, of whatever number, is not taken for settings that can't be used, on which the bridge would
/// not be started again.
#[test]
fn a_lack_of_descriptors_is_not_the_settings_fault() {
    bounded(|| {
        let authority = Authority::new();
        let token = authority.write("token", "open sesame");
        let mut lacked = false;
        for limit in 3.. {
            let mut limited = Command::new("prlimit");
            limited.arg(format!("--nofile={limit}")).arg(env!("CARGO_BIN_EXE_resized-bridge"));
            limited.args(["--listen", "127.0.0.1:0", "--token", text(&token)]).env("NO_COLOR", "1");
            let mut limited = limited.stderr(Stdio::piped()).spawn().unwrap();
            let lines =
                BufReader::new(limited.stderr.take().unwrap()).lines().map_while(Result::ok);
            let mut said = String::new();
            let listens = lines
                .inspect(|line| said.extend([line, "\n"]))
                .any(|line| line.contains("listening"));
            if listens {
                limited.kill().unwrap();
            }
            let status = limited.wait().unwrap();
            if listens {
                break;
            }
            lacked |= said.contains("can't read");
            assert_ne!(status.code(), Some(78), "{limit}: {said}");
        }
        assert!(lacked, "the token was read each time");
    });
}

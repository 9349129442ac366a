//! Who is let in: by certificates, by tokens; and that everybody else is told why not.

use std::process::Stdio;

use resized_client::{Credentials, Error, PixelFormat, Refusal};

use crate::support::{Authority, Bridge, Local, bounded, command, connect, resized, spec, text};

/// The innermost cause.
fn cause(error: &Error) -> String {
    match error {
        Error::Connect { source, .. } => source.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn by_certificate_and_token() {
    bounded(|| {
        let local = Local::start();
        let authority = Authority::new();
        let (certificate, key) = authority.sign("bridge", false);
        let token = authority.write("token", "open sesame\nnot this line\n");
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
        for wrong in [
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
fn by_a_certificate_of_the_clients_own() {
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
            let said = cause(&connect(&bridge.secure(), &with(stranger)).unwrap_err());
            assert!(said.contains("$RESIZED_CERTIFICATE"), "{said}");
        }
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
        let said = cause(&connect(&secure.endpoint(), &Credentials::default()).unwrap_err());
        assert!(said.contains("tls://"), "{said}");
        let plain = Bridge::start(&local, &[]);
        let trusting =
            Credentials { authorities: Some(authority.certificate()), ..Credentials::default() };
        assert!(connect(&plain.secure(), &trusting).is_err());
        assert!(connect(&secure.secure(), &trusting).is_ok());
        assert!(connect(&plain.endpoint(), &Credentials::default()).is_ok());
    });
}

#[test]
fn as_many_as_the_limit_says() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &["--connections", "2"]);
        let (one, _two) = (bridge.client(), bridge.client());
        let third = connect(&bridge.endpoint(), &Credentials::default()).unwrap_err();
        let said = third.to_string();
        assert!(said.contains("connections") && said.contains("the bridge may have"), "{said}");
        drop(one);
        crate::support::until("there is room", || {
            connect(&bridge.endpoint(), &Credentials::default()).is_ok()
        });
    });
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    bounded(|| {
        let mut local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        local.stop();
        let error = connect(&bridge.endpoint(), &Credentials::default()).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Unreachable)), "{error:?}");
        local.start_again();
        assert!(connect(&bridge.endpoint(), &Credentials::default()).is_ok());
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
    ] {
        let run = command().args(flags).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success() && said.contains(named), "{flags:?}: {said}");
    }
}

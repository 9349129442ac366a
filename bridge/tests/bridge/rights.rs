//! Brokers that ask who somebody is, and show who they are.

use std::net::Ipv4Addr;

use async_nats::ConnectOptions;
use futures_util::stream::select_all;
use futures_util::{FutureExt, StreamExt};
use resized_client::Credentials;
use resized_protocol::remote::{PICTURE_SUBJECT, STREAM_SUBJECT};
use tokio::runtime::Runtime;

use crate::broker::Broker;
use crate::caller::Caller;
use crate::support::{Authority, Bridge, DEADLINE, Local, bounded, connect, text, until};

/// A user with the rights that the guide says are enough, of which a client's are for an inbox of that
/// name.
fn documented(kind: &str, name: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/remote.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, row) = page.split_once(&format!("\n| a {kind} | ")).expect(kind);
    let cells: Vec<_> = row.lines().next().unwrap().split('|').collect();
    let [subscribe, publish] =
        [0, 1].map(|cell| cells[cell].replace('`', "\"").replace("NAME", name));
    let rights = format!("subscribe: [{subscribe}], publish: [{publish}]");
    format!("{{ user: {name}, password: secret, permissions: {{ {rights} }} }}")
}

#[test]
fn clients_may_ask_and_bridges_alone_may_be_asked() {
    bounded(|| {
        let files = Authority::new();
        let users = [documented("bridge", "bridge")];
        let users =
            users.into_iter().chain(["one", "other"].map(|name| documented("client", name)));
        let users = users.collect::<Vec<_>>().join(", ");
        // The bridge has no credentials here, and is who that makes it.
        let config = format!("authorization {{ users: [{users}] }}\nno_auth_user: bridge\n");
        let config = files.write("nats.conf", &config);
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let broker = Broker::start_with(&["--config", text(&config)], any);
        let local = Local::start();
        let _bridge = Bridge::start(&local, &["--nats", &broker.url()]);
        let client = |runtime: &Runtime, name: &str| {
            let options = ConnectOptions::with_user_and_password(name.into(), "secret".into());
            let options = options.request_timeout(Some(DEADLINE / 4));
            let options = options.custom_inbox_prefix(format!("_INBOX.{name}"));
            runtime.block_on(options.connect(broker.url())).unwrap()
        };
        let runtime = Runtime::new().unwrap();
        let [asking, listening] = ["one", "other"].map(|name| client(&runtime, name));
        let ask = |subject| runtime.block_on(asking.request(subject, "".into()));
        until("the bridge has joined", || ask(STREAM_SUBJECT).is_ok());
        assert!(!ask(STREAM_SUBJECT).unwrap().payload.is_empty());
        // A picture that is none is answered.
        until("the bridge takes pictures", || ask(PICTURE_SUBJECT).is_ok());
        let overheard = runtime.block_on(async {
            let mut all = Vec::new();
            for subject in
                [STREAM_SUBJECT, PICTURE_SUBJECT, "resized.>", "_INBOX.>", "_INBOX.one.>", ">"]
            {
                all.push(listening.subscribe(subject).await.unwrap());
                let group = "pictures".to_owned();
                all.push(listening.queue_subscribe(subject, group).await.unwrap());
            }
            listening.flush().await.unwrap();
            select_all(all)
        });
        for subject in [STREAM_SUBJECT, PICTURE_SUBJECT] {
            (0..4).for_each(|_| drop(ask(subject).unwrap()));
        }
        // What was sent before this is here by now.
        runtime.block_on(listening.request(STREAM_SUBJECT, "".into())).unwrap();
        assert!(runtime.block_on(async { overheard.into_future().now_or_never() }).is_none());
    });
}

#[test]
fn clients_are_answered_where_they_were_told_to_listen() {
    bounded(|| {
        let broker = Broker::start();
        let caller = Caller::new(&broker, DEADLINE / 4);
        let mut asked = caller.runtime.block_on(caller.nats.subscribe(STREAM_SUBJECT)).unwrap();
        caller.runtime.block_on(caller.nats.flush()).unwrap();
        let inbox = Credentials { nats_inbox: Some("_INBOX.one".into()), ..Credentials::default() };
        // Nobody answers.
        assert!(connect(&broker.endpoint(), &inbox).is_err());
        let question = caller.runtime.block_on(asked.next()).unwrap();
        let reply = question.reply.unwrap();
        assert!(reply.starts_with("_INBOX.one."), "{reply}");
    });
}

#[test]
fn brokers_show_a_certificate_of_an_authority_that_was_named() {
    bounded(|| {
        let (authority, other) = (Authority::new(), Authority::new());
        let (certificate, key) = authority.sign("broker", false);
        let flags = ["--tls", "--tlscert", text(&certificate), "--tlskey", text(&key)];
        let broker = Broker::start_with(&flags, (Ipv4Addr::LOCALHOST, 0).into());
        let url = format!("nats://localhost:{}", broker.address.port());
        let local = Local::start();
        let ca = authority.certificate();
        let _bridge = Bridge::start(&local, &["--nats", &url, "--nats-ca", text(&ca)]);
        let endpoint = format!("{url}/stream").parse().unwrap();
        let trusting = |authority: &Authority| Credentials {
            authorities: Some(authority.certificate()),
            ..Credentials::default()
        };
        until("the bridge has joined", || connect(&endpoint, &trusting(&authority)).is_ok());
        assert!(connect(&endpoint, &trusting(&other)).is_err());
        // A file that can't be used is named.
        let none = Credentials {
            authorities: Some(authority.write("empty.pem", "")),
            ..Credentials::default()
        };
        let error = connect(&endpoint, &none).unwrap_err().to_string();
        assert!(error.contains("$RESIZED_CA") && error.contains("empty.pem"), "{error}");
        // And none that shows nothing.
        let plain = Broker::start();
        let bridge = Bridge::start(&local, &["--nats", &plain.url(), "--nats-ca", text(&ca)]);
        until("it says so", || bridge.log().contains("can't join the service"));
    });
}

//! Machines that go without a word, as those without power and behind cut links do: no connection
//! is closed or reset, and nothing comes back.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use async_nats::StatusCode;
use futures_util::StreamExt;
use resized_client::{Client, Credentials, PixelFormat, Stream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::broker::Broker;
use crate::cluster::Node;
use crate::network::{Host, Network, with_network};
use crate::support::{
    Authority, Bridge, Local, bounded, connect, everybody_gets_on, noise, resized, spec, text,
    until,
};

const NATS: u16 = 4222;
const PORT: u16 = 7788;
/// Clients that have frames resized without end; and of streams that nobody uses meanwhile.
const BUSY: usize = 6;
const IDLE: usize = 4;
const SLOTS: u32 = 3;
/// For those that answer one after the other.
const ANSWERS: Duration = Duration::from_millis(300);

/// A node on a host of its own.
fn node(host: &Host, broker: &Broker, authority: &Authority) -> Node {
    let address = host.address.to_string();
    let (certificate, key) = authority.sign_for(&address, &address, false);
    let token = authority.write("token", "nobody knows");
    let (listen, url) = (host.at(PORT).to_string(), broker.url());
    let advertised = format!("tls://{listen}");
    let flags = [
        ["--listen", &listen],
        ["--advertise", &advertised],
        ["--certificate", text(&certificate)],
        ["--key", text(&key)],
        ["--token", text(&token)],
        ["--nats", &url],
        ["--patience", "5"],
    ];
    let local = Local::start();
    let bridge = host.run(|| Bridge::start(&local, flags.as_flattened()));
    Node { local, bridge }
}

/// How many nodes the broker knows of that can be reached.
fn members(url: &str) -> usize {
    let runtime = Runtime::new().unwrap();
    let count = async {
        let nats = async_nats::connect(url).await.ok()?;
        let inbox = nats.new_inbox();
        let mut pongs = nats.subscribe(inbox.clone()).await.ok()?;
        nats.publish_with_reply("$SRV.PING.resized", inbox, "".into()).await.ok()?;
        let mut count = 0;
        while let Ok(Some(pong)) = timeout(ANSWERS, pongs.next()).await {
            count += usize::from(pong.status != Some(StatusCode::NO_RESPONDERS));
        }
        Some(count)
    };
    runtime.block_on(count).unwrap_or(0)
}

/// Frames in all slots of a stream at once; each result is that of its own frame.
fn round(stream: &Stream, expected: &[Vec<u8>]) {
    let pendings: Vec<_> = (0..SLOTS)
        .map(|seed| {
            let mut slot = stream.loan().unwrap();
            let packed = noise(slot.layout().packed_len(), seed);
            slot.write_packed(&packed).unwrap();
            slot.submit().unwrap()
        })
        .collect();
    for (pending, expected) in pendings.into_iter().zip(expected) {
        assert!(pending.wait().unwrap().to_packed() == *expected, "another frame");
    }
}

#[test]
fn nodes_and_brokers_that_vanish_cost_no_frame() {
    bounded(|| {
        with_network("vanished::nodes_and_brokers_that_vanish_cost_no_frame", |mut network| {
            nodes_and_brokers_that_vanish(&mut network);
        });
    });
}

fn nodes_and_brokers_that_vanish(network: &mut Network) {
    let [here, for_nats, one, other] = [(); 4].map(|()| network.host());
    let authority = Authority::new();
    let mut broker = for_nats.run(|| Broker::start_at(for_nats.at(NATS)));
    let (hosts, endpoint, url) = ([one, other], broker.endpoint(), broker.url());
    let nodes = hosts.each_ref().map(|host| node(host, &broker, &authority));
    let trusting =
        Credentials { authorities: Some(authority.certificate()), ..Credentials::default() };
    let reconnecting = || Client::connect_as(&endpoint, Default::default(), &trusting).unwrap();
    let both_are_found = |when| until(when, || here.run(|| members(&url)) == 2);
    let spec = spec(PixelFormat::I420, SLOTS);
    let near = nodes[0].local.client().open(&spec).unwrap();
    let expected: Vec<_> = (0..SLOTS).map(|seed| resized(&near, seed).unwrap()).collect();
    drop(near);
    both_are_found("both nodes have joined");
    let (over, rounds) = (AtomicBool::new(false), [const { AtomicU32::new(0) }; BUSY]);
    let idle: Vec<_> =
        here.run(|| (0..IDLE).map(|_| reconnecting().open(&spec).unwrap()).collect());
    thread::scope(|scope| {
        for rounds in &rounds {
            let (here, reconnecting, over, expected) = (&here, &reconnecting, &over, &expected);
            let until_over = move || {
                let stream = reconnecting().open(&spec).unwrap();
                while !over.load(Ordering::Relaxed) {
                    round(&stream, expected);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            };
            scope.spawn(move || here.run(until_over));
        }
        everybody_gets_on(&rounds);
        assert!(nodes.iter().all(|node| node.sessions() > 0), "clients at both nodes");

        network.cut(&hosts[0]);
        everybody_gets_on(&rounds);
        // Those who said nothing meanwhile notice it too, by then or as they go on.
        here.run(|| idle.iter().for_each(|stream| round(stream, &expected)));
        assert_eq!(nodes[1].sessions() as usize, BUSY + IDLE);
        until("the node takes its clients for gone", || nodes[0].sessions() == 0);
        network.mend(&hosts[0]);
        until("the node is found again", || {
            let client = here.run(|| connect(&endpoint, &trusting));
            client.is_ok() && nodes[0].sessions() > 0
        });

        network.cut(&for_nats);
        everybody_gets_on(&rounds);
        here.run(|| connect(&endpoint, &trusting)).unwrap_err();
        // What is there when the link is back knows of nobody.
        broker.kill();
        for_nats.run(|| broker.start_again());
        everybody_gets_on(&rounds);
        network.mend(&for_nats);
        both_are_found("the bridges have found the broker again");
        everybody_gets_on(&rounds);
        over.store(true, Ordering::Relaxed);
    });
}

//! What the `nats` command on the page asks for, asked by another NATS client.

use std::thread::sleep;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use turbojpeg::{Image, PixelFormat, Subsamp};

use crate::broker::Broker;
use crate::page::Page;
use crate::service::Service;

/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_picture_is_asked_for_as_the_service_has_it() {
    let commands = Page::read("docs/remote.md").all_commands();
    let command = commands.iter().find_map(|command| command.strip_prefix("nats request "));
    let words: Vec<&str> = command.expect("the page shows the nats command").split(' ').collect();
    let mut headers = HeaderMap::new();
    for pair in words.windows(2).filter(|pair| pair[0] == "--header") {
        let (name, value) = pair[1].split_once(':').unwrap();
        headers.append(name, value);
    }

    let broker = Broker::start();
    let url = broker.url();
    let _service = Service::with(|_, args| args.nats = vec![url.parse().unwrap()]);

    let (width, height) = (1280, 720);
    let pixels = [90; 3].repeat(width * height);
    let image =
        Image { pixels: &pixels[..], width, pitch: 3 * width, height, format: PixelFormat::RGB };
    let photo = turbojpeg::compress(image, 85, Subsamp::Sub2x2).unwrap().to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = || {
        runtime.block_on(async {
            let nats = async_nats::connect(&url).await.ok()?;
            let subject = words[0].to_owned();
            nats.request_with_headers(subject, headers.clone(), photo.clone().into()).await.ok()
        })
    };
    let begun = Instant::now();
    // Until the bridge has joined the service.
    let answer = loop {
        if let Some(answer) = ask() {
            break answer;
        }
        assert!(begun.elapsed() < PATIENCE, "no bridge answers at {}", words[0]);
        sleep(Duration::from_millis(50));
    };
    let small = turbojpeg::decompress(&answer.payload, PixelFormat::RGB).unwrap();
    assert_eq!((small.width, small.height), (640, 360));
}

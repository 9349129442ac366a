//! Who asks a NATS service for single pictures, and what is expected of it.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{Client, ConnectOptions, HeaderMap, Message};
use futures_util::StreamExt;
use resized_pictures::{Desk, Limits, Settings};
use tokio::runtime::Runtime;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

use crate::broker::Broker;
use crate::cluster::Node;
use crate::support::{DEADLINE, noise, until};

const SUBJECT: &str = "resized.picture";

/// Requests that a bridge has room for before it looks at them.
const PIECE: usize = 200;

pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

/// A picture that was made: its format and size, as headers say, and its bytes.
pub(crate) type Made = (String, String, Vec<u8>);

/// Code and text of an error.
pub(crate) type Refused = (usize, String);

/// Somebody with a NATS client and nothing of ours.
pub(crate) struct Caller {
    pub(crate) runtime: Runtime,
    pub(crate) nats: Client,
}

impl Caller {
    /// Who gives up after `patience`.
    pub(crate) fn new(broker: &Broker, patience: Duration) -> Self {
        let runtime = Runtime::new().unwrap();
        let options = ConnectOptions::new().request_timeout(Some(patience));
        let nats = runtime.block_on(options.connect(broker.url())).unwrap();
        Self { runtime, nats }
    }

    /// Of whatever bridge has joined by now.
    pub(crate) fn of(broker: &Broker) -> Self {
        let caller = Self::new(broker, DEADLINE / 2);
        until("a bridge takes pictures", || caller.try_ask(b"", &[]).is_ok());
        caller
    }

    pub(crate) fn try_ask(
        &self,
        picture: &[u8],
        headers: Headers<'_>,
    ) -> Result<Result<Made, Refused>, RequestErrorKind> {
        let picture = picture.to_vec().into();
        let asked = self.nats.request_with_headers(SUBJECT, map(headers), picture);
        self.runtime.block_on(asked).map(answer).map_err(|error| error.kind())
    }

    #[track_caller]
    pub(crate) fn ask(&self, picture: &[u8], headers: Headers<'_>) -> Result<Made, Refused> {
        self.try_ask(picture, headers).unwrap()
    }

    /// What is said to several requests that are made at once, in the order in which it is said. Of many
    /// a bridge gets another, which is an error, between pieces.
    pub(crate) fn ask_all(
        &self,
        picture: &[u8],
        headers: Headers<'_>,
        count: usize,
        meanwhile: impl FnOnce(),
    ) -> Vec<(usize, Result<Made, Refused>)> {
        let inbox = self.nats.new_inbox();
        let mut answers = self.runtime.block_on(async {
            let answers = self.nats.subscribe(format!("{inbox}.*")).await.unwrap();
            for number in 0..count {
                let (reply, picture) = (format!("{inbox}.{number}"), picture.to_vec().into());
                let headers = map(headers);
                let sent =
                    self.nats.publish_with_reply_and_headers(SUBJECT, reply, headers, picture);
                sent.await.unwrap();
                // Nothing is lost before the bridge, which answers this behind those.
                if number % PIECE == PIECE - 1 {
                    self.nats.request(SUBJECT, "".into()).await.unwrap();
                }
            }
            // Who has answered this has got those before it.
            self.nats.request("$SRV.PING.resized", "".into()).await.unwrap();
            answers
        });
        meanwhile();
        let mut said = Vec::new();
        self.runtime.block_on(async {
            while said.len() < count {
                let message = answers.next().await.unwrap();
                let number = message.subject.rsplit('.').next().unwrap().parse().unwrap();
                said.push((number, answer(message)));
            }
        });
        said
    }

    /// Requests and errors that a bridge's own figures have for pictures.
    pub(crate) fn figures(&self) -> [usize; 2] {
        let stats = self.nats.request("$SRV.STATS.resized", "".into());
        let stats = self.runtime.block_on(stats).unwrap().payload;
        let text = std::str::from_utf8(&stats).unwrap();
        let (_, own) = text.split_once(r#""name":"picture""#).expect("an endpoint for pictures");
        ["num_requests", "num_errors"].map(|name| {
            let (_, value) = own.split_once(&format!(r#""{name}":"#)).expect(name);
            value.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        })
    }
}

fn map(headers: Headers<'_>) -> HeaderMap {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.append(*name, *value));
    map
}

fn answer(message: Message) -> Result<Made, Refused> {
    let header = |name: &str| {
        let headers = message.headers.as_ref()?;
        Some(headers.get(name)?.as_str().to_owned())
    };
    match header(NATS_SERVICE_ERROR_CODE) {
        Some(code) => {
            assert!(message.payload.is_empty());
            Err((code.parse().unwrap(), header(NATS_SERVICE_ERROR).unwrap()))
        }
        None => Ok((header("Format").unwrap(), header("Size").unwrap(), message.payload.to_vec())),
    }
}

pub(crate) fn jpeg(width: usize, height: usize, subsamp: Subsamp, progressive: bool) -> Vec<u8> {
    let pixels = noise(3 * width * height, 7);
    let format = PixelFormat::RGB;
    let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(80).unwrap();
    compressor.set_subsamp(subsamp).unwrap();
    compressor.set_progressive(progressive).unwrap();
    compressor.compress_to_vec(image).unwrap()
}

/// The way resizectl makes them.
pub(crate) fn made(node: &Node, picture: &[u8], settings: &Settings) -> Made {
    let limits = Limits { pixels: 200_000_000, made: u64::MAX, scans: 500 };
    let mut desk = Desk::new(node.local.client(), limits).unwrap();
    let picture = desk.resize(picture, settings).unwrap();
    let format = picture.format.name().to_owned();
    (format, picture.extent.to_string(), picture.bytes.into_owned())
}

pub(crate) fn settings(size: &str) -> Settings {
    Settings::new(size.parse().unwrap())
}

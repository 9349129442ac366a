//! Files of single pictures that are any bytes: each becomes a picture as it was asked for, or an
//! error that says nothing of the next; and no header makes anything be allocated beyond the limits
//! (`make fuzz` bounds each allocation).
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use resized::{Devices, Options, Server};
use resized_client::{Client, Extent, Filter, Quality};
use resized_pictures::{Colour, Desk, Format, Limits, Mode, PictureError, Settings, Size, Wish};

const LIMITS: Limits = Limits { pixels: 1 << 20, made: 1 << 16, scans: 64 };

/// Most that a picture within the limits takes: decoded as 16 bits of four channels, as bytes, in a
/// ring; made, turned, encoded; and what a decoder has in any case.
const MOST: u64 = 32 * LIMITS.pixels + 32 * LIMITS.made + (16 << 20);

struct Scene {
    desk: Desk,
    _server: Server,
}

impl Scene {
    fn new() -> Self {
        let options = Options { devices: Devices::Cpu, ..Options::default() };
        let server = Server::embedded_with(options).unwrap();
        let client = Client::from_socket(server.connect().unwrap()).unwrap();
        Self { desk: Desk::new(client, LIMITS).unwrap(), _server: server }
    }
}

thread_local! {
    static SCENE: RefCell<Scene> = RefCell::new(Scene::new());
}

fuzz_target!(|input: &[u8]| {
    let Some((&asked, file)) = input.split_first() else { return };
    let settings = settings(asked);
    SCENE.with_borrow_mut(|Scene { desk, .. }| {
        let made = match resize(desk, file, &settings) {
            Ok(made) => made,
            Err(error) => return assert!(!error.is_final(), "{error}"),
        };
        // What was made is a picture too, of the extent that was said.
        let stretched = Settings { format: Some(Format::Png), ..self::settings(0) };
        resize(desk, &made, &stretched).unwrap();
    });
});

fn resize(desk: &mut Desk, file: &[u8], settings: &Settings) -> Result<Vec<u8>, PictureError> {
    let planned = desk.plan(file, settings)?;
    assert!(planned.bytes() <= MOST, "{} bytes", planned.bytes());
    let made = desk.make(planned)?;
    assert!(made.extent.pixels() <= LIMITS.made, "{}", made.extent);
    assert!(settings.format.is_none_or(|format| format == made.format));
    Ok(made.bytes.into_owned())
}

/// Every byte is something that may be asked for.
fn settings(asked: u8) -> Settings {
    let pick = |from: u8, count: u8| usize::from(asked / from % count);
    let boxed = |width, height| Size::Box(Extent::new(width, height));
    let size = [boxed(19, 13), Size::Width(40), Size::Height(21), boxed(200, 3)];
    let mode = [Mode::Stretch, Mode::Fit, Mode::Fill, Mode::Pad(Colour([7, 80, 200]))];
    let format = [None, Some(Format::Jpeg), Some(Format::Png), Some(Format::Webp)];
    let (size, mode) = (size[pick(1, 4)], mode[pick(4, 4)]);
    let wish = Wish { size, mode, crop: None, only_shrink: asked >= 192 };
    Settings {
        wish,
        filter: Filter::Bicubic,
        quality: Quality::new(70).unwrap(),
        format: format[pick(16, 4)],
    }
}

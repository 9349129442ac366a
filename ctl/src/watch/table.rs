//! Owns figures in words: the cells of both tables, and the tables as text.

use super::figures::{ClientFigures, DeviceFigures, Figures, Percentiles, StreamFigures, Work};

/// Names of the columns of devices.
pub(crate) const DEVICES: [&str; 9] = [
    "device", "frames/s", "Mpixel/s", "busy", "wait p50", "wait p99", "work p50", "work p99",
    "errors",
];

/// Names of the columns of clients and their streams.
pub(crate) const STREAMS: [&str; 11] = [
    "client", "uid", "stream", "slots", "ring", "frames/s", "Mpixel/s", "wait p99", "work p99",
    "errors", "frames",
];

/// What the daemon does as a whole.
pub(crate) fn summary(figures: &Figures) -> String {
    let Figures { sessions, streams, ring_bytes, queued, refused, copied_bytes, .. } = figures;
    format!(
        "clients {sessions}   streams {streams}   rings {}   waiting {queued}   refused {refused}   copied {}",
        bytes(*ring_bytes),
        bytes(*copied_bytes)
    )
}

/// A row of each device.
pub(crate) fn devices(figures: &Figures) -> Vec<[String; 9]> {
    let row = |device: &DeviceFigures| {
        let DeviceFigures { name, work, busy_lanes, failed, times, .. } = device;
        let [frames, pixels] = rates(work);
        let busy = number(*busy_lanes, 2);
        [
            name.clone(),
            frames,
            pixels,
            busy,
            time(times.wait_us.p50),
            time(times.wait_us.p99),
            time(times.work_us.p50),
            time(times.work_us.p99),
            failed.to_string(),
        ]
    };
    figures.devices.iter().map(row).collect()
}

/// A row of each client that ever had work or can have some, and one of each of its streams.
pub(crate) fn streams(figures: &Figures) -> Vec<[String; 11]> {
    let busy = |client: &&ClientFigures| client.work.frames > 0 || !client.streams.is_empty();
    figures.clients.iter().filter(busy).flat_map(rows).collect()
}

fn rows(client: &ClientFigures) -> Vec<[String; 11]> {
    let sum = |part: fn(&StreamFigures) -> u64| client.streams.iter().map(part).sum::<u64>();
    let [frames, pixels] = rates(&client.work);
    let head = [
        client.name.clone(),
        client.uid.to_string(),
        client.streams.len().to_string(),
        sum(|stream| stream.slots.into()).to_string(),
        bytes(sum(|stream| stream.ring_bytes)),
        frames,
        pixels,
        String::new(),
        String::new(),
        sum(errors).to_string(),
        client.work.frames.to_string(),
    ];
    let row = |stream: &StreamFigures| {
        let [frames, pixels] = rates(&stream.work);
        [
            String::new(),
            String::new(),
            format!("#{}", stream.stream),
            stream.slots.to_string(),
            bytes(stream.ring_bytes),
            frames,
            pixels,
            bound(&stream.times.wait_us),
            bound(&stream.times.work_us),
            errors(stream).to_string(),
            stream.work.frames.to_string(),
        ]
    };
    std::iter::once(head).chain(client.streams.iter().map(row)).collect()
}

/// Frames that were not resized: failed, or too late. Those that the client gave up are its own affair.
const fn errors(stream: &StreamFigures) -> u64 {
    stream.failed + stream.late
}

fn rates(work: &Work) -> [String; 2] {
    [number(work.frames_per_second, 1), number(work.megapixels_per_second, 1)]
}

fn number(number: Option<f64>, digits: usize) -> String {
    number.map_or("-".to_owned(), |number| format!("{number:.digits$}"))
}

fn bound(percentiles: &Percentiles) -> String {
    time(percentiles.p99)
}

/// That it was less than so many microseconds.
fn time(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 1000 => format!("<{us} us"),
        Some(us) => format!("<{:.1} ms", us as f64 / 1e3),
    }
}

/// So many bytes, in words.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// All of it as text: columns as wide as their widest cell, all but the first to the right.
pub(crate) fn text(figures: &Figures) -> String {
    let mut text = summary(figures) + "\n\n" + &aligned(&DEVICES, &devices(figures));
    let streams = streams(figures);
    if !streams.is_empty() {
        text += "\n\n";
        text += &aligned(&STREAMS, &streams);
    }
    text
}

fn aligned<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let line = |cells: [&str; N]| {
        let cell = |(column, cell): (usize, &&str)| {
            let width = width(column);
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        };
        cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    std::iter::once(line(*head)).chain(rows).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "12345".to_owned()], ["long".to_owned(), "1".to_owned()]];
        assert_eq!(aligned(&["x", "yy"], &rows), "x        yy\na     12345\nlong      1");
    }

    #[test]
    fn sizes_and_times_have_their_units() {
        assert_eq!(
            [0, 1536, 3 << 20, 5 << 30].map(bytes),
            ["0 B", "1.5 KiB", "3.0 MiB", "5.0 GiB"]
        );
        assert_eq!([None, Some(512), Some(4096)].map(time), ["-", "<512 us", "<4.1 ms"]);
    }
}

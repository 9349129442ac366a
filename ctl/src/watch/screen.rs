//! Owns the terminal while `resizectl top` shows figures there; afterwards it is as it was, also
//! after an error or a signal.
//!
//! Invariant: keys and signals are answered, whatever the daemon does. It is asked by a thread of
//! its own.

use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table};
use resized_client::{Client, Endpoint, Error, Reconnect};

use super::figures::{Figures, Look};
use super::table;
use crate::signal::Signal;

/// Rows that a page goes up or down.
const PAGE: usize = 10;

/// Longest that a signal, or a look, is waited out.
const STEP: Duration = Duration::from_millis(100);

/// An answer that takes longer is said to be missing, and for how many of these.
const SECOND: Duration = Duration::from_secs(1);

/// Shows figures until the user has seen enough.
pub(crate) fn show(client: Client, endpoint: &Endpoint, interval: Duration) -> Result<ExitCode> {
    let signal = Signal::listen()?;
    let looks = looks(client, endpoint.clone(), interval)?;
    let mut terminal = ratatui::try_init().context("can't take the terminal")?;
    let shown = (|| {
        let (mut before, mut figures, mut top) = (None, None, 0);
        let mut lost = false;
        // When the next look is to be had.
        let mut due = Instant::now();
        loop {
            let trouble = match due.elapsed() {
                _ if lost => "lost, looking for it".to_owned(),
                late if late >= SECOND => format!("no answer for {} s", late.as_secs()),
                _ => String::new(),
            };
            terminal.draw(|frame| draw(frame, endpoint, figures.as_ref(), &trouble, &mut top))?;
            match wait(&looks, &signal)? {
                Wish::Leave => return Ok(signal.code().unwrap_or(ExitCode::SUCCESS)),
                Wish::Up(rows) => top = top.saturating_sub(rows),
                Wish::Down(rows) => top += rows,
                // What comes next may be another's.
                Wish::Lost => (lost, before) = (true, None),
                Wish::See(now) => {
                    figures = Some(Figures::new(before.as_ref(), &now));
                    before = Some(*now);
                    lost = false;
                    due = Instant::now() + interval;
                }
            }
        }
    })();
    ratatui::restore();
    shown
}

/// Looks at the daemon, so long after each other. One that is lost is looked for until it is found.
fn looks(
    client: Client,
    endpoint: Endpoint,
    interval: Duration,
) -> Result<Receiver<Result<Look, Error>>> {
    let (seen, looks) = mpsc::channel();
    let look = move || {
        let mut client = Ok(client);
        loop {
            let look = client.as_ref().map_err(Clone::clone).and_then(Look::at);
            let lost = look.is_err();
            if seen.send(look).is_err() {
                return;
            }
            if lost {
                thread::sleep(interval.min(SECOND));
                client = Client::connect_with(&endpoint, Reconnect::NEVER);
            } else {
                thread::sleep(interval);
            }
        }
    };
    thread::Builder::new().name("looks".to_owned()).spawn(look).context("can't start a thread")?;
    Ok(looks)
}

/// What is to be done.
enum Wish {
    Leave,
    Up(usize),
    Down(usize),
    /// There is nobody to ask.
    Lost,
    /// There is something new.
    See(Box<Look>),
}

impl Wish {
    /// To draw again what there is.
    const AGAIN: Self = Self::Up(0);
}

/// What the user wants, or what there is to see, within a second.
fn wait(looks: &Receiver<Result<Look, Error>>, signal: &Signal) -> Result<Wish> {
    let begun = Instant::now();
    while begun.elapsed() < SECOND {
        if signal.came() {
            return Ok(Wish::Leave);
        }
        match looks.try_recv() {
            Ok(Ok(look)) => return Ok(Wish::See(Box::new(look))),
            Ok(Err(_)) => return Ok(Wish::Lost),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => bail!("the thread that looks is gone"),
        }
        if !event::poll(STEP)? {
            continue;
        }
        let Event::Key(key) = event::read()? else { return Ok(Wish::AGAIN) };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        return Ok(match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Wish::Leave,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::Leave,
            KeyCode::Up | KeyCode::Char('k') => Wish::Up(1),
            KeyCode::Down | KeyCode::Char('j') => Wish::Down(1),
            KeyCode::PageUp => Wish::Up(PAGE),
            KeyCode::PageDown => Wish::Down(PAGE),
            KeyCode::Home => Wish::Up(usize::MAX),
            _ => continue,
        });
    }
    Ok(Wish::AGAIN)
}

/// Draws the figures, if there are some yet; `trouble` is why they may be old, if so; `top` is the
/// first row of the streams, made smaller where there are fewer.
fn draw(
    frame: &mut Frame<'_>,
    endpoint: &Endpoint,
    figures: Option<&Figures>,
    trouble: &str,
    top: &mut usize,
) {
    let (devices, streams) = figures
        .map(|figures| (table::devices(figures), table::streams(figures)))
        .unwrap_or_default();
    let rows = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(devices.len() as u16 + 2),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [head, upper, lower, foot] = rows.areas(frame.area());
    *top = (*top).min(streams.len().saturating_sub(1));
    let title = Line::styled(endpoint.to_string(), Modifier::BOLD);
    frame.render_widget(title, head);
    if head.height > 1 {
        let second = ratatui::layout::Rect { y: head.y + 1, height: 1, ..head };
        let summary = figures.map(table::summary).unwrap_or_default();
        frame.render_widget(Line::raw(summary), second);
    }
    frame.render_widget(grid(&table::DEVICES, &devices), upper);
    frame.render_widget(grid(&table::STREAMS, &streams[*top..]), lower);
    let mut keys = Line::styled("q leaves, arrows scroll", Modifier::DIM);
    keys.push_span(Span::styled(format!("   {trouble}"), Modifier::BOLD));
    frame.render_widget(keys, foot);
}

fn grid<'a, const N: usize>(head: &[&'a str; N], rows: &'a [[String; N]]) -> Table<'a> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default() as u16
    };
    let cell = |column: usize, text: &'a str| {
        let line = Line::raw(text);
        if column == 0 { line } else { line.right_aligned() }
    };
    let line = |cells: [&'a str; N]| {
        Row::new(
            cells
                .into_iter()
                .enumerate()
                .map(|(column, text)| cell(column, text))
                .collect::<Vec<_>>(),
        )
    };
    let head = line(*head).style(Style::from(Modifier::REVERSED));
    let body = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    Table::new(body, (0..N).map(|column| Constraint::Length(width(column))))
        .header(head)
        .column_spacing(2)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn figures() -> Figures {
        use super::super::figures::{DeviceFigures, Percentiles, Times, Work};
        let percentiles = || Percentiles { p50: Some(64), p99: Some(4096) };
        Figures {
            protocol: 7,
            seconds: Some(1.0),
            sessions: 1,
            streams: 0,
            ring_bytes: 0,
            queued: 3,
            refused: 0,
            copied_bytes: 0,
            devices: vec![DeviceFigures {
                name: "cpu".to_owned(),
                work: Work {
                    frames: 9,
                    frames_per_second: Some(812.5),
                    megapixels_per_second: Some(9.0),
                },
                busy_lanes: Some(1.5),
                failed: 0,
                copied_bytes: 0,
                times: Times { wait_us: percentiles(), work_us: percentiles() },
            }],
            clients: Vec::new(),
        }
    }

    #[test]
    fn figures_are_on_the_screen_whatever_its_size() {
        let endpoint = "unix:/run/resized/resized.sock".parse().unwrap();
        for (width, height) in [(100, 30), (20, 4), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let mut top = 99;
            let draw = |frame: &mut Frame<'_>| {
                draw(frame, &endpoint, Some(&figures()), "no answer for 7 s", &mut top)
            };
            terminal.draw(draw).unwrap();
            assert_eq!(top, 0);
            let screen: String =
                terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
            if width == 100 {
                for text in [
                    "unix:/run/resized/resized.sock",
                    "waiting 3",
                    "812.5",
                    "<4.1 ms",
                    "q leaves",
                    "no answer for 7 s",
                ] {
                    assert!(screen.contains(text), "{text}: {screen}");
                }
            }
        }
    }
}

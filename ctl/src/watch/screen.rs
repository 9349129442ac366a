//! Owns the terminal while `resizectl top` shows figures there; afterwards it is as it was, also after an error or a
//! signal.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};
use resized_client::{Client, Endpoint};

use super::figures::{Figures, Look};
use super::table;
use crate::signal::Signal;

/// Rows that a page goes up or down.
const PAGE: usize = 10;

/// Longest that a signal is waited out.
const STEP: Duration = Duration::from_millis(100);

/// Shows figures until the user has seen enough.
pub(crate) fn show(client: &Client, endpoint: &Endpoint, interval: Duration) -> Result<ExitCode> {
    let signal = Signal::listen()?;
    let mut before = Look::at(client)?;
    let mut figures = Figures::new(None, &before);
    let mut terminal = ratatui::try_init().context("can't take the terminal")?;
    let mut top = 0;
    let shown = (|| {
        let mut next = Instant::now() + interval;
        loop {
            terminal.draw(|frame| draw(frame, endpoint, &figures, &mut top))?;
            match wait(next, &signal)? {
                Some(Wish::Leave) => return Ok(signal.code().unwrap_or(ExitCode::SUCCESS)),
                Some(Wish::Up(rows)) => top = top.saturating_sub(rows),
                Some(Wish::Down(rows)) => top += rows,
                None => {
                    let now = Look::at(client)?;
                    figures = Figures::new(Some(&before), &now);
                    before = now;
                    next = Instant::now() + interval;
                }
            }
        }
    })();
    ratatui::restore();
    shown
}

enum Wish {
    Leave,
    Up(usize),
    Down(usize),
}

/// What the user wants, if anything by then.
fn wait(until: Instant, signal: &Signal) -> io::Result<Option<Wish>> {
    loop {
        if signal.came() {
            return Ok(Some(Wish::Leave));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        if !event::poll(left.min(STEP))? {
            continue;
        }
        let Event::Key(key) = event::read()? else { return Ok(Some(Wish::Up(0))) };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        return Ok(Some(match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Wish::Leave,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::Leave,
            KeyCode::Up | KeyCode::Char('k') => Wish::Up(1),
            KeyCode::Down | KeyCode::Char('j') => Wish::Down(1),
            KeyCode::PageUp => Wish::Up(PAGE),
            KeyCode::PageDown => Wish::Down(PAGE),
            KeyCode::Home => Wish::Up(usize::MAX),
            _ => continue,
        }));
    }
}

/// Draws it; `top` is the first row of the streams, made smaller where there are fewer.
fn draw(frame: &mut Frame<'_>, endpoint: &Endpoint, figures: &Figures, top: &mut usize) {
    let (devices, streams) = (table::devices(figures), table::streams(figures));
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
        frame.render_widget(Line::raw(table::summary(figures)), second);
    }
    frame.render_widget(grid(&table::DEVICES, &devices), upper);
    frame.render_widget(grid(&table::STREAMS, &streams[*top..]), lower);
    frame.render_widget(Line::styled("q leaves, arrows scroll", Modifier::DIM), foot);
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
            terminal.draw(|frame| draw(frame, &endpoint, &figures(), &mut top)).unwrap();
            assert_eq!(top, 0);
            let screen: String =
                terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
            if width == 100 {
                for text in
                    ["unix:/run/resized/resized.sock", "waiting 3", "812.5", "<4.1 ms", "q leaves"]
                {
                    assert!(screen.contains(text), "{text}: {screen}");
                }
            }
        }
    }
}

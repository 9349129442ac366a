//! Owns `resizectl status` and `resizectl top`: what a daemon says about itself.
//!
//! [`figures`] asks and compares, [`table`] puts it in words, [`screen`] on a terminal.

mod figures;
mod screen;
mod table;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;

use anyhow::{Result, ensure};
use resized_client::{Client, Endpoint, Reconnect};

use crate::args::{Status, Top};
use crate::terminal::say;
use figures::{Figures, Look};
pub(crate) use table::bytes;

/// Says what the daemon has done since it started.
pub(crate) fn status(asked: &Status, endpoint: Option<&Endpoint>) -> Result<ExitCode> {
    let (endpoint, client) = find(endpoint)?;
    print(&endpoint, &Figures::new(None, &Look::at(&client)?), asked.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what the daemon does.
pub(crate) fn top(asked: &Top, endpoint: Option<&Endpoint>) -> Result<ExitCode> {
    let (endpoint, client) = find(endpoint)?;
    if asked.once {
        let before = Look::at(&client)?;
        thread::sleep(asked.interval);
        print(&endpoint, &Figures::new(Some(&before), &Look::at(&client)?), asked.json)?;
    } else {
        let terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        ensure!(terminal, "top needs a terminal: --once prints its figures anywhere");
        return screen::show(client, &endpoint, asked.interval);
    }
    Ok(ExitCode::SUCCESS)
}

/// The daemon that runs. Not another in its place: its figures would be another's.
fn find(endpoint: Option<&Endpoint>) -> Result<(Endpoint, Client)> {
    let endpoint = endpoint.cloned().map_or_else(Endpoint::discover, Ok)?;
    let client = Client::connect_with(&endpoint, Reconnect::NEVER)?;
    Ok((endpoint, client))
}

fn print(endpoint: &Endpoint, figures: &Figures, json: bool) -> Result<()> {
    let text = if json {
        serde_json::to_string(figures)?
    } else {
        format!("{endpoint}   protocol {}   {}", figures.protocol, table::text(figures))
    };
    say(text)
}

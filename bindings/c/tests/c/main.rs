//! The library as programs in C meet it: installed, compiled against, linked, run under valgrind
//! against a daemon.

mod guide;
mod header;
mod package;
mod programs;
mod service;
mod toolbox;

//! `resizectl doctor`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use resized::Limits;
use resized_protocol::VERSION;

use crate::shop::{Service, Shop, mute};
use crate::skip::skip;

/// The line about that, and what follows from it.
#[track_caller]
fn finding<'a>(told: &'a str, start: &str) -> &'a str {
    let at = told.find(start).unwrap_or_else(|| panic!("no {start:?} in\n{told}"));
    let end = told[at..].match_indices('\n').map(|(end, _)| at + end);
    let over = |&end: &usize| !told[end + 1..].starts_with("       ");
    &told[at..end.clone().find(over).unwrap_or(told.len())]
}

#[test]
fn a_daemon_that_is_well_is_found_so() {
    let (shop, service) = (Shop::new(), Service::start());
    let told = shop.good(&format!("doctor --streams 3 --connect {}", service.endpoint()));
    let socket = service.socket().display().to_string();
    assert!(finding(&told, "good  socket").contains(&socket), "{told}");
    assert!(finding(&told, "good  socket").contains("(socket 0600 "), "{told}");
    let daemon = format!("answers at {}, in version {VERSION} of", service.endpoint());
    assert!(finding(&told, "good  daemon").contains(&daemon), "{told}");
    assert!(finding(&told, "good  devices").contains("the daemon resizes on: cpu"), "{told}");
    assert!(
        finding(&told, "good  a frame").contains("the daemon made 640x360 of 1920x1080"),
        "{told}"
    );
    assert!(
        finding(&told, "good  streams").contains("3 of 1920x1080 to 640x360, 4 slots each"),
        "{told}"
    );
    for what in ["memory", "quota", "descriptors", "mappings"] {
        finding(&told, &format!("good  {what}"));
    }
    // Nor are its own limits known, which others than these may be.
    assert!(finding(&told, "note  limits").contains("by default"), "{told}");
    assert!(finding(&told, "good  quota").contains("by default a user may have"), "{told}");
}

#[test]
fn a_frame_for_which_there_is_no_room_is_no_matter_for_a_log() {
    let (shop, limits) = (Shop::new(), Limits { ring_bytes: 4 << 20, ..Limits::default() });
    let service = Service::with(limits);
    let output = shop.run(&format!("doctor --streams 1 --connect {}", service.endpoint()));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    let refused = finding(&told, "BAD   a frame");
    assert!(refused.contains("of the 4.00 MiB that a user may have are left"), "{told}");
    assert!(refused.contains("-> use fewer slots") && !refused.contains("journalctl"), "{told}");
}

#[test]
fn without_a_daemon_it_says_where_one_would_be_and_how_to_start_it() {
    let shop = Shop::new();
    let told = shop.good("doctor --streams 1");
    assert!(
        finding(&told, "note  socket").contains("systemctl enable --now resized.socket"),
        "{told}"
    );
    assert!(finding(&told, "good  a frame").contains("a daemon inside this process"), "{told}");
    // One that has died.
    fs::create_dir(shop.path("resized")).unwrap();
    drop(UnixListener::bind(shop.path("resized/resized.sock")).unwrap());
    let told = shop.good("doctor --streams 1");
    assert!(told.contains("nobody listens; its daemon has died"), "{told}");
}

#[test]
fn what_is_bad_is_named_with_what_to_do() {
    let (shop, service) = (Shop::new(), Service::start());
    let place = |name: &str| format!("--connect unix:{}", shop.path(name).display());
    let bad = |line: &str| {
        let output = shop.run(line);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = bad(&format!("doctor --streams 1 {}", place("no.sock")));
    assert!(finding(&told, "BAD   socket").contains("no.sock: there is none"), "{told}");
    shop.file("file.sock", b"");
    let told = bad(&format!("doctor --streams 1 {}", place("file.sock")));
    finding(&told, "BAD   socket");
    let many = format!("doctor --streams 100000 --slots 256 --connect {}", service.endpoint());
    let told = bad(&many);
    assert!(finding(&told, "BAD   memory").contains("enough for"), "{told}");
    assert!(finding(&told, "BAD   quota").contains("user-connections"), "{told}");
    assert!(finding(&told, "BAD   mappings").contains("vm.max_map_count"), "{told}");
    // So many that no limit can be computed are none to ask about.
    let output = shop.run("doctor --streams 18446744073709551615");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_daemon_that_falls_silent_is_found_so() {
    let shop = Shop::new();
    let endpoint = mute(&shop, "cpu\u{1b}[2J");
    let output = shop.run(&format!("doctor --streams 1 --connect {endpoint}"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    // What it calls its devices has no power over the terminal.
    assert!(told.contains("the daemon resizes on: cpu\\u{1b}[2J\n"), "{told}");
    assert!(finding(&told, "BAD   a frame").contains("no answer in 10 s"), "{told}");
    finding(&told, "good  quota");
}

#[test]
fn of_a_bridge_nothing_is_told_that_is_this_machines() {
    let shop = Shop::new();
    // Nobody listens at the port of one who has gone.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = shop.run(&format!("doctor --streams 1 --connect tcp://{gone}"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(finding(&told, "BAD   daemon").contains("the bridge's log"), "{told}");
    finding(&told, "note  limits");
    // Who could not connect is sent here.
    let said = shop.bad(&format!("status --connect tcp://{gone}"));
    let advice = format!("; resizectl doctor --connect tcp://{gone} says what to do about it\n");
    assert!(said.ends_with(&advice), "{said}");
    for ours in ["quota", "descriptors", "devices", "a frame", "resized.toml"] {
        assert!(!told.contains(ours), "{ours}: {told}");
    }
}

#[test]
fn a_user_who_is_not_let_in_is_told_so() {
    let service = Service::start();
    if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).ok()
        != Some(0)
    {
        return skip("users", "only root can ask as somebody else");
    }
    // Where nobody can go there is the program, too.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("resizectl");
    fs::copy(env!("CARGO_BIN_EXE_resizectl"), &program).unwrap();
    let ask = || {
        let mut command = Command::new(&program);
        command.args(["doctor", "--streams", "1", "--connect", &service.endpoint()]);
        // nobody's
        let output = command.uid(65534).gid(65534).current_dir("/").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = service.socket().parent().unwrap().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let told = ask();
    let closed = finding(&told, "BAD   socket");
    assert!(closed.contains(&format!("{} (folder 0700", folder.display())), "{told}");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let told = ask();
    let closed = finding(&told, "BAD   socket");
    assert!(closed.contains("(socket 0600") && closed.contains("--peers anyone"), "{told}");
    fs::set_permissions(service.socket(), fs::Permissions::from_mode(0o660)).unwrap();
    let told = ask();
    assert!(finding(&told, "BAD   socket").contains("usermod -aG "), "{told}");
}

#[test]
fn a_reader_that_has_gone_away_is_no_reason_to_fail() {
    let (shop, service) = (Shop::new(), Service::start());
    for line in ["doctor --streams 1", "status", "top --once --interval 0.1"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = shop.command();
        command.args(line.split_whitespace()).args(["--connect", &service.endpoint()]);
        let output = command.stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    }
}

//! gst-launch and gst-inspect of the system, with the plugin as they find it.

use std::fs;
use std::process::{Command, Output};

use resized::Limits;
use resized_client::{Filter, PixelFormat, StreamSpec};

use crate::studio::{Studio, spec};

const GUIDE: &str = include_str!("../../../../docs/gstreamer.md");

/// A command that finds the plugin, and the studio's daemon.
fn command(studio: &Studio, program: &str) -> Command {
    // Cargo leaves it beside the tests.
    let built = std::env::current_exe().unwrap().with_file_name("libgstresized.so");
    let plugins = studio.dir().join("plugins");
    if !plugins.exists() {
        fs::create_dir(&plugins).unwrap();
        std::os::unix::fs::symlink(built, plugins.join("libgstresized.so")).unwrap();
    }
    let mut command = Command::new("timeout");
    command
        .args(["120", program])
        .env("GST_PLUGIN_PATH", plugins)
        .env("GST_REGISTRY", studio.dir().join("registry"))
        .env("RESIZED_ENDPOINT", studio.endpoint())
        .env("LC_ALL", "C")
        .current_dir(studio.dir());
    command
}

fn launch(studio: &Studio, pipeline: &str) -> Command {
    let mut command = command(studio, "gst-launch-1.0");
    command.args(pipeline.split_whitespace());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs to its end.
#[track_caller]
fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

fn raw(studio: &Studio, name: &str) -> Vec<u8> {
    fs::read(studio.dir().join(name)).unwrap()
}

#[test]
fn the_element_is_found_and_describes_itself() {
    let studio = Studio::new();
    let mut inspect = command(&studio, "gst-inspect-1.0");
    inspect.arg("resizedscale");
    let text = run(inspect);
    for part in [
        "Filter/Converter/Video/Scaler",
        "add-borders",
        "endpoint",
        "reconnect",
        "mitchell",
        "P010_10LE",
        "[ 1, 16384 ]",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn frames_are_what_the_client_makes_of_them() {
    let studio = Studio::new();
    for (name, format) in [
        ("I420", PixelFormat::I420),
        ("NV12", PixelFormat::Nv12),
        ("RGB", PixelFormat::Rgb24),
        ("BGR", PixelFormat::Bgr24),
        ("RGBA", PixelFormat::Rgba),
        ("BGRA", PixelFormat::Bgra),
        ("GRAY8", PixelFormat::Gray8),
        ("I420_10LE", PixelFormat::I420P10),
        ("P010_10LE", PixelFormat::P010),
    ] {
        // Rows of the one lie in slots as GStreamer has them, those of the other do not.
        for (width, height) in [(128, 64), (64, 40)] {
            run(launch(
                &studio,
                &format!(
                    "videotestsrc num-buffers=3 pattern=smpte \
                     ! video/x-raw,format={name},width=192,height=96 ! tee name=both \
                     both. ! queue ! filesink location=in.raw \
                     both. ! queue ! resizedscale method=lanczos3 add-borders=false \
                     ! video/x-raw,width={width},height={height} ! filesink location=out.raw"
                ),
            ));
            let spec = spec(format, (192, 96), (width, height));
            let spec = StreamSpec { filter: Filter::Lanczos3, ..spec };
            let wanted = studio.resized(&spec, &raw(&studio, "in.raw"));
            assert!(raw(&studio, "out.raw") == wanted, "{name} to {width}x{height}");
        }
    }
}

#[test]
fn two_elements_in_a_pipeline_do_one_after_the_other() {
    let studio = Studio::new();
    run(launch(
        &studio,
        "videotestsrc num-buffers=4 ! video/x-raw,format=I420,width=320,height=240 \
         ! tee name=both both. ! queue ! filesink location=in.raw \
         both. ! queue ! resizedscale ! video/x-raw,width=160,height=120 \
         ! resizedscale ! video/x-raw,width=64,height=48 ! filesink location=out.raw",
    ));
    let [large, middle, small] = [(320, 240), (160, 120), (64, 48)];
    let spec = |from, to| spec(PixelFormat::I420, from, to);
    let once = studio.resized(&spec(large, middle), &raw(&studio, "in.raw"));
    assert!(raw(&studio, "out.raw") == studio.resized(&spec(middle, small), &once));
}

#[test]
fn bytes_are_what_the_caps_before_the_element_say() {
    let studio = Studio::new();
    let bytes: Vec<u8> = (0..64 * 64).map(|n| (n * n / 97) as u8).collect();
    fs::write(studio.dir().join("in.raw"), &bytes).unwrap();
    run(launch(
        &studio,
        "filesrc location=in.raw blocksize=4096 \
         ! video/x-raw,format=GRAY8,width=64,height=64,framerate=25/1 ! resizedscale \
         ! video/x-raw,width=32,height=32 ! filesink location=out.raw",
    ));
    let spec = spec(PixelFormat::Gray8, (64, 64), (32, 32));
    assert!(raw(&studio, "out.raw") == studio.resized(&spec, &bytes));
}

#[test]
fn what_a_daemon_refuses_is_said_in_its_words() {
    let limits = Limits { ring_bytes: 1 << 20, ..Limits::default() };
    let studio = Studio::with(limits);
    let pipeline = |side: u32| {
        format!(
            "videotestsrc num-buffers=1 ! video/x-raw,format=GRAY8,width=64,height=64 \
             ! resizedscale ! video/x-raw,width={side},height={side} ! fakesink"
        )
    };
    run(launch(&studio, &pipeline(256)));
    let output = launch(&studio, &pipeline(2048)).output().unwrap();
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("refused: ") && text.contains("ring"), "{text}");
}

#[test]
fn without_a_daemon_there_is_one_in_the_process_unless_one_was_named() {
    let mut studio = Studio::new();
    studio.stop();
    let pipeline = "videotestsrc num-buffers=3 ! video/x-raw,width=64,height=64 ! resizedscale \
                    ! video/x-raw,width=32,height=32 ! fakesink";
    let mut alone = launch(&studio, pipeline);
    alone.env_remove("RESIZED_ENDPOINT").env("XDG_RUNTIME_DIR", studio.dir());
    run(alone);

    let output = launch(&studio, pipeline).output().unwrap();
    assert!(!output.status.success());
    assert!(said(&output).contains("can't connect to unix:"), "{}", said(&output));
    let pipeline = pipeline.replace("resizedscale", "resizedscale endpoint=somewhere");
    let output = launch(&studio, &pipeline).output().unwrap();
    assert!(!output.status.success());
    assert!(said(&output).contains("'somewhere' is no endpoint"), "{}", said(&output));
}

#[test]
fn the_guides_commands_run() {
    let studio = Studio::new();
    let blocks = GUIDE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut ran = 0;
    for block in blocks {
        let mut shell = command(&studio, "sh");
        shell.args(["-e", "-c", block]);
        run(shell);
        ran += 1;
    }
    assert!(ran >= 2, "{ran}");
    assert_eq!(raw(&studio, "small.raw").len(), 50 * 640 * 360 * 3 / 2);
}

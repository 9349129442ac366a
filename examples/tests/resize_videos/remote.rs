//! One daemon, used from here and through a bridge at the same time.

use std::fs;

use crate::bench::{Bench, frame_names};
use crate::service::Service;

#[test]
fn remote_instances_write_what_local_ones_write() {
    let service = Service::start();
    let (near, far) = (Bench::new(), Bench::new());
    let clip = near.clip("clip.mkv", "testsrc2=size=322x242:rate=25", "-frames:v 40 -c:v mpeg4");
    let start = |bench: &Bench, endpoint: String| {
        let options = ["-n", "2", "-m", "0", "-s", "120x90", "--connect", &endpoint];
        bench.bounded(&[&clip]).args(options).spawn().unwrap()
    };
    let mut runs = [start(&near, service.endpoint()), start(&far, service.remote())];
    for run in &mut runs {
        assert!(run.wait().unwrap().success());
    }
    for instance in [1, 2] {
        for name in frame_names(40) {
            let [near, far] = [&near, &far].map(|bench| {
                let path = format!("out/vid-instance{instance}/{name}");
                fs::read(bench.path(&path)).unwrap()
            });
            assert!(near == far, "{name} of instance {instance}");
        }
    }
}

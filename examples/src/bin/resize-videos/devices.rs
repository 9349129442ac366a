//! Owns who resized how many frames, by name.
//!
//! A frame comes with a number, which means what the daemon of that moment says. One that takes its place
//! may have other devices under the same numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Frames of one instance by device.
#[derive(Default)]
pub(crate) struct Devices {
    names: Arc<[String]>,
    /// In the order of these names.
    frames: Vec<u64>,
    /// Of daemons before.
    before: BTreeMap<String, u64>,
}

impl Devices {
    /// One more frame, by the device of this number among these names.
    pub(crate) fn note(&mut self, names: Arc<[String]>, device: u16) {
        if !Arc::ptr_eq(&self.names, &names) {
            self.fold();
            self.names = names;
        }
        let device = usize::from(device);
        if self.frames.len() <= device {
            self.frames.resize(device + 1, 0);
        }
        self.frames[device] += 1;
    }

    /// Names, and how many frames each did.
    pub(crate) fn by_name(mut self) -> Vec<(String, u64)> {
        self.fold();
        self.before.into_iter().collect()
    }

    fn fold(&mut self) {
        for (device, frames) in self.frames.drain(..).enumerate().filter(|&(_, frames)| frames > 0)
        {
            let name = self.names.get(device).cloned();
            let name = name.unwrap_or_else(|| format!("device {device}"));
            *self.before.entry(name).or_default() += frames;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_means_what_the_daemon_of_its_frame_says() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let (first, second): (Arc<[String]>, Arc<[String]>) =
            (names(&["cpu", "GPU"]), names(&["GPU"]));
        let mut devices = Devices::default();
        for (names, device) in [(&first, 0), (&first, 1), (&second, 0), (&second, 7), (&first, 1)] {
            devices.note(Arc::clone(names), device);
        }
        let expected = [("GPU", 3), ("cpu", 1), ("device 7", 1)];
        assert_eq!(devices.by_name(), expected.map(|(name, frames)| (name.to_owned(), frames)));
    }
}

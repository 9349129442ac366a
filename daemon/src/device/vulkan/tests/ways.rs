//! The ways by which frames may reach a GPU: which of them its self-test takes.

use super::self_test::{other_ways, self_test};
use super::*;

/// Of a GPU beyond a bus all that are measured; of any other the one that there is.
#[test]
fn every_way_that_frames_may_take_is_tested() {
    let ways = |settings: Settings| {
        let vulkan = open_importing(&settings)?;
        self_test(&vulkan.shared.name, &vulkan.shared.settings).unwrap();
        let others = other_ways(&vulkan).map(|other| other.unwrap().shared.transfers());
        Some([vec![vulkan.shared.transfers()], others.collect()].concat())
    };
    let Some(measured) = ways(Settings { measure: true, ..Settings::default() }) else { return };
    let [direct, copied, both] = [Transfer::Direct, Transfer::Copied, Transfer::BothWays];
    assert_eq!(measured, [vec![direct, copied, both], vec![copied], vec![both]]);
    let one = Settings { transfer: Some(copied), measure: true, ..Settings::default() };
    assert_eq!(ways(one), Some(vec![vec![copied]]));
    assert_eq!(validation_messages(), [""; 0]);
}

//! Owns what tells GPUs apart: what each is called, and which of those that drivers name are one
//! card.
//!
//! Knows what drivers say of physical devices, and asks them for nothing else.

use vulkano::device::physical::PhysicalDevice;

use super::Unused;

/// What a driver says of a card.
#[derive(Clone, Debug)]
pub(super) struct Card {
    /// The driver's name.
    driver: String,
    /// Domain, bus, device and function.
    address: Option<[u32; 4]>,
    /// Not all zeros, as some drivers say.
    uuid: Option<[u8; 16]>,
}

impl Card {
    pub(super) fn of(physical: &PhysicalDevice) -> Self {
        let all = physical.properties();
        let address = || Some([all.pci_domain?, all.pci_bus?, all.pci_device?, all.pci_function?]);
        Self {
            driver: all.driver_name.clone().unwrap_or_default(),
            address: address(),
            uuid: all.device_uuid.filter(|uuid| *uuid != [0; 16]),
        }
    }

    /// Whether both are one card. Drivers need not agree on a card's identifier, nor make a different
    /// one for each of two cards of a model: addresses go before them. But several devices that one
    /// driver names at one address may be parts of a card.
    fn is(&self, other: &Self) -> bool {
        let identified_alike = self.uuid.is_some() && self.uuid == other.uuid;
        match (self.address, other.address) {
            (Some(ours), Some(theirs)) => {
                ours == theirs && (self.driver != other.driver || identified_alike)
            }
            _ => identified_alike,
        }
    }
}

/// Opens the first of each card that can be used; the others are named with the reason why not.
pub(super) fn open_each<P, V>(
    found: Vec<(String, Result<P, Unused>)>,
    card_of: impl Fn(&P) -> Card,
    open: impl Fn(&str, P) -> Result<V, Unused>,
) -> Vec<(String, Result<V, Unused>)> {
    let mut used: Vec<(String, Card)> = Vec::new();
    let mut open_one = |name: &str, physical: P| {
        let card = card_of(&physical);
        if let Some((name, Card { driver, .. })) = used.iter().find(|(_, other)| card.is(other)) {
            return Err(Unused::Twin { name: name.clone(), driver: driver.clone() });
        }
        let opened = open(name, physical)?;
        used.push((name.to_owned(), card));
        Ok(opened)
    };
    let outcome = |(name, outcome): (String, Result<P, Unused>)| {
        let outcome = outcome.and_then(|physical| open_one(&name, physical));
        (name, outcome)
    };
    found.into_iter().map(outcome).collect()
}

/// A name for each GPU of these models: the model's or, where that is another's already, with a
/// number.
pub(super) fn names<'a>(models: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for model in models {
        let mut numbered = (2..).map(|number| format!("{model} #{number}"));
        let mut name = model.to_owned();
        while names.contains(&name) {
            name = numbered.next().unwrap_or_default();
        }
        names.push(name);
    }
    names
}

/// Which of the GPUs, by models and names, were asked for as `part` of a name, in whatever case: those
/// whose model is just that, if there are any, and not others to which there is more, as Mesa has it.
pub(super) fn meant(part: &str, models: &[String], names: &[String]) -> Vec<bool> {
    let part = part.to_lowercase();
    let is_model = |model: &String| model.to_lowercase() == part;
    match models.iter().any(is_model) {
        true => models.iter().map(is_model).collect(),
        false => names.iter().map(|name| name.to_lowercase().contains(&part)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Fault;

    #[test]
    fn gpus_of_one_model_are_numbered_and_no_others() {
        let models = ["NVIDIA A100", "NVIDIA A10", "NVIDIA A100", "NVIDIA A10", "NVIDIA A10"];
        assert_eq!(
            names(models),
            ["NVIDIA A100", "NVIDIA A10", "NVIDIA A100 #2", "NVIDIA A10 #2", "NVIDIA A10 #3"]
        );
        assert_eq!(names(["X #2", "X", "X"]), ["X #2", "X", "X #3"]);
    }

    fn card(driver: &str, bus: Option<u32>, uuid: Option<u8>) -> Card {
        let address = bus.map(|bus| [0, bus, 0, 0]);
        Card { driver: driver.to_owned(), address, uuid: uuid.map(|uuid| [uuid; 16]) }
    }

    #[test]
    fn a_card_is_known_by_its_address_and_without_one_by_its_identifier() {
        let radv = card("radv", Some(3), Some(1));
        for (other, is_same) in [
            // Another driver, which calls the card what it likes.
            (card("AMD", Some(3), Some(1)), true),
            (card("AMD", Some(3), Some(2)), true),
            (card("AMD", Some(3), None), true),
            // One that does not say where the card is.
            (card("AMD", None, Some(1)), true),
            (card("AMD", None, Some(2)), false),
            (card("AMD", None, None), false),
            // Another card, though drivers call all of its model alike.
            (card("radv", Some(4), Some(1)), false),
            (card("AMD", Some(4), Some(1)), false),
            // The driver once more, and another part of the card.
            (card("radv", Some(3), Some(1)), true),
            (card("radv", Some(3), Some(2)), false),
            (card("radv", Some(3), None), false),
        ] {
            assert_eq!([radv.is(&other), other.is(&radv)], [is_same; 2], "{other:?}");
        }
        let nothing = card("radv", None, None);
        assert!(!nothing.is(&nothing));
    }

    #[test]
    fn of_a_card_with_two_drivers_the_first_that_can_be_used_is() {
        let found = || -> Vec<(String, Result<Card, Unused>)> {
            let cards = [
                ("A", card("old", Some(1), None)),
                ("A #2", card("new", Some(1), None)),
                ("B", card("new", Some(2), None)),
                ("A #3", card("newest", Some(1), None)),
            ];
            cards.map(|(name, card)| (name.to_owned(), Ok(card))).into()
        };
        let opened = |found, broken: &str| {
            let open = |name: &str, _| match name == broken {
                true => Err(Unused::Open(Fault::Driver)),
                false => Ok(()),
            };
            let outcomes = open_each(found, Card::clone, open).into_iter();
            outcomes.map(|(name, outcome)| (name, outcome.map_err(|unused| unused.to_string())))
        };
        let said = |found, broken: &str| -> Vec<String> {
            let said = |outcome: Result<(), String>| outcome.err().unwrap_or("used".to_owned());
            opened(found, broken)
                .map(|(name, outcome)| format!("{name}: {}", said(outcome)))
                .collect()
        };
        let twin = |of: &str| format!("it is the same GPU as {of}");
        let all = said(found(), "");
        assert_eq!([&all[0], &all[2]], ["A: used", "B: used"]);
        for (said, name) in [(&all[1], "A #2"), (&all[3], "A #3")] {
            assert_eq!(*said, format!("{name}: {}, which is used with the driver old", twin("A")));
        }
        // One that can't be opened keeps no other from it, nor does one that did not pass.
        let all = said(found(), "A");
        assert!(all[0].starts_with("A: it could not be opened"), "{}", all[0]);
        assert_eq!([&all[1], &all[2]], ["A #2: used", "B: used"]);
        assert!(all[3].contains(&twin("A #2")), "{}", all[3]);
        let mut untested = found();
        untested[0].1 = Err(Unused::NotNamed);
        assert_eq!(said(untested, "")[..2], ["A: it was not asked for", "A #2: used"]);
    }

    #[test]
    fn a_model_means_all_of_it_and_a_part_of_a_name_all_that_have_it() {
        let models = ["RX 6800 (RADV NAVI21)", "RX 6800", "RX 6800"].map(str::to_owned);
        let names = names(models.iter().map(String::as_str));
        let meant = |part| meant(part, &models, &names);
        assert_eq!(meant("rx 6800"), [false, true, true]);
        assert_eq!(meant("RX 6800 #2"), [false, false, true]);
        assert_eq!(meant("RX"), [true; 3]);
        assert_eq!(meant("radv"), [true, false, false]);
        assert_eq!(meant("7900"), [false; 3]);
    }
}

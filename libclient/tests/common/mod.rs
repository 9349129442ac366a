//! What tests of peers that break the protocol share.

use resized_client::{Breach, Error};

#[track_caller]
pub(crate) fn unexpected<T>(found: Result<T, Error>, what: Breach) {
    match found {
        Err(Error::Unexpected(found)) => assert_eq!(found, what),
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what}: accepted"),
    }
}

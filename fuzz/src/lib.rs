//! What several targets have in common: who says anything at all, who says nothing wrong, and the
//! daemon with a bridge that both talk to.

mod converse;
mod honest;
mod scene;

pub use converse::converse;
pub use honest::Honest;
pub use scene::{PATIENCE, Scene};

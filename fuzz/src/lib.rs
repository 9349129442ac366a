//! What several targets have in common: who says anything at all, who says nothing wrong, and the
//! daemon with a bridge that both talk to; a bridge that says anything at all, and what a client asks it for.

mod asked;
mod converse;
mod honest;
mod liar;
mod scene;

pub use asked::{SLOTS, specs};
pub use converse::converse;
pub use honest::Honest;
pub use liar::{End, Liar};
pub use scene::{PATIENCE, Scene};

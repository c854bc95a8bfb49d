//! Checks that read the repository and run nothing of it.

pub(crate) mod documents;
pub(crate) mod licences;
pub(crate) mod walls;

//! Topic Names and Topic Filters: validation and matching, the subscription index, the store of
//! retained messages and shared subscription groups.
//!
//! [`matches()`] decides for one filter and one name. [`Index`] answers the same question for
//! millions of filters, [`Retained`] for one filter and many names.

#[cfg(feature = "alloc")]
mod cache;
#[cfg(feature = "alloc")]
mod index;
#[cfg(feature = "alloc")]
mod list;
mod matches;
mod name;
#[cfg(feature = "alloc")]
mod retained;
#[cfg(feature = "alloc")]
mod share;
#[cfg(feature = "alloc")]
mod slab;
#[cfg(feature = "alloc")]
mod trie;

#[cfg(feature = "alloc")]
pub(crate) use cache::{Cache, Finds, Known};
#[cfg(feature = "alloc")]
pub use index::{Entry, Index};
pub use matches::matches;
pub use name::{TopicError, TopicFilter, TopicName, split_share};
#[cfg(feature = "alloc")]
pub use retained::{Cursor, Full, Retained};
#[cfg(feature = "alloc")]
pub use share::{Groups, Joined, Left, Member};

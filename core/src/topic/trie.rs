//! Filters with wildcards, by level.

use alloc::boxed::Box;

use super::slab::Slab;
use crate::map::Numbers;

/// A trie from filters with wildcards to the numbers their owner gave them.
///
/// One or two children of a node hang on the node. All others that are not `+` are in one hash
/// table under (parent, level): a node with few children costs no collection of its own, one with a
/// million is searched in constant time.
pub(super) struct Trie {
    nodes: Slab<Node>,
    children: Numbers,
    /// Bytes of all levels that are not in their nodes.
    text: usize,
}

/// The text of a level. Most are so short that they lie in the node itself, which spares memory and
/// a look elsewhere.
enum Level {
    /// Its length, and its bytes.
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

/// Bytes that take no more room than the pointer to them.
const SHORT: usize = 7;

impl Level {
    fn new(text: &str) -> Self {
        let text = text.as_bytes();
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..text.len()) {
            Some(start) => {
                start.copy_from_slice(text);
                Self::Short(text.len() as u8, bytes)
            }
            None => Self::Long(text.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    /// Bytes that it has elsewhere.
    fn owned(&self) -> usize {
        match self {
            Self::Short(..) => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

/// The place after a sequence of levels.
struct Node {
    /// The last of these levels; empty for `+`.
    level: Level,
    parent: u32,
    /// The first of few children, marked with [`FEW`], or how many there are in the hash table.
    children: u32,
    /// The other one of its parent's children, if they are few.
    sibling: u32,
    /// The node of a `+` after here.
    plus: u32,
    /// The filter that ends with `#` after here.
    rest: u32,
    /// The filter that ends here.
    end: u32,
}

const ROOT: u32 = 0;
/// No node, no filter.
const NONE: u32 = u32::MAX;
/// Marks the number of the first of one or two children. What is to be fetched from far in memory
/// is then one node or two, and not two places of a table and a node.
const FEW: u32 = 1 << 31;

impl Default for Node {
    fn default() -> Self {
        let level = Level::Short(0, [0; SHORT]);
        Self { level, parent: NONE, children: 0, sibling: NONE, plus: NONE, rest: NONE, end: NONE }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children == 0 && self.plus == NONE && self.rest == NONE && self.end == NONE
    }
}

fn key_of(nodes: &Slab<Node>, number: u32) -> (u32, &[u8]) {
    (nodes[number].parent, nodes[number].level.as_bytes())
}

impl Trie {
    pub(super) fn new(seed: u64) -> Self {
        let mut nodes = Slab::default();
        nodes.insert(Node::default());
        Self { nodes, children: Numbers::new(seed), text: 0 }
    }

    /// Adds a filter that is not there yet.
    pub(super) fn insert(&mut self, filter: &str, number: u32) {
        let (levels, rest) = split(filter);
        let mut node = ROOT;
        for level in levels.into_iter().flat_map(|levels| levels.split('/')) {
            node = self.child(node, level).unwrap_or_else(|| self.add(node, level));
        }
        let slot = if rest { &mut self.nodes[node].rest } else { &mut self.nodes[node].end };
        *slot = number;
    }

    /// Removes a filter, and the nodes that only it needed.
    pub(super) fn remove(&mut self, filter: &str) {
        let (levels, rest) = split(filter);
        let mut node = ROOT;
        for level in levels.into_iter().flat_map(|levels| levels.split('/')) {
            let Some(child) = self.child(node, level) else { return };
            node = child;
        }
        let slot = if rest { &mut self.nodes[node].rest } else { &mut self.nodes[node].end };
        *slot = NONE;
        while node != ROOT && self.nodes[node].is_empty() {
            node = self.free(node);
        }
    }

    /// Whether there is no filter.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes[ROOT].is_empty()
    }

    /// Calls `found` with the number of each filter that matches `topic`, while it gives true.
    ///
    /// Where both a level and `+` lead on, the level is followed first; the way back to the `+`
    /// goes over the parents, so that no stack is needed however deep the topic is.
    pub(super) fn matches(&self, topic: &str, mut found: impl FnMut(u32) -> bool) {
        let topic = topic.as_bytes();
        // [MQTT-4.7.2-1]: wildcards at the root are then as if they were not there.
        let hidden = topic.first() == Some(&b'$');
        let mut node = ROOT;
        // Where the next level starts; behind the topic's end if there is none.
        let mut at = 0;
        // How many `+` were passed by.
        let mut passed = 0;
        loop {
            let here = &self.nodes[node];
            let wild = node != ROOT || !hidden;
            // Also with no level left: `a/#` matches `a`.
            if here.rest != NONE && wild && !found(here.rest) {
                return;
            }
            if at <= topic.len() {
                let end = level_end(topic, at);
                let literal = self.literal(node, &topic[at..end]);
                let plus = if wild { here.plus } else { NONE };
                passed += usize::from(literal.is_some() && plus != NONE);
                let next = literal.unwrap_or(plus);
                if next != NONE {
                    node = next;
                    at = end + 1;
                    continue;
                }
            } else if here.end != NONE && !found(here.end) {
                return;
            }
            // Back to the last `+` that was passed by.
            if passed == 0 {
                return;
            }
            passed -= 1;
            loop {
                if node == ROOT {
                    return;
                }
                let parent = self.nodes[node].parent;
                let plus = self.nodes[parent].plus;
                if plus != NONE && plus != node && (parent != ROOT || !hidden) {
                    node = plus;
                    break;
                }
                node = parent;
                at = level_start(topic, at - 1);
            }
        }
    }

    /// Memory held, in bytes.
    pub(super) fn footprint(&self) -> usize {
        self.nodes.footprint() + self.children.footprint() + self.text
    }

    #[inline]
    fn literal(&self, node: u32, level: &[u8]) -> Option<u32> {
        match self.nodes[node].children {
            0 => None,
            few if few & FEW != 0 => {
                let is = |child: &u32| self.nodes[*child].level.as_bytes() == level;
                let first = few & !FEW;
                if is(&first) {
                    return Some(first);
                }
                Some(self.nodes[first].sibling).filter(|other| *other != NONE && is(other))
            }
            _ => self.children.find((node, level), |number| key_of(&self.nodes, number)),
        }
    }

    fn child(&self, node: u32, level: &str) -> Option<u32> {
        if level == "+" {
            let plus = self.nodes[node].plus;
            return (plus != NONE).then_some(plus);
        }
        self.literal(node, level.as_bytes())
    }

    fn add(&mut self, parent: u32, level: &str) -> u32 {
        if level == "+" {
            let node = self.nodes.insert(Node { parent, ..Node::default() });
            self.nodes[parent].plus = node;
            return node;
        }
        let level = Level::new(level);
        let node = self.nodes.insert(Node { level, parent, ..Node::default() });
        self.text += self.nodes[node].level.owned();
        let children = match self.nodes[parent].children {
            0 => FEW | node,
            few if few & FEW != 0 => {
                let first = few & !FEW;
                let other = self.nodes[first].sibling;
                if other == NONE {
                    self.nodes[node].sibling = first;
                    FEW | node
                } else {
                    for child in [first, other, node] {
                        self.children.insert(key_of(&self.nodes, child), child);
                    }
                    3
                }
            }
            count => {
                self.children.insert(key_of(&self.nodes, node), node);
                count + 1
            }
        };
        self.nodes[parent].children = children;
        node
    }

    /// Frees an empty node; gives its parent.
    fn free(&mut self, node: u32) -> u32 {
        let parent = self.nodes[node].parent;
        if self.nodes[parent].plus == node {
            self.nodes[parent].plus = NONE;
        } else if self.nodes[parent].children & FEW != 0 {
            let first = self.nodes[parent].children & !FEW;
            let other = self.nodes[first].sibling;
            let left = if first == node { other } else { first };
            self.nodes[first].sibling = NONE;
            self.nodes[parent].children = if left == NONE { 0 } else { FEW | left };
        } else {
            // The last ones of many stay in the table: which they are would have to be looked for.
            self.children.remove(key_of(&self.nodes, node), node);
            self.nodes[parent].children -= 1;
        }
        self.text -= self.nodes.remove(node).level.owned();
        if self.nodes.len() == 1 && self.is_empty() {
            // Only the root is left; memory returns.
            self.nodes = Slab::default();
            self.nodes.insert(Node::default());
        }
        parent
    }
}

/// The levels before a last `#`, if there are any, and whether there is such a `#`.
fn split(filter: &str) -> (Option<&str>, bool) {
    if filter == "#" {
        return (None, true);
    }
    match filter.strip_suffix("/#") {
        Some(levels) => (Some(levels), true),
        None => (Some(filter), false),
    }
}

/// Where the level ends that starts at `at`.
fn level_end(topic: &[u8], at: usize) -> usize {
    topic[at..].iter().position(|&byte| byte == b'/').map_or(topic.len(), |len| at + len)
}

/// Where the level starts that ends before `end`.
fn level_start(topic: &[u8], end: usize) -> usize {
    topic[..end].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn found(trie: &Trie, topic: &str) -> Vec<u32> {
        let mut numbers = Vec::new();
        trie.matches(topic, |number| {
            numbers.push(number);
            true
        });
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_node_is_forty_bytes_and_levels_of_any_length_are_found() {
        assert_eq!(size_of::<Node>(), 40);
        let mut trie = Trie::new(5);
        let text = "x".repeat(20);
        for len in 0..20 {
            trie.insert(&std::format!("{}/#", &text[..len]), len as u32);
        }
        for len in 0..20 {
            assert_eq!(found(&trie, &text[..len]), [len as u32]);
        }
        for len in 0..20 {
            trie.remove(&std::format!("{}/#", &text[..len]));
        }
        assert_eq!((trie.is_empty(), trie.text), (true, 0));
    }

    #[test]
    fn every_way_through_the_levels_is_found() {
        let filters = ["a/+/c", "a/b/+", "+/b/c", "+/+/+", "a/#", "#", "a/b/c/#", "a/b/+/#"];
        let mut trie = Trie::new(5);
        for (number, filter) in (0..).zip(filters) {
            trie.insert(filter, number);
        }
        assert_eq!(found(&trie, "a/b/c"), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(found(&trie, "a/x/c"), [0, 3, 4, 5]);
        assert_eq!(found(&trie, "a"), [4, 5]);
        assert_eq!(found(&trie, "$a/b/c"), []);
    }

    #[test]
    fn children_are_found_whether_one_or_several_are_left() {
        let mut trie = Trie::new(5);
        let filters = ["a/b/#", "a/c/#", "a/d/#"];
        let all = |trie: &Trie| ["a/b", "a/c", "a/d"].map(|topic| found(trie, topic).len());
        trie.insert(filters[0], 0);
        assert_eq!(trie.nodes.len(), 3);
        trie.insert(filters[1], 1);
        assert_eq!((all(&trie), trie.children.footprint()), ([1, 1, 0], 0), "no table for two");
        // Either of two goes first.
        for (gone, left) in [(0, [0, 1, 0]), (1, [1, 0, 0])] {
            trie.remove(filters[gone]);
            assert_eq!(all(&trie), left);
            trie.insert(filters[gone], gone as u32);
            assert_eq!(all(&trie), [1, 1, 0]);
        }
        trie.insert(filters[2], 2);
        assert_eq!(all(&trie), [1, 1, 1]);
        trie.remove(filters[0]);
        trie.remove(filters[2]);
        assert_eq!(all(&trie), [0, 1, 0]);
        trie.insert(filters[2], 2);
        assert_eq!(all(&trie), [0, 1, 1]);
        trie.remove(filters[1]);
        trie.remove(filters[2]);
        assert_eq!((trie.is_empty(), all(&trie)), (true, [0, 0, 0]));
        trie.insert(filters[0], 0);
        assert_eq!(all(&trie), [1, 0, 0]);
    }

    #[test]
    fn who_has_found_enough_is_told_no_more() {
        let mut trie = Trie::new(5);
        for (number, filter) in (0..).zip(["#", "+/#", "a/+", "+/b"]) {
            trie.insert(filter, number);
        }
        for enough in 1..=4 {
            let mut numbers = Vec::new();
            trie.matches("a/b", |number| {
                numbers.push(number);
                numbers.len() < enough
            });
            assert_eq!(numbers.len(), enough);
        }
    }

    #[test]
    fn removing_all_filters_frees_all_nodes() {
        let filters = ["a/+/c", "a/b/+", "+", "#", "/#", "+//+", "a/b/c/d/e/#"];
        let mut trie = Trie::new(5);
        let empty = trie.footprint() - trie.children.footprint();
        for (number, filter) in (0..).zip(filters) {
            trie.insert(filter, number);
        }
        assert!(!trie.is_empty());
        for filter in filters {
            trie.remove(filter);
            trie.remove("x/+");
        }
        assert!(trie.is_empty());
        assert_eq!(trie.footprint() - trie.children.footprint(), empty);
    }

    #[test]
    fn the_depth_of_a_topic_needs_no_stack() {
        let deep = "+/".repeat(30_000) + "#";
        let mut trie = Trie::new(5);
        trie.insert(&deep, 1);
        assert_eq!(found(&trie, &"a/".repeat(30_000)), [1]);
        assert_eq!(found(&trie, &"a/".repeat(29_998)), []);
    }
}

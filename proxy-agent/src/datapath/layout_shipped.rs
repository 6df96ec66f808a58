//! The layout that is shipped, as the one that a build with the feature `next-layout` comes from and goes back to.

use proxy_common::layout::names;

use super::layouts::{Convert, Entry, Form, Layout};

pub(super) const LAYOUT: Layout = Layout {
    version: 1,
    changed: &[
        form(
            names::FRONTENDS4,
            8,
            12,
            words_swapped::<0, 1>,
            words_swapped::<0, 1>,
        ),
        form(
            names::FRONTENDS6,
            20,
            12,
            words_swapped::<0, 1>,
            words_swapped::<0, 1>,
        ),
        form(
            names::BACKENDS,
            4,
            32,
            words_swapped::<4, 5>,
            words_swapped::<4, 5>,
        ),
        form(names::TCP_EMBRYOS4, 16, 40, flow_grown, flow_shrunk),
        form(names::TCP_EMBRYOS6, 40, 64, flow_grown, flow_shrunk),
        form(names::TCP_FLOWS4, 16, 40, flow_grown, flow_shrunk),
        form(names::TCP_FLOWS6, 40, 64, flow_grown, flow_shrunk),
        form(names::UDP_EMBRYOS4, 16, 40, flow_grown, flow_shrunk),
        form(names::UDP_EMBRYOS6, 40, 64, flow_grown, flow_shrunk),
        form(names::UDP_FLOWS4, 16, 40, flow_grown, flow_shrunk),
        form(names::UDP_FLOWS6, 40, 64, flow_grown, flow_shrunk),
        form(names::AFFINITY, 20, 16, client_grown, client_shrunk),
    ],
};

const fn form(
    name: &'static str,
    key_size: u32,
    value_size: u32,
    upgrade: Convert,
    downgrade: Convert,
) -> Form {
    Form {
        name,
        key_size,
        value_size,
        upgrade,
        downgrade,
    }
}

/// Two 32-bit words of the value change their places.
fn words_swapped<const A: usize, const B: usize>(key: &[u8], value: &[u8]) -> Option<Entry> {
    let mut words: Vec<&[u8]> = value.chunks(4).collect();
    if words.len() <= A.max(B) {
        return None;
    }
    words.swap(A, B);
    Some((key.to_vec(), words.concat()))
}

/// `Flow::reserved` comes in behind `Flow::meta`.
fn flow_grown(key: &[u8], value: &[u8]) -> Option<Entry> {
    let (meta, rest) = value.split_at_checked(8)?;
    Some((key.to_vec(), [meta, &[0; 8], rest].concat()))
}

fn flow_shrunk(key: &[u8], value: &[u8]) -> Option<Entry> {
    let (meta, rest) = value.split_at_checked(8)?;
    Some((key.to_vec(), [meta, rest.get(8..)?].concat()))
}

/// `AffinityKey::pad` comes in before the client.
fn client_grown(key: &[u8], value: &[u8]) -> Option<Entry> {
    Some(([&[0; 4], key].concat(), value.to_vec()))
}

fn client_shrunk(key: &[u8], value: &[u8]) -> Option<Entry> {
    Some((key.get(4..)?.to_vec(), value.to_vec()))
}

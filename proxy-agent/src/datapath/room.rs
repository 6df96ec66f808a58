//! How much larger a map becomes that was full.

use proxy_common::layout::{ListWord, names};

use super::size::ENTRIES;
use super::specification;
use super::sys::MapDefinition;
use crate::plan::Shortage;

/// Maps that Services fill, those of one size together.
const GROWING: [&[&str]; 7] = [
    &[names::SERVICES, names::IDENTITY],
    &[names::SLOTS],
    &[names::BACKENDS, names::LOADS],
    &[names::FRONTENDS4, names::VIPS4],
    &[names::FRONTENDS6, names::VIPS6],
    &[names::SOURCE_RANGES4],
    &[names::SOURCE_RANGES6],
];

/// Maps with room for what was asked for in vain: twice as large as they are, or as large as must be if there is no memory
/// for that; why it can't be, in words. Other maps stay as they are.
pub(super) fn made(
    maps: &[MapDefinition<'static>],
    shortages: &[Shortage],
    limit: u64,
    cpus: u64,
) -> Result<Vec<MapDefinition<'static>>, String> {
    let mut maps = maps.to_vec();
    for shortage in shortages {
        maps = with_room(&maps, shortage, limit, cpus)?;
    }
    Ok(maps)
}

fn with_room(
    maps: &[MapDefinition<'static>],
    Shortage { map, needed }: &Shortage,
    limit: u64,
    cpus: u64,
) -> Result<Vec<MapDefinition<'static>>, String> {
    let together = GROWING.iter().find(|maps| maps.contains(map));
    let together = together.ok_or_else(|| format!("{map} does not grow"))?;
    let sizes = maps.iter().filter(|one| together.contains(&one.name));
    let size = sizes.map(|one| one.max_entries).min().unwrap_or_default();
    let most = if *map == names::SLOTS {
        ListWord::MAX
    } else {
        *ENTRIES.end()
    };
    let least = size.saturating_add(*needed);
    if least > most {
        return Err(format!(
            "{map} has {size} entries and can't have more than {most}"
        ));
    }
    let of = |size: u32| -> Vec<_> {
        let grown = maps.iter().map(|one| MapDefinition {
            max_entries: if together.contains(&one.name) {
                one.max_entries.max(size)
            } else {
                one.max_entries
            },
            ..*one
        });
        grown.collect()
    };
    let bytes =
        |maps: &[MapDefinition<'_>]| -> u64 { maps.iter().map(|map| specification::bytes(map, cpus)).sum() };
    let sizes = [size.saturating_mul(2).clamp(least, most), least];
    let fitting = sizes.into_iter().map(of).find(|maps| bytes(maps) <= limit);
    fitting.ok_or_else(|| {
        format!(
            "with {least} entries of {map} all maps would take {} bytes, and --map-memory-limit allows {limit}",
            bytes(&of(least))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::MapSizes;

    const CPUS: u64 = 2;

    fn small() -> Vec<MapDefinition<'static>> {
        specification::maps(&MapSizes::for_budget(16 << 20, CPUS))
    }

    fn size(maps: &[MapDefinition<'_>], name: &str) -> u32 {
        maps.iter().find(|map| map.name == name).unwrap().max_entries
    }

    fn bytes(maps: &[MapDefinition<'_>]) -> u64 {
        maps.iter().map(|map| specification::bytes(map, CPUS)).sum()
    }

    /// Which maps have which sizes that had others.
    fn changed(before: &[MapDefinition<'_>], after: &[MapDefinition<'_>]) -> Vec<(&'static str, u32)> {
        let both = specification::maps(&MapSizes::for_budget(0, CPUS));
        let names = both.iter().map(|map| map.name);
        names
            .filter(|name| size(before, name) != size(after, name))
            .map(|name| (name, size(after, name)))
            .collect()
    }

    fn shortage(map: &'static str, needed: u32) -> Shortage {
        Shortage { map, needed }
    }

    #[test]
    fn a_full_map_doubles_with_what_shares_its_size_and_no_other_changes() {
        let maps = small();
        for (name, partner) in [
            (names::SERVICES, names::IDENTITY),
            (names::BACKENDS, names::LOADS),
            (names::FRONTENDS4, names::VIPS4),
            (names::FRONTENDS6, names::VIPS6),
        ] {
            let grown = made(&maps, &[shortage(name, 5)], 1 << 30, CPUS).unwrap();
            let twice = 2 * size(&maps, name);
            let mut expected = [(name, twice), (partner, twice)];
            let mut found = changed(&maps, &grown);
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn all_that_is_short_grows_at_once_and_by_as_much_as_is_needed() {
        let maps = small();
        let slots = size(&maps, names::SLOTS);
        let asked = [
            shortage(names::SLOTS, 5 * slots),
            shortage(names::SOURCE_RANGES6, 1),
        ];
        let grown = made(&maps, &asked, 1 << 30, CPUS).unwrap();
        let ranges = size(&maps, names::SOURCE_RANGES6);
        let expected = [(names::SLOTS, 6 * slots), (names::SOURCE_RANGES6, 2 * ranges)];
        assert_eq!(changed(&maps, &grown), expected);
    }

    #[test]
    fn little_memory_gives_what_is_needed_and_less_is_refused_with_the_switch() {
        let maps = small();
        let exact = size(&maps, names::SLOTS) + 10;
        let limit = bytes(&maps) + 10 * 8;
        let asked = [shortage(names::SLOTS, 10)];
        let grown = made(&maps, &asked, limit, CPUS).unwrap();
        assert_eq!(changed(&maps, &grown), [(names::SLOTS, exact)]);
        let error = made(&maps, &asked, bytes(&maps), CPUS).unwrap_err();
        assert!(
            error.contains("SLOTS") && error.contains("--map-memory-limit"),
            "{error}"
        );
    }

    #[test]
    fn what_a_word_can_not_name_is_refused() {
        let error = made(&small(), &[shortage(names::SLOTS, ListWord::MAX)], u64::MAX, CPUS).unwrap_err();
        assert!(error.contains("can't have more than 16777215"), "{error}");
        let error = made(&small(), &[shortage(names::TCP_FLOWS4, 1)], u64::MAX, CPUS).unwrap_err();
        assert!(error.contains("TCP_FLOWS4 does not grow"), "{error}");
    }
}

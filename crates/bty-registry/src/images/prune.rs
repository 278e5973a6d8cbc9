//! Which names, and with them which images, have grown old: a function of the record and the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use bty_types::{ImageId, ImageName};

use crate::record::{Image, Pointer};

/// What stays.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// So many images of each name: those that its tags were pointed at last.
    pub(crate) keep: usize,
    /// What is younger than this.
    pub(crate) older_than: Duration,
    /// All but the tags of this name, where one is given.
    pub(crate) name: Option<String>,
}

/// An image that loses names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aged {
    pub(crate) id: ImageId,
    /// The names that it loses.
    pub(crate) names: Vec<ImageName>,
    /// Whether it has no others, so that it goes too.
    pub(crate) is_removed: bool,
    pub(crate) stored_bytes: u64,
}

/// What has grown old, those first that were imported first. `images` come newest first, `pointers` with the one first that was
/// pointed last. Whether anything is needed by somebody is not looked at.
pub(crate) fn aged(
    images: &[Image],
    pointers: &[Pointer],
    policy: &Policy,
    now: SystemTime,
) -> Vec<Aged> {
    let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age >= policy.older_than);
    let is_meant = |name: &str| policy.name.as_deref().is_none_or(|wanted| wanted == name);
    let mut newest: BTreeMap<&str, BTreeSet<ImageId>> = BTreeMap::new();
    let mut lost: BTreeMap<ImageId, Vec<ImageName>> = BTreeMap::new();
    let mut counts: BTreeMap<ImageId, usize> = BTreeMap::new();
    for pointer in pointers {
        *counts.entry(pointer.image).or_default() += 1;
        let kept = newest.entry(pointer.name.name()).or_default();
        let is_kept = kept.contains(&pointer.image) || kept.len() < policy.keep;
        if is_kept {
            kept.insert(pointer.image);
        } else if is_meant(pointer.name.name()) && is_old(pointer.at) {
            lost.entry(pointer.image).or_default().push(pointer.name.clone());
        }
    }
    let aged = images.iter().rev().filter_map(|image| {
        let names = lost.remove(&image.id).unwrap_or_default();
        let count = counts.get(&image.id).copied().unwrap_or_default();
        let is_removed = names.len() == count;
        // One without a name goes by its own age.
        let is_aged = match count {
            0 => policy.name.is_none() && is_old(image.imported_at),
            _ => !names.is_empty(),
        };
        let (id, stored_bytes) = (image.id, image.stored_bytes);
        is_aged.then_some(Aged { id, names, is_removed, stored_bytes })
    });
    aged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn id(number: u8) -> ImageId {
        ImageId::new([number; 32])
    }

    fn at(day: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * day
    }

    /// Images with the days that they were imported on, and names with the days that they were pointed on; 100 is today.
    fn pruned(
        images: &[(u8, u32)],
        names: &[(&str, u8, u32)],
        keep: usize,
        days: u32,
        name: Option<&str>,
    ) -> Vec<(u8, Vec<String>, bool)> {
        let mut images: Vec<Image> =
            images.iter().map(|&(number, day)| Image::for_tests(id(number), at(day))).collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.imported_at));
        let mut pointers: Vec<Pointer> = names
            .iter()
            .map(|&(name, image, day)| Pointer {
                name: name.parse().unwrap(),
                image: id(image),
                at: at(day),
            })
            .collect();
        pointers.sort_by_key(|pointer| std::cmp::Reverse(pointer.at));
        let policy = Policy { keep, older_than: DAY * days, name: name.map(ToOwned::to_owned) };
        aged(&images, &pointers, &policy, at(100))
            .into_iter()
            .map(|aged| {
                let names = aged.names.iter().map(ToString::to_string).collect();
                (aged.id.bytes()[0], names, aged.is_removed)
            })
            .collect()
    }

    fn gone(number: u8, names: &[&str]) -> (u8, Vec<String>, bool) {
        (number, names.iter().map(|&name| name.to_owned()).collect(), true)
    }

    #[test]
    fn the_newest_of_each_name_stay() {
        let images = [(1, 10), (2, 20), (3, 30), (4, 40)];
        let names = [("a:1", 1, 10), ("a:2", 2, 20), ("a:3", 3, 30), ("b:1", 4, 40)];
        assert_eq!(pruned(&images, &names, 2, 0, None), [gone(1, &["a:1"])]);
        assert_eq!(pruned(&images, &names, 1, 0, None), [gone(1, &["a:1"]), gone(2, &["a:2"])]);
        assert_eq!(pruned(&images, &names, 9, 0, None), []);
    }

    #[test]
    fn what_is_young_stays_however_many_there_are() {
        let images = [(1, 10), (2, 95), (3, 99)];
        let names = [("a:1", 1, 10), ("a:2", 2, 95), ("a:3", 3, 99)];
        assert_eq!(pruned(&images, &names, 1, 30, None), [gone(1, &["a:1"])]);
    }

    #[test]
    fn a_tag_that_was_moved_back_to_an_old_image_keeps_it() {
        let images = [(1, 10), (2, 20), (3, 30)];
        let names = [("a:1", 1, 10), ("a:stable", 1, 99), ("a:2", 2, 20), ("a:3", 3, 30)];
        // 1 was pointed at last, so it is the newest, with all its tags; 3 is the next.
        assert_eq!(pruned(&images, &names, 2, 0, None), [gone(2, &["a:2"])]);
    }

    #[test]
    fn an_image_with_another_name_loses_only_the_old_one() {
        let images = [(1, 10), (2, 20)];
        let names = [("a:1", 1, 10), ("a:2", 2, 20), ("b:1", 1, 10)];
        let want = (1, vec!["a:1".to_owned()], false);
        assert_eq!(pruned(&images, &names, 1, 0, None), [want]);
    }

    #[test]
    fn images_without_a_name_go_by_their_age_unless_one_name_is_meant() {
        let images = [(1, 10), (2, 99)];
        assert_eq!(pruned(&images, &[], 5, 30, None), [gone(1, &[])]);
        assert_eq!(pruned(&images, &[], 5, 30, Some("a")), []);
    }

    #[test]
    fn only_the_name_that_is_meant_is_looked_at() {
        let images = [(1, 10), (2, 20), (3, 10), (4, 20)];
        let names = [("a:1", 1, 10), ("a:2", 2, 20), ("b:1", 3, 10), ("b:2", 4, 20)];
        assert_eq!(pruned(&images, &names, 1, 0, Some("b")), [gone(3, &["b:1"])]);
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing() {
        let images = [(1, 200), (2, 201)];
        let names = [("a:1", 1, 200), ("a:2", 2, 201)];
        assert_eq!(pruned(&images, &names, 1, 0, None), []);
    }
}

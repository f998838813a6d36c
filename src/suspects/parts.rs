//! Sets of units of a message, as lists of parts: in order, without overlaps.

use crate::wire::transcode::Part;

/// The set that holds the places that `wanted` picks, of `count`.
pub(super) fn pick(count: usize, mut wanted: impl FnMut(usize) -> bool) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for place in 0..count {
        if wanted(place) {
            let first = place as u64;
            match parts.last_mut() {
                Some(last) if last.end == first => last.end += 1,
                _ => parts.push(Part {
                    first,
                    end: first + 1,
                }),
            }
        }
    }
    parts
}

/// The set of one place.
pub(super) fn one(place: usize) -> Vec<Part> {
    let first = place as u64;
    vec![Part {
        first,
        end: first + 1,
    }]
}

/// How many units a set holds.
pub(super) fn len(parts: &[Part]) -> usize {
    parts
        .iter()
        .map(|part| part.end - part.first)
        .sum::<u64>()
        .try_into()
        .unwrap_or(usize::MAX)
}

/// The places of a set.
pub(super) fn places(parts: &[Part]) -> impl Iterator<Item = usize> + '_ {
    let places = parts.iter().flat_map(|part| part.first..part.end);
    places.filter_map(|place| place.try_into().ok())
}

/// Both halves of a set, in order.
pub(super) fn halves(parts: &[Part]) -> [Vec<Part>; 2] {
    let mut left = len(parts) as u64 / 2;
    let mut halves = [Vec::new(), Vec::new()];
    for part in parts {
        let middle = part.first + left.min(part.end - part.first);
        left -= middle - part.first;
        for (half, (first, end)) in halves
            .iter_mut()
            .zip([(part.first, middle), (middle, part.end)])
        {
            if first < end {
                half.push(Part { first, end });
            }
        }
    }
    halves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_whole_in_order() {
        for count in 2..40 {
            let set = pick(count, |place| place % 5 != 3);
            let halves = halves(&set);
            let [first, second] = halves.each_ref().map(|half| len(half));
            assert!(first <= second && second <= first + 1, "{count}");
            let joined: Vec<_> = halves.iter().flat_map(|half| places(half)).collect();
            assert_eq!(joined, places(&set).collect::<Vec<_>>());
        }
    }
}

//! Where the boxes of a drawing lie, and which way its lines take.
//!
//! Layers from the left to the right, in the way of Sugiyama, Tagawa and Toda: a box
//! lies one layer to the left of what it points at, or further where that layer is full
//! (Coffman and Graham): so a thousand boxes are no column that nobody can look at. A
//! line that passes layers takes a place in each, like a small box, so that it goes
//! around boxes. In each layer the boxes are sorted by where their neighbours are (the
//! barycentre, swept to and fro), and then moved as near to these as their order
//! allows. Parts that do not hang together lie below each other, the largest first,
//! and single boxes in rows under all that.
//!
//! Nothing here is left to chance: the same boxes and lines always give the same
//! drawing.

use std::collections::BTreeSet;

/// Between two layers.
const LAYER_GAP: f64 = 70.0;
/// Between two boxes above each other.
const BOX_GAP: f64 = 14.0;
/// Between two parts that do not hang together.
const PART_GAP: f64 = 36.0;
/// What a line takes of a layer that it passes, in a drawing of some boxes and of many.
const LINES: (f64, f64) = (10.0, 2.0);
/// More boxes than that are many.
const MANY: usize = 150;
/// A layer of so many boxes is never full.
const NARROW: f64 = 24.0;
/// How often the order of the layers is swept.
const SWEEPS: usize = 12;
/// How often boxes move nearer to their neighbours.
const PULLS: usize = 24;

/// A place in a drawing: from the left, from the top.
pub(crate) type Point = (f64, f64);

/// What lies where.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Layout {
    /// The middle of each box.
    pub(crate) boxes: Vec<Point>,
    /// For each line the points that it goes through, from the right side of the one
    /// box to the left side of the other.
    pub(crate) lines: Vec<Vec<Point>>,
    /// How wide and how high all of it is.
    pub(crate) size: (f64, f64),
}

/// Lays out boxes of these sizes (width, height). A line points from one box to
/// another; there is no way round along lines.
pub(crate) fn lay_out(sizes: &[(f64, f64)], lines: &[(usize, usize)]) -> Layout {
    let mut layout = Layout {
        boxes: vec![(0.0, 0.0); sizes.len()],
        lines: vec![Vec::new(); lines.len()],
        size: (0.0, 0.0),
    };
    let mut parts = parts(sizes.len(), lines);
    parts.sort_by_key(|part| (std::cmp::Reverse(part.len()), part[0]));
    let is_single = |part: &Vec<usize>| part.len() == 1;
    let (single, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_single);
    for part in &parts {
        let top = if layout.size.1 > 0.0 { layout.size.1 + PART_GAP } else { 0.0 };
        let (width, height) = Part::new(part, sizes, lines).draw(top, &mut layout);
        layout.size = (layout.size.0.max(width), top + height);
    }
    let single: Vec<usize> = single.into_iter().flatten().collect();
    lay_out_rows(&single, sizes, &mut layout);
    layout
}

/// The boxes that hang together, each part sorted.
fn parts(count: usize, lines: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); count];
    for (from, to) in lines {
        neighbours[*from].push(*to);
        neighbours[*to].push(*from);
    }
    let mut seen = vec![false; count];
    let mut parts = Vec::new();
    for start in 0..count {
        let mut part = BTreeSet::new();
        let mut open = vec![start];
        while let Some(place) = open.pop() {
            if !std::mem::replace(&mut seen[place], true) {
                part.insert(place);
                open.extend(&neighbours[place]);
            }
        }
        if !part.is_empty() {
            parts.push(part.into_iter().collect());
        }
    }
    parts
}

/// Boxes without lines, side by side, as wide as what lies above them or as a square.
fn lay_out_rows(boxes: &[usize], sizes: &[(f64, f64)], layout: &mut Layout) {
    let area: f64 =
        boxes.iter().map(|it| (sizes[*it].0 + BOX_GAP) * (sizes[*it].1 + BOX_GAP)).sum();
    let limit = layout.size.0.max((area * 2.0).sqrt());
    let mut top = if layout.size.1 > 0.0 { layout.size.1 + PART_GAP } else { 0.0 };
    let (mut left, mut height) = (0.0, 0.0_f64);
    for place in boxes {
        let (width, own_height) = sizes[*place];
        if left > 0.0 && left + width > limit {
            top += height + BOX_GAP;
            (left, height) = (0.0, 0.0);
        }
        layout.boxes[*place] = (left + width / 2.0, top + own_height / 2.0);
        left += width + BOX_GAP;
        height = height.max(own_height);
        layout.size = (layout.size.0.max(left - BOX_GAP), top + height);
    }
}

/// Boxes that hang together, and the places that their lines take in layers.
struct Part {
    /// A slot is a box, or a line's place in a layer that it passes.
    slots: Vec<Slot>,
    layers: Vec<Vec<usize>>,
    /// The slots that each line goes through.
    ways: Vec<(usize, Vec<usize>)>,
}

struct Slot {
    /// Which box it is, if it is one.
    place: Option<usize>,
    /// How wide it is, and how high with the gap to the next.
    size: (f64, f64),
    layer: usize,
    left: Vec<usize>,
    right: Vec<usize>,
    /// The middle, from the top.
    y: f64,
}

impl Part {
    fn new(boxes: &[usize], sizes: &[(f64, f64)], lines: &[(usize, usize)]) -> Self {
        let own: Vec<(usize, (usize, usize))> = lines
            .iter()
            .enumerate()
            .filter_map(|(line, (from, to))| {
                let from = boxes.binary_search(from).ok()?;
                Some((line, (from, boxes.binary_search(to).ok()?)))
            })
            .collect();
        let layers = layers_of(boxes.len(), own.iter().map(|(_, ends)| *ends));
        let line_height = if boxes.len() > MANY { LINES.1 } else { LINES.0 };
        let mut part = Self { slots: Vec::new(), layers: Vec::new(), ways: Vec::new() };
        for (slot, place) in boxes.iter().enumerate() {
            let (width, height) = sizes[*place];
            part.add(Some(*place), (width, height + BOX_GAP), layers[slot]);
        }
        for (line, (from, to)) in own {
            let mut way = vec![from];
            for layer in layers[from] + 1..layers[to] {
                way.push(part.add(None, (0.0, line_height), layer));
            }
            way.push(to);
            for pair in way.windows(2) {
                part.slots[pair[0]].right.push(pair[1]);
                part.slots[pair[1]].left.push(pair[0]);
            }
            part.ways.push((line, way));
        }
        part.sort();
        part.pull();
        part
    }

    fn add(&mut self, place: Option<usize>, size: (f64, f64), layer: usize) -> usize {
        let slot = self.slots.len();
        let (left, right) = (Vec::new(), Vec::new());
        self.slots.push(Slot { place, size, layer, left, right, y: 0.0 });
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, Vec::new());
        }
        self.layers[layer].push(slot);
        slot
    }

    /// Finds an order of each layer in which few lines cross, and keeps the best.
    fn sort(&mut self) {
        let mut best = self.layers.clone();
        let mut fewest = self.crossings();
        for sweep in 0..SWEEPS {
            let count = self.layers.len();
            for step in 1..count {
                let (layer, look_left) =
                    if sweep % 2 == 0 { (step, true) } else { (count - 1 - step, false) };
                self.sort_layer(layer, look_left);
            }
            let crossings = self.crossings();
            if crossings < fewest {
                fewest = crossings;
                best.clone_from(&self.layers);
            }
        }
        self.layers = best;
    }

    fn sort_layer(&mut self, layer: usize, look_left: bool) {
        let beside = if look_left { layer - 1 } else { layer + 1 };
        let ranks = self.ranks(beside);
        let mut order = std::mem::take(&mut self.layers[layer]);
        let centre = |rank: usize, slot: usize| {
            let slot = &self.slots[slot];
            let neighbours = if look_left { &slot.left } else { &slot.right };
            mean(neighbours.iter().map(|it| ranks[*it])).unwrap_or(from_count(rank))
        };
        let mut keyed: Vec<(f64, usize)> =
            order.iter().enumerate().map(|(rank, slot)| (centre(rank, *slot), *slot)).collect();
        keyed.sort_by(|one, other| one.0.total_cmp(&other.0));
        order.clear();
        order.extend(keyed.into_iter().map(|(_, slot)| slot));
        self.layers[layer] = order;
    }

    /// By slot, how far down it is in its layer; 0 elsewhere.
    fn ranks(&self, layer: usize) -> Vec<f64> {
        let mut ranks = vec![0.0; self.slots.len()];
        for (rank, slot) in self.layers[layer].iter().enumerate() {
            ranks[*slot] = from_count(rank);
        }
        ranks
    }

    /// How many pairs of lines cross between layers.
    fn crossings(&self) -> usize {
        let between = |layer: usize| {
            let mut rank = vec![0; self.slots.len()];
            for (place, slot) in self.layers[layer + 1].iter().enumerate() {
                rank[*slot] = place;
            }
            let mut ends = Vec::new();
            for slot in &self.layers[layer] {
                let mut own: Vec<usize> =
                    self.slots[*slot].right.iter().map(|it| rank[*it]).collect();
                own.sort_unstable();
                ends.extend(own);
            }
            inversions(&ends, self.layers[layer + 1].len())
        };
        (0..self.layers.len().saturating_sub(1)).map(between).sum()
    }

    /// Moves the slots of each layer to their neighbours, without changing the order.
    fn pull(&mut self) {
        for layer in 0..self.layers.len() {
            let mut y = 0.0;
            for slot in &self.layers[layer] {
                let height = self.slots[*slot].size.1;
                self.slots[*slot].y = y + height / 2.0;
                y += height;
            }
        }
        for pull in 0..PULLS {
            let count = self.layers.len();
            for step in 0..count {
                let layer = if pull % 2 == 0 { step } else { count - 1 - step };
                self.pull_layer(layer);
            }
        }
    }

    fn pull_layer(&mut self, layer: usize) {
        let order = &self.layers[layer];
        let wish = |slot: &usize| {
            let slot = &self.slots[*slot];
            let beside = slot.left.iter().chain(&slot.right);
            mean(beside.map(|it| self.slots[*it].y)).unwrap_or(slot.y)
        };
        let wishes: Vec<f64> = order.iter().map(wish).collect();
        let heights: Vec<f64> = order.iter().map(|slot| self.slots[*slot].size.1).collect();
        for (slot, y) in order.iter().zip(nearest(&wishes, &heights)) {
            self.slots[*slot].y = y;
        }
    }

    /// Writes the places into a layout, and gives the size.
    fn draw(&self, top: f64, layout: &mut Layout) -> (f64, f64) {
        let (mut lowest, mut highest) = (f64::MAX, f64::MIN);
        for slot in &self.slots {
            let half = (slot.size.1 - BOX_GAP).max(0.0) / 2.0;
            (lowest, highest) = (lowest.min(slot.y - half), highest.max(slot.y + half));
        }
        let width_of = |layer: &Vec<usize>| {
            layer.iter().map(|slot| self.slots[*slot].size.0).fold(0.0, f64::max)
        };
        let mut left = 0.0;
        let mut columns = Vec::new();
        for layer in &self.layers {
            let width = width_of(layer);
            columns.push((left, left + width));
            left += width + LAYER_GAP;
        }
        let y = |slot: &Slot| top + slot.y - lowest;
        for slot in &self.slots {
            if let Some(place) = slot.place {
                let (left, right) = columns[slot.layer];
                layout.boxes[place] = (f64::midpoint(left, right), y(slot));
            }
        }
        for (line, way) in &self.ways {
            let mut points = Vec::new();
            for (step, slot) in way.iter().map(|slot| &self.slots[*slot]).enumerate() {
                let (left, right) = columns[slot.layer];
                // Beside a box that is narrower than others of its layer a line is level.
                let margin = slot.place.map_or(0.0, |_| (right - left - slot.size.0) / 2.0);
                let level = y(slot);
                if step > 0 {
                    points.push((left, level));
                    points.extend((margin > 0.0).then_some((left + margin, level)));
                }
                if step + 1 < way.len() {
                    points.extend((margin > 0.0).then_some((right - margin, level)));
                    points.push((right, level));
                }
            }
            layout.lines[*line] = points;
        }
        (left - LAYER_GAP, highest - lowest)
    }
}

/// By box: how many layers lie to its left. What is pointed at by nobody lies as far
/// to the right as what it points at allows.
fn layers_of(count: usize, lines: impl Iterator<Item = (usize, usize)>) -> Vec<usize> {
    let mut next = vec![Vec::new(); count];
    for (from, to) in lines {
        next[from].push(to);
    }
    let mut heights = vec![None; count];
    for start in 0..count {
        // A box's height is known once those of all that it points at are.
        let mut open = vec![start];
        while let Some(place) = open.last().copied() {
            let unknown: Vec<usize> =
                next[place].iter().copied().filter(|it| heights[*it].is_none()).collect();
            if unknown.is_empty() {
                let height = next[place].iter().filter_map(|it| heights[*it]).max();
                heights[place] = Some(height.map_or(0, |height: usize| height + 1));
                open.pop();
            } else {
                open.extend(unknown);
            }
        }
    }
    let mut lowest_first: Vec<usize> = (0..count).collect();
    lowest_first.sort_by_key(|place| heights[*place]);
    let limit = NARROW.max(from_count(count).sqrt() * 1.5);
    // From the right, as far as everything that a box points at is.
    let mut layers = vec![0_usize; count];
    let mut members: Vec<f64> = Vec::new();
    for place in lowest_first {
        let after = next[place].iter().map(|it| layers[*it] + 1).max().unwrap_or(0);
        let is_open = |layer: &usize| members[*layer] < limit;
        let layer = (after..members.len()).find(is_open).unwrap_or(members.len().max(after));
        members.resize(members.len().max(layer + 1), 0.0);
        members[layer] += 1.0;
        layers[place] = layer;
    }
    let last = members.len().saturating_sub(1);
    layers.into_iter().map(|layer| last - layer).collect()
}

/// How many pairs of these numbers below `limit` are in the wrong order, counted with
/// a Fenwick tree (Barth, Jünger and Mutzel).
fn inversions(numbers: &[usize], limit: usize) -> usize {
    let mut tree = vec![0_usize; limit + 1];
    let mut found = 0;
    for (seen, number) in numbers.iter().enumerate() {
        let mut at = number + 1;
        let mut not_greater = 0;
        while at > 0 {
            not_greater += tree[at];
            at &= at - 1;
        }
        found += seen - not_greater;
        at = number + 1;
        while at <= limit {
            tree[at] += 1;
            at += at & at.wrapping_neg();
        }
    }
    found
}

/// The places nearest to the wished ones at which slots of these heights lie below
/// each other: those that are in each other's way share the mean of their wishes (the
/// pool-adjacent-violators algorithm).
fn nearest(wishes: &[f64], heights: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, f64)> = Vec::new();
    let mut offset = 0.0;
    let mut offsets = Vec::new();
    for (wish, height) in wishes.iter().zip(heights) {
        offset += height / 2.0;
        offsets.push(offset);
        let mut pool = (wish - offset, 1.0);
        while let Some((value, weight)) = pools.pop_if(|(value, _)| *value > pool.0) {
            let sum = weight + pool.1;
            pool = ((value * weight + pool.0 * pool.1) / sum, sum);
        }
        pools.push(pool);
        offset += height / 2.0;
    }
    let mut places = Vec::new();
    for (value, weight) in pools {
        let mut left = weight;
        while left > 0.5 {
            places.push(value + offsets[places.len()]);
            left -= 1.0;
        }
    }
    places
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    (count > 0.0).then(|| sum / count)
}

/// No drawing has so many boxes that this is not exact.
fn from_count(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (f64, f64) = (100.0, 30.0);

    fn random(seed: u64) -> (Vec<Point>, Vec<(usize, usize)>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(1..40);
        let sizes = (0..count).map(|_| (random.f64() * 100.0 + 20.0, 30.0)).collect();
        let mut lines = BTreeSet::new();
        for from in 1..count {
            for _ in 0..random.usize(0..3) {
                lines.insert((from, random.usize(0..from)));
            }
        }
        (sizes, lines.into_iter().collect())
    }

    #[test]
    fn boxes_of_random_graphs_never_overlap_and_lines_go_right() {
        for seed in 0..300 {
            let (sizes, lines) = random(seed);
            let layout = lay_out(&sizes, &lines);
            for (one, at) in layout.boxes.iter().enumerate() {
                for (other, there) in layout.boxes.iter().enumerate().take(one) {
                    let apart_x =
                        (at.0 - there.0).abs() - f64::midpoint(sizes[one].0, sizes[other].0);
                    let apart_y =
                        (at.1 - there.1).abs() - f64::midpoint(sizes[one].1, sizes[other].1);
                    assert!(apart_x > -0.01 || apart_y > -0.01, "seed {seed}: {one} on {other}");
                }
                let (half_x, half_y) = (sizes[one].0 / 2.0, sizes[one].1 / 2.0);
                assert!(
                    at.0 - half_x > -0.01 && at.0 + half_x < layout.size.0 + 0.01,
                    "seed {seed}"
                );
                assert!(
                    at.1 - half_y > -0.01 && at.1 + half_y < layout.size.1 + 0.01,
                    "seed {seed}"
                );
            }
            for ((from, to), way) in lines.iter().zip(&layout.lines) {
                assert!(way.windows(2).all(|pair| pair[0].0 <= pair[1].0), "seed {seed}");
                let (start, end) = (way[0], way[way.len() - 1]);
                assert_eq!((start.1, end.1), (layout.boxes[*from].1, layout.boxes[*to].1));
            }
            assert_eq!(layout, lay_out(&sizes, &lines), "seed {seed}");
        }
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let layout = lay_out(&[SIZE; 3], &[(2, 1), (1, 0)]);
        assert_eq!(layout.boxes, [(390.0, 15.0), (220.0, 15.0), (50.0, 15.0)]);
        assert_eq!(layout.lines[0], [(100.0, 15.0), (170.0, 15.0)]);
    }

    #[test]
    fn lines_that_need_not_cross_do_not() {
        let (sizes, lines) = ([SIZE; 4], [(2, 1), (3, 0)]);
        let layout = lay_out(&sizes, &[lines[0], lines[1], (3, 1)]);
        assert!((layout.boxes[2].1 < layout.boxes[3].1) == (layout.boxes[1].1 < layout.boxes[0].1));
    }

    #[test]
    fn pairs_in_the_wrong_order_are_counted() {
        assert_eq!(inversions(&[0, 1, 2], 3), 0);
        assert_eq!(inversions(&[2, 1, 0], 3), 3);
        assert_eq!(inversions(&[1, 1, 0, 2], 3), 2);
    }

    #[test]
    fn slots_come_as_near_to_their_wishes_as_their_order_allows() {
        assert_eq!(nearest(&[0.0, 0.0], &[10.0, 10.0]), [-5.0, 5.0]);
        assert_eq!(nearest(&[0.0, 100.0], &[10.0, 10.0]), [0.0, 100.0]);
    }
}

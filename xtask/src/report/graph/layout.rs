//! Positions the boxes of a graph and routes its lines.
//!
//! A layered layout from left to right (Sugiyama, Tagawa and Toda). A box lies at least one
//! layer to the left of the boxes that it points to, further if that layer is full (Coffman
//! and Graham), so that a thousand boxes do not form one column. A line that crosses layers
//! has a dummy slot in each, so that it is routed around boxes. Each layer is sorted by the
//! positions of its boxes' neighbors (barycenter heuristic, in alternating sweeps); then
//! boxes move as close to their neighbors as the order allows. Connected components of the
//! graph, here called subgraphs, are stacked, the largest first, and boxes without lines
//! follow in rows.
//!
//! The layout is deterministic.

use std::collections::BTreeSet;

/// The horizontal gap between layers.
const LAYER_GAP: f64 = 70.0;
/// The vertical gap between boxes.
const BOX_GAP: f64 = 14.0;
/// The vertical gap between subgraphs.
const SUBGRAPH_GAP: f64 = 36.0;
/// The height of a line's dummy slot, in a normal and in a large subgraph.
const LINE_HEIGHTS: (f64, f64) = (10.0, 2.0);
/// A subgraph with more boxes is large.
const LARGE: usize = 150;
/// A layer with fewer boxes is never full.
const MIN_LAYER_LIMIT: f64 = 24.0;
/// How often the layers are sorted.
const SORT_SWEEPS: usize = 12;
/// How often boxes are moved toward their neighbors.
const ALIGN_SWEEPS: usize = 24;

/// The distances from the left and from the top.
pub(crate) type Point = (f64, f64);

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Layout {
    /// The center of each box.
    pub(crate) boxes: Vec<Point>,
    /// The points of each line, from the right side of one box to the left side of the other.
    pub(crate) lines: Vec<Vec<Point>>,
    /// The total width and height.
    pub(crate) size: (f64, f64),
}

/// Lays out boxes of these sizes (width, height). A line leads from one box to another; lines
/// must not form a cycle.
pub(crate) fn lay_out(sizes: &[(f64, f64)], lines: &[(usize, usize)]) -> Layout {
    let mut layout = Layout {
        boxes: vec![(0.0, 0.0); sizes.len()],
        lines: vec![Vec::new(); lines.len()],
        size: (0.0, 0.0),
    };
    let mut subgraphs = subgraphs(sizes.len(), lines);
    subgraphs.sort_by_key(|boxes| (std::cmp::Reverse(boxes.len()), boxes[0]));
    let is_single = |boxes: &Vec<usize>| boxes.len() == 1;
    let (single, subgraphs): (Vec<_>, Vec<_>) = subgraphs.into_iter().partition(is_single);
    for boxes in &subgraphs {
        let top = if layout.size.1 > 0.0 { layout.size.1 + SUBGRAPH_GAP } else { 0.0 };
        let (width, height) = Subgraph::new(boxes, sizes, lines).place(top, &mut layout);
        layout.size = (layout.size.0.max(width), top + height);
    }
    let single: Vec<usize> = single.into_iter().flatten().collect();
    lay_out_rows(&single, sizes, &mut layout);
    layout
}

/// The boxes of each subgraph, sorted.
fn subgraphs(count: usize, lines: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut neighbors = vec![Vec::new(); count];
    for (from, to) in lines {
        neighbors[*from].push(*to);
        neighbors[*to].push(*from);
    }
    let mut seen = vec![false; count];
    let mut subgraphs = Vec::new();
    for start in 0..count {
        let mut found = BTreeSet::new();
        let mut open = vec![start];
        while let Some(index) = open.pop() {
            if !std::mem::replace(&mut seen[index], true) {
                found.insert(index);
                open.extend(&neighbors[index]);
            }
        }
        if !found.is_empty() {
            subgraphs.push(found.into_iter().collect());
        }
    }
    subgraphs
}

/// Places boxes without lines in rows, as wide as the subgraphs above or roughly square.
fn lay_out_rows(boxes: &[usize], sizes: &[(f64, f64)], layout: &mut Layout) {
    let area: f64 =
        boxes.iter().map(|it| (sizes[*it].0 + BOX_GAP) * (sizes[*it].1 + BOX_GAP)).sum();
    let limit = layout.size.0.max((area * 2.0).sqrt());
    let mut top = if layout.size.1 > 0.0 { layout.size.1 + SUBGRAPH_GAP } else { 0.0 };
    let (mut left, mut height) = (0.0, 0.0_f64);
    for index in boxes {
        let (width, own_height) = sizes[*index];
        if left > 0.0 && left + width > limit {
            top += height + BOX_GAP;
            (left, height) = (0.0, 0.0);
        }
        layout.boxes[*index] = (left + width / 2.0, top + own_height / 2.0);
        left += width + BOX_GAP;
        height = height.max(own_height);
        layout.size = (layout.size.0.max(left - BOX_GAP), top + height);
    }
}

/// A connected component of the graph.
struct Subgraph {
    /// A slot holds a box, or is a dummy for a line that crosses a layer.
    slots: Vec<Slot>,
    layers: Vec<Vec<usize>>,
    /// The slots on the route of each line.
    routes: Vec<(usize, Vec<usize>)>,
}

struct Slot {
    /// The box, or `None` for a dummy.
    index: Option<usize>,
    /// The width, and the height with the gap to the next slot.
    size: (f64, f64),
    layer: usize,
    left: Vec<usize>,
    right: Vec<usize>,
    /// The center, from the top.
    y: f64,
}

impl Subgraph {
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
        let line_height = if boxes.len() > LARGE { LINE_HEIGHTS.1 } else { LINE_HEIGHTS.0 };
        let mut subgraph = Self { slots: Vec::new(), layers: Vec::new(), routes: Vec::new() };
        for (slot, index) in boxes.iter().enumerate() {
            let (width, height) = sizes[*index];
            subgraph.add(Some(*index), (width, height + BOX_GAP), layers[slot]);
        }
        for (line, (from, to)) in own {
            let mut route = vec![from];
            for layer in layers[from] + 1..layers[to] {
                route.push(subgraph.add(None, (0.0, line_height), layer));
            }
            route.push(to);
            for pair in route.windows(2) {
                subgraph.slots[pair[0]].right.push(pair[1]);
                subgraph.slots[pair[1]].left.push(pair[0]);
            }
            subgraph.routes.push((line, route));
        }
        subgraph.sort();
        subgraph.align();
        subgraph
    }

    fn add(&mut self, index: Option<usize>, size: (f64, f64), layer: usize) -> usize {
        let slot = self.slots.len();
        let (left, right) = (Vec::new(), Vec::new());
        self.slots.push(Slot { index, size, layer, left, right, y: 0.0 });
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, Vec::new());
        }
        self.layers[layer].push(slot);
        slot
    }

    /// Sorts the layers repeatedly, and keeps the order with the fewest crossings.
    fn sort(&mut self) {
        let mut best = self.layers.clone();
        let mut fewest = self.crossings();
        for sweep in 0..SORT_SWEEPS {
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
        let barycenter = |rank: usize, slot: usize| {
            let slot = &self.slots[slot];
            let neighbors = if look_left { &slot.left } else { &slot.right };
            mean(neighbors.iter().map(|it| ranks[*it])).unwrap_or(from_count(rank))
        };
        let mut keyed: Vec<(f64, usize)> =
            order.iter().enumerate().map(|(rank, slot)| (barycenter(rank, *slot), *slot)).collect();
        keyed.sort_by(|one, other| one.0.total_cmp(&other.0));
        order.clear();
        order.extend(keyed.into_iter().map(|(_, slot)| slot));
        self.layers[layer] = order;
    }

    /// By slot, its position in this layer; 0 for slots of other layers.
    fn ranks(&self, layer: usize) -> Vec<f64> {
        let mut ranks = vec![0.0; self.slots.len()];
        for (rank, slot) in self.layers[layer].iter().enumerate() {
            ranks[*slot] = from_count(rank);
        }
        ranks
    }

    /// The number of line crossings.
    fn crossings(&self) -> usize {
        let between = |layer: usize| {
            let mut rank = vec![0; self.slots.len()];
            for (position, slot) in self.layers[layer + 1].iter().enumerate() {
                rank[*slot] = position;
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

    /// Moves the slots of each layer toward their neighbors, without changing the order.
    fn align(&mut self) {
        for layer in 0..self.layers.len() {
            let mut y = 0.0;
            for slot in &self.layers[layer] {
                let height = self.slots[*slot].size.1;
                self.slots[*slot].y = y + height / 2.0;
                y += height;
            }
        }
        for sweep in 0..ALIGN_SWEEPS {
            let count = self.layers.len();
            for step in 0..count {
                let layer = if sweep % 2 == 0 { step } else { count - 1 - step };
                self.align_layer(layer);
            }
        }
    }

    fn align_layer(&mut self, layer: usize) {
        let order = &self.layers[layer];
        let desired = |slot: &usize| {
            let slot = &self.slots[*slot];
            let beside = slot.left.iter().chain(&slot.right);
            mean(beside.map(|it| self.slots[*it].y)).unwrap_or(slot.y)
        };
        let desired: Vec<f64> = order.iter().map(desired).collect();
        let heights: Vec<f64> = order.iter().map(|slot| self.slots[*slot].size.1).collect();
        for (slot, y) in order.iter().zip(nearest(&desired, &heights)) {
            self.slots[*slot].y = y;
        }
    }

    /// Writes the positions into a layout, and returns the size.
    fn place(&self, top: f64, layout: &mut Layout) -> (f64, f64) {
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
            if let Some(index) = slot.index {
                let (left, right) = columns[slot.layer];
                layout.boxes[index] = (f64::midpoint(left, right), y(slot));
            }
        }
        for (line, route) in &self.routes {
            let mut points = Vec::new();
            for (step, slot) in route.iter().map(|slot| &self.slots[*slot]).enumerate() {
                let (left, right) = columns[slot.layer];
                // A line is horizontal beside a box that is narrower than its layer.
                let margin = slot.index.map_or(0.0, |_| (right - left - slot.size.0) / 2.0);
                let level = y(slot);
                if step > 0 {
                    points.push((left, level));
                    points.extend((margin > 0.0).then_some((left + margin, level)));
                }
                if step + 1 < route.len() {
                    points.extend((margin > 0.0).then_some((right - margin, level)));
                    points.push((right, level));
                }
            }
            layout.lines[*line] = points;
        }
        (left - LAYER_GAP, highest - lowest)
    }
}

/// The layer of each box, counted from the left. Each box lies as far to the right as the
/// boxes that it points to, and full layers, allow.
fn layers_of(count: usize, lines: impl Iterator<Item = (usize, usize)>) -> Vec<usize> {
    let mut next = vec![Vec::new(); count];
    for (from, to) in lines {
        next[from].push(to);
    }
    let mut heights = vec![None; count];
    for start in 0..count {
        // A box's height is known once the heights of all boxes that it points to are.
        let mut open = vec![start];
        while let Some(index) = open.last().copied() {
            let unknown: Vec<usize> =
                next[index].iter().copied().filter(|it| heights[*it].is_none()).collect();
            if unknown.is_empty() {
                let height = next[index].iter().filter_map(|it| heights[*it]).max();
                heights[index] = Some(height.map_or(0, |height: usize| height + 1));
                open.pop();
            } else {
                open.extend(unknown);
            }
        }
    }
    let mut lowest_first: Vec<usize> = (0..count).collect();
    lowest_first.sort_by_key(|index| heights[*index]);
    let limit = MIN_LAYER_LIMIT.max(from_count(count).sqrt() * 1.5);
    // Counted from the right here.
    let mut layers = vec![0_usize; count];
    let mut members: Vec<f64> = Vec::new();
    for index in lowest_first {
        let after = next[index].iter().map(|it| layers[*it] + 1).max().unwrap_or(0);
        let is_open = |layer: &usize| members[*layer] < limit;
        let layer = (after..members.len()).find(is_open).unwrap_or(members.len().max(after));
        members.resize(members.len().max(layer + 1), 0.0);
        members[layer] += 1.0;
        layers[index] = layer;
    }
    let last = members.len().saturating_sub(1);
    layers.into_iter().map(|layer| last - layer).collect()
}

/// The number of pairs in the wrong order among numbers below `limit`, counted with a Fenwick
/// tree (Barth, Jünger and Mutzel).
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

/// The positions nearest to the desired ones at which slots of these heights do not overlap:
/// slots that would are moved to the mean of their desired positions (the
/// pool-adjacent-violators algorithm).
fn nearest(desired: &[f64], heights: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, f64)> = Vec::new();
    let mut offset = 0.0;
    let mut offsets = Vec::new();
    for (position, height) in desired.iter().zip(heights) {
        offset += height / 2.0;
        offsets.push(offset);
        let mut pool = (position - offset, 1.0);
        while let Some((value, weight)) = pools.pop_if(|(value, _)| *value > pool.0) {
            let sum = weight + pool.1;
            pool = ((value * weight + pool.0 * pool.1) / sum, sum);
        }
        pools.push(pool);
        offset += height / 2.0;
    }
    let mut positions = Vec::new();
    for (value, weight) in pools {
        let mut left = weight;
        while left > 0.5 {
            positions.push(value + offsets[positions.len()]);
            left -= 1.0;
        }
    }
    positions
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    (count > 0.0).then(|| sum / count)
}

/// Exact for any realistic number of boxes.
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
    fn boxes_of_random_graphs_never_overlap_and_lines_lead_right() {
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
            for ((from, to), route) in lines.iter().zip(&layout.lines) {
                assert!(route.windows(2).all(|pair| pair[0].0 <= pair[1].0), "seed {seed}");
                let (start, end) = (route[0], route[route.len() - 1]);
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
    fn slots_are_as_near_to_their_desired_positions_as_the_order_allows() {
        assert_eq!(nearest(&[0.0, 0.0], &[10.0, 10.0]), [-5.0, 5.0]);
        assert_eq!(nearest(&[0.0, 100.0], &[10.0, 10.0]), [0.0, 100.0]);
    }
}

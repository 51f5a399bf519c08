//! Lays out boxes in layers, so that every arrow points down: computes box positions and arrow paths.
//!
//! After Sugiyama: a box is below all its predecessors; an arrow over several layers gets an item in each of them; items are
//! sorted, and then moved, towards the middle of their neighbours in adjacent layers.

/// The space between two boxes of a layer.
const BOX_GAP: f64 = 28.0;
/// The space between two layers, for the curve and the label of an arrow.
const LAYER_GAP: f64 = 52.0;
/// The minimum space of an arrow where it passes a layer.
const MIN_ARROW_GAP: f64 = 10.0;
/// The maximum number of layers of a routed arrow; a longer one is drawn directly, since items for it would cost more than
/// they help.
const MAX_ROUTED_LAYERS: usize = 64;
/// The number of sort and move iterations; more change little.
const LAYOUT_ITERATIONS: usize = 4;

/// The layout of one flow's boxes and arrows.
pub(super) struct Layers {
    pub(super) width: f64,
    pub(super) height: f64,
    /// The upper left corner of each box.
    pub(super) corners: Vec<(f64, f64)>,
    /// The path of each arrow, from its source to its target: the ends of straight lines, connected by curves.
    pub(super) arrow_paths: Vec<Vec<(f64, f64)>>,
}

/// An arrow from one box to another, by box index.
#[derive(Clone, Copy)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The width of its label.
    pub(super) label: f64,
}

/// A box, or an arrow's item in a layer that it passes.
struct LayerItem {
    layer: usize,
    width: f64,
    height: f64,
    center: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out boxes of these sizes. The arrows must not form a cycle.
pub(super) fn lay_out(sizes: &[(f64, f64)], arrows: &[Arrow]) -> Layers {
    let layer_of = layers_of(sizes.len(), arrows);
    let new = |layer, (width, height)| LayerItem { layer, width, height, center: 0.0, above: vec![], below: vec![] };
    let mut items: Vec<LayerItem> = layer_of.iter().zip(sizes).map(|(layer, size)| new(*layer, *size)).collect();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for Arrow { from, to, label } in arrows {
        let mut chain = vec![*from];
        let between = layer_of[*from] + 1..layer_of[*to];
        if between.len() <= MAX_ROUTED_LAYERS {
            for layer in between {
                chain.push(items.len());
                items.push(new(layer, (label.max(MIN_ARROW_GAP), 0.0)));
            }
        }
        chain.push(*to);
        for pair in chain.windows(2) {
            items[pair[0]].below.push(pair[1]);
            items[pair[1]].above.push(pair[0]);
        }
        chains.push(chain);
    }
    let count = layer_of.iter().max().map_or(0, |highest| highest + 1);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (index, item) in items.iter().enumerate() {
        layers[item.layer].push(index);
    }
    sort(&mut layers, &mut items);
    spread(&layers, &mut items);
    finish(sizes.len(), &layers, &items, &chains)
}

/// The layer of each box: one below its lowest predecessor.
fn layers_of(boxes: usize, arrows: &[Arrow]) -> Vec<usize> {
    let (mut after, mut predecessors) = (vec![Vec::new(); boxes], vec![0_usize; boxes]);
    for Arrow { from, to, .. } in arrows {
        after[*from].push(*to);
        predecessors[*to] += 1;
    }
    let mut ready: Vec<usize> = (0..boxes).filter(|index| predecessors[*index] == 0).collect();
    let mut layers = vec![0; boxes];
    while let Some(index) = ready.pop() {
        for next in &after[index] {
            layers[*next] = layers[*next].max(layers[index] + 1);
            predecessors[*next] -= 1;
            if predecessors[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    layers
}

/// Sorts each layer by the middle of its items' neighbours, above and below in turn.
fn sort(layers: &mut [Vec<usize>], items: &mut [LayerItem]) {
    let count = layers.len();
    let number = |layer: &[usize], items: &mut [LayerItem]| {
        for (position, index) in layer.iter().enumerate() {
            items[*index].center = position as f64;
        }
    };
    layers.iter().for_each(|layer| number(layer, items));
    for iteration in 0..LAYOUT_ITERATIONS {
        for step in 0..count {
            let layer = &mut layers[if iteration % 2 == 0 { step } else { count - 1 - step }];
            let desired = |index: &usize| middle(items, *index, iteration % 2 == 0);
            let mut sorted: Vec<(f64, usize)> = layer.iter().map(|index| (desired(index), *index)).collect();
            sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
            *layer = sorted.into_iter().map(|(_, index)| index).collect();
            number(layer, items);
        }
    }
}

/// Moves the items of each layer towards the middle of their neighbours, as far as space allows.
fn spread(layers: &[Vec<usize>], items: &mut [LayerItem]) {
    items.iter_mut().for_each(|item| item.center = 0.0);
    layers.iter().for_each(|layer| put(layer, items, &vec![0.0; layer.len()]));
    for iteration in 0..LAYOUT_ITERATIONS {
        for step in 0..layers.len() {
            let downward = iteration % 2 == 0;
            let layer = &layers[if downward { step } else { layers.len() - 1 - step }];
            let desired: Vec<f64> = layer.iter().map(|index| middle(items, *index, downward)).collect();
            put(layer, items, &desired);
        }
    }
}

/// Puts the items of a layer as near to their desired positions as their neighbours allow.
fn put(layer: &[usize], items: &mut [LayerItem], desired: &[f64]) {
    let halves: Vec<f64> = layer.iter().map(|index| items[*index].width / 2.0).collect();
    let mut rightward = Vec::new();
    let mut edge = f64::NEG_INFINITY;
    for (half, desired) in halves.iter().zip(desired) {
        let center = desired.max(edge + half);
        edge = center + half + BOX_GAP;
        rightward.push(center);
    }
    let mut edge = f64::INFINITY;
    for (position, index) in layer.iter().enumerate().rev() {
        let center = desired[position].min(edge - halves[position]);
        edge = center - halves[position] - BOX_GAP;
        // Pushing neighbours to either side keeps the distances, and so does the mean of both.
        items[*index].center = f64::midpoint(rightward[position], center);
    }
}

/// The middle of an item's neighbours on one side; its current position when it has none.
fn middle(items: &[LayerItem], index: usize, above: bool) -> f64 {
    let item = &items[index];
    let neighbours = if above { &item.above } else { &item.below };
    if neighbours.is_empty() {
        return item.center;
    }
    neighbours.iter().map(|other| items[*other].center).sum::<f64>() / neighbours.len() as f64
}

fn finish(boxes: usize, layers: &[Vec<usize>], items: &[LayerItem], chains: &[Vec<usize>]) -> Layers {
    let left = items.iter().map(|item| item.center - item.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = items.iter().map(|item| item.center + item.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let mut bands = Vec::new();
    let mut top = 0.0;
    for layer in layers {
        let height = layer.iter().map(|index| items[*index].height).fold(0.0, f64::max);
        bands.push((top, top + height));
        top += height + LAYER_GAP;
    }
    let corner = |item: &LayerItem| {
        let (top, bottom) = bands[item.layer];
        (item.center - item.width / 2.0 - left, f64::midpoint(top, bottom) - item.height / 2.0)
    };
    let path = |chain: &Vec<usize>| {
        let mut points = Vec::new();
        for (step, index) in chain.iter().enumerate() {
            let item = &items[*index];
            let ((top, bottom), (_, upper), x) = (bands[item.layer], corner(item), item.center - left);
            match step {
                0 => points.extend([(x, upper + item.height), (x, bottom)]),
                _ if step + 1 == chain.len() => points.extend([(x, top), (x, upper)]),
                _ => points.extend([(x, top), (x, bottom)]),
            }
        }
        points
    };
    Layers {
        width: if boxes == 0 { 0.0 } else { right - left },
        height: bands.last().map_or(0.0, |(_, bottom)| *bottom),
        corners: items[..boxes].iter().map(corner).collect(),
        arrow_paths: chains.iter().map(path).collect(),
    }
}

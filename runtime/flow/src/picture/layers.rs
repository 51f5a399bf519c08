//! Boxes in layers, so that every arrow points down: where each box stands and which way each arrow takes.
//!
//! After Sugiyama: a box stands below all that come before it; an arrow over several layers gets a place of its own
//! in each of them; places are sorted, and then moved, towards the middle of what they are joined to.

/// The space between two boxes of a layer.
const BOX_GAP: f64 = 28.0;
/// The space between two layers: an arrow turns in it, and its label stands there.
const LAYER_GAP: f64 = 52.0;
/// The least space that an arrow takes where it passes a layer.
const MIN_ARROW_GAP: f64 = 10.0;
/// An arrow over more layers is drawn as it comes; places for it would cost more than they help.
const MAX_ROUTED_LAYERS: usize = 64;
/// How often places are sorted and moved; more changes little.
const LAYOUT_ITERATIONS: usize = 4;

/// What one flow's boxes and arrows take.
pub(super) struct Layers {
    pub(super) width: f64,
    pub(super) height: f64,
    /// The upper left corner of each box.
    pub(super) corners: Vec<(f64, f64)>,
    /// Where each arrow passes, from its box to its box: ends of straight lines, between which it curves.
    pub(super) arrow_paths: Vec<Vec<(f64, f64)>>,
}

/// An arrow from one box to another, by their places among the boxes.
#[derive(Clone, Copy)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The width of what is written on it.
    pub(super) label: f64,
}

/// A box, or the place of an arrow in a layer that it passes.
struct LayerItem {
    layer: usize,
    width: f64,
    height: f64,
    center: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out boxes of these sizes. The arrows make no circle.
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
    for (index, place) in items.iter().enumerate() {
        layers[place.layer].push(index);
    }
    sort(&mut layers, &mut items);
    spread(&layers, &mut items);
    finish(sizes.len(), &layers, &items, &chains)
}

/// The layer of each box: one below the lowest of those before it.
fn layers_of(boxes: usize, arrows: &[Arrow]) -> Vec<usize> {
    let (mut after, mut waiting) = (vec![Vec::new(); boxes], vec![0_usize; boxes]);
    for Arrow { from, to, .. } in arrows {
        after[*from].push(*to);
        waiting[*to] += 1;
    }
    let mut ready: Vec<usize> = (0..boxes).filter(|index| waiting[*index] == 0).collect();
    let mut layers = vec![0; boxes];
    while let Some(index) = ready.pop() {
        for next in &after[index] {
            layers[*next] = layers[*next].max(layers[index] + 1);
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    layers
}

/// Sorts each layer by the middle of what its places are joined to, above and below in turn.
fn sort(layers: &mut [Vec<usize>], places: &mut [LayerItem]) {
    let count = layers.len();
    let number = |layer: &[usize], places: &mut [LayerItem]| {
        for (at, index) in layer.iter().enumerate() {
            places[*index].center = at as f64;
        }
    };
    layers.iter().for_each(|layer| number(layer, places));
    for round in 0..LAYOUT_ITERATIONS {
        for step in 0..count {
            let layer = &mut layers[if round % 2 == 0 { step } else { count - 1 - step }];
            let wanted = |index: &usize| middle(places, *index, round % 2 == 0);
            let mut sorted: Vec<(f64, usize)> = layer.iter().map(|index| (wanted(index), *index)).collect();
            sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
            *layer = sorted.into_iter().map(|(_, index)| index).collect();
            number(layer, places);
        }
    }
}

/// Moves the places of each layer towards the middle of what they are joined to, as far as there is space.
fn spread(layers: &[Vec<usize>], places: &mut [LayerItem]) {
    places.iter_mut().for_each(|place| place.center = 0.0);
    layers.iter().for_each(|layer| put(layer, places, &vec![0.0; layer.len()]));
    for round in 0..LAYOUT_ITERATIONS {
        for step in 0..layers.len() {
            let downward = round % 2 == 0;
            let layer = &layers[if downward { step } else { layers.len() - 1 - step }];
            let wanted: Vec<f64> = layer.iter().map(|index| middle(places, *index, downward)).collect();
            put(layer, places, &wanted);
        }
    }
}

/// Puts the places of a layer as near to where they are wanted as their neighbours let them.
fn put(layer: &[usize], places: &mut [LayerItem], wanted: &[f64]) {
    let halves: Vec<f64> = layer.iter().map(|index| places[*index].width / 2.0).collect();
    let mut rightward = Vec::new();
    let mut edge = f64::NEG_INFINITY;
    for (half, wanted) in halves.iter().zip(wanted) {
        let center = wanted.max(edge + half);
        edge = center + half + BOX_GAP;
        rightward.push(center);
    }
    let mut edge = f64::INFINITY;
    for (at, index) in layer.iter().enumerate().rev() {
        let center = wanted[at].min(edge - halves[at]);
        edge = center - halves[at] - BOX_GAP;
        // Both ways of pushing neighbours aside keep the distances, and so does the mean of the two.
        places[*index].center = f64::midpoint(rightward[at], center);
    }
}

/// The middle of what a place is joined to on one side; where it is now when there is nothing.
fn middle(places: &[LayerItem], index: usize, above: bool) -> f64 {
    let place = &places[index];
    let joined = if above { &place.above } else { &place.below };
    if joined.is_empty() {
        return place.center;
    }
    joined.iter().map(|other| places[*other].center).sum::<f64>() / joined.len() as f64
}

fn finish(boxes: usize, layers: &[Vec<usize>], places: &[LayerItem], chains: &[Vec<usize>]) -> Layers {
    let left = places.iter().map(|place| place.center - place.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = places.iter().map(|place| place.center + place.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let mut bands = Vec::new();
    let mut top = 0.0;
    for layer in layers {
        let height = layer.iter().map(|index| places[*index].height).fold(0.0, f64::max);
        bands.push((top, top + height));
        top += height + LAYER_GAP;
    }
    let corner = |place: &LayerItem| {
        let (top, bottom) = bands[place.layer];
        (place.center - place.width / 2.0 - left, f64::midpoint(top, bottom) - place.height / 2.0)
    };
    let way = |chain: &Vec<usize>| {
        let mut points = Vec::new();
        for (step, index) in chain.iter().enumerate() {
            let place = &places[*index];
            let ((top, bottom), (_, upper), x) = (bands[place.layer], corner(place), place.center - left);
            match step {
                0 => points.extend([(x, upper + place.height), (x, bottom)]),
                _ if step + 1 == chain.len() => points.extend([(x, top), (x, upper)]),
                _ => points.extend([(x, top), (x, bottom)]),
            }
        }
        points
    };
    Layers {
        width: if boxes == 0 { 0.0 } else { right - left },
        height: bands.last().map_or(0.0, |(_, bottom)| *bottom),
        corners: places[..boxes].iter().map(corner).collect(),
        arrow_paths: chains.iter().map(way).collect(),
    }
}

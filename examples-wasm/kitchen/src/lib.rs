//! Bakes a cake: the first demonstration flow of TaskFlow's distributed engine.
//!
//! `flow.toml` beside this crate wires it: mix, then two pans side by side, an oven for each, and bake.

use std::{thread, time::Duration};

use waft_guest::prelude::*;

/// The capacity of the largest pan, in millilitres.
const LARGEST_PAN_ML: u32 = 5_000;

/// Batter, ready to be poured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batter {
    /// The amount.
    pub ml: u32,
}

/// A round pan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pan {
    /// Its diameter.
    pub size_cm: u32,
    /// The batter for it.
    pub batter_ml: u32,
}

/// A hot oven with a pan in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Oven {
    /// The temperature.
    pub celsius: u32,
    /// The pan in it.
    pub pan: Pan,
}

/// A cake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cake {
    /// The diameters of its layers, from the bottom.
    pub layers_cm: Vec<u32>,
    /// The time in the oven.
    pub minutes: u32,
    /// The icing on it.
    pub icing: Option<String>,
}

/// Mixes the batter.
#[task(provides = "batter", rollback = pour_away)]
fn mix(
    /// The amount to mix, in millilitres.
    batter_ml: u32,
) -> Result<Batter, Failure> {
    if batter_ml == 0 {
        return Err(Failure::permanent("nothing is too little for a cake"));
    }
    log::info!("mixes {batter_ml} ml of batter");
    Ok(Batter { ml: batter_ml })
}

fn pour_away(batter: Outcome<Batter>) -> Result<(), Failure> {
    match batter {
        Outcome::Provided(batter) => report_rollback(format!("pours {} ml of batter away", batter.ml)),
        Outcome::Failed(_) => {}
        Outcome::Unknown => report_rollback("pours away what is in the bowl, if anything is".into()),
    }
    Ok(())
}

/// Chooses a pan for the given amount of batter.
#[task(provides = "pan", rollback = put_back)]
fn choose_pan(
    /// The amount of batter, in millilitres.
    batter_ml: u32,
    /// The number of pans that share it; the default is 1.
    pans: Option<u32>,
) -> Result<Pan, Failure> {
    let pans = pans.filter(|pans| *pans > 0).unwrap_or(1);
    let batter_ml = batter_ml.div_ceil(pans);
    if batter_ml > LARGEST_PAN_ML {
        return Err(Failure::permanent(format!("no pan holds {batter_ml} ml: the largest holds {LARGEST_PAN_ML}")));
    }
    Ok(Pan { size_cm: 20 + batter_ml / 100, batter_ml })
}

fn put_back(pan: Outcome<Pan>) -> Result<(), Failure> {
    if let Outcome::Provided(pan) = pan {
        report_rollback(format!("puts the pan of {} cm back", pan.size_cm));
    }
    Ok(())
}

/// Heats an oven for a pan.
#[task(provides = "oven", rollback = cool_down, retry(attempts = 3, initial = "500ms"), timeout = "30s")]
fn heat_oven(
    /// The pan that will be in it.
    pan: Pan,
    /// The temperature; the default is 180.
    celsius: Option<u32>,
) -> Result<Oven, Failure> {
    const STEPS: u32 = 5;
    let celsius = celsius.unwrap_or(180);
    if celsius > 300 {
        return Err(Failure::permanent(format!("the oven does not reach {celsius} degrees: it ends at 300")));
    }
    for step in 1..=STEPS {
        thread::sleep(Duration::from_millis(40));
        progress(f64::from(step) / f64::from(STEPS), format!("at {} degrees", celsius * step / STEPS));
    }
    Ok(Oven { celsius, pan })
}

// It also takes an input of the task, so it has the attribute.
#[rollback]
fn cool_down(pan: &Pan, oven: Outcome<Oven>) -> Result<(), Failure> {
    match oven {
        Outcome::Provided(oven) => {
            report_rollback(format!("cools the oven of the {} cm pan from {}", pan.size_cm, oven.celsius))
        }
        Outcome::Failed(_) | Outcome::Unknown => {
            report_rollback(format!("turns the oven of the {} cm pan off", pan.size_cm))
        }
    }
    Ok(())
}

/// Bakes a cake of two layers. It has no rollback.
#[task(provides = "cake")]
fn bake(
    /// The batter for the pans.
    batter: Batter,
    /// The oven of the lower layer.
    first_oven: Oven,
    /// The oven of the upper layer.
    second_oven: Oven,
    /// The icing, if any.
    icing: Option<String>,
) -> Result<Cake, Failure> {
    let capacity_ml = first_oven.pan.batter_ml + second_oven.pan.batter_ml;
    if batter.ml > capacity_ml {
        return Err(Failure::permanent(format!(
            "{} ml of batter do not fit into pans for {capacity_ml} ml",
            batter.ml
        )));
    }
    let coldest = first_oven.celsius.min(second_oven.celsius).max(1);
    Ok(Cake { layers_cm: vec![first_oven.pan.size_cm, second_oven.pan.size_cm], minutes: 8_100 / coldest, icing })
}

/// Mixes icing of a flavour.
#[task(provides = "icing")]
fn mix_icing(
    /// Its flavour; the default is vanilla.
    flavour: Option<String>,
) -> String {
    format!("{} icing", flavour.as_deref().unwrap_or("vanilla"))
}

/// Reports a rollback in the log and to watchers.
fn report_rollback(what: String) {
    log::info!("{what}");
    progress(1.0, what);
}

waft_guest::export!(mix, choose_pan, heat_oven, bake, mix_icing);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batter_of_two_pans_bakes_in_their_ovens() {
        let batter = mix(900).unwrap();
        let pan = choose_pan(batter.ml, Some(2)).unwrap();
        assert_eq!(pan, Pan { size_cm: 24, batter_ml: 450 });
        let oven = heat_oven(pan, Some(180)).unwrap();
        let cake = bake(batter, oven.clone(), oven, Some(mix_icing(None))).unwrap();
        let icing = Some("vanilla icing".into());
        assert_eq!(cake, Cake { layers_cm: vec![24, 24], minutes: 45, icing });
    }

    #[test]
    fn too_much_batter_is_a_failure() {
        let failure = choose_pan(6_000, None).unwrap_err();
        assert_eq!(failure.message(), "no pan holds 6000 ml: the largest holds 5000");
    }

    #[test]
    fn unmixed_batter_is_not_poured_away() {
        let failure = RecordedFailure { kind: FailureKind::Permanent, message: "empty".into(), details: None };
        assert_eq!(pour_away(Outcome::Failed(failure)), Ok(()));
    }
}

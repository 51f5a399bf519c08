//! Tasks that exhaust resources, and tasks that report their findings. None of them may harm the host or other guests,
//! and each ends in a failure of its own kind.

mod greedy;
mod nosy;
mod steady;

waft_guest::export!(
    greedy::allocate,
    greedy::allocate_and_give_up,
    greedy::big,
    greedy::exit,
    greedy::log_endlessly,
    greedy::panic,
    greedy::print_endlessly,
    greedy::recurse,
    greedy::spin,
    greedy::tell_progress_endlessly,
    nosy::connect,
    nosy::connect_or_panic,
    nosy::observe,
    nosy::open_file,
    nosy::rummage,
    steady::echo,
    steady::echo_bytes,
    steady::fail,
    steady::fail_until,
    steady::noop,
    steady::say,
    steady::sleep,
    steady::stubborn,
);

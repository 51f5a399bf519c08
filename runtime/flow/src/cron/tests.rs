//! Tests of cron lines at clock changes, and at the ends of the calendar.

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::from_micros(u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_microsecond()).unwrap())
}

fn next(line: &str, zone: &str, after: &str) -> Timestamp {
    Cron::new(line, zone).unwrap().after(at(after)).unwrap()
}

fn format_time(time: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(i64::try_from(time.as_micros()).unwrap()).unwrap().to_string()
}

/// All times of a line after one instant and before another.
fn between(line: &str, zone: &str, (from, until): (&str, &str)) -> Vec<String> {
    let cron = Cron::new(line, zone).unwrap();
    let until = at(until);
    std::iter::successors(cron.after(at(from)), |time| cron.after(*time))
        .take_while(|time| *time < until)
        .map(format_time)
        .collect()
}

/// The minutes of all times of a line within a few hours, counted from the first instant.
fn minutes(line: &str, zone: &str, from: &str, hours: u64) -> Vec<u64> {
    let cron = Cron::new(line, zone).unwrap();
    let from = at(from);
    let minute = |time: Timestamp| time.since(from).as_secs() / 60;
    std::iter::successors(cron.after(from), |time| cron.after(*time))
        .map(minute)
        .take_while(|minute| *minute <= hours * 60)
        .collect()
}

/// A zone, the instant at which its clocks are set back, and the instant at which they are set forward.
const CHANGES: [(&str, &str, &str); 4] = [
    // 03:00 becomes 02:00; 02:00 becomes 03:00.
    ("Europe/Berlin", "2026-10-25T01:00:00Z", "2026-03-29T01:00:00Z"),
    // 02:00 becomes 01:00; 02:00 becomes 03:00.
    ("America/New_York", "2026-11-01T06:00:00Z", "2026-03-08T07:00:00Z"),
    // 02:00 becomes 01:30; 02:00 becomes 02:30.
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z"),
    // 00:00 becomes 23:00 of the day before; 00:00 becomes 01:00.
    ("America/Santiago", "2026-04-05T03:00:00Z", "2026-09-06T04:00:00Z"),
];

fn hours_before(instant: &str, hours: i64) -> String {
    (instant.parse::<jiff::Timestamp>().unwrap() - jiff::SignedDuration::from_hours(hours)).to_string()
}

#[test]
fn an_interval_of_minutes_or_seconds_never_pauses_where_clocks_change() {
    for (zone, back, forward) in CHANGES {
        for change in [back, forward] {
            let from = hours_before(change, 3);
            let each = |minutes: u64| (1..=6 * 60 / minutes).map(|count| count * minutes).collect::<Vec<_>>();
            assert_eq!(minutes("*/10 * * * *", zone, &from, 6), each(10), "{zone} {change}");
            assert_eq!(minutes("0 */15 * * * *", zone, &from, 6), each(15), "{zone} {change}");
            assert_eq!(minutes("* * * * *", zone, &from, 6), each(1), "{zone} {change}");
            assert_eq!(minutes("0,30 * * * *", zone, &from, 6), each(30), "{zone} {change}");
        }
    }
    let ten_seconds = between("*/10 * * * * *", "Europe/Berlin", ("2026-10-24T23:59:59Z", "2026-10-25T02:00:00Z"));
    assert_eq!(ten_seconds.len(), 2 * 360);
}

#[test]
fn an_hourly_schedule_fires_in_both_occurrences_of_a_repeated_hour() {
    let berlin = between("0 * * * *", "Europe/Berlin", ("2026-10-24T22:30:00Z", "2026-10-25T03:30:00Z"));
    let hours = ["2026-10-24T23", "2026-10-25T00", "2026-10-25T01", "2026-10-25T02", "2026-10-25T03"];
    assert_eq!(berlin, hours.map(|hour| format!("{hour}:00:00Z")));
    let new_york = between("0 0-23 * * *", "America/New_York", ("2026-11-01T04:30:00Z", "2026-11-01T08:30:00Z"));
    assert_eq!(new_york, ["05", "06", "07", "08"].map(|hour| format!("2026-11-01T{hour}:00:00Z")));
    // In spring the clock goes from 01:05 to 03:05, which is one hour.
    let berlin = between("5 * * * *", "Europe/Berlin", ("2026-03-28T23:30:00Z", "2026-03-29T02:30:00Z"));
    assert_eq!(berlin, ["00", "01", "02"].map(|hour| format!("2026-03-29T{hour}:05:00Z")));
    // Half an hour occurs twice: 01:45, 01:45 once more, 02:45; and 01:15, 02:15.
    let times = between("45 * * * *", "Australia/Lord_Howe", ("2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z"));
    assert_eq!(times, ["14:45", "15:15", "16:15"].map(|time| format!("2026-04-04T{time}:00Z")));
    let once = between("15 * * * *", "Australia/Lord_Howe", ("2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z"));
    assert_eq!(once, ["14:15", "15:45"].map(|time| format!("2026-04-04T{time}:00Z")));
}

#[test]
fn a_fixed_time_in_a_repeated_hour_fires_only_once() {
    for (line, zone, (from, until), first) in [
        ("30 2 * * *", "Europe/Berlin", ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"), "2026-10-25T00:30:00Z"),
        ("30 1 * * *", "America/New_York", ("2026-10-31T12:00:00Z", "2026-11-01T12:00:00Z"), "2026-11-01T05:30:00Z"),
        ("45 1 * * *", "Australia/Lord_Howe", ("2026-04-04T03:00:00Z", "2026-04-05T01:00:00Z"), "2026-04-04T14:45:00Z"),
        ("30 23 * * *", "America/Santiago", ("2026-04-04T12:00:00Z", "2026-04-05T12:00:00Z"), "2026-04-05T02:30:00Z"),
        ("0 2-3 * * *", "Europe/Berlin", ("2026-10-24T12:00:00Z", "2026-10-25T01:30:00Z"), "2026-10-25T00:00:00Z"),
    ] {
        assert_eq!(between(line, zone, (from, until)), [first], "{line} {zone}");
    }
    // Every second hour is a set of fixed times: 0, 2, 4.
    let each_second = between("0 */2 * * *", "Europe/Berlin", ("2026-10-24T21:30:00Z", "2026-10-25T03:30:00Z"));
    assert_eq!(each_second, ["2026-10-24T22:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"]);
}

#[test]
fn a_skipped_fixed_time_fires_at_the_end_of_the_gap() {
    for (line, zone, (from, until), end) in [
        ("30 2 * * *", "Europe/Berlin", ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), "2026-03-29T01:00:00Z"),
        ("15 2 * * *", "America/New_York", ("2026-03-07T12:00:00Z", "2026-03-08T12:00:00Z"), "2026-03-08T07:00:00Z"),
        ("10 2 * * *", "Australia/Lord_Howe", ("2026-10-03T03:00:00Z", "2026-10-04T01:00:00Z"), "2026-10-03T15:30:00Z"),
        ("0 0 * * *", "America/Santiago", ("2026-09-05T12:00:00Z", "2026-09-06T12:00:00Z"), "2026-09-06T04:00:00Z"),
        // Several skipped times, or a skipped interval within one hour, fire once, together with a time that is due then.
        ("0,20,40 2 * * *", "Europe/Berlin", ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), "2026-03-29T01:00:00Z"),
        ("*/10 2 * * *", "Europe/Berlin", ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), "2026-03-29T01:00:00Z"),
        ("0 2,3 * * *", "Europe/Berlin", ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), "2026-03-29T01:00:00Z"),
    ] {
        assert_eq!(between(line, zone, (from, until)), [end], "{line} {zone}");
    }
    // Half of the hour exists.
    let times = between("*/10 2 * * *", "Australia/Lord_Howe", ("2026-10-03T03:00:00Z", "2026-10-04T01:00:00Z"));
    assert_eq!(times, ["15:30", "15:40", "15:50"].map(|time| format!("2026-10-03T{time}:00Z")));
}

#[test]
fn each_time_of_a_fixed_line_happens_once_a_day_all_year_in_every_zone() {
    for (zone, ..) in CHANGES {
        for line in ["0 0 * * *", "30 1 * * *", "15 2 * * *", "59 2 * * *", "30 23 * * *"] {
            let times = between(line, zone, ("2026-01-01T12:00:00Z", "2027-01-01T12:00:00Z"));
            assert_eq!(times.len(), 365, "{line} {zone}");
        }
    }
}

#[test]
fn a_leap_day_comes_every_four_years_and_not_in_2100() {
    let leap_days = between("0 12 29 2 *", "UTC", ("2088-01-01T00:00:00Z", "2110-01-01T00:00:00Z"));
    assert_eq!(leap_days, ["2088", "2092", "2096", "2104", "2108"].map(|year| format!("{year}-02-29T12:00:00Z")));
    assert_eq!(next("0 0 L 2 *", "UTC", "2028-02-01T00:00:00Z"), at("2028-02-29T00:00:00Z"));
    assert_eq!(next("0 0 L 2 *", "UTC", "2027-02-01T00:00:00Z"), at("2027-02-28T00:00:00Z"));
    // A leap day on a Monday.
    assert_eq!(next("0 0 29 2 +MON", "UTC", "2026-01-01T00:00:00Z"), at("2044-02-29T00:00:00Z"));
    let daily = between("0 3 * * *", "Europe/Berlin", ("2028-02-28T00:00:00Z", "2028-03-02T00:00:00Z"));
    assert_eq!(daily, ["02-28", "02-29", "03-01"].map(|day| format!("2028-{day}T02:00:00Z")));
}

#[test]
fn cron_times_use_the_time_zone() {
    assert_eq!(next("0 3 * * *", "Europe/Berlin", "2026-11-24T00:00:00Z"), at("2026-11-24T02:00:00Z"));
    assert_eq!(next("0 3 * * *", "Europe/Berlin", "2026-07-24T02:00:00Z"), at("2026-07-25T01:00:00Z"));
    assert_eq!(next("*/10 * * * * *", "UTC", "2026-11-24T00:00:01Z"), at("2026-11-24T00:00:10Z"));
    // On the full second, whatever the time of the query.
    assert_eq!(next("* * * * * *", "UTC", "2026-11-24T00:00:01.302828Z"), at("2026-11-24T00:00:02Z"));
}

#[test]
fn an_invalid_or_impossible_cron_line_is_rejected() {
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 +MON"] {
        assert!(matches!(Cron::new(never, "UTC"), Err(InvalidCron::Never { .. })), "{never} passed");
    }
    // A past year never occurs, and a future one ends: neither is a schedule.
    assert_eq!(format_time(CYCLE), "4960-01-01T00:00:00Z");
    for year in ["0 0 3 * * * 2020", "0 0 3 * * * 2199", "0 0 3 * * * *"] {
        assert!(matches!(Cron::new(year, "UTC"), Err(InvalidCron::Year { .. })), "{year} passed");
    }
    assert!(matches!(Cron::new("every day", "UTC"), Err(InvalidCron::Line { .. })));
    assert!(matches!(Cron::new("0 0 * * *", "Mars/Olympus"), Err(InvalidCron::Zone { .. })));
}

#[test]
fn a_line_is_as_long_as_a_list_of_everything_and_not_much_longer() {
    let list =
        |numbers: std::ops::RangeInclusive<u32>| numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let (months, days) = ("JAN,FEB,MAR,APR,MAY,JUN,JUL,AUG,SEP,OCT,NOV,DEC", "SUN,MON,TUE,WED,THU,FRI,SAT");
    let everything = format!("{0} {0} {1} {2} {months} {days}", list(0..=59), list(0..=23), list(1..=31));
    assert!(Cron::new(&everything, "UTC").is_ok(), "{} bytes", everything.len());
    let long = format!("{} * * * *", vec!["0"; MAX_LINE_BYTES].join(","));
    for read in [Cron::new, Cron::from_record] {
        assert_eq!(read(&long, "UTC"), Err(InvalidCron::TooLong { length: long.len() }));
    }
}

#[test]
fn the_times_of_a_line_from_a_record_are_not_searched() {
    assert!(Cron::from_record("0 0 30 2 *", "UTC").is_ok());
    assert!(matches!(Cron::from_record("every day", "UTC"), Err(InvalidCron::Line { .. })));
}

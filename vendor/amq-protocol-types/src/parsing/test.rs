//! Tests of the parsers, as the authors wrote them.

use super::*;

const EMPTY: &[u8] = b"";

#[test]
fn test_parse_value() {
    assert_eq!(
        parse_value(&[84, 42, 42, 42, 42, 42, 42, 42, 42][..]),
        Ok((EMPTY, AMQPValue::Timestamp(3038287259199220266)))
    );
    assert_eq!(
        parse_value(&[83, 0, 0, 0, 4, 116, 101, 115, 116][..]),
        Ok((EMPTY, AMQPValue::LongString("test".into())))
    );
}

#[test]
fn test_parse_raw_value() {
    assert_eq!(
        parse_raw_value(AMQPType::Timestamp).parse(&[42, 42, 42, 42, 42, 42, 42, 42][..]),
        Ok((EMPTY, AMQPValue::Timestamp(3038287259199220266)))
    );
    assert_eq!(
        parse_raw_value(AMQPType::LongString).parse(&[0, 0, 0, 4, 116, 101, 115, 116][..]),
        Ok((EMPTY, AMQPValue::LongString("test".into())))
    );
    /* Test internal exceptions */
    assert_eq!(
        parse_raw_value(AMQPType::LongLongUInt).parse(&[42, 42, 42, 42, 42, 42, 42, 42][..]),
        Ok((EMPTY, AMQPValue::LongLongInt(3038287259199220266)))
    );
    assert_eq!(
        parse_raw_value(AMQPType::ShortString).parse(&[4, 116, 101, 115, 116][..]),
        Ok((EMPTY, AMQPValue::ShortString("test".into())))
    );
}

#[test]
fn test_parse_type() {
    assert_eq!(parse_type(&[116][..]), Ok((EMPTY, AMQPType::Boolean)));
    assert_eq!(parse_type(&[102][..]), Ok((EMPTY, AMQPType::Float)));
}

#[test]
fn test_parse_id() {
    assert_eq!(parse_id(&[0, 0][..]), Ok((EMPTY, 0)));
    assert_eq!(parse_id(&[255, 255][..]), Ok((EMPTY, 65535)));
}

#[test]
fn test_parse_boolean() {
    assert_eq!(parse_boolean(&[0][..]), Ok((EMPTY, false)));
    assert_eq!(parse_boolean(&[1][..]), Ok((EMPTY, true)));
}

#[test]
fn test_parse_short_short_int() {
    assert_eq!(parse_short_short_int(&[0][..]), Ok((EMPTY, 0)));
    assert_eq!(parse_short_short_int(&[255][..]), Ok((EMPTY, -1)));
}

#[test]
fn test_parse_short_short_uint() {
    assert_eq!(parse_short_short_uint(&[0][..]), Ok((EMPTY, 0)));
    assert_eq!(parse_short_short_uint(&[255][..]), Ok((EMPTY, 255)));
}

#[test]
fn test_parse_short_int() {
    assert_eq!(parse_short_int(&[0, 0][..]), Ok((EMPTY, 0)));
    assert_eq!(parse_short_int(&[255, 255][..]), Ok((EMPTY, -1)));
}

#[test]
fn test_parse_short_uint() {
    assert_eq!(parse_short_uint(&[0, 0][..]), Ok((EMPTY, 0)));
    assert_eq!(parse_short_uint(&[255, 255][..]), Ok((EMPTY, 65535)));
}

#[test]
fn test_parse_long_int() {
    assert_eq!(parse_long_int(&[0, 0, 0, 0][..]), Ok((EMPTY, 0)));
    assert_eq!(parse_long_int(&[255, 255, 255, 255][..]), Ok((EMPTY, -1)));
}

#[test]
fn test_parse_long_uint() {
    assert_eq!(parse_long_uint(&[0, 0, 0, 0][..]), Ok((EMPTY, 0)));
    assert_eq!(
        parse_long_uint(&[255, 255, 255, 255][..]),
        Ok((EMPTY, 4294967295))
    );
}

#[test]
fn test_parse_long_long_int() {
    assert_eq!(
        parse_long_long_int(&[0, 0, 0, 0, 0, 0, 0, 0][..]),
        Ok((EMPTY, 0))
    );
    assert_eq!(
        parse_long_long_int(&[255, 255, 255, 255, 255, 255, 255, 255][..]),
        Ok((EMPTY, -1))
    );
}

#[test]
fn test_parse_long_long_uint() {
    assert_eq!(
        parse_long_long_uint(&[0, 0, 0, 0, 0, 0, 0, 0][..]),
        Ok((EMPTY, 0))
    );
    assert_eq!(
        parse_long_long_uint(&[255, 255, 255, 255, 255, 255, 255, 255][..]),
        Ok((EMPTY, 18446744073709551615))
    );
}

#[test]
fn test_parse_float() {
    assert_eq!(parse_float(&[0, 0, 0, 0][..]), Ok((EMPTY, 0.)));
    assert_eq!(parse_float(&[66, 41, 174, 20][..]), Ok((EMPTY, 42.42)));
}

#[test]
fn test_parse_double() {
    assert_eq!(parse_double(&[0, 0, 0, 0, 0, 0, 0, 0][..]), Ok((EMPTY, 0.)));
    assert_eq!(
        parse_double(&[64, 69, 53, 194, 143, 92, 40, 246][..]),
        Ok((EMPTY, 42.42))
    );
}

#[test]
fn test_parse_decimal_value() {
    assert_eq!(
        parse_decimal_value(&[0, 0, 0, 0, 0][..]),
        Ok((EMPTY, DecimalValue { scale: 0, value: 0 }))
    );
    assert_eq!(
        parse_decimal_value(&[255, 255, 255, 255, 255][..]),
        Ok((
            EMPTY,
            DecimalValue {
                scale: 255,
                value: 4294967295
            }
        ))
    );
}

#[test]
fn test_parse_short_string() {
    assert_eq!(
        parse_short_string(&[0][..]),
        Ok((EMPTY, ShortString::default()))
    );
    assert_eq!(
        parse_short_string(&[4, 116, 101, 115, 116][..]),
        Ok((EMPTY, "test".into()))
    );
}

#[test]
fn test_parse_long_string() {
    assert_eq!(
        parse_long_string(&[0, 0, 0, 0][..]),
        Ok((EMPTY, LongString::default()))
    );
    assert_eq!(
        parse_long_string(&[0, 0, 0, 4, 116, 101, 115, 116][..]),
        Ok((EMPTY, "test".into()))
    );
}

#[test]
fn test_parse_field_array() {
    assert_eq!(
        parse_field_array(&[0, 0, 0, 0][..]),
        Ok((EMPTY, FieldArray::default()))
    );
    assert_eq!(
        parse_field_array(&[0, 0, 0, 10, 83, 0, 0, 0, 4, 116, 101, 115, 116, 86][..]),
        Ok((
            EMPTY,
            vec![AMQPValue::LongString("test".into()), AMQPValue::Void].into()
        ))
    );
}

#[test]
fn test_parse_timestamp() {
    assert_eq!(
        parse_timestamp(&[0, 0, 0, 0, 0, 0, 0, 0][..]),
        Ok((EMPTY, 0))
    );
    assert_eq!(
        parse_timestamp(&[255, 255, 255, 255, 255, 255, 255, 255][..]),
        Ok((EMPTY, 18446744073709551615))
    );
}

#[test]
fn test_parse_field_table() {
    let mut table = FieldTable::default();
    table.insert("test".into(), AMQPValue::LongString("test".into()));
    table.insert("tt".into(), AMQPValue::Void);
    assert_eq!(
        parse_field_table(&[0, 0, 0, 0][..]),
        Ok((EMPTY, FieldTable::default()))
    );
    assert_eq!(
        parse_field_table(
            &[
                0, 0, 0, 18, 4, 116, 101, 115, 116, 83, 0, 0, 0, 4, 116, 101, 115, 116, 2, 116,
                116, 86
            ][..]
        ),
        Ok((EMPTY, table))
    );
}

#[test]
fn test_parse_byte_array() {
    assert_eq!(
        parse_byte_array(&[0, 0, 0, 0][..]),
        Ok((EMPTY, ByteArray::default()))
    );
    assert_eq!(
        parse_byte_array(&[0, 0, 0, 4, 42, 1, 2, 3][..]),
        Ok((EMPTY, vec![42, 1, 2, 3].into()))
    );
}

#[test]
fn test_parse_flags() {
    let mut flags = AMQPFlags::default();
    let mut names = Vec::new();
    names.push("a");
    flags.add_flag("a".to_string(), true);
    names.push("b");
    flags.add_flag("b".to_string(), false);
    names.push("c");
    flags.add_flag("c".to_string(), true);
    names.push("d");
    flags.add_flag("d".to_string(), true);
    assert_eq!(
        parse_flags(&[0b00001101][..], &names),
        Ok((EMPTY, flags.clone()))
    );
    names.push("e");
    flags.add_flag("e".to_string(), true);
    names.push("f");
    flags.add_flag("f".to_string(), false);
    names.push("g");
    flags.add_flag("g".to_string(), true);
    names.push("h");
    flags.add_flag("h".to_string(), true);
    names.push("i");
    flags.add_flag("i".to_string(), false);
    names.push("j");
    flags.add_flag("j".to_string(), true);
    assert_eq!(
        parse_flags(&[0b11011101, 0b00000010][..], &names),
        Ok((EMPTY, flags))
    );
}

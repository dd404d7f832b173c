//! What AWS's documentation says of patterns, as tables: pattern, messages that it takes, messages that it leaves.

use proptest::prelude::*;

use super::{MAX_LENGTH, Pattern};

fn check(pattern: &str, takes: &[&str], leaves: &[&str]) {
    let read = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for message in takes {
        assert!(read.matches(message), "{pattern} should take {message}");
    }
    for message in leaves {
        assert!(!read.matches(message), "{pattern} should leave {message}");
    }
}

fn refused(pattern: &str, because: &str) {
    let error = Pattern::parse(pattern).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(because), "{pattern}: {error}");
}

#[test]
fn terms_are_all_wanted() {
    check("", &["", "anything"], &[]);
    check(r#"" ""#, &["", "anything"], &[]);
    check("ERROR", &["[ERROR 400] BAD", "Exiting with ERRORCODE: -1", "ERROR"], &["error", "", "ERR OR"]);
    check("ERROR ARGUMENTS", &["[ERROR 419] MISSING ARGUMENTS", "ARGUMENTS ERROR"], &["ERROR", "ARGUMENTS"]);
    check("  a\tb  ", &["b a"], &["a"]);
    check("größe_1", &["die größe_12"], &["große_1"]);
    refused("a-b", "Invalid character(s) in term 'a-b'");
    refused("user:1", "Invalid character(s) in term 'user:1'");
    refused("-", "Invalid character(s) in term ''");
}

#[test]
fn phrases_are_exact() {
    check(r#""INTERNAL SERVER ERROR""#, &["[ERROR 500] INTERNAL SERVER ERROR"], &["INTERNAL  SERVER ERROR"]);
    check(r#""a \"b\" c""#, &[r#"x a "b" c"#], &["a b c"]);
    check(r#""C:\\x""#, &[r"C:\x"], &[r"C:\\x"]);
    check(r#""[x]" "{y}""#, &["{y} [x]"], &["x y"]);
    refused(r#""open"#, "not closed");
}

#[test]
fn one_optional_term_suffices() {
    check("?ERROR ?ARGUMENTS", &["ERROR", "ARGUMENTS", "both ERROR ARGUMENTS"], &["neither"]);
    check(r#"?"a b" ?%c.d%"#, &["a b", "cxd"], &["a cd"]);
    // Beside other terms they count for nothing.
    check("?ERROR INFO", &["INFO"], &["ERROR"]);
    check("?ERROR -INFO", &["DEBUG"], &["ERROR INFO"]);
}

#[test]
fn excluded_terms_may_not_be_there() {
    check("ERROR -ARGUMENTS", &["ERROR 400"], &["ERROR ARGUMENTS", "400"]);
    check("-EXIT", &["", "x"], &["EXIT 1"]);
    check(r#"ERROR -"EXIT NOW" -%c\d%"#, &["ERROR EXIT"], &["ERROR EXIT NOW", "ERROR c1"]);
}

#[test]
fn regular_expressions_find_anywhere() {
    check("%AUTHORIZED%", &["[ERROR 401] UNAUTHORIZED REQUEST", "AUTHORIZED"], &["authorized"]);
    check("%^[hc]at%", &["hat", "cat x"], &[" hat", "bat"]);
    check("%[hc]at$%", &["a hat"], &["hats"]);
    check("%colou?r%", &["color", "colour"], &["colouur"]);
    check("%a{3,5}b%", &["aaab", "xaaaaab"], &["aab"]);
    check("%gray|grey%", &["gray", "grey"], &["gruy"]);
    check(r"%10\.10\.0\.1%", &["10.10.0.1"], &["10x10x0x1"]);
    check(r"%\d\s\w\x7e%", &["1 a~"], &["1 a-", "a a~"]);
    check(r"%\D\S\W%", &["ab!"], &["1b!"]);
    check("%a+b*c.d%", &["aacxd"], &["abcd"]);
    for (bad, because) in [
        ("%something!%", "'!' is not supported"),
        ("%(a)%", "'(' is not supported"),
        ("%ü%", "'ü' is not supported"),
        (r"%\p{L}%", r"'\' is not supported"),
        ("%a", "not closed"),
        ("%%", "empty"),
        ("%[%", "regular expression"),
        ("%a{1000}{1000}{1000}%", "regular expression"),
    ] {
        refused(bad, because);
    }
}

const EVENT: &str = r#"{"eventType":"UpdateTrail","sourceIPAddress":"111.111.111.111","arrayKey":["value",{"a":true}],
    "objectList":[{"name":"a","id":1},{"name":"b","id":2}],"SomeObject":null,"ThisFlag":true,"off":false,
    "user":{"id":1,"email":"John.Doe@example.com"},"bandwidth":1.5e3,"code":"400","detail-type":"x","q":"say \"hi\""}"#;

fn json(pattern: &str, holds: bool) {
    let read = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    assert_eq!(read.matches(EVENT), holds, "{pattern}");
}

#[test]
fn properties_are_compared() {
    for (pattern, holds) in [
        (r#"{ $.eventType = "UpdateTrail" }"#, true),
        (r#"{$.eventType=UpdateTrail}"#, true),
        (r#"{ $.eventType = "updatetrail" }"#, false),
        (r#"{ $.eventType != "NoTrail" }"#, true),
        (r#"{ $.eventType != "Update*" }"#, false),
        (r#"{ $.eventType = "*" }"#, true),
        (r#"{ $.eventType = "*date*il" }"#, true),
        (r#"{ $.eventType = "Up*Up*" }"#, false),
        (r#"{ $.sourceIPAddress = 111.111.* }"#, true),
        (r#"{ $.sourceIPAddress != 123.123.* }"#, true),
        (r#"{ $.arrayKey[0] = "value" }"#, true),
        (r#"{ $.arrayKey[1].a IS TRUE }"#, true),
        (r#"{ $.arrayKey[2] NOT EXISTS }"#, true),
        (r#"{ $.arrayKey = "*" }"#, false),
        (r#"{ $.objectList[1].id = 2 }"#, true),
        (r#"{ $.objectList[1].id > 2 }"#, false),
        (r#"{ $.SomeObject IS NULL }"#, true),
        (r#"{ $.eventType IS NULL }"#, false),
        (r#"{ $.missing IS NULL }"#, false),
        (r#"{ $.SomeOtherObject NOT EXISTS }"#, true),
        (r#"{ $.SomeObject NOT EXISTS }"#, false),
        (r#"{ $.ThisFlag IS TRUE }"#, true),
        (r#"{ $.off IS FALSE }"#, true),
        (r#"{ $.off IS TRUE }"#, false),
        (r#"{ $.ThisFlag = true }"#, true),
        (r#"{ $.SomeObject = NULL }"#, true),
        (r#"{ $.user.id != NULL }"#, true),
        (r#"{ $.SomeObject != NULL }"#, false),
        (r#"{ $.missing != NULL }"#, false),
        (r#"{ $.missing != "x" }"#, false),
        (r#"{ $.bandwidth = 1500 }"#, true),
        (r#"{ $.bandwidth >= 1.5e3 }"#, true),
        (r#"{ $.bandwidth < 1500 }"#, false),
        (r#"{ $.bandwidth <= 1500 && $.bandwidth > -1 }"#, true),
        (r#"{ $.code = 400 }"#, true),
        (r#"{ $.code = 4* }"#, true),
        (r#"{ $.code > 399 }"#, false),
        (r#"{ $.detail-type = x }"#, true),
        (r#"{ $["detail-type"] = x }"#, true),
        (r#"{ $.q = "say \"hi\"" }"#, true),
        (r#"{ $.eventType = %Trail$% }"#, true),
        (r#"{ $.eventType != %Trail$% }"#, false),
        (r#"{ ($.user.id = 1) && ($.objectList[0].name = "a") }"#, true),
        (r#"{ $.user.email = "John.Doe@example.com" || $.x = "1" && $.y = 2 }"#, true),
        (r#"{ ($.user.email = "John.Doe@example.com" || $.x = "1") && $.y = 2 }"#, false),
        (r#"{ $.x = 1 || ($.user.id >= 1 && $.off IS FALSE) }"#, true),
    ] {
        json(pattern, holds);
    }
    check("{ $.a = 1 }", &[r#" {"a":1} "#], &["", "{", "[1]", r#"x {"a":1}"#, "{}", r#"{"a":[1]}"#]);
    // What nests deeper than a reader's stack is no message for such a pattern.
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    check("{ $.a NOT EXISTS }", &["{}"], &[&deep]);
}

#[test]
fn what_is_no_condition_over_json() {
    for (bad, because) in [
        ("{", "'$.'"),
        ("{ }", "'$.'"),
        ("{ $ = 1 }", "'.'"),
        ("{ $.a }", "operator"),
        ("{ $.a = }", "a value"),
        ("{ $.a = 1", "'}'"),
        ("{ $.a = 1 } x", "the end"),
        ("{ ($.a = 1 }", "')'"),
        ("{ $.a = 1 && }", "'$.'"),
        ("{ $.a[x] = 1 }", "number"),
        ("{ $.a IS SO }", "NULL, TRUE or FALSE"),
        ("{ $.a NOT 1 }", "EXISTS"),
        (r#"{ $.a > "x" }"#, "only numbers"),
        ("{ $.a = %b% && $.c = %d% && $.e = %f% }", "more than 2"),
    ] {
        refused(bad, because);
    }
    let nested = |depth: usize| format!("{{ {}$.a = 1{} }}", "(".repeat(depth), ")".repeat(depth));
    check(&nested(32), &[r#"{"a":1}"#], &[]);
    refused(&nested(33), "nested deeper");
}

const ACCESS: &str =
    r#"127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534"#;

#[test]
fn fields_are_compared() {
    for (pattern, holds) in [
        ("[ip, server, username, timestamp, request, status_code, bytes]", true),
        ("[ip, server, username, timestamp, request, status_code]", false),
        ("[ip, server, username, timestamp, request, status_code = 4*, bytes > 1000]", true),
        ("[ip, server, username, timestamp, request, status_code = 4*, bytes > 1534]", false),
        (r#"[ip, server, username, timestamp, request = "GET*", status_code, bytes]"#, true),
        ("[ip, server, username, timestamp, request = *.html*, status_code = 404, bytes]", true),
        ("[ip, server, username, timestamp = 10/Oct*, ...]", true),
        ("[..., status_code = 404 || status_code = 410, bytes]", true),
        ("[..., bytes >= 1534]", true),
        ("[..., request =*.html*, status_code=4*,]", false),
        ("[ip=%127\\.0\\.0\\.[1-9]%, ..., bytes]", true),
        ("[ip!=127.0.0.1, ...]", false),
        ("[ip, server = Prod && server != Test, ...]", true),
        ("[ip, (server = Test || server = P*), ...]", true),
        ("[...]", true),
        ("[a, b, c, d, e, f, g, ...]", true),
        ("[a, b, c, d, e, f, g, h, ...]", false),
    ] {
        match Pattern::parse(pattern) {
            Ok(read) => assert_eq!(read.matches(ACCESS), holds, "{pattern}"),
            Err(error) => assert!(!holds, "{pattern}: {error}"),
        }
    }
    check("[w1 = ERROR, w2]", &["ERROR x", "  ERROR   x  "], &["ERROR", "WARN x", "ERROR x y"]);
    check("[w1!=ERROR&&w1!=WARN, w2]", &["INFO x"], &["ERROR x", "WARN x"]);
    check("[a = x, b]", &["[x] [y", r#"x "y"#], &[]);
    check("[n < 10]", &["9.5", "-1"], &["10", "x", "NaN"]);
}

#[test]
fn what_are_no_fields() {
    for (bad, because) in [
        ("[", "a field's name"),
        ("[]", "a field's name"),
        ("[a,]", "a field's name"),
        ("[a", "operator"),
        ("[a b]", "operator"),
        ("[..., a, ...]", "twice"),
        ("[a = x && b = y]", "two names"),
        ("[a = ]", "a value"),
        ("[a > x]", "only numbers"),
        ("[a] b", "the end"),
    ] {
        refused(bad, because);
    }
}

#[test]
fn patterns_are_bounded() {
    assert!(Pattern::parse(&"a".repeat(MAX_LENGTH)).is_ok());
    refused(&"a".repeat(MAX_LENGTH + 1), "longer than 1024");
    // Wildcards in number take no more than one pass each.
    let stars = format!("[a = {}]", "*a".repeat(500));
    check(&stars, &[&"a".repeat(500)], &[&"a".repeat(499), &"b".repeat(1 << 20)]);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(pattern in "[ -~ü\t]{0,60}", message in ".{0,40}") {
        if let Ok(read) = Pattern::parse(&pattern) {
            read.matches(&message);
        }
    }

    #[test]
    fn nor_does_what_looks_like_a_pattern(
        pattern in r#"(\{|\[|\?|-)?( ?(\$|\.a|\[0\]|=|!=|<|>|"x\*"|%a.\*%|1e3|NULL|IS|NOT|EXISTS|TRUE|&&|\|\||\(|\)|,|\.\.\.|b|ü)){0,14}(\}|\])?"#,
        message in r#"(\{("a":(1|"x"|null|\[1\])(,"b":true)?)?\}|[a-z \["\]]{0,20})"#,
    ) {
        if let Ok(read) = Pattern::parse(&pattern) {
            read.matches(&message);
        }
    }

    #[test]
    fn wildcards_match_as_a_regular_expression_would(wanted in r"[ab*]{1,12}", text in "[ab]{0,14}") {
        let pattern = Pattern::parse(&format!("[x = \"{wanted}\"]")).unwrap();
        let same = regex_lite::Regex::new(&format!("^{}$", wanted.replace('*', ".*"))).unwrap();
        if !text.is_empty() {
            prop_assert_eq!(pattern.matches(&text), same.is_match(&text));
        }
    }
}

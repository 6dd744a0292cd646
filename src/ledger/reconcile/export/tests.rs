use super::*;
use crate::model::Timestamp;

const TEN: Timestamp = Timestamp::from_millis(1_795_255_200_000);

fn parsed(text: &str) -> Export {
    read(text, ZoneArg::default()).unwrap()
}

fn line(number: u64) -> ExportLine {
    ExportLine {
        number,
        time: Some(TEN),
        model: Some("gpt-image-2".to_owned()),
        usd: Some(0.03),
        id: Some("abc".to_owned()),
    }
}

#[test]
fn columns_are_found_by_many_names() {
    for text in [
        "Created At,Model Name,Cost (USD),Request ID\n2026-11-21T10:00:00Z,gpt-image-2,$0.03,abc\n",
        "\u{feff}task_id;MODEL;amount;time\r\nabc;gpt-image-2;0,03;1795255200\r\n",
        "time,model,cost,id\r\n1795255200,gpt-image-2,0.03,abc\r\n",
        "id\tmodel\tprice\tdate\ttime\nabc\tgpt-image-2\t0.03 USD\t2026-11-21\t10:00:00\n",
        "timestamp,model,note,quota usd,prediction_id\n1795255200000,gpt-image-2,\"a, \"\"b\"\"\",0.03,abc\n",
    ] {
        assert_eq!(parsed(text).lines, [line(2)], "{text}");
    }
    let json = r#"{"created_at": 1795255200, "model": "gpt-image-2", "cost": 0.03, "id": "abc", "extra": {"a": 1}}"#;
    assert_eq!(parsed(json).lines, [line(1)]);
    assert_eq!(parsed(&format!("{json}\n\n{json}\n")).lines, [line(1), line(3)]);
    assert_eq!(parsed(&format!("[{json}, {json}]")).lines, [line(1), line(2)]);
}

#[test]
fn a_line_that_cannot_be_read_is_reported() {
    let export = parsed("time,model,cost\nsoon,gpt-image-2,1\n,gpt-image-2,1\n2026-11-21 10:00:00,gpt-image-2,much\n");
    let problems: Vec<String> =
        export.unreadable.iter().map(|line| format!("{}: {}", line.number, line.problem)).collect();
    insta::assert_snapshot!(problems.join("\n"), @r#"
    2: "soon" is not a known form of time
    3: has neither a time nor an id
    4: "much" is not an amount of US dollars
    "#);
    assert!(export.lines.is_empty());
    let broken = parsed("{\"time\": 1795255200}\n{\"time\": 17952\n");
    assert_eq!((broken.lines.len(), broken.unreadable.len()), (1, 1));
    let refused = |text: &str| read(text, ZoneArg::default()).unwrap_err().to_string();
    assert_eq!(refused(" \n"), "is empty");
    assert!(refused("a,b\n1,2\n").ends_with("its columns are: a, b"));
    assert!(refused("{oops").starts_with("is not JSON"));
}

#[test]
fn a_time_without_a_zone_is_noticed() {
    assert!(parsed("time\n2026-11-21 10:00:00\n").zone_assumed);
    assert!(!parsed("time\n2026-11-21 10:00:00Z\n").zone_assumed);
}

#[test]
fn an_amount_may_have_a_sign_a_currency_and_separators() {
    for (text, amount) in
        [("1,234.50", Some(1234.5)), ("-$0.03", Some(-0.03)), ("1,234,567", Some(1_234_567.0)), ("nan", None)]
    {
        assert_eq!(money(text), amount, "{text}");
    }
}

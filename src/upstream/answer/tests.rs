use serde_json::json;

use super::*;

#[test]
fn ids_are_the_same_with_and_without_their_model() {
    let id = |text: &str| UpstreamId::new(text).unwrap();
    for (asked, answered) in
        [("task_1", "task_1"), ("sora-2:task_1", "task_1"), ("task_1", "sora-2:task_1"), ("17", "17")]
    {
        assert!(is_same_id(&id(asked), answered), "{asked} {answered}");
    }
    for (asked, answered) in [("task_1", "task_11"), ("task_1", "ask_1"), ("a_task_1", "task_1"), ("task_1", "")] {
        assert!(!is_same_id(&id(asked), answered), "{asked} {answered}");
    }
}

#[test]
fn ids_are_texts_and_numbers() {
    let object = json!({"id": null, "task_id": 17, "taskId": " a ", "prediction_id": ["b"], "result_id": ""});
    assert_eq!(ids(&object).collect::<Vec<_>>(), ["", "17", "a"]);
    assert_eq!(ids(&json!({"id": 0})).collect::<Vec<_>>(), [""], "a field that has none");
}

#[test]
fn an_address_is_read_in_capital_letters_too() {
    assert_eq!(output_text("HTTP://x.example/1.png"), Some(Output::Url("HTTP://x.example/1.png".to_owned())));
}

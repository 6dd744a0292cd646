use serde_json::json;

use super::*;

fn text(message: &str) -> ErrorText {
    ErrorText::in_body(&json!({"error": {"message": message}})).unwrap()
}

#[test]
fn words_count_in_one_sense_only() {
    type Is = fn(&ErrorText) -> bool;
    let cases: &[(Is, &[&str], &[&str])] = &[
        (
            ErrorText::is_balance,
            &[
                "Insufficient balance",
                "Your balance is not enough",
                "insufficient credit",
                "quota exhausted",
                "You have no remaining quota",
                "余额不足",
                "餘額不足",
                "用户额度不足, 剩余额度: 0",
            ],
            &[
                "Quota exceeded: 10 requests per minute",
                "rate limit quota",
                "concurrency quota",
                "the load balancer is down",
                "invalid credentials",
                "the white balance of the picture",
            ],
        ),
        (
            ErrorText::is_channel,
            &["no channel found", "No available channel for model m", "当前分组无可用渠道", "上游负载已饱和"],
            &["请求负载过大", "the channel of colours is missing"],
        ),
        (
            ErrorText::is_load,
            &["The model is overloaded.", "We are at capacity", "experiencing high demand"],
            &["rate limit: your capacity is used", "too many requests"],
        ),
        (
            ErrorText::is_policy,
            &[
                "Input may not meet the guidelines.",
                "Your request was rejected by our safety system",
                "blocked by moderation",
                "Your prompt violates our usage policies.",
                "内容违规",
                "包含敏感词",
            ],
            &[
                "Unknown parameter: 'moderation'",
                "Invalid value for moderation: the field is unsupported",
                "参数大小写敏感",
            ],
        ),
        (
            ErrorText::is_key,
            &["Invalid Token", "Invalid signature", "Incorrect API key provided", "无效的令牌", "用户已被封禁"],
            &["too many input tokens", "max_tokens is too large", "a keyword is missing"],
        ),
        (ErrorText::is_rate, &["Too many requests", "请求过于频繁"], &["the picture is too large"]),
    ];
    for (is, yes, no) in cases {
        for message in *yes {
            assert!(is(&text(message)), "{message}");
        }
        for message in *no {
            assert!(!is(&text(message)), "{message}");
        }
    }
}

#[test]
fn the_message_and_the_code_are_found_in_every_shape() {
    for (body, message, code) in [
        (json!({"error": {"message": "a", "type": "401"}}), "a", Some(401)),
        (json!({"error": {"message": "a", "type": "x", "code": "invalid_api_key"}}), "a", None),
        (json!({"code": 401, "message": "a", "type": "error"}), "a", Some(401)),
        (json!({"error": {"code": 400, "message": "a"}}), "a", Some(400)),
        (json!({"code": 503, "message": "a", "data": null}), "a", Some(503)),
        (json!({"code": -1, "msg": "a"}), "a", None),
        (json!({"code": 1001, "msg": "a"}), "a", Some(500)),
        (json!({"error": "a"}), "a", None),
        (json!({"detail": "a"}), "a", None),
        (json!({"detail": [{"msg": "a"}]}), "a", None),
        (json!({"data": {"fail_reason": "a"}, "message": " "}), "a", None),
        (json!({"error": {"code": 400}}), "an error without a message", Some(400)),
    ] {
        let read = ErrorText::in_body(&body).unwrap();
        assert_eq!((read.message.as_str(), read.code.map(|code| code.as_u16())), (message, code), "{body}");
    }
    for nothing in [json!({}), json!({"code": 200}), json!({"code": 0, "error": null}), json!({"error": {}}), json!([])]
    {
        assert_eq!(ErrorText::in_body(&nothing), None, "{nothing}");
    }
    assert!(!ErrorText::in_body(&json!({"message": "success"})).unwrap().is_explicit);
}

#[test]
fn a_task_that_failed_for_its_content_counts_as_moderated_and_maybe_bought() {
    for message in ["Input may not meet the Guidelines", "内容违规"] {
        assert!(matches!(task_failure(message.to_owned()), Failure::Moderated { bought: true, .. }), "{message}");
    }
    assert!(matches!(task_failure("wrong image url".to_owned()), Failure::TaskFailed { .. }));
}

#[test]
fn texts_are_bounded_and_free_of_control_characters() {
    let body = json!({"error": {"message": format!("a\r\nb{}", "x".repeat(2000))}}).to_string();
    let text = message_of(body.as_bytes()).unwrap();
    assert!(text.starts_with("a  b") && text.chars().count() == TEXT_CHARS_MAX);
}

#[test]
fn the_words_of_an_address_are_no_words_of_the_service() {
    type Is = fn(&ErrorText) -> bool;
    let others: [Is; 6] = [
        ErrorText::is_balance,
        ErrorText::is_channel,
        ErrorText::is_key,
        ErrorText::is_load,
        ErrorText::is_policy,
        ErrorText::is_rate,
    ];
    for address in [
        "https://x.example/credits/balance/token/overloaded/rate_limit.png?content_policy=无可用渠道余额违规",
        "HTTP://x.example/quota",
        "data:image/png;base64,creditstokenquota",
    ] {
        for message in [
            format!("wrong image url: {address}"),
            format!("wrong image url '{address}'."),
            format!("wrong image url({address})"),
        ] {
            let text = text(&message);
            assert!(!others.iter().any(|is| is(&text)), "{message}");
            assert_eq!(text.named(std::iter::empty()), Some(FormatRefusal::Inputs), "{message}");
            assert_eq!(text.message, message, "it is shown as it came");
        }
    }
    assert!(text("https://x.example/a.png cannot be used: Insufficient balance").is_balance());
    assert_eq!(text("cannot read data:image/png;base64,AAAA").named(std::iter::empty()), Some(FormatRefusal::Inputs));
}

#[test]
fn a_key_in_a_text_is_not_kept() {
    for (text, kept) in [
        ("Invalid key sk-0123456789abcdef.", "Invalid key sk-…."),
        ("sk-gw-AAAA_bbbb-1234", "sk-…"),
        ("task-1 and sk-1", "task-1 and sk-1"),
    ] {
        assert_eq!(bounded(text), kept);
    }
}

#[test]
fn a_task_that_could_not_fetch_a_picture_blames_its_address() {
    for reason in [
        "Unable to download the image, please check the image url",
        "wrong image url",
        "Failed to fetch image from https://user.example/secret.png: 403",
        "Error while downloading file. Upstream status code: 404, url: https://a.example/b.png",
        "invalid image_url",
        "The image URL is not accessible",
        "image url unreachable",
        "Could not resolve the host of the picture",
        "Timeout while retrieving the image",
        "图片下载失败",
        "无法访问图片链接",
        "Unable to access the image at the given link",
    ] {
        assert!(blames_address(reason), "{reason}");
    }
    for reason in [
        "",
        "internal error",
        "the task timed out",
        "Failed to download the generated image",
        "the result could not be fetched",
        "the model image-1 is not reachable",
        "no channel: timeout of the image service",
        "The image violates the content policy",
        "upload failed",
        "https://a.example/image/download",
    ] {
        assert!(!blames_address(reason), "{reason}");
    }
}

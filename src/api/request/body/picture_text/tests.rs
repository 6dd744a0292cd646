use super::*;

/// Returns what a text is called.
fn problem(text: &str) -> String {
    let kind = kind_of(text.trim_start().as_bytes(), true);
    if let TextKind::Other(problem) = kind { problem.into_owned() } else { format!("{kind:?}") }
}

#[test]
fn a_text_that_is_no_picture_is_called_what_it_is() {
    for (text, expected) in [
        ("null", "the word 'null'"),
        ("undefined", "the word 'undefined'"),
        ("None", "the word 'None'"),
        (" NULL ", "the word 'NULL'"),
        ("/etc/passwd", "a path"),
        ("./cat.png", "a path"),
        ("~/Pictures/cat.png", "a path"),
        ("C:\\Users\\me\\cat.png", "the path of a file"),
        ("d:/cat.png", "the path of a file"),
        ("\\\\server\\share\\cat.png", "the path of a file"),
        ("file:///home/me/cat.png", "the path of a file"),
        ("/api/v1/files/3f2a/content", "an address without a host"),
        ("/v1/files/file-1/content", "an address without a host"),
        ("//cdn.example.com/a.png", "has no 'https:'"),
        ("example.com/a.png", "has no 'https://'"),
        ("www.example.com", "has no 'https://'"),
        ("localhost:8080/a.png", "has no 'https://'"),
        ("https:/example.com/a.png", "not a whole address"),
        ("cat.png", "the name of a file"),
        ("images/cat.png", "the name of a file"),
        ("blob:https://example.com/1-2", "browser"),
        ("ftp://example.com/a.png", "the scheme 'ftp'"),
        ("s3://bucket/a.png", "the scheme 's3'"),
        ("content://media/external/1", "the scheme 'content'"),
        ("<!DOCTYPE html><html>", "HTML"),
        ("<Error><Code>AccessDenied</Code></Error>", "markup"),
        ("<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"),
        ("<_io.BufferedReader object at 0x7f00>", "the name of an object"),
        ("UploadFile(filename='a.png', size=10)", "the name of an object"),
        ("[object File]", "JavaScript"),
        ("b'iVBORw0KGgo='", "Python"),
        ("{\"url\":\"x\"}", "JSON"),
        ("[\"x\"]", "JSON"),
        ("a cat, please", "base64 has no character ','"),
        ("h\u{e9}llo", "base64 has no character"),
        ("data:image/png", "no comma"),
        ("data:image/png,rawbytes", "not base64"),
    ] {
        let problem = problem(text);
        assert!(problem.contains(expected), "{text}: {problem}");
        assert!(!problem.contains("octet-stream"), "{problem}");
    }
    for text in ["iVBORw0KGgo=", "/9j/4AAQSkZJRg==", "UklGRhAAAABXRUJQ", "image", "Zm9v"] {
        assert!(problem(text).starts_with("Base64"), "{text}");
    }
    assert_eq!(problem("file-abc"), "FileId");
    assert_eq!(problem("HTTPS://example.com/a.png"), "Link");
    assert_eq!(problem(" \t"), "Empty");
}

#[test]
fn pictures_under_unknown_names_are_recognised() {
    let png = base64_simd::STANDARD.encode_to_string([b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 40]].concat());
    let jpeg = base64_simd::STANDARD.encode_to_string([b"\xff\xd8\xff\xe0".as_slice(), &[0; 40]].concat());
    for text in [
        png.as_str(),
        &jpeg,
        &format!(" {png}\n"),
        &format!("data:image/png;base64,{png}"),
        &format!("data:application/octet-stream;base64,{png}"),
        &format!("DATA:;base64,{jpeg}"),
        "data:image/svg+xml;utf8,<svg/>",
        "https://example.com/a.PNG",
        "http://example.com/a.webp?size=1",
        "https://example.com/a/b.jpeg#x",
    ] {
        assert!(holds_picture(text.as_bytes(), FieldHint::Unclear), "{text}");
    }
    for text in [
        "https://example.com/",
        "https://example.com/png",
        "https://example.com/a.html?img=a.png",
        "data:text/plain;base64,aGVsbG8=",
        "a cat: https://example.com/a.png",
        "iVBORw0KGgo=",
        "QmVhdXRpZnVsIHRleHQgdGhhdCBpcyBsb25nIGVub3VnaCB0byBiZSBhIHBpY3R1cmU",
        "file-abc",
        "",
        "42",
    ] {
        assert!(!holds_picture(text.as_bytes(), FieldHint::Unclear), "{text}");
    }
    for text in ["https://example.com/", "file-abc123", "blob:https://example.com/1"] {
        assert!(holds_picture(text.as_bytes(), FieldHint::Picture), "{text}");
    }
    assert!(!holds_picture(b"file-like and blob: words", FieldHint::Picture));
}

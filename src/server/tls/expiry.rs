//! When a certificate expires. TLS libraries keep that to themselves, and a parser of X.509 is a dozen crates, for one date: the fields
//! before it are skipped (RFC 5280 §4.1, in DER).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns the end of a certificate's validity in Unix seconds; `None` when it cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = element(SEQUENCE, certificate)?;
    let (mut fields, _) = element(SEQUENCE, certificate)?;
    if let Some((_, rest)) = element(VERSION, fields) {
        fields = rest;
    }
    // The serial number, the algorithm of the signature, the issuer.
    for _ in 0..3 {
        (_, _, fields) = any_element(fields)?;
    }
    let (validity, _) = element(SEQUENCE, fields)?;
    let (_, _, not_after) = any_element(validity)?;
    let (tag, text, _) = any_element(not_after)?;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // Years from 1950 to 2049 have two digits.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(TimeZone::UTC.to_timestamp(time).ok()?.as_second())
}

/// Returns the content of the first element, if it has this tag, and what is behind it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    any_element(bytes).filter(|(found, _, _)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Returns the tag and the content of the first element, and what is behind it.
fn any_element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = bytes else { return None };
    let (length, rest) = match usize::from(*first) {
        short @ 0..=0x7f => (short, rest),
        // The number of bytes that the length has.
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(long - 0x80)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 3, 1);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_the_date_are_read() {
        // After 2049 the year has four digits.
        for (year, seconds) in [(2027, 1_803_859_200), (2049, 2_498_169_600), (2060, 2_845_324_800)] {
            assert_eq!(not_after(&certificate(year)), Some(seconds), "{year}");
        }
    }

    #[test]
    fn what_is_cut_or_no_certificate_has_no_date() {
        let whole = certificate(2030);
        for end in 0..whole.len() {
            // The fields behind the date are not read, but the lengths before it include them.
            assert_eq!(not_after(&whole[..end]), None, "{end}");
        }
        for other in [&b""[..], b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\x00\x00", b"-----BEGIN CERTIFICATE-----"] {
            assert_eq!(not_after(other), None);
        }
    }
}
